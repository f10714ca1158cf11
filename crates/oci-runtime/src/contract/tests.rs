use serde_json::{Value, json};

use super::*;

/// A configuration with every field of the Linux part.
const WHOLE: &str = include_str!("tests/whole.json");

fn minimal() -> Value {
    json!({"ociVersion": "1.3.0", "root": {"path": "rootfs"}, "process": {"cwd": "/", "args": ["sh"]},
        "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}]}})
}

/// The minimal configuration with one field replaced; `at` is a JSON pointer whose last part is made.
fn with(at: &str, value: Value) -> Value {
    let mut config = minimal();
    let (parent, key) = at.rsplit_once('/').unwrap();
    let mut place = &mut config;
    for part in parent.split('/').skip(1) {
        place = place.as_object_mut().unwrap().entry(part).or_insert(json!({}));
    }
    place.as_object_mut().unwrap().insert(key.to_owned(), value);
    config
}

fn verdict(config: &Value) -> Result<(), Error> {
    parse(config.to_string().as_bytes()).and_then(|spec| validate(&spec))
}

#[test]
fn a_whole_configuration_survives_the_round_trip() {
    let before: Value = serde_json::from_str(WHOLE).unwrap();
    let spec = parse(WHOLE.as_bytes()).unwrap();
    validate(&spec).unwrap();
    let after = serde_json::to_value(&spec).unwrap();
    assert_eq!(before, after);
}

#[test]
fn a_minimal_configuration_stays_minimal() {
    let text = r#"{"ociVersion":"1.0.0","root":{"path":"rootfs"}}"#;
    let spec = parse(text.as_bytes()).unwrap();
    validate(&spec).unwrap();
    assert_eq!(serde_json::to_string(&spec).unwrap(), text);
}

#[test]
fn null_is_the_empty_value_as_go_writes_it() {
    let text = r#"{"ociVersion":"1.0.0","root":{"path":"r","readonly":null},"process":null,"mounts":null,
        "hooks":{"poststop":null},"annotations":null,
        "linux":{"sysctl":null,"namespaces":null,"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","syscalls":null},
        "rootfsPropagation":"","resources":{"devices":[{"allow":false,"type":"","major":null}]}}}"#;
    let spec = parse(text.as_bytes()).unwrap();
    validate(&spec).unwrap();
    let linux = spec.linux.unwrap();
    assert_eq!((linux.rootfs_propagation, linux.resources.unwrap().devices[0].kind), (None, None));
}

