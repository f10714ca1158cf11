//! `sextant cni`, as a person uses it: networks and attachments by hand. All is in network namespaces of the tests' own.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;

use kernel::namespace::in_new_netns;
use kernel::netlink::{Protocol, Socket, link_by_name};
use serde_json::{Value, json};

/// A host of its own, and a namespace to be attached.
struct Host {
    dir: tempfile::TempDir,
    blue: Option<File>,
}

fn on_a_host(test: impl FnOnce(&mut Host) + Send) {
    in_new_netns(|| {
        let blue = in_new_netns(|| Ok(File::open("/proc/thread-self/ns/net").unwrap()))?;
        test(&mut Host { dir: tempfile::tempdir().unwrap(), blue: Some(blue) });
        Ok(())
    })
    .unwrap();
}

impl Host {
    /// The namespace as a path that is there as long as its file is open here.
    fn blue(&self) -> String {
        let fd = self.blue.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        format!("/proc/{}/fd/{fd}", std::process::id())
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn conf(&self, name: &str, value: &Value) {
        std::fs::create_dir_all(self.path("net.d")).unwrap();
        std::fs::write(self.path("net.d").join(name), value.to_string()).unwrap();
    }

    fn run(&self, args: &[&str]) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_sextant"))
            .arg("cni")
            .args(args)
            .env("SEXTANT_DATA_DIR", self.path("data"))
            .env("SEXTANT_RUN_DIR", self.path("run"))
            .env("CNI_CONF_DIR", self.path("net.d"))
            .env("CNI_PATH", self.path("bin"))
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    fn ok(&self, args: &[&str]) -> String {
        let (code, out, err) = self.run(args);
        assert_eq!((code, err.as_str()), (0, ""), "{args:?}: {out}");
        out
    }

    fn refused(&self, args: &[&str]) -> String {
        let (code, out, err) = self.run(args);
        assert_ne!(code, 0, "{args:?}: {out}");
        err
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[args, &["-o", "json"]].concat())).unwrap()
    }

    fn links(&self) -> usize {
        std::fs::read_to_string("/proc/thread-self/net/dev").unwrap().lines().count() - 2
    }
}

#[test]
fn a_namespace_is_attached_and_detached() {
    on_a_host(|host| {
        let blue = host.blue();
        let table = host.ok(&["add", "bridge", &blue, "--id", "web", "-p", "8080:80"]);
        assert!(table.starts_with("INTERFACE") && table.contains("eth0"), "{table}");
        let listed = host.json(&["ls", "-a"]);
        assert_eq!((&listed[0]["containerId"], &listed[0]["namespaceExists"]), (&json!("web"), &json!(true)));
        assert_eq!(host.json(&["ls"])[0]["attachments"], 1);
        host.ok(&["check", "bridge", &blue, "--id", "web"]);
        assert!(host.refused(&["add", "bridge", &blue, "--id", "web"]).contains("attached already"));
        host.ok(&["del", "bridge", &blue, "--id", "web"]);
        host.ok(&["del", "bridge", &blue, "--id", "web"]);
        assert_eq!(host.json(&["ls", "-a"]), json!([]));
        assert_eq!(host.links(), 1, "only lo is left");
        assert!(host.refused(&["check", "bridge", &blue, "--id", "web"]).contains("no ADD"));
    });
}

#[test]
fn what_a_vanished_namespace_held_is_freed_by_whatever_comes_next() {
    on_a_host(|host| {
        let blue = host.blue();
        host.ok(&["add", "bridge", &blue, "--id", "web"]);
        // Another command comes, and it stays.
        host.ok(&["ls"]);
        assert_eq!(host.json(&["ls", "-a"]).as_array().unwrap().len(), 1);
        assert!(host.links() > 1);
        host.blue = None;
        assert_eq!(host.json(&["ls", "-a"]), json!([]));
        assert_eq!(host.links(), 1, "only lo is left");
    });
}

#[test]
fn networks_of_the_directory_are_used_and_judged() {
    on_a_host(|host| {
        let blue = host.blue();
        host.conf(
            "10-lo.conflist",
            &json!({ "cniVersion": "1.1.0", "name": "lo", "plugins": [{ "type": "loopback" }] }),
        );
        host.conf(
            "20-far.conflist",
            &json!({ "cniVersion": "1.1.0", "name": "far", "plugins": [{ "type": "calico" }] }),
        );
        std::fs::write(host.path("net.d/30-broken.conf"), "{").unwrap();
        let (code, out, _) = host.run(&["status"]);
        assert_eq!(code, 1);
        for line in ["lo ", "far ", "30-broken.conf"] {
            assert!(out.contains(line), "{out}");
        }
        assert!(out.contains("cannot find plugin \"calico\""), "{out}");
        assert!(host.ok(&["status", "lo"]).contains("ready"));
        host.ok(&["add", "lo", &blue, "-i", "lo"]);
        let up = kernel::namespace::in_netns(host.blue.as_ref().unwrap(), || {
            Ok(link_by_name(&mut Socket::open(Protocol::Route)?, "lo")?.is_some_and(|lo| lo.is_up()))
        });
        assert!(up.unwrap());
        host.ok(&["gc", "lo"]);
        assert_eq!(host.json(&["ls", "-a"]).as_array().unwrap().len(), 1, "what is there stays");
        host.ok(&["del", "lo", &blue, "-i", "lo"]);
    });
}

#[test]
fn typical_mistakes_are_named() {
    on_a_host(|host| {
        let blue = host.blue();
        for (args, words) in [
            (&["add", "bridge", "nosuch"][..], "ip netns add nosuch"),
            (&["add", "nosuch", &blue], "cannot find network \"nosuch\""),
            (&["add", "bridge", &blue, "-p", "80"], "80"),
            (&["add", "bridge", &blue, "-i", "a/b"], "CNI_IFNAME"),
            (&["add", "bridge", &blue, "--id", "a b"], "CNI_CONTAINERID"),
            (&["add", "bridge", &blue, "--arg", "x"], "KEY=VALUE"),
            (&["add", "bridge", &blue, "--capability", "ips"], "NAME=JSON"),
            (&["add", "bridge", &blue, "--capability", "ips=["], "no JSON"),
            (&["gc", "--keep", "web"], "ID/INTERFACE"),
        ] {
            let error = host.refused(args);
            assert!(error.contains(words), "{args:?}: {error}");
        }
        assert!(Path::new(&blue).exists());
        assert_eq!(host.links(), 1);
    });
}
