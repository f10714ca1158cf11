//! The image commands, as a person and a script run them, against a registry.
#![allow(clippy::unwrap_used, reason = "a test")]

mod site;

use std::fs::{self, File};
use std::io::Write;
use std::process::{Command, Stdio};

use site::{Site, USER, ended};

#[test]
fn an_image_goes_to_a_registry_and_comes_back() {
    let site = Site::new();
    let name = site.name("team/tool:v1");
    let id = site.image(&name, b"hello");
    let pushed = site.run(&["push", &name]);
    assert_eq!(pushed.code, 0, "{}", pushed.err);
    assert!(pushed.out.starts_with(&format!("{name}\nsha256:")), "{}", pushed.out);
    assert!(pushed.err.contains(": pushed ("), "{}", pushed.err);
    let again = site.run(&["push", &name]);
    assert!(again.err.contains(": present (") && !again.err.contains(": pushed"), "{}", again.err);
    assert!(site.run(&["push", "-q", &name]).err.is_empty());

    let removed = site.ok(&["rmi", &name]);
    assert_eq!(removed, format!("untagged: {name}\nremoved: {id}\n"));
    assert_eq!(site.json(&["images", "-o", "json"]), serde_json::json!([]));
    assert_eq!(fs::read_dir(site.path("data/images/layers/sha256")).unwrap().count(), 0);

    let pulled = site.run(&["pull", &name]);
    assert_eq!((pulled.code, pulled.out), (0, format!("{name}\n{id}\n")), "{}", pulled.err);
    assert!(pulled.err.contains(": downloading (") && pulled.err.contains(": done ("), "{}", pulled.err);
    assert!(!pulled.err.contains('\u{1b}'), "no colours where there is no terminal");
    let quiet = site.run(&["pull", "-q", &name]);
    assert_eq!((quiet.out, quiet.err), (format!("{id}\n"), String::new()));
}

#[test]
fn a_pull_reports_its_stages() {
    let site = Site::new();
    let name = site.name("tool:v1");
    let id = site.image(&name, &[7; 100_000]);
    site.ok(&["push", "-q", &name]);
    site.ok(&["rmi", &name]);
    let report = site.json(&["pull", "-o", "json", &name]);
    assert_eq!((&report["name"], &report["id"]), (&name.clone().into(), &id.clone().into()));
    assert_eq!((&report["layers"], &report["present"]), (&1.into(), &0.into()));
    assert!(report["seconds"].as_f64().unwrap() > 0.0);
    assert!(report["stages"]["unpack"]["bytes"].as_u64().unwrap() > 100_000, "{report}");
    for stage in ["fetch", "hash", "inflate", "unpack", "durable"] {
        assert!(report["stages"][stage]["seconds"].is_f64(), "{stage}");
    }
    let again = site.json(&["pull", "-o", "json", &name]);
    assert_eq!((&again["layers"], &again["present"]), (&1.into(), &1.into()));
}

#[test]
fn an_image_is_pulled_by_digest_and_listed_without_a_tag() {
    let site = Site::new();
    let name = site.name("tool:v1");
    site.image(&name, b"hello");
    let pushed = site.ok(&["push", "-q", &name]);
    let digest = pushed.lines().nth(1).unwrap();
    site.ok(&["rmi", &name]);
    let pinned = site.name(&format!("tool@{digest}"));
    assert!(site.ok(&["pull", &pinned]).starts_with(&pinned));
    let listed = site.ok(&["images"]);
    let row: Vec<&str> = listed.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((row[0], row[1]), (site.name("tool").as_str(), "<none>"), "{listed}");
}

