//! `cp` into and out of running and ended containers, whatever is in them.
#![allow(clippy::unwrap_used, reason = "a test")]

mod site;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use oci_image::layer::tar::{Header, Kind, Reader, Time, Writer};
use site::{Ended, Site, ended};

const IMAGE: &str = "docker.io/library/copy:latest";

/// One running and one ended container.
fn pair() -> Site {
    let site = Site::new();
    site.program(IMAGE);
    let volume = site.path("volume");
    fs::create_dir(&volume).unwrap();
    let mounts = [format!("{}:/data", volume.display()), format!("{}:/fixed:ro", volume.display())];
    let options = ["-v", &mounts[0], "-v", &mounts[1]];
    site.ended_container("over", IMAGE, &options);
    site.running_container("busy", IMAGE, &options);
    site
}

/// A tree with everything a tree can have.
fn tree(path: &Path) {
    fs::create_dir(path).unwrap();
    fs::create_dir(path.join("sub")).unwrap();
    fs::write(path.join("file"), "content").unwrap();
    fs::hard_link(path.join("file"), path.join("sub/second")).unwrap();
    symlink("../file", path.join("sub/link")).unwrap();
    symlink("/nowhere", path.join("dangling")).unwrap();
    lchown(path.join("dangling"), Some(12), Some(34)).unwrap();
    chown(path.join("file"), Some(1234), Some(5678)).unwrap();
    fs::set_permissions(path.join("file"), fs::Permissions::from_mode(0o4751)).unwrap();
    let sparse = File::create(path.join("sparse")).unwrap();
    sparse.write_all_at(b"end", 1 << 20).unwrap();
    let times =
        fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000, 5));
    File::open(path.join("file")).unwrap().set_times(times).unwrap();
    fs::set_permissions(path.join("sub"), fs::Permissions::from_mode(0o550)).unwrap();
    File::open(path.join("sub")).unwrap().set_times(times).unwrap();
}

