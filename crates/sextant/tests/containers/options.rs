//! What the options of `run` do.

use std::fs;

use crate::Test;
use crate::bench::Bench;

pub(crate) const TESTS: &[Test] = &[
    ("variables_are_set_and_passed_on", variables),
    ("variables_come_from_files", variable_files),
    ("directories_and_files_are_mounted", volumes),
    ("a_volume_keeps_what_is_in_it", named_volume),
    ("mounts_in_the_long_form", mounts),
    ("filesystems_in_memory", tmpfs),
    ("too_much_memory_is_told", memory),
    ("limits_of_cpus_processes_and_files", limits),
    ("users_are_the_images", users),
    ("a_read_only_root", read_only),
    ("entry_points_are_replaced", entry_points),
    ("a_working_directory_is_made", working_directory),
    ("capabilities_come_and_go", capabilities),
    ("host_names_and_labels", names),
];

fn variables(b: &Bench) {
    let image = ["--entrypoint", "probe", "tool", "environment"];
    let given = ["run", "--rm", "-e", "A=1", "-e", "GIVEN", "-e", "NOT_SET", "-e", "A=2 = two"];
    let mut command = b.command(&[&given[..], &image].concat());
    let output = command.env("GIVEN", "from here").env_remove("NOT_SET").output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = out.lines().collect();
    for line in ["A=2 = two", "GIVEN=from here", "COLOUR=red", "PATH=/bin", "HOME=/srv"] {
        assert!(lines.contains(&line), "{line} in {out}");
    }
    assert!(!out.contains("NOT_SET") && !out.contains("A=1") && !out.contains("TERM="), "{out}");
    let hostname = b.ok(&["run", "--rm", "--hostname", "ship", "t", "probe", "environment"]);
    assert!(hostname.contains("HOSTNAME=ship\n") && hostname.contains("HOME=/root\n"), "{hostname}");
}

fn variable_files(b: &Bench) {
    let dir = b.scratch();
    let file = format!("{dir}/variables");
    fs::write(&file, "# a comment\n\nA=1\nB=with spaces\nGIVEN\nC='quotes stay'\n").unwrap();
    let mut command =
        b.command(&["run", "--rm", "--env-file", &file, "-e", "A=2", "t", "probe", "environment"]);
    let out = String::from_utf8(command.env("GIVEN", "here").output().unwrap().stdout).unwrap();
    for line in ["A=2", "B=with spaces", "GIVEN=here", "C='quotes stay'"] {
        assert!(out.lines().any(|l| l == line), "{line} in {out}");
    }
    fs::write(&file, "A=1\n=nothing\n").unwrap();
    let text = b.fails(125, &["run", "--rm", "--env-file", &file, "t"]);
    assert!(text.contains(&file) && text.contains("line 2") && text.contains("\"=nothing\""), "{text}");
    let text = b.fails(125, &["run", "--rm", "--env-file", "/no/such", "t"]);
    assert!(text.contains("/no/such"), "{text}");
}

fn volumes(b: &Bench) {
    let dir = b.scratch();
    fs::write(format!("{dir}/file"), "here").unwrap();
    let (rw, ro) = (format!("{dir}:/rw"), format!("{dir}:/ro:ro"));
    let file = format!("{dir}/file:/etc/one:ro");
    let seen = b.look(&["-v", &rw, "-v", &ro, "-v", &file], &["/rw", "/ro", "/ro/file", "/etc/one"]);
    let writable = |path: &str| seen["paths"][path]["writable"].clone();
    assert_eq!([writable("/rw"), writable("/ro"), writable("/etc/one")], [true, false, false]);
    assert_eq!(seen["paths"]["/etc/one"]["text"], "here");
    // A directory that is not there is made, also below the one the command runs in.
    b.ok(&["run", "--rm", "-v", "./made:/made", "t", "probe", "write", "/made/file", "inside"]);
    assert_eq!(fs::read_to_string(b.path("made/file")).unwrap(), "inside");
    for (volume, word) in [
        ("only-one", "FROM:TO"),
        ("/etc:relative", "relative"),
        ("/etc:/x:fast", "\"fast\""),
        (":/x", "FROM"),
    ] {
        let text = b.fails(125, &["run", "--rm", "-v", volume, "t"]);
        assert!(text.contains(word) && text.contains(volume), "{text}");
    }
}