#[test]
fn names_are_given_listed_and_taken_away() {
    let site = Site::new();
    let (first, second) = (site.name("tool:v1"), "docker.io/library/short:latest");
    let id = site.image(&first, b"hello");
    site.ok(&["tag", &first, "short"]);
    let short = &id["sha256:".len()..][..12];
    let listed = site.ok(&["images"]);
    let rows: Vec<Vec<&str>> = listed.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "TAG", "ID", "AGE", "SIZE"]);
    assert_eq!(rows[1][..4], ["short", "latest", short, "-"]);
    assert_eq!(rows[2][..3], [site.name("tool").as_str(), "v1", short]);
    assert_eq!(site.ok(&["images", "-q"]), format!("{short}\n"));
    assert!(site.ok(&["images", "--digests"]).contains(&id));
    let json = site.json(&["images", "-o", "json", "short"]);
    assert_eq!(json.as_array().unwrap().len(), 1);
    assert_eq!((&json[0]["reference"], &json[0]["id"]), (&second.into(), &id.clone().into()));
    assert_eq!((&json[0]["name"], &json[0]["tag"]), (&"short".into(), &"latest".into()));
    assert!(json[0]["size"].as_u64().unwrap() > 0);

    let text = site.fails(&["rmi", short]);
    assert!(text.contains(second) && text.contains(&first), "{text}");
    assert_eq!(site.ok(&["rmi", "short"]), format!("untagged: {second}\n"));
    site.ok(&["tag", short, "again"]);
    let removed = site.ok(&["rmi", "-f", short]);
    assert!(
        removed.contains(&first) && removed.contains("again:latest") && removed.contains(&id),
        "{removed}"
    );
    assert_eq!(site.ok(&["images"]).lines().count(), 1);
}

/// The field's classic after a power cut: the layer is there, its files are empty.
#[test]
fn a_layer_of_empty_files_is_found_and_mended() {
    let site = Site::new();
    let (tool, whole) = (site.name("tool:v1"), site.name("whole:v1"));
    site.image(&tool, b"hello");
    site.image(&whole, b"other");
    site.ok(&["push", "-q", &tool]);
    assert_eq!(site.ok(&["verify"]), format!("{tool}: whole\n{whole}: whole\n"));
    let layers = site.path("data/images/layers/sha256");
    let files = || fs::read_dir(&layers).unwrap().map(|e| e.unwrap().path().join("fs/etc/greeting"));
    let greeting = files().find(|f| fs::read(f).unwrap() == b"hello").unwrap();
    fs::write(&greeting, b"").unwrap();

    let said = site.run(&["verify"]);
    assert_eq!(said.code, 1);
    assert!(said.out.contains(&format!("{tool}: damaged\n  layer sha256:")), "{}", said.out);
    assert!(said.out.contains("/etc/greeting differs: its size is 0, and 5 in the layer"), "{}", said.out);
    assert!(said.out.ends_with(&format!("{whole}: whole\n")), "{}", said.out);
    assert!(said.err.contains("1 of 2 images") && said.err.contains("--discard"), "{}", said.err);
    let quiet = site.run(&["verify", "-o", "json", &tool]);
    let shown: serde_json::Value = serde_json::from_str(&quiet.out).unwrap();
    assert_eq!((&shown[0]["whole"], &shown[0]["damage"][0]["part"]), (&false.into(), &"layer".into()));

    let discarded = site.run(&["verify", "--discard", &tool]);
    assert!(discarded.code == 1 && discarded.err.contains(&format!("sextant pull {tool}")));
    assert!(!greeting.exists());
    site.ok(&["pull", "-q", &tool]);
    assert_eq!(fs::read(&greeting).unwrap(), b"hello");
    site.ok(&["verify"]);
}

#[test]
fn a_damaged_layer_of_a_container_is_told_and_kept() {
    let site = Site::new();
    let name = site.name("tool:v1");
    site.program(&name);
    site.ended_container("user", &name, &[]);
    let layer = fs::read_dir(site.path("data/images/layers/sha256")).unwrap().next().unwrap().unwrap().path();
    fs::remove_file(layer.join("fs/etc/greeting")).unwrap();
    let kept = site.run(&["verify", "--discard"]);
    assert!(kept.code == 1 && kept.out.contains("kept, because it is in use: layer sha256:"), "{}", kept.out);
    assert!(layer.join("fs/bin/sextant").exists());
}

#[test]
fn an_image_that_a_container_uses_stays() {
    let site = Site::new();
    let name = site.name("tool:v1");
    site.program(&name);
    site.ended_container("user", &name, &[]);
    let text = site.fails(&["rmi", &name]);
    assert!(text.contains("container user uses it") && text.contains("-f"), "{text}");
    site.ok(&["rmi", "-f", &name]);
    let layers = site.path("data/images/layers/sha256");
    assert_eq!(fs::read_dir(&layers).unwrap().count(), 1, "the container keeps its layers");
    site.ok(&["start", "user"]);
    site.ok(&["rm", "-f", "user"]);
    site.ok(&["prune", "--force"]);
    assert_eq!(fs::read_dir(&layers).unwrap().count(), 0);
}

