//! Plugins of others: executed as the specification says, believed only as far as it goes.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a test")]

mod rig;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use cni::caller::{Caller, cached, cached_attachments};
use cni::contract::{Attachment, Code, Error, NetworkList, ValidAttachment};
use rig::{Netns, on_a_host};
use serde_json::{Value, json};

/// A plugin written in shell: notes how it was called, then does `body`.
fn plugin(dir: &Path, name: &str, body: &str) {
    let notes = dir.display();
    let script = format!(
        "#!/bin/sh\ncat > {notes}/{name}.$CNI_COMMAND.stdin\nenv | grep ^CNI_ | sort > {notes}/{name}.$CNI_COMMAND.env\n\
         echo {name} $CNI_COMMAND >> {notes}/calls\n{body}\n"
    );
    let path = dir.join(name);
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

const RESULT: &str = r#"echo '{"cniVersion":"1.0.0","ips":[{"address":"10.1.2.3/24"}]}'"#;
const FAIL: &str =
    r#"echo '{"cniVersion":"1.0.0","code":7,"msg":"no such thing","details":"really"}'; exit 1"#;

fn list(plugins: Value) -> NetworkList {
    NetworkList::from_value(json!({ "cniVersion": "1.0.0", "name": "foreign", "plugins": plugins })).unwrap()
}

struct Foreign<'a> {
    host: &'a rig::Host,
    caller: Caller,
    attachment: Attachment,
    _netns: Netns,
}

impl<'a> Foreign<'a> {
    fn new(host: &'a rig::Host) -> Self {
        let netns = Netns::new();
        let mut attachment = rig::attachment("c1", &netns, &["8080:80"]);
        attachment.args.push(("IgnoreUnknown".into(), "1".into()));
        let mut caller = host.caller.clone();
        caller.plugin_dirs = vec![host.dir.path().to_owned()];
        caller.deadline = Duration::from_secs(10);
        Self { host, caller, attachment, _netns: netns }
    }

    fn add(&self, list: &NetworkList) -> Result<cni::caller::Added, Error> {
        self.caller.add(list, &self.attachment, &mut self.host.owner("c1"))
    }

    fn note(&self, name: &str) -> String {
        std::fs::read_to_string(self.host.dir.path().join(name)).unwrap_or_default()
    }
}

