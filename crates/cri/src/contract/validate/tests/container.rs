//! Containers: users, profiles, limits, mounts, devices.

use super::*;

#[test]
fn users_and_groups() {
    let field = |name: &str| format!("config.linux.security_context.{name}");
    let id = |value| Some(Int64Value { value });
    refused(container(), |r| context(r).run_as_user = id(-1), &field("run_as_user"), "-1 is no id");
    refused(container(), |r| context(r).run_as_group = id(1 << 31), &field("run_as_group"), "2147483648");
    refused(container(), |r| context(r).run_as_user = None, &field("run_as_group"), "needs a user");
    refused(container(), |r| context(r).run_as_username = "www".into(), &field("run_as_username"), "\"www\"");
    refused(
        container(),
        |r| context(r).supplemental_groups = vec![1, -5],
        &field("supplemental_groups[1]"),
        "-5",
    );
    let policy = |r: &mut CreateContainerRequest| context(r).supplemental_groups_policy = 2;
    refused(container(), policy, &field("supplemental_groups_policy"), "2");
    accepted(container(), |r| {
        context(r).run_as_user = None;
        context(r).run_as_username = "www-data".into();
    });
    let group_alone = |r: &mut RunPodSandboxRequest| sandbox_context(r).run_as_group = id(5);
    refused(pod(), group_alone, &field("run_as_group"), "5 needs a user");
    let spaced = |r: &mut CreateContainerRequest| {
        context(r).selinux_options = Some(SeLinuxOption { level: "s0 c1".into(), ..Default::default() });
    };
    refused(container(), spaced, &field("selinux_options.level"), "white space");
    let parted = |r: &mut CreateContainerRequest| {
        context(r).selinux_options = Some(SeLinuxOption { r#type: "a:b".into(), ..Default::default() });
    };
    refused(container(), parted, &field("selinux_options.type"), "\"a:b\" is more than one part");
    accepted(container(), |r| {
        context(r).selinux_options = Some(SeLinuxOption { level: "s0:c1,c2".into(), ..Default::default() });
    });
}

#[test]
#[expect(deprecated, reason = "the old notation is tested, too")]
fn profiles_name_what_lies_on_the_node() {
    let field = |name: &str| format!("config.linux.security_context.{name}");
    let profile = |kind: ProfileType, reference: &str| {
        Some(SecurityProfile { profile_type: kind.into(), localhost_ref: reference.into() })
    };
    let set =
        |value: Option<SecurityProfile>| move |r: &mut CreateContainerRequest| context(r).seccomp = value;
    let local = ProfileType::Localhost;
    accepted(container(), set(profile(local, "/var/lib/kubelet/seccomp/a.json")));
    accepted(container(), set(profile(local, "localhost//a.json")));
    accepted(container(), set(profile(ProfileType::Unconfined, "")));
    refused(container(), set(profile(local, "")), &field("seccomp.localhost_ref"), "empty");
    refused(container(), set(profile(local, "a.json")), &field("seccomp.localhost_ref"), "a.json");
    refused(
        container(),
        set(profile(ProfileType::RuntimeDefault, "/a")),
        &field("seccomp.localhost_ref"),
        "RuntimeDefault",
    );
    let unknown = SecurityProfile { profile_type: 3, localhost_ref: String::new() };
    refused(container(), set(Some(unknown)), &field("seccomp.profile_type"), "3");
    let nameless = |r: &mut CreateContainerRequest| context(r).apparmor = profile(local, "");
    refused(container(), nameless, &field("apparmor.localhost_ref"), "empty");
    accepted(container(), |r| context(r).apparmor = profile(local, "my-profile"));
    let old = |value: &'static str| {
        move |r: &mut CreateContainerRequest| context(r).seccomp_profile_path = value.into()
    };
    accepted(container(), old("runtime/default"));
    accepted(container(), old("localhost//tmp/p.json"));
    refused(container(), old("localhost/p.json"), &field("seccomp_profile_path"), "relative");
    refused(container(), old("default"), &field("seccomp_profile_path"), "\"default\" is no profile");
    let old = |r: &mut CreateContainerRequest| context(r).apparmor_profile = "mine".into();
    refused(container(), old, &field("apparmor_profile"), "\"mine\" is no profile");
}

#[test]
fn capabilities_and_paths() {
    let field = |name: &str| format!("config.linux.security_context.{name}");
    let add = |r: &mut CreateContainerRequest| {
        context(r).capabilities.as_mut().unwrap().add_capabilities[1] = "FLY".into();
    };
    refused(container(), add, &field("capabilities.add_capabilities[1]"), "\"FLY\" is no capability");
    let ambient = |r: &mut CreateContainerRequest| {
        context(r).capabilities.as_mut().unwrap().add_ambient_capabilities = vec!["all".into()];
    };
    refused(container(), ambient, &field("capabilities.add_ambient_capabilities"), "ALL");
    refused(container(), |r| context(r).masked_paths.push("x".into()), &field("masked_paths[1]"), "\"x\"");
    refused(
        container(),
        |r| context(r).readonly_paths.push(String::new()),
        &field("readonly_paths[0]"),
        "empty",
    );
}

#[test]
fn limits_are_in_range() {
    let limit =
        |change: fn(&mut LinuxContainerResources)| move |r: &mut CreateContainerRequest| change(resources(r));
    let field = |name: &str| format!("config.linux.resources.{name}");
    refused(container(), limit(|l| l.cpu_period = 999), &field("cpu_period"), "999");
    refused(container(), limit(|l| l.cpu_quota = -2), &field("cpu_quota"), "-2");
    refused(container(), limit(|l| l.cpu_quota = 10), &field("cpu_quota"), "10");
    refused(container(), limit(|l| l.cpu_shares = -1), &field("cpu_shares"), "-1");
    refused(container(), limit(|l| l.memory_limit_in_bytes = -2), &field("memory_limit_in_bytes"), "-2");
    refused(
        container(),
        limit(|l| l.memory_swap_limit_in_bytes = -2),
        &field("memory_swap_limit_in_bytes"),
        "-2",
    );
    refused(
        container(),
        limit(|l| l.memory_swap_limit_in_bytes = 1),
        &field("memory_swap_limit_in_bytes"),
        "less",
    );
    refused(container(), limit(|l| l.oom_score_adj = 1001), &field("oom_score_adj"), "1001");
    refused(container(), limit(|l| l.cpuset_cpus = "1-".into()), &field("cpuset_cpus"), "\"1-\"");
    refused(container(), limit(|l| l.cpuset_mems = "x".into()), &field("cpuset_mems"), "\"x\"");
    let page = |l: &mut LinuxContainerResources| l.hugepage_limits[0].page_size = "2".into();
    refused(container(), limit(page), &field("hugepage_limits[0].page_size"), "\"2\"");
    let twice = |l: &mut LinuxContainerResources| l.hugepage_limits[1].page_size = "2MB".into();
    refused(container(), limit(twice), &field("hugepage_limits[1].page_size"), "already");
    let file = |l: &mut LinuxContainerResources| drop(l.unified.insert("../x".into(), "1".into()));
    refused(container(), limit(file), &field("unified"), "../x");
    accepted(container(), limit(|l| l.memory_swap_limit_in_bytes = -1));
    accepted(container(), limit(|l| l.cpu_quota = -1));
    let update = UpdateContainerResourcesRequest { container_id: "c".into(), ..Default::default() };
    let change = |r: &mut UpdateContainerResourcesRequest| {
        r.linux = Some(LinuxContainerResources { oom_score_adj: -1001, ..Default::default() });
    };
    refused(update.clone(), change, "linux.oom_score_adj", "-1001");
    refused(update, |r| r.windows = Some(Default::default()), "windows", "Linux");
    let update = UpdatePodSandboxResourcesRequest { pod_sandbox_id: "p".into(), ..Default::default() };
    let change = |r: &mut UpdatePodSandboxResourcesRequest| {
        r.overhead = Some(LinuxContainerResources { cpu_shares: -1, ..Default::default() });
    };
    refused(update, change, "overhead.cpu_shares", "-1");
}

#[test]
fn a_container_says_what_it_is() {
    refused(container(), |r| r.pod_sandbox_id.clear(), "pod_sandbox_id", "empty");
    refused(container(), |r| r.config = None, "config", "missing");
    refused(container(), |r| inner(r).metadata = None, "config.metadata", "missing");
    refused(container(), |r| inner(r).metadata = Some(Default::default()), "config.metadata.name", "empty");
    refused(container(), |r| inner(r).image = None, "config.image", "missing");
    refused(container(), |r| inner(r).image = Some(Default::default()), "config.image.image", "empty");
    refused(container(), |r| inner(r).command = vec!["a\0".into()], "config.command[0]", "NUL");
    refused(container(), |r| inner(r).args = vec!["a".into(), "\0".into()], "config.args[1]", "NUL");
    refused(container(), |r| inner(r).working_dir = "x".into(), "config.working_dir", "relative");
    refused(container(), |r| inner(r).envs[0].key = "A=B".into(), "config.envs[0].key", "A=B");
    refused(container(), |r| inner(r).envs[0].key.clear(), "config.envs[0].key", "empty");
    refused(container(), |r| inner(r).envs[0].value.push(0), "config.envs[0].value", "\"A\"");
    refused(container(), |r| inner(r).log_path = "/x".into(), "config.log_path", "absolute");
    refused(container(), |r| inner(r).log_path = "a/../../x".into(), "config.log_path", "upwards");
    refused(container(), |r| inner(r).stop_signal = 66, "config.stop_signal", "66");
    refused(container(), |r| inner(r).windows = Some(Default::default()), "config.windows", "Linux");
    let nameless = |r: &mut CreateContainerRequest| r.sandbox_config.as_mut().unwrap().metadata = None;
    refused(container(), nameless, "sandbox_config.metadata", "missing");
    accepted(container(), |r| inner(r).stop_signal = 65);
    accepted(container(), |r| r.sandbox_config = None);
}

#[test]
fn mounts_are_of_a_path_or_an_image() {
    let mount = |at: usize, change: fn(&mut Mount)| {
        move |r: &mut CreateContainerRequest| change(&mut inner(r).mounts[at])
    };
    let field = |at: usize, name: &str| format!("config.mounts[{at}].{name}");
    refused(container(), mount(0, |m| m.container_path = "a".into()), &field(0, "container_path"), "\"a\"");
    refused(container(), mount(0, |m| m.host_path.clear()), &field(0, "host_path"), "empty");
    refused(container(), mount(0, |m| m.propagation = 3), &field(0, "propagation"), "3");
    refused(
        container(),
        mount(0, |m| m.recursive_read_only = true),
        &field(0, "recursive_read_only"),
        "readonly",
    );
    let shared = |m: &mut Mount| {
        (m.readonly, m.recursive_read_only, m.propagation) = (true, true, 1);
    };
    refused(container(), mount(0, shared), &field(0, "recursive_read_only"), "PRIVATE");
    refused(
        container(),
        mount(0, |m| m.image_sub_path = "x".into()),
        &field(0, "image_sub_path"),
        "needs an image",
    );
    refused(container(), mount(1, |m| m.host_path = "/x".into()), &field(1, "host_path"), "contradicts");
    refused(container(), mount(1, |m| m.readonly = false), &field(1, "readonly"), "must be set");
    refused(container(), mount(1, |m| m.propagation = 2), &field(1, "propagation"), "PRIVATE");
    refused(
        container(),
        mount(1, |m| m.image_sub_path = "../x".into()),
        &field(1, "image_sub_path"),
        "upwards",
    );
    refused(
        container(),
        mount(1, |m| m.image_sub_path = "/x".into()),
        &field(1, "image_sub_path"),
        "absolute",
    );
    refused(container(), mount(1, |m| m.image = Some(Default::default())), &field(1, "image.image"), "empty");
    let range = IdMapping { host_id: 1, container_id: 0, length: 1 };
    accepted(container(), |r| {
        inner(r).mounts[0].uid_mappings = vec![range];
        inner(r).mounts[0].gid_mappings = vec![range];
    });
    refused(container(), |r| inner(r).mounts[0].uid_mappings = vec![range], &field(0, "gidMappings"), "both");
    refused(container(), |r| inner(r).mounts[0].gid_mappings = vec![range], &field(0, "uidMappings"), "both");
    let empty = IdMapping { length: 0, ..range };
    refused(
        container(),
        |r| inner(r).mounts[0].gid_mappings = vec![empty],
        &field(0, "gidMappings[0].length"),
        "0",
    );
    accepted(container(), mount(0, |m| (m.readonly, m.recursive_read_only) = (true, true)));
}

#[test]
fn devices_and_their_permissions() {
    let device =
        |change: fn(&mut Device)| move |r: &mut CreateContainerRequest| change(&mut inner(r).devices[0]);
    let field = |name: &str| format!("config.devices[0].{name}");
    refused(container(), device(|d| d.container_path = "fuse".into()), &field("container_path"), "fuse");
    refused(container(), device(|d| d.host_path.clear()), &field("host_path"), "empty");
    let upwards = device(|d| d.container_path = "/dev/../etc/x".into());
    refused(container(), upwards, &field("container_path"), "upwards");
    for permissions in ["", "x", "rr", "rwmr"] {
        let change = |r: &mut CreateContainerRequest| inner(r).devices[0].permissions = permissions.into();
        refused(container(), change, &field("permissions"), &format!("{permissions:?}"));
    }
    let cdi = |r: &mut CreateContainerRequest| inner(r).cdi_devices[0].name = "gpu".into();
    refused(container(), cdi, "config.CDI_devices[0].name", "gpu");
    let mut dotted = container();
    inner(&mut dotted).cdi_devices[0].name = "vendor.com/net.vf=0:1".into();
    dotted.validate().unwrap();
}