#[test]
fn unknown_images_and_names_say_what_to_do() {
    let site = Site::new();
    for args in
        [["rmi", "nothing"].as_slice(), &["push", "nothing"], &["tag", "nothing", "x"], &["save", "nothing"]]
    {
        let text = site.fails(args);
        assert!(text.contains("\"nothing\"") && text.contains("sextant pull nothing"), "{text}");
    }
    let text = site.fails(&["pull", "UPPER/case"]);
    assert!(text.contains("UPPER"), "{text}");
    let text = site.fails(&["pull", &site.name("nothing:v1")]);
    assert!(text.contains("404") && text.contains("nothing"), "{text}");
    let text = site.fails(&["pull", "127.0.0.1:1/x"]);
    assert!(text.contains("127.0.0.1:1"), "{text}");
    let name = site.name("tool:v1");
    let id = site.image(&name, b"hello");
    let text = site.fails(&["push", &id]);
    assert!(text.contains("sextant tag"), "{text}");
    // What can be removed is; what cannot is said.
    let text = site.fails(&["rmi", "nothing", &name, "either"]);
    assert!(text.contains("\"nothing\"") && text.contains("\"either\""), "{text}");
    assert_eq!(site.ok(&["images", "-q"]), "");
    let text = site.fails(&["pull", "--platform", "plan9/mips", &name]);
    assert!(text.contains("404") || text.contains("plan9"), "{text}");
}

#[test]
fn archives_of_both_kinds_are_read_back() {
    let site = Site::new();
    let (one, two) = (site.name("tool:v1"), site.name("tool:v2"));
    let ids = [site.image(&one, b"one"), site.image(&two, b"two")];
    let (docker, oci, folder) = (site.path("docker.tar"), site.path("oci.tar"), site.path("layout"));
    site.ok(&["save", "-o", docker.to_str().unwrap(), &one, &two]);
    site.ok(&["save", "--format", "oci", "-o", oci.to_str().unwrap(), &one, &two]);
    site.ok(&["save", "--format", "oci", "-o", &format!("{}/", folder.display()), &one, &two]);
    assert!(Command::new("gzip").arg("-k").arg(&docker).status().unwrap().success());
    let text = site.fails(&["save", "-o", folder.to_str().unwrap(), &one]);
    assert!(text.contains("--format oci"), "{text}");
    for archive in [docker.clone(), oci.clone(), folder, site.path("docker.tar.gz")] {
        site.ok(&["rmi", &one, &two]);
        let loaded = site.ok(&["load", "-i", archive.to_str().unwrap()]);
        assert!(loaded.contains(&format!("loaded: {one}\n{}", ids[0])), "{}: {loaded}", archive.display());
        assert!(loaded.contains(&format!("loaded: {two}\n{}", ids[1])), "{}: {loaded}", archive.display());
    }
    // From standard input: a file, and a pipe.
    for format in ["docker", "oci"] {
        let mut save = site.command(&["save", "--format", format, &one]);
        let mut save = save.stdout(Stdio::piped()).spawn().unwrap();
        let mut load = site.command(&["load", "-q"]);
        let loaded = ended(load.stdin(save.stdout.take().unwrap()).output().unwrap());
        assert!(save.wait().unwrap().success());
        assert_eq!((loaded.code, loaded.out, loaded.err), (0, format!("{}\n", ids[0]), String::new()));
    }
    let loaded = ended(site.command(&["load"]).stdin(File::open(&oci).unwrap()).output().unwrap());
    assert!(loaded.out.contains(&ids[1]), "{loaded:?}");
    let leftovers = fs::read_dir(site.path("")).unwrap().flatten();
    assert!(leftovers.into_iter().all(|e| !e.file_name().to_string_lossy().contains("partial")));
}

#[test]
fn what_is_no_archive_is_refused() {
    let site = Site::new();
    let path = site.path("junk");
    fs::write(&path, [b'x'; 4096]).unwrap();
    let text = site.fails(&["load", "-i", path.to_str().unwrap()]);
    assert!(text.contains("junk"), "{text}");
    assert!(site.fails(&["load", "-i", "/nowhere"]).contains("/nowhere"));
    assert_eq!(site.ok(&["images", "-q"]), "");
}