#[test]
fn environment_stdin_and_results_are_as_specified() {
    on_a_host(|host| {
        let foreign = Foreign::new(host);
        plugin(host.dir.path(), "first", RESULT);
        plugin(host.dir.path(), "second", RESULT);
        let list = list(json!([
            { "type": "first", "own": { "key": [1] } },
            { "type": "second", "capabilities": { "portMappings": true, "mac": true } },
        ]));
        let added = foreign.add(&list).unwrap();
        assert_eq!(added.addresses()[0].to_string(), "10.1.2.3/24");
        let env = foreign.note("first.ADD.env");
        let netns = foreign.attachment.netns.as_ref().unwrap().display();
        for line in ["CNI_ARGS=IgnoreUnknown=1", "CNI_COMMAND=ADD", "CNI_CONTAINERID=c1", "CNI_IFNAME=eth0"] {
            assert!(env.lines().any(|l| l == line), "{line}: {env}");
        }
        assert!(env.contains(&format!("CNI_NETNS={netns}")) && env.contains("CNI_PATH=/"), "{env}");
        let first: Value = serde_json::from_str(&foreign.note("first.ADD.stdin")).unwrap();
        let expected =
            json!({ "type": "first", "own": { "key": [1] }, "name": "foreign", "cniVersion": "1.0.0" });
        assert_eq!(first, expected);
        let second: Value = serde_json::from_str(&foreign.note("second.ADD.stdin")).unwrap();
        assert_eq!(second["prevResult"]["ips"][0]["address"], "10.1.2.3/24");
        assert_eq!(second["runtimeConfig"]["portMappings"][0]["hostPort"], 8080);
        assert_eq!(second.get("capabilities"), None);

        let made = cached(&foreign.caller.cache_dir, "foreign", &foreign.attachment).unwrap();
        assert_eq!((made.list, made.attachment), (list.clone(), foreign.attachment.clone()));
        assert_eq!(cached_attachments(&foreign.caller.cache_dir).len(), 1);
        foreign.caller.check(&list, &foreign.attachment).unwrap();

        // DEL: in reverse, with what the cache has, whatever the configuration says now.
        let changed =
            NetworkList::parse(br#"{"name":"foreign","cniVersion":"1.0.0","type":"gone"}"#).unwrap();
        let bare = Attachment::new("c1", "eth0", None).unwrap();
        foreign.caller.del(&changed, &bare, &mut host.owner("c1")).unwrap();
        assert!(foreign.note("calls").ends_with("second DEL\nfirst DEL\n"), "{}", foreign.note("calls"));
        let del: Value = serde_json::from_str(&foreign.note("first.DEL.stdin")).unwrap();
        assert_eq!(del["prevResult"]["ips"][0]["address"], "10.1.2.3/24");
        assert!(foreign.note("first.DEL.env").contains("CNI_NETNS=\n"));
        assert_eq!(cached_attachments(&foreign.caller.cache_dir).len(), 0);
    });
}

#[test]
fn a_failure_keeps_its_code_and_all_are_called_to_clean_up() {
    on_a_host(|host| {
        let foreign = Foreign::new(host);
        plugin(host.dir.path(), "first", RESULT);
        plugin(host.dir.path(), "second", &format!("[ $CNI_COMMAND = DEL ] || {{ {FAIL}; }}"));
        let error = foreign.add(&list(json!([{ "type": "first" }, { "type": "second" }]))).unwrap_err();
        assert_eq!((error.code, error.details.as_str()), (Code::InvalidConfig, "really"));
        assert!(error.to_string().contains("\"second\" failed ADD: no such thing"), "{error}");
        assert!(foreign.note("calls").ends_with("second DEL\nfirst DEL\n"));
        assert_eq!(cached_attachments(&foreign.caller.cache_dir).len(), 0);
    });
}

#[test]
fn what_is_no_result_is_said_plainly() {
    on_a_host(|host| {
        let foreign = Foreign::new(host);
        for (body, code, words) in [
            ("[ $CNI_COMMAND = DEL ] || echo rubbish", Code::Decode, "cannot read a plugin's result"),
            ("[ $CNI_COMMAND = DEL ] || echo '{\"cniVersion\":\"9\"}'", Code::IncompatibleVersion, "\"9\""),
            ("[ $CNI_COMMAND = DEL ] || { echo why >&2; exit 3; }", Code::Other(100), "why"),
            ("[ $CNI_COMMAND = DEL ] || kill -9 $$", Code::Other(100), "signal: 9"),
        ] {
            plugin(host.dir.path(), "odd", body);
            let error = foreign.add(&list(json!([{ "type": "odd" }]))).unwrap_err();
            assert_eq!(error.code, code, "{body}: {error}");
            assert!(error.to_string().contains(words), "{body}: {error}");
        }
        let error = foreign.add(&list(json!([{ "type": "absent" }]))).unwrap_err().to_string();
        assert!(error.contains("cannot find plugin \"absent\"") && error.contains("host-local"), "{error}");
        assert_eq!(error.matches("cannot find plugin").count(), 1, "said once: {error}");
    });
}

#[test]
fn one_that_hangs_is_killed_with_its_children() {
    on_a_host(|host| {
        let mut foreign = Foreign::new(host);
        foreign.caller.deadline = Duration::from_secs(5);
        let note = host.dir.path().join("child");
        let body = format!("[ $CNI_COMMAND = DEL ] || {{ sleep 600 & echo $! > {}; wait; }}", note.display());
        plugin(host.dir.path(), "slow", &body);
        let error = foreign.add(&list(json!([{ "type": "slow" }]))).unwrap_err();
        assert_eq!(error.code, Code::TryAgain, "{error}");
        let child: i32 = std::fs::read_to_string(note).unwrap().trim().parse().unwrap();
        let state = || std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        // Killed it is at once; who reaps it is init's affair.
        let dead = (0..3000).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            state().is_empty() || state().contains(") Z ")
        });
        assert!(dead, "{}", state());
    });
}

#[test]
fn ours_delegate_to_theirs() {
    on_a_host(|host| {
        let foreign = Foreign::new(host);
        plugin(host.dir.path(), "their-ipam", RESULT);
        let list = list(
            json!([{ "type": "bridge", "bridge": "br7", "isGateway": true, "ipam": { "type": "their-ipam" } }]),
        );
        let added = foreign.add(&list).unwrap();
        assert_eq!(added.gateways(), ["10.1.2.1".parse::<std::net::IpAddr>().unwrap()]);
        let stdin: Value = serde_json::from_str(&foreign.note("their-ipam.ADD.stdin")).unwrap();
        assert_eq!(stdin["bridge"], "br7");
        foreign.caller.del(&list, &foreign.attachment, &mut host.owner("c1")).unwrap();
        assert!(foreign.note("calls").ends_with("their-ipam DEL\n"));
    });
}