fn same(a: &Path, b: &Path) {
    let names = |p: &Path| {
        let mut names: Vec<_> = fs::read_dir(p).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let (one, other) = (a.symlink_metadata().unwrap(), b.symlink_metadata().unwrap());
    let facts = |m: &fs::Metadata| {
        (m.mode(), m.uid(), m.gid(), if m.is_dir() { 0 } else { m.size() }, m.mtime(), m.mtime_nsec())
    };
    assert_eq!(facts(&one), facts(&other), "{} {}", a.display(), b.display());
    if one.is_symlink() {
        assert_eq!(fs::read_link(a).unwrap(), fs::read_link(b).unwrap());
    } else if one.is_dir() {
        assert_eq!(names(a), names(b));
        names(a).iter().for_each(|name| same(&a.join(name), &b.join(name)));
    } else {
        assert_eq!(fs::read(a).unwrap(), fs::read(b).unwrap());
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Feeds `input` to `sextant cp - TO`.
fn feed(site: &Site, to: &str, input: &[u8]) -> Ended {
    let mut command = site.command(&["cp", "-", to]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It may refuse before it has read everything.
    _ = child.stdin.take().unwrap().write_all(input);
    ended(child.wait_with_output().unwrap())
}

#[test]
fn a_tree_goes_in_and_comes_out_the_same() {
    let site = pair();
    let original = site.path("tree");
    tree(&original);
    for container in ["busy", "over"] {
        site.ok(&["cp", text(&original), &format!("{container}:/tmp")]);
        let back = site.path(&format!("back-{container}"));
        site.ok(&["cp", &format!("{container}:/tmp/tree"), text(&back)]);
        same(&original, &back);
        let links = [back.join("file"), back.join("sub/second")].map(|p| p.metadata().unwrap().ino());
        assert_eq!(links[0], links[1], "hard links stay linked");
    }
    // From one container into the other, and into a directory that is there.
    site.ok(&["cp", "busy:/tmp/tree", "over:/tmp/moved"]);
    site.ok(&["cp", "over:/tmp/moved", "busy:/tmp"]);
    let back = site.path("twice");
    site.ok(&["cp", "busy:/tmp/moved/.", text(&back)]);
    same(&original, &back);
    // What was copied into the ended one is there when it runs.
    site.ok(&["start", "over"]);
    site.ok(&["wait", "over"]);
    site.ok(&["cp", "over:/tmp/moved/file", text(&site.path("still"))]);
    assert_eq!(fs::read(site.path("still")).unwrap(), b"content");
}

#[test]
fn destinations_follow_dockers_rules() {
    let site = pair();
    let (file, dir, here) = (site.path("file"), site.path("dir"), site.path("here"));
    fs::write(&file, "new").unwrap();
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("inner"), "inner").unwrap();
    fs::create_dir(&here).unwrap();
    let read = |path: &str| {
        let to = site.path("read");
        site.ok(&["cp", &format!("over:{path}"), text(&to)]);
        fs::read_to_string(to).unwrap()
    };
    // A file: beside, into, over, through a link; never to a directory that is not there.
    site.ok(&["cp", text(&file), "over:/etc/renamed"]);
    site.ok(&["cp", text(&file), "over:/tmp/"]);
    site.ok(&["cp", text(&file), "over:etc/greeting"]);
    assert_eq!(
        (read("/etc/renamed"), read("/tmp/file"), read("/etc/greeting")),
        ("new".into(), "new".into(), "new".into())
    );
    fs::write(&file, "newer").unwrap();
    site.ok(&["cp", text(&file), "over:/etc/link"]);
    assert_eq!(read("/etc/greeting"), "newer", "the link is followed, and stays");
    assert!(site.fails(&["cp", text(&file), "over:/none/"]).contains("no directory /none"));
    assert!(site.fails(&["cp", text(&file), "over:/none/x"]).contains("no directory /none"));
    assert!(site.fails(&["cp", text(&file), "over:/etc/greeting/"]).contains("no directory"));
    // A directory: as a new one, into one, its content alone; never over a file.
    site.ok(&["cp", text(&dir), "over:/fresh"]);
    site.ok(&["cp", text(&dir), "over:/empty-or-not/"]);
    site.ok(&["cp", text(&dir), "over:/tmp"]);
    site.ok(&["cp", &format!("{}/.", dir.display()), "over:/etc"]);
    for path in ["/fresh/inner", "/empty-or-not/inner", "/tmp/dir/inner", "/etc/inner"] {
        assert_eq!(read(path), "inner", "{path}");
    }
    assert!(site.fails(&["cp", text(&dir), "over:/etc/greeting"]).contains("is a file"));
    site.ok(&["cp", text(&file), "over:/tmp/dir/sub"]);
    // A link is copied as a link, and followed with a slash behind it.
    site.ok(&["cp", "over:/way", text(&here)]);
    assert_eq!(fs::read_link(here.join("way")).unwrap(), Path::new("/etc"));
    site.ok(&["cp", "over:/way/", text(&site.path("etc"))]);
    assert_eq!(fs::read_to_string(site.path("etc/greeting")).unwrap(), "newer");
    // What is not there, and who is not.
    assert!(site.fails(&["cp", "over:/none", text(&here)]).contains("there is no /none"));
    assert!(site.fails(&["cp", "nobody:/etc", text(&here)]).contains("nobody"));
    assert!(site.fails(&["cp", text(&file), text(&here)]).contains("CONTAINER:PATH"));
    assert!(site.fails(&["cp", "-", text(&here)]).contains("CONTAINER:PATH"));
}

#[test]
fn archives_go_through_pipes() {
    let site = pair();
    for container in ["busy", "over"] {
        let from = format!("{container}:/etc/greeting");
        let out = site.command(&["cp", &from, "-"]).output().unwrap();
        assert!(out.status.success());
        let mut reader = Reader::new(out.stdout.as_slice());
        assert!(reader.next().unwrap());
        let entry = reader.entry().clone();
        assert_eq!((entry.path.as_slice(), entry.mode, entry.size), (b"greeting".as_slice(), 0o640, 5));
        // The system's tar reads and writes the same.
        let from = format!("{container}:/etc");
        let mut pack = site.command(&["cp", &from, "-"]).stdout(Stdio::piped()).spawn().unwrap();
        let unpacked = site.path(&format!("unpacked-{container}"));
        fs::create_dir(&unpacked).unwrap();
        let tar =
            Command::new("tar").arg("x").arg("-C").arg(&unpacked).stdin(pack.stdout.take().unwrap()).status();
        assert!(tar.unwrap().success() && pack.wait().unwrap().success());
        assert_eq!(fs::read_to_string(unpacked.join("etc/greeting")).unwrap(), "hello");

        let sparse = unpacked.join("sparse");
        File::create(&sparse).unwrap().write_all_at(b"x", 1 << 20).unwrap();
        let tar =
            Command::new("tar").arg("cS").arg("-C").arg(&unpacked).arg("sparse").arg("etc").output().unwrap();
        let fed = feed(&site, &format!("{container}:/tmp"), &tar.stdout);
        assert_eq!(fed.code, 0, "{}", fed.err);
        let back = site.path(&format!("back-{container}"));
        site.ok(&["cp", &format!("{container}:/tmp/sparse"), text(&back)]);
        assert_eq!(fs::read(&back).unwrap(), fs::read(&sparse).unwrap());
    }
    let fed = feed(&site, "over:/tmp", &[1; 1000]);
    assert!(fed.code == 1 && fed.err.contains("cannot read the archive"), "{}", fed.err);
    assert!(feed(&site, "over:/none", b"").err.contains("no directory /none"));
}

/// A tar as no honest program makes it.
fn forged(entries: &[Header]) -> Vec<u8> {
    let mut tar = Writer::new(Vec::new());
    for header in entries {
        let data = vec![b'!'; header.size as usize];
        tar.append(header, &mut data.as_slice()).unwrap();
    }
    tar.finish().unwrap()
}

#[test]
fn no_archive_and_no_link_leads_out() {
    let site = pair();
    let outside = site.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    let absolute = |rest: &str| format!("{}{rest}", outside.display());
    for container in ["busy", "over"] {
        let to = |path: &str| format!("{container}:{path}");
        let fed = feed(&site, &to("/tmp"), &forged(&[Header::file("../../x", 0o644, 1)]));
        assert!(fed.code == 1 && fed.err.contains("could lead out"), "{}", fed.err);
        // Links to the outside lead to the same path inside, where nothing is.
        let links = [
            Header::symlink("out", absolute("")),
            Header::symlink("up", "../../../../../../../../../../../../".to_owned() + &absolute("")),
            Header::symlink("proc", "/proc/1/root"),
        ];
        assert_eq!(feed(&site, &to("/tmp"), &forged(&links)).code, 0);
        for link in ["out", "up"] {
            assert!(
                site.fails(&["cp", &to(&format!("/tmp/{link}/secret")), text(&site.path("got"))])
                    .contains("there is no")
            );
            site.fails(&["cp", text(&outside.join("secret")), &to(&format!("/tmp/{link}/planted"))]);
            let fed = feed(&site, &to("/tmp"), &forged(&[Header::file(format!("{link}/planted"), 0o644, 1)]));
            assert_ne!(fed.code, 0);
        }
        site.fails(&["cp", &to(&format!("/tmp/proc{}", absolute("/secret"))), text(&site.path("got"))]);
        assert!(!outside.join("planted").exists() && !site.path("got").exists());
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn nothing_here_is_written_through_a_link_that_came_along() {
    let site = pair();
    let outside = site.path("outside");
    fs::create_dir(&outside).unwrap();
    let here = site.path("here");
    fs::create_dir(&here).unwrap();
    // The copied directory meets a link of its own name at the destination.
    symlink(&outside, here.join("etc")).unwrap();
    let said = site.fails(&["cp", "over:/etc", text(&here)]);
    assert!(said.contains("etc is there and is no directory"), "{said}");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    // A file replaces a link instead of writing through it.
    fs::write(outside.join("target"), "untouched").unwrap();
    let dir = site.path("dir");
    fs::create_dir(&dir).unwrap();
    symlink(outside.join("target"), dir.join("greeting")).unwrap();
    site.ok(&["cp", "over:/etc/.", text(&dir)]);
    assert_eq!(fs::read_to_string(outside.join("target")).unwrap(), "untouched");
    assert_eq!(fs::read_to_string(dir.join("greeting")).unwrap(), "hello");
    // Devices of a container are not made here.
    let device =
        Header { path: b"disk".into(), kind: Kind::Block, mode: 0o666, device: (7, 77), ..Header::default() };
    let dated = Header { mtime: Time { seconds: 5, nanoseconds: 0 }, ..Header::file("beside", 0o600, 1) };
    assert_eq!(feed(&site, "busy:/tmp", &forged(&[device, dated])).code, 0);
    let copied = site.run(&["cp", "busy:/tmp/.", text(&site.path("devices"))]);
    assert!(copied.code == 0 && copied.err.contains("disk: a device is not copied"), "{copied:?}");
    assert!(!site.path("devices/disk").exists());
    assert_eq!(site.path("devices/beside").metadata().unwrap().mtime(), 5);
}

#[test]
fn volumes_and_mounted_files_are_reached() {
    let site = pair();
    let file = site.path("file");
    fs::write(&file, "new").unwrap();
    for container in ["busy", "over"] {
        let to = |path: &str| format!("{container}:{path}");
        site.ok(&["cp", text(&file), &to("/data/from")]);
        assert_eq!(fs::read_to_string(site.path("volume/from")).unwrap(), "new", "{container}");
        site.ok(&["cp", &to("/fixed/from"), text(&site.path("got"))]);
        site.ok(&["cp", &to("/data/."), text(&site.path(container))]);
        assert_eq!(fs::read_to_string(site.path(container).join("from")).unwrap(), "new");
        site.fails(&["cp", text(&file), &to("/fixed/other")]);
        fs::remove_file(site.path("volume/from")).unwrap();
    }
    // /etc/hosts is mounted there: it cannot be replaced, but written to.
    site.ok(&["cp", text(&file), "busy:/etc/hosts"]);
    site.ok(&["cp", "busy:/etc/hosts", text(&site.path("hosts"))]);
    assert_eq!(fs::read_to_string(site.path("hosts")).unwrap(), "new");
    // A file of /proc has a content and no size.
    site.ok(&["cp", "busy:/proc/1/comm", text(&site.path("comm"))]);
    assert!(fs::read_to_string(site.path("comm")).unwrap().starts_with("sextant"));
    // The whole root, without what the kernel shows in it.
    site.ok(&["cp", "busy:/", text(&site.path("root"))]);
    assert!(site.path("root/bin/sextant").exists());
    for mounted in ["proc", "sys"] {
        assert_eq!(fs::read_dir(site.path("root").join(mounted)).unwrap().count(), 0, "{mounted}");
    }
}