#[test]
fn a_registry_that_asks_gets_stored_credentials() {
    let site = Site::with_user();
    let registry = site.registry.addr().to_string();
    let name = site.name("tool:v1");
    site.image(&name, b"hello");
    let text = site.fails(&["push", &name]);
    assert!(text.contains("sextant login"), "{text}");

    let login = |password: &str| {
        let mut command = site.command(&["login", "-u", USER.0, "--password-stdin", &registry]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        writeln!(child.stdin.take().unwrap(), "{password}").unwrap();
        ended(child.wait_with_output().unwrap())
    };
    let refused = login("wrong");
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("does not accept this user and password"), "{}", refused.err);
    let config = site.path("home/.docker/config.json");
    assert!(!config.exists(), "nothing is kept that was refused");

    let accepted = login(USER.1);
    assert_eq!(accepted.code, 0, "{}", accepted.err);
    assert!(accepted.out.contains(config.to_str().unwrap()), "{}", accepted.out);
    assert!(fs::read_to_string(&config).unwrap().contains(&registry));
    site.ok(&["push", "-q", &name]);

    let explained = site.run(&["registry", "explain", &name]);
    assert!(
        explained.out.contains("user me") && explained.out.contains("pull,resolve,push"),
        "{}",
        explained.out
    );
    let json = site.json(&["registry", "explain", "-o", "json", &name]);
    assert_eq!(json["hosts"][0]["credential"], "user me");
    assert!(!json.to_string().contains(USER.1) && !explained.out.contains(USER.1));

    assert!(site.ok(&["logout", &registry]).contains("removed"));
    assert!(site.ok(&["logout", &registry]).contains("no credentials"));
    site.fails(&["pull", &name]);
    site.ok(&["pull", "-q", "--creds", &format!("{}:{}", USER.0, USER.1), &name]);
    assert!(site.fails(&["pull", "--creds", "nobody", &name]).contains("USER:PASSWORD"));
    // Without a terminal there is nobody to ask.
    let mut command = Command::new("setsid");
    command.arg(env!("CARGO_BIN_EXE_sextant")).args(["login", "-u", "me", &registry]).stdin(Stdio::null());
    let unasked = ended(command.output().unwrap());
    assert!(unasked.code == 1 && unasked.err.contains("--password-stdin"), "{unasked:?}");
}

#[test]
fn prune_removes_what_nobody_uses() {
    let site = Site::new();
    let (used, unused) = (site.name("used:v1"), site.name("unused:v1"));
    site.program(&used);
    site.image(&unused, &[1; 50_000]);
    site.ended_container("over", &used, &[]);
    site.running_container("busy", &used, &[]);
    let partial = site.path(&format!("data/images/ingest/blobs/sha256-{}.partial", "0".repeat(64)));
    fs::write(&partial, [0; 1000]).unwrap();
    fs::create_dir_all(site.path("data/volumes/old")).unwrap();
    fs::write(site.path("data/volumes/old/file"), [0; 10_000]).unwrap();

    let pruned = site.json(&["prune", "-o", "json"]);
    assert_eq!(pruned["containers"].as_array().unwrap().len(), 1);
    assert_eq!(pruned["containers"][0]["name"], "over");
    assert_eq!((&pruned["images"], &pruned["partialDownloads"]), (&serde_json::json!([]), &1.into()));
    assert!(pruned["freed"].as_u64().unwrap() >= 1000);
    assert!(!partial.exists() && site.path("data/volumes/old").exists());

    let pruned = site.ok(&["prune", "--all", "--volumes", "--force"]);
    assert!(pruned.contains(&format!("image {unused}")) && !pruned.contains(&used), "{pruned}");
    assert!(pruned.contains("volume old") && pruned.contains("freed "), "{pruned}");
    site.ok(&["rm", "-f", "busy"]);
    assert!(site.ok(&["prune", "-af"]).contains(&format!("image {used}")));
    assert_eq!(site.ok(&["images", "-q"]), "");
}

#[test]
fn versions_are_told_to_people_and_programs() {
    let site = Site::new();
    let text = site.ok(&["version"]);
    assert!(text.starts_with("sextant 0.") && text.contains("OCI runtime"), "{text}");
    let json = site.json(&["version", "-o", "json"]);
    assert_eq!(
        (&json["contracts"]["ociRuntime"], &json["contracts"]["cni"]),
        (&"1.3.0".into(), &"1.1.0".into())
    );
}