#[test]
fn gc_detaches_what_is_not_valid_and_tells_the_plugins() {
    on_a_host(|host| {
        let foreign = Foreign::new(host);
        plugin(host.dir.path(), "first", RESULT);
        plugin(host.dir.path(), "second", &format!("[ $CNI_COMMAND = GC ] && {{ {FAIL}; }}\n{RESULT}"));
        let list = |disable: bool| {
            let plugins = json!([{ "type": "first" }, { "type": "second" }]);
            let list =
                json!({ "cniVersion": "1.1.0", "name": "foreign", "plugins": plugins, "disableGC": disable });
            NetworkList::from_value(list).unwrap()
        };
        foreign.add(&list(false)).unwrap();
        let valid = |ifname: &str| vec![ValidAttachment { container_id: "c1".into(), ifname: ifname.into() }];
        let gc = |list: &NetworkList, valid: &[ValidAttachment]| {
            foreign.caller.gc(list, valid, &mut host.owner("gc")).map_err(|e| e.to_string())
        };
        gc(&list(true), &[]).unwrap();
        assert!(!foreign.note("calls").contains("GC"), "disableGC");

        // A failure is told, and stops nobody.
        let error = gc(&list(false), &valid("eth0")).unwrap_err();
        assert!(error.contains("\"second\" failed GC: no such thing"), "{error}");
        let stdin: Value = serde_json::from_str(&foreign.note("first.GC.stdin")).unwrap();
        assert_eq!(stdin["cni.dev/valid-attachments"], json!([{ "containerID": "c1", "ifname": "eth0" }]));
        assert!(!foreign.note("first.GC.env").contains("CNI_CONTAINERID"));
        assert_eq!(cached_attachments(&foreign.caller.cache_dir).len(), 1);

        gc(&list(false), &valid("eth1")).unwrap_err();
        assert!(
            foreign.note("calls").contains("second DEL\nfirst DEL\nfirst GC"),
            "{}",
            foreign.note("calls")
        );
        assert_eq!(cached_attachments(&foreign.caller.cache_dir).len(), 0);
    });
}

#[test]
fn plugins_are_asked_for_their_versions() {
    on_a_host(|host| {
        let foreign = Foreign::new(host);
        plugin(host.dir.path(), "old", "echo '{\"cniVersion\":\"0.4.0\",\"supportedVersions\":[\"0.4.0\"]}'");
        plugin(
            host.dir.path(),
            "oldest",
            "echo '{\"code\":4,\"msg\":\"unknown CNI_COMMAND: VERSION\"}'; exit 1",
        );
        assert_eq!(foreign.caller.versions("old").unwrap(), ["0.4.0"]);
        assert_eq!(foreign.caller.versions("oldest").unwrap(), ["0.1.0"]);
        assert_eq!(foreign.caller.versions("bridge").unwrap().len(), 7);
        foreign.caller.validate(&list(json!([{ "type": "bridge" }]))).unwrap();
        let wrong = list(json!([{ "type": "old" }, { "type": "bridge" }, { "type": "absent" }]));
        let errors = foreign.caller.validate(&wrong).unwrap_err();
        assert_eq!(errors.0.len(), 2, "{errors}");
        assert!(
            errors.to_string().contains("\"old\" in network \"foreign\": it does not speak cniVersion 1.0.0")
        );
    });
}

#[test]
fn results_of_before_libcni_had_a_cache_are_used_for_del() {
    on_a_host(|host| {
        let foreign = Foreign::new(host);
        plugin(host.dir.path(), "first", RESULT);
        let results = foreign.caller.cache_dir.join("results");
        std::fs::create_dir_all(&results).unwrap();
        let bare = r#"{"cniVersion":"1.0.0","ips":[{"address":"10.9.9.9/24"}]}"#;
        std::fs::write(results.join("foreign-c1-eth0"), bare).unwrap();
        let list = list(json!([{ "type": "first" }]));
        foreign.caller.del(&list, &foreign.attachment, &mut host.owner("c1")).unwrap();
        let del: Value = serde_json::from_str(&foreign.note("first.DEL.stdin")).unwrap();
        assert_eq!(del["prevResult"]["ips"][0]["address"], "10.9.9.9/24");
        assert!(!results.join("foreign-c1-eth0").exists());
        // One that is torn is as good as none.
        std::fs::write(results.join("foreign-c1-eth0"), "{").unwrap();
        foreign.caller.del(&list, &foreign.attachment, &mut host.owner("c1")).unwrap();
        assert!(!results.join("foreign-c1-eth0").exists());
    });
}