fn named_volume(b: &Bench) {
    b.ok(&["run", "--rm", "-v", "stuff:/data", "t", "probe", "write", "/data/file", "kept"]);
    let read = ["-v", "stuff:/data:ro", "t", "probe", "read", "/data/file"];
    assert_eq!(b.ok(&[&["run", "--rm"], &read[..]].concat()), "kept");
    b.ok(&["run", "--name", "user", "-v", "stuff:/data", "t"]);
    assert_eq!(b.inspect("user", "/volumes"), serde_json::json!(["stuff"]));
    b.ok(&["rm", "user"]);
}

fn mounts(b: &Bench) {
    let dir = b.scratch();
    let bind = format!("type=bind,source={dir},target=/b,readonly");
    let seen = b.look(
        &[
            "--mount",
            &bind,
            "--mount",
            "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=700",
            "--mount",
            "type=volume,src=long,dst=/v",
        ],
        &["/b", "/t", "/v"],
    );
    assert_eq!(
        (&seen["paths"]["/b"]["writable"], &seen["paths"]["/v"]["writable"]),
        (&false.into(), &true.into())
    );
    assert_eq!(seen["paths"]["/t"]["mode"], "700");
    assert!(seen["mounts"].as_str().unwrap().contains("tmpfs /t tmpfs rw,nosuid,nodev"), "{seen}");
    for (mount, word) in [
        ("type=bind,source=/no/such,target=/x", "/no/such"),
        ("type=bind,target=/x", "source="),
        ("type=tmpfs", "target="),
        ("type=nfs,target=/x", "\"nfs\""),
        ("type=bind,sauce=/etc,target=/x", "sauce"),
    ] {
        let text = b.fails(125, &["run", "--rm", "--mount", mount, "t"]);
        assert!(text.contains(word), "{text}");
    }
}

fn tmpfs(b: &Bench) {
    let seen = b.look(&["--tmpfs", "/a", "--tmpfs", "/b:size=1m,mode=700,noexec"], &["/a", "/b"]);
    assert_eq!(
        (&seen["paths"]["/a"]["writable"], &seen["paths"]["/b"]["mode"]),
        (&true.into(), &"700".into())
    );
    let mounts = seen["mounts"].as_str().unwrap();
    assert!(
        mounts.contains("tmpfs /b tmpfs rw,nosuid,nodev,noexec") && mounts.contains("size=1024k"),
        "{mounts}"
    );
    let text = b.fails(125, &["run", "--rm", "--tmpfs", "/x:bogus", "t"]);
    assert!(text.contains("/x") && text.contains("bogus"), "{text}");
}

fn memory(b: &Bench) {
    let ended = b.run(&["run", "--name", "hungry", "--memory", "20m", "t", "probe", "eat"]);
    assert_eq!(ended.code, 137, "{ended:?}");
    let listed = b.ok(&["ps", "-a"]);
    assert!(listed.contains("exited (137, out of memory)"), "{listed}");
    assert_eq!(b.inspect("hungry", "/detail/oom"), true);
    b.ok(&["rm", "hungry"]);
    for size in ["lots", "10", "-1"] {
        let text = b.fails(125, &["run", "--rm", &format!("--memory={size}"), "t"]);
        assert!(text.contains("--memory") && text.contains(size), "{text}");
    }
}

fn limits(b: &Bench) {
    b.ok(&["run", "-d", "--name", "small", "--cpus", "0.5", "--pids-limit", "9", "t", "probe", "sleep"]);
    let cpu = b.inspect("small", "/config/linux/resources/cpu");
    assert_eq!((&cpu["quota"], &cpu["period"]), (&50_000.into(), &100_000.into()));
    b.ok(&["rm", "-f", "small"]);
    let out = b.ok(&["run", "--rm", "--pids-limit", "5", "t", "probe", "fork", "20"]);
    assert_eq!(out, "4 children\n");
    let seen = b.look(&["--ulimit", "nofile=100:200", "--shm-size", "2m"], &[]);
    let files = seen["limits"].as_str().unwrap().lines().find(|l| l.starts_with("Max open files")).unwrap();
    let words: Vec<&str> = files.split_whitespace().collect();
    assert_eq!(words[3..5], ["100", "200"]);
    let shm = seen["mounts"].as_str().unwrap().lines().find(|l| l.contains(" /dev/shm ")).unwrap();
    assert!(shm.contains("size=2048k"), "{shm}");
    for (option, value) in
        [("--cpus", "0"), ("--cpus", "many"), ("--ulimit", "nofile"), ("--ulimit", "bogus=1")]
    {
        let text = b.fails(125, &["run", "--rm", option, value, "t"]);
        assert!(text.contains(option) && text.contains(value) && !text.contains("RLIMIT"), "{text}");
    }
}

