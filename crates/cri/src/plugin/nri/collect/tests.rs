use super::*;
use crate::plugin::nri::wire::{
    CdiDevice, Hook, HugepageLimit, LinuxContainerUpdate, LinuxCpu, LinuxDevice, LinuxMemory, LinuxNamespace,
    Mount, PosixRlimit,
};

fn container() -> Container {
    Container {
        id: "c".into(),
        env: vec!["A=1".into(), "B=2".into()],
        args: vec!["sh".into()],
        annotations: [("k".to_owned(), "v".to_owned())].into(),
        ..Container::default()
    }
}

fn env(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.into(), value: value.into() }
}

/// What two plugins want, one after the other.
fn two(first: ContainerAdjustment, second: ContainerAdjustment) -> (Result<(), Error>, Collected, Container) {
    let (mut collected, mut container) = (Collected::default(), container());
    collected.adjust("00-a", first, &mut container).unwrap();
    let result = collected.adjust("10-b", second, &mut container);
    (result, collected, container)
}

#[test]
fn each_plugin_sees_what_those_before_it_wanted() {
    let first = ContainerAdjustment { env: vec![env("A", "9"), env("-B", "")], ..Default::default() };
    let second = ContainerAdjustment { env: vec![env("C", "3")], ..Default::default() };
    let (result, collected, container) = two(first, second);
    result.unwrap();
    assert_eq!(container.env, ["A=9", "C=3"]);
    let wanted: Vec<_> = collected.adjust.env.iter().map(|e| e.key.as_str()).collect();
    assert_eq!(wanted, ["-B", "A", "C"]);
}

/// One of each kind of field that two plugins must not both set.
fn conflicts() -> Vec<ContainerAdjustment> {
    let linux = |linux| ContainerAdjustment { linux: Some(linux), ..Default::default() };
    let limits =
        |resources| linux(LinuxContainerAdjustment { resources: Some(resources), ..Default::default() });
    let memory = LinuxMemory { limit: Some(1), ..Default::default() };
    let cpu = LinuxCpu { cpus: "0".into(), ..Default::default() };
    let pages = HugepageLimit { page_size: "2MB".into(), limit: 0 };
    vec![
        ContainerAdjustment { annotations: [("x".into(), "1".into())].into(), ..Default::default() },
        ContainerAdjustment {
            mounts: vec![Mount { destination: "/x".into(), ..Default::default() }],
            ..Default::default()
        },
        ContainerAdjustment { env: vec![env("X", "1")], ..Default::default() },
        ContainerAdjustment { args: vec!["x".into()], ..Default::default() },
        ContainerAdjustment {
            rlimits: vec![PosixRlimit { kind: "RLIMIT_NOFILE".into(), hard: 1, soft: 1 }],
            ..Default::default()
        },
        ContainerAdjustment { cdi_devices: vec![CdiDevice { name: "v/c=d".into() }], ..Default::default() },
        linux(LinuxContainerAdjustment {
            devices: vec![LinuxDevice { path: "/dev/x".into(), ..Default::default() }],
            ..Default::default()
        }),
        limits(LinuxResources { memory: Some(memory), ..Default::default() }),
        limits(LinuxResources { cpu: Some(cpu), ..Default::default() }),
        limits(LinuxResources { hugepage_limits: vec![pages], ..Default::default() }),
        limits(LinuxResources { unified: [("memory.high".into(), "1".into())].into(), ..Default::default() }),
        limits(LinuxResources { rdt_class: Some("x".into()), ..Default::default() }),
        linux(LinuxContainerAdjustment { cgroups_path: "/x".into(), ..Default::default() }),
        linux(LinuxContainerAdjustment { oom_score_adj: Some(1), ..Default::default() }),
        linux(LinuxContainerAdjustment { io_priority: Some(Default::default()), ..Default::default() }),
        linux(LinuxContainerAdjustment { seccomp_policy: Some(Default::default()), ..Default::default() }),
        linux(LinuxContainerAdjustment { scheduler: Some(Default::default()), ..Default::default() }),
        linux(LinuxContainerAdjustment { memory_policy: Some(Default::default()), ..Default::default() }),
        linux(LinuxContainerAdjustment {
            namespaces: vec![LinuxNamespace { kind: "ipc".into(), path: String::new() }],
            ..Default::default()
        }),
        linux(LinuxContainerAdjustment { sysctl: [("x".into(), "1".into())].into(), ..Default::default() }),
        linux(LinuxContainerAdjustment {
            net_devices: [("eth9".into(), Default::default())].into(),
            ..Default::default()
        }),
        linux(LinuxContainerAdjustment {
            rdt: Some(LinuxRdt { clos_id: Some("x".into()), ..Default::default() }),
            ..Default::default()
        }),
    ]
}