#[test]
fn a_misread_field_is_named() {
    for (text, field) in [
        (
            r#"{"ociVersion":"1.0.0","linux":{"namespaces":[{"type":"pid"},{"type":"pdi"}]}}"#,
            "linux.namespaces[1].type",
        ),
        (r#"{"ociVersion":"1.0.0","process":{"cwd":"/","args":["a",3]}}"#, "process.args[1]"),
        (
            "{\"ociVersion\":\"1.0.0\",\n \"process\": {\"cwd\":\"/\",\n  \"user\": {\"uid\": -1}}}",
            "process.user.uid",
        ),
        (r#"{"ociVersion":"1.0.0","process":{"args":["a"]}}"#, "process"),
        (r#"{"ociVersion":"1.0.0","mounts":[{"destination":"/a"},{"source":"b"}]}"#, "mounts[1]"),
        (
            r#"{"ociVersion":"1.0.0","process":{"cwd":"/","rlimits":[{"type":"RLIMIT_X","hard":1,"soft":1}]}}"#,
            "process.rlimits[0].type",
        ),
        (
            r#"{"ociVersion":"1.0.0","linux":{"seccomp":{"defaultAction":"SCMP_ACT_NO"}}}"#,
            "linux.seccomp.defaultAction",
        ),
        (
            r#"{"ociVersion":"1.0.0","linux":{"resources":{"pids":{"limit":"many"}}}}"#,
            "linux.resources.pids.limit",
        ),
        (r#"{"ociVersion":"1.0.0","linux":{"intelRdt":{"schemata":"x"}}}"#, "linux.intelRdt.schemata"),
        (r#"{"process":{}}"#, "process"),
        ("{}", ""),
        ("", ""),
    ] {
        let error = parse(text.as_bytes()).unwrap_err();
        assert_eq!(error.field(), field, "{error}");
        assert!(error.to_string().starts_with("cannot read config.json: "), "{error}");
    }
}

#[test]
fn every_rule_names_the_field() {
    let mapping = |c: u32, h: u32, n: u32| json!({"containerID": c, "hostID": h, "size": n});
    let new_user = json!([{"type": "user"}]);
    let cases = [
        ("/ociVersion", json!("2.0.0"), "ociVersion"),
        ("/ociVersion", json!("1.0"), "ociVersion"),
        ("/ociVersion", json!("1.0.0-"), "ociVersion"),
        ("/root", json!(null), "root"),
        ("/root/path", json!(""), "root.path"),
        ("/hostname", json!("here"), "hostname"),
        ("/domainname", json!("here"), "domainname"),
        ("/annotations", json!({"": "x"}), "annotations"),
        ("/process/args", json!([]), "process.args"),
        ("/process/args", json!([""]), "process.args"),
        ("/process/args", json!(["a", "b\u{0}c"]), "process.args[1]"),
        ("/process/cwd", json!("srv"), "process.cwd"),
        ("/process/user", json!({"uid": 4294967295u32}), "process.user.uid"),
        ("/process/user", json!({"umask": 512}), "process.user.umask"),
        ("/process/oomScoreAdj", json!(-1001), "process.oomScoreAdj"),
        (
            "/process/ioPriority",
            json!({"class": "IOPRIO_CLASS_BE", "priority": 8}),
            "process.ioPriority.priority",
        ),
        ("/process/execCPUAffinity", json!({"initial": "3-1"}), "process.execCPUAffinity.initial"),
        ("/process/scheduler", json!({"policy": "SCHED_OTHER", "priority": 5}), "process.scheduler.priority"),
        ("/process/scheduler", json!({"policy": "SCHED_FIFO"}), "process.scheduler.priority"),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_RR", "priority": 1, "period": 1}),
            "process.scheduler.period",
        ),
        ("/process/scheduler", json!({"policy": "SCHED_DEADLINE"}), "process.scheduler.runtime"),
        ("/process/scheduler", json!({"policy": "SCHED_BATCH", "nice": 20}), "process.scheduler.nice"),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}, {"type": "RLIMIT_CPU", "soft": 1, "hard": 1}]),
            "process.rlimits[1].type",
        ),
        ("/process/rlimits", json!([{"type": "RLIMIT_AS", "soft": 2, "hard": 1}]), "process.rlimits[0].soft"),
        ("/mounts", json!([{"destination": "", "type": "proc"}]), "mounts[0].destination"),
        ("/mounts", json!([{"destination": "/a"}]), "mounts[0].type"),
        ("/mounts", json!([{"destination": "/a", "options": ["rbind"]}]), "mounts[0].source"),
        (
            "/mounts",
            json!([{"destination": "/a", "type": "bind", "source": "/b", "uidMappings": [mapping(0, 1, 1)]}]),
            "mounts[0].gidMappings",
        ),
        (
            "/mounts",
            json!([{"destination": "/a", "type": "bind", "source": "/b", "options": ["idmap"]}]),
            "mounts[0].options",
        ),
        ("/hooks/prestart", json!([{"path": "bin/x"}]), "hooks.prestart[0].path"),
        ("/hooks/poststop", json!([{"path": "/x", "timeout": 0}]), "hooks.poststop[0].timeout"),
        ("/linux/namespaces", json!([{"type": "pid"}, {"type": "pid"}]), "linux.namespaces[1].type"),
        ("/linux/namespaces", json!([{"type": "pid", "path": "x"}]), "linux.namespaces[0].path"),
        ("/linux/namespaces", new_user, "linux.uidMappings"),
        ("/linux/uidMappings", json!([mapping(0, 0, 1)]), "linux.uidMappings"),
        ("/linux/timeOffsets", json!({"boottime": {"secs": 1}}), "linux.timeOffsets.boottime"),
        ("/linux/timeOffsets", json!({"realtime": {"secs": 1}}), "linux.timeOffsets"),
        ("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}), "linux.sysctl.net.ipv4.ip_forward"),
        ("/linux/sysctl", json!({"kernel.shmmax": "1"}), "linux.sysctl.kernel.shmmax"),
        ("/linux/sysctl", json!({"kernel.panic": "1"}), "linux.sysctl.kernel.panic"),
        ("/linux/sysctl", json!({"net/../kernel/panic": "1"}), "linux.sysctl"),
        ("/linux/sysctl", json!({"net..kernel": "1"}), "linux.sysctl"),
        ("/linux/sysctl", json!({"net.//.kernel": "1"}), "linux.sysctl"),
        ("/linux/cgroupsPath", json!("/a/../../b"), "linux.cgroupsPath"),
        ("/linux/maskedPaths", json!(["/a", "b"]), "linux.maskedPaths[1]"),
        ("/linux/readonlyPaths", json!([""]), "linux.readonlyPaths[0]"),
        ("/linux/devices", json!([{"path": "/dev/x", "type": "a"}]), "linux.devices[0].type"),
        ("/linux/devices", json!([{"path": "/dev/x", "type": "c", "major": -1}]), "linux.devices[0].major"),
        ("/linux/devices", json!([{"path": "/dev/../x", "type": "p"}]), "linux.devices[0].path"),
        ("/linux/netDevices", json!({"eth0": {}}), "linux.netDevices.eth0"),
        ("/linux/netDevices", json!({"a name": {}}), "linux.netDevices"),
        ("/linux/netDevices", json!({"a": {"name": "much_longer_than_15"}}), "linux.netDevices.a.name"),
        ("/linux/personality", json!({"domain": "LINUX", "flags": ["X"]}), "linux.personality.flags"),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_BIND"}), "linux.memoryPolicy.nodes"),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_LOCAL", "nodes": "0"}), "linux.memoryPolicy.nodes"),
        ("/linux/intelRdt", json!({"memBwSchema": "L3:0=f"}), "linux.intelRdt.memBwSchema"),
        ("/linux/intelRdt", json!({"closID": "a/b"}), "linux.intelRdt.closID"),
        ("/linux/intelRdt", json!({"schemata": ["a\nb"]}), "linux.intelRdt.schemata"),
        (
            "/linux/resources/devices",
            json!([{"allow": true, "type": "p"}]),
            "linux.resources.devices[0].type",
        ),
        ("/linux/resources/memory", json!({"limit": 9, "swap": 8}), "linux.resources.memory.swap"),
        ("/linux/resources/memory", json!({"limit": -2}), "linux.resources.memory.limit"),
        ("/linux/resources/memory", json!({"swappiness": 101}), "linux.resources.memory.swappiness"),
        ("/linux/resources/cpu", json!({"quota": 1, "burst": 2}), "linux.resources.cpu.burst"),
        ("/linux/resources/cpu", json!({"idle": 2}), "linux.resources.cpu.idle"),
        ("/linux/resources/cpu", json!({"cpus": "a"}), "linux.resources.cpu.cpus"),
        ("/linux/resources/blockIO", json!({"weight": 5}), "linux.resources.blockIO.weight"),
        (
            "/linux/resources/blockIO",
            json!({"weightDevice": [{"major": 1, "minor": 1}]}),
            "linux.resources.blockIO.weightDevice[0]",
        ),
        (
            "/linux/resources/hugepageLimits",
            json!([{"pageSize": "2M", "limit": 1}]),
            "linux.resources.hugepageLimits[0].pageSize",
        ),
        ("/linux/resources/rdma", json!({"mlx": {}}), "linux.resources.rdma.mlx"),
        ("/linux/resources/unified", json!({"../x": "1"}), "linux.resources.unified"),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}),
            "linux.seccomp.defaultErrnoRet",
        ),
        ("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_NOTIFY"}), "linux.seccomp.defaultAction"),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"}),
            "linux.seccomp.listenerMetadata",
        ),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [], "action": "SCMP_ACT_LOG"}]}),
            "linux.seccomp.syscalls[0].names",
        ),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "SCMP_ACT_NOTIFY"}]}),
            "linux.seccomp.listenerPath",
        ),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "SCMP_ACT_LOG",
                "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]}),
            "linux.seccomp.syscalls[0].args[0].index",
        ),
    ];
    verdict(&minimal()).unwrap();
    for (at, value, field) in cases {
        let error = verdict(&with(at, value.clone())).expect_err(&format!("{at} = {value}"));
        assert_eq!(error.field(), field, "{error}");
        assert!(error.to_string().starts_with("cannot accept config.json: "), "{error}");
    }
}