fn users(b: &Bench) {
    let ids = |user: &str| {
        let seen = b.look(&["--user", user], &[]);
        ["Uid", "Gid", "Groups"].map(|key| {
            let text = seen["status"][key].as_str().unwrap();
            if key == "Groups" { text.to_owned() } else { text.split('\t').next().unwrap().to_owned() }
        })
    };
    assert_eq!(ids("web"), ["33", "34", "40"]);
    assert_eq!(ids("33"), ["33", "34", "40"]);
    assert_eq!(ids("web:log"), ["33", "40", ""]);
    assert_eq!(ids("1000:7"), ["1000", "7", ""]);
    assert!(b.fails(125, &["run", "--rm", "--user", "nobody", "t"]).contains("\"nobody\""));
    assert!(b.fails(125, &["run", "--rm", "--user", "web:wheel", "t"]).contains("\"wheel\""));
    // The image's own.
    let out = b.ok(&["run", "--rm", "--entrypoint", "probe", "tool", "look"]);
    assert!(out.contains("\"Uid\":\"33\\t33"), "{out}");
}

fn read_only(b: &Bench) {
    let seen = b.look(&["--read-only", "--tmpfs", "/tmp"], &["/", "/etc", "/tmp", "/dev/shm"]);
    let writable = |path: &str| seen["paths"][path]["writable"].clone();
    assert_eq!(
        [writable("/"), writable("/etc"), writable("/tmp"), writable("/dev/shm")],
        [false, false, true, true]
    );
}

fn entry_points(b: &Bench) {
    let out = b.ok(&["run", "--rm", "--entrypoint", "/bin/probe", "tool", "say", "mine"]);
    assert_eq!(out, "mine\n");
    // The image's command goes with its entry point.
    assert_eq!(b.ok(&["run", "--rm", "--entrypoint", "probe", "tool"]), "");
    assert_eq!(b.ok(&["run", "--rm", "--entrypoint", "", "tool", "probe", "say", "bare"]), "bare\n");
    assert!(b.fails(125, &["run", "--rm", "--entrypoint", "", "tool"]).contains("no command"));
}

fn working_directory(b: &Bench) {
    let seen = b.look(&["--workdir", "/a/b/c", "--user", "web"], &["/a/b/c"]);
    assert_eq!(seen["cwd"], "/a/b/c");
    assert!(
        b.ok(&["run", "--rm", "--entrypoint", "probe", "tool", "look"]).contains("\"cwd\":\"/work/here\"")
    );
    assert!(b.fails(125, &["run", "--rm", "-w", "a", "t"]).contains("\"a\""));
    assert!(b.fails(125, &["run", "--rm", "-w", "/etc/passwd", "t"]).contains("/etc/passwd"));
}

fn capabilities(b: &Bench) {
    let bounding = |options: &[&str]| {
        let seen = b.look(options, &[]);
        u64::from_str_radix(seen["status"]["CapBnd"].as_str().unwrap(), 16).unwrap()
    };
    const CHOWN: u64 = 1;
    const NET_ADMIN: u64 = 1 << 12;
    let usual = bounding(&[]);
    assert!(usual & CHOWN != 0 && usual & NET_ADMIN == 0, "{usual:x}");
    assert_eq!(bounding(&["--cap-drop", "ALL"]), 0);
    assert_eq!(bounding(&["--cap-drop", "ALL", "--cap-add", "net_admin"]), NET_ADMIN);
    assert_eq!(bounding(&["--cap-add", "CAP_NET_ADMIN", "--cap-drop", "CHOWN"]), usual & !CHOWN | NET_ADMIN);
    assert!(b.fails(125, &["run", "--rm", "--cap-add", "bogus", "t"]).contains("\"bogus\""));
}

fn names(b: &Bench) {
    let seen = b.look(&["--hostname", "ship"], &["/etc/hosts", "/etc/hostname"]);
    assert_eq!(
        (&seen["hostname"], &seen["paths"]["/etc/hostname"]["text"]),
        (&"ship".into(), &"ship\n".into())
    );
    assert!(seen["paths"]["/etc/hosts"]["text"].as_str().unwrap().contains("\tship\n"));
    assert!(b.fails(125, &["run", "--rm", "--hostname", "a b", "t"]).contains("\"a b\""));
    b.ok(&["run", "--name", "named", "--label", "a=1", "-l", "bare", "tool"]);
    let labels = b.inspect("named", "/labels");
    assert_eq!(labels, serde_json::json!({"a": "1", "bare": "", "from": "image"}));
    assert_eq!(b.json(&["ps", "-a", "-o", "json"])[0]["labels"], labels);
    b.ok(&["rm", "named"]);
}