#[test]
fn two_plugins_that_set_the_same_are_a_conflict() {
    for adjust in conflicts() {
        let (result, ..) = two(adjust.clone(), adjust.clone());
        let text = result.unwrap_err().to_string();
        assert!(text.contains("00-a") && text.contains("10-b"), "{text}");
        // One that sets it and one that does not are none.
        two(adjust.clone(), ContainerAdjustment::default()).0.unwrap();
        two(ContainerAdjustment::default(), adjust).0.unwrap();
    }
}

#[test]
fn whoever_takes_it_away_first_may_set_it() {
    let set = |value: &str| ContainerAdjustment { env: vec![env("X", value)], ..Default::default() };
    let reset = ContainerAdjustment { env: vec![env("-X", ""), env("X", "2")], ..Default::default() };
    let (result, collected, container) = two(set("1"), reset.clone());
    result.unwrap();
    assert!(container.env.contains(&"X=2".to_owned()));
    assert_eq!(collected.adjust.env, [env("-X", ""), env("X", "2")]);
    let args = |args: &[&str]| ContainerAdjustment {
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        ..Default::default()
    };
    let (result, _, container) = two(args(&["a"]), args(&["", "b"]));
    result.unwrap();
    assert_eq!(container.args, ["b"]);
    // And a third must not undo that.
    let (result, mut collected, mut container) = two(set("1"), reset);
    result.unwrap();
    collected.adjust("20-c", set("3"), &mut container).unwrap_err();
}

#[test]
fn hooks_add_up() {
    let hooks = |path: &str| ContainerAdjustment {
        hooks: Some(Hooks {
            prestart: vec![Hook { path: path.into(), ..Default::default() }],
            ..Default::default()
        }),
        ..Default::default()
    };
    let (result, collected, _) = two(hooks("/a"), hooks("/b"));
    result.unwrap();
    assert_eq!(collected.adjust.hooks.unwrap().prestart.len(), 2);
    let owners = &collected.owners.wire.owners["c"].simple;
    assert_eq!(owners[&(Field::Hooks as i32)], "00-a,10-b");
}

fn update(id: &str, resources: LinuxResources, ignore_failure: bool) -> ContainerUpdate {
    let linux = Some(LinuxContainerUpdate { resources: Some(resources) });
    ContainerUpdate { container_id: id.into(), linux, ignore_failure }
}

#[test]
fn updates_of_one_container_become_one() {
    let shares = |n| LinuxResources {
        cpu: Some(LinuxCpu { shares: Some(n), ..Default::default() }),
        ..Default::default()
    };
    let cpus = LinuxResources {
        cpu: Some(LinuxCpu { cpus: "0".into(), ..Default::default() }),
        ..Default::default()
    };
    let mut collected = Collected::default();
    collected.update("00-a", vec![update("x", shares(5), true)], Some("c")).unwrap();
    collected.update("10-b", vec![update("x", cpus, false)], Some("c")).unwrap();
    // The failure is ignored, and nothing of it is done.
    collected.update("20-c", vec![update("x", shares(6), true)], Some("c")).unwrap();
    collected.update("20-c", vec![update("x", shares(6), false)], Some("c")).unwrap_err();
    collected.update("20-c", vec![update("c", shares(6), true)], Some("c")).unwrap_err();
    let known = collected.updates["x"].clone();
    let cpu = known.linux.unwrap().resources.unwrap().cpu.unwrap();
    assert_eq!((cpu.shares, cpu.cpus.as_str(), known.ignore_failure), (Some(5), "0", false));
    let limits = limits_of(&collected, "x", &shares(1));
    assert_eq!(limits.cpu.unwrap().shares, Some(5));
}