#[test]
fn mappings_do_not_overlap_or_overflow() {
    let check = |mappings: Value| {
        let mut config = with("/linux/namespaces", json!([{"type": "user"}]));
        config["linux"]["uidMappings"] = mappings;
        config["linux"]["gidMappings"] = json!([{"containerID": 0, "hostID": 1000, "size": 65536}]);
        verdict(&config).map_err(|e| e.field().to_owned())
    };
    let entry = |c: u32, h: u32, n: u32| json!({"containerID": c, "hostID": h, "size": n});
    assert_eq!(check(json!([entry(0, 1000, 1), entry(1, 100_000, 65535)])), Ok(()));
    assert_eq!(check(json!([entry(0, 0, u32::MAX)])), Ok(()));
    for bad in [
        json!([entry(0, 1000, 2), entry(1, 5000, 1)]),
        json!([entry(0, 1000, 2), entry(5, 1001, 1)]),
        json!([entry(0, 1, 0)]),
        json!([entry(1, u32::MAX, 2)]),
    ] {
        assert!(check(bad.clone()).unwrap_err().starts_with("linux.uidMappings["), "{bad}");
    }
}

#[test]
fn what_is_merely_odd_is_a_warning() {
    let mut config = with("/mounts", json!([{"destination": "proc", "type": "proc"}]));
    config["process"]["capabilities"] = json!({"bounding": ["CAP_KILL", "CAP_TIME_TRAVEL"]});
    config["linux"]["resources"] =
        json!({"devices": [{"allow": true, "access": "rx"}, {"allow": false, "access": "rwm"}]});
    let spec = parse(config.to_string().as_bytes()).unwrap();
    validate(&spec).unwrap();
    let warnings = warnings(&spec);
    assert!(warnings.len() == 3 && warnings[1].contains("CAP_TIME_TRAVEL"), "{warnings:?}");
    assert!(warnings[2].starts_with("linux.resources.devices[0].access is \"rx\": 'x' "), "{warnings:?}");
}

#[test]
fn a_sysctl_is_a_file() {
    assert_eq!(sysctl_path("net.ipv4.conf.eth0/100.forwarding"), "net/ipv4/conf/eth0.100/forwarding");
    assert_eq!(sysctl_path("net/ipv4/conf/eth0.100/forwarding"), "net/ipv4/conf/eth0.100/forwarding");
}

#[test]
fn versions_of_the_first_major_are_accepted() {
    for version in ["1.0.0", "1.0.2-dev", "1.3.0+dev", "1.0.0-rc5", "1.0.0-rc.1+b.2"] {
        verdict(&with("/ociVersion", json!(version))).unwrap();
    }
}
