//! A step's failure in words: the child sends numbers, the parent knows what they count.

use std::io;

use kernel::capability::CapSet;
use rustix::io::Errno;

use crate::Error;
use crate::init::hooks::ENDED_WITH;
use crate::init::report::{Failure, Step};
use crate::plan::{Plan, ProcessPlan};

/// The error for a failed step.
pub(crate) fn failure_error(failure: &Failure, plan: Option<&Plan>, process: &ProcessPlan) -> Error {
    let source: io::Error = failure.errno.into();
    if failure.step == Step::Exec {
        return Error::Exec { program: process.program.clone(), source, hint: exec_hint(failure.errno) };
    }
    if matches!(failure.step, Step::CreateContainerHook | Step::StartContainerHook) {
        return hook_error(failure, plan);
    }
    let mounting = matches!(
        failure.step,
        Step::MakeMount
            | Step::MountTarget
            | Step::AttachMount
            | Step::MountAttributes
            | Step::MountLabel
            | Step::CopyUp
            | Step::Remount
    );
    Error::Inside { act: act(failure, plan, process), source, hint: hint(failure), mounting }
}

fn hook_error(failure: &Failure, plan: Option<&Plan>) -> Error {
    let create = failure.step == Step::CreateContainerHook;
    let hooks = plan.and_then(|p| p.hooks.as_ref());
    let list = hooks.map(|h| if create { &h.create_container } else { &h.start_container });
    let hook = list.and_then(|list| list.get(usize::from(failure.index)));
    let code = failure.errno.raw_os_error() - ENDED_WITH;
    let mut why = match failure.errno {
        Errno::TIMEDOUT => {
            let limit = hook.and_then(|h| h.timeout).map_or_else(String::new, |s| format!(" of {s} s"));
            format!("it took longer than its timeout{limit}")
        }
        _ if code > 0 => crate::hooks::ended(code),
        errno => io::Error::from(errno).to_string(),
    };
    let printed = hooks.map(|h| crate::hooks::printed(&h.output)).filter(|text| !text.is_empty());
    if let Some(printed) = printed {
        why += &format!(" (it printed: {printed})");
    }
    Error::Hook {
        kind: if create { "createContainer" } else { "startContainer" },
        index: usize::from(failure.index),
        path: hook.map_or_else(String::new, |h| h.path.to_string_lossy().into_owned()),
        why,
    }
}

fn exec_hint(errno: Errno) -> &'static str {
    match errno {
        Errno::NOENT => {
            " (no such program in the image; give a full path, or check PATH and the entry point)"
        }
        Errno::ACCESS => " (the file is not executable for this user)",
        Errno::NOEXEC => " (not a program of this machine's architecture, or a script without #!)",
        _ => "",
    }
}

fn hint(failure: &Failure) -> &'static str {
    match (failure.step, failure.errno) {
        (Step::MakeMount, Errno::NODEV) => " (this kernel does not have that filesystem; load its module)",
        (Step::MountTarget | Step::DeviceNode, Errno::ROFS) => {
            " (the mount point is not there and the filesystem is read-only)"
        }
        (Step::MountAttributes, Errno::PERM) => {
            " (in a user namespace a bind mount keeps ro, nosuid, nodev, noexec and the access-time mode of its \
             source: leave out the option that says otherwise)"
        }
        (Step::AttachMount, Errno::NOTDIR) => {
            " (one of source and target is a directory and the other a file)"
        }
        (Step::MountTarget, Errno::LOOP) => {
            " (it must be mounted on ordinary directory: a symbolic link leads there, and would lead elsewhere later; \
             the image may be hostile)"
        }
        (Step::Sysctl, Errno::NXIO) => " (there is no procfs on /proc; mount it)",
        (Step::Sysctl, Errno::XDEV) => " (something else is mounted there; the image may be hostile)",
        (Step::WorkingDirectory, Errno::XDEV) => " (it is outside the container; the image may be hostile)",
        (Step::MaskPath | Step::Console, Errno::NXIO) => {
            " (it is not the device it should be; the image may be hostile)"
        }
        (Step::Remount, Errno::INVAL | Errno::NOENT) => {
            " (nothing is mounted there, or it has no such option)"
        }
        (Step::CopyUp, Errno::NOTDIR) => " (it is no directory)",
        (Step::Affinity, Errno::INVAL) => " (none of these CPUs is online and the container's)",
        (Step::Scheduler, Errno::PERM) => {
            " (real time takes CAP_SYS_NICE and, where the cgroup counts it, cpu.realtimeRuntime; with a deadline the \
             process scheduler can't be used together with AllowedCPUs or another cpuset: it takes all CPUs)"
        }
        (Step::Scheduler, Errno::BUSY) => " (the machine has no time left for this deadline)",
        (Step::Scheduler, Errno::INVAL | Errno::TOOBIG | Errno::OPNOTSUPP) => {
            " (this kernel does not take these values together)"
        }
        (Step::MemoryPolicy, Errno::INVAL) => {
            " (this kernel does not have the mode, or none of the nodes is the container's)"
        }
        (Step::AppArmor, Errno::NOENT) => " (no such profile is loaded)",
        (Step::SelinuxLabel, Errno::INVAL) => " (the policy has no such label)",
        (Step::Keyring, Errno::DQUOT) => {
            " (the user has too many keys: raise kernel.keys.maxkeys and root_maxkeys, or use --no-new-keyring)"
        }
        (Step::Sysctl, Errno::NOENT) => " (no such kernel parameter; check its name)",
        _ => "",
    }
}

fn act(failure: &Failure, plan: Option<&Plan>, process: &ProcessPlan) -> String {
    let index = usize::from(failure.index);
    let mount = || {
        plan.and_then(|p| p.mounts.get(index))
            .map_or_else(|| "a mount".into(), |m| format!("{} on /{}", m.shown, m.target.to_string_lossy()))
    };
    let path = |paths: Option<&Vec<std::ffi::CString>>| {
        paths.and_then(|p| p.get(index)).map_or_else(String::new, |p| format!("/{}", p.to_string_lossy()))
    };
    match failure.step {
        Step::EnterCgroup => "enter the container's cgroup".into(),
        Step::JoinNamespace => match plan.and_then(|p| p.namespaces.joined.get(index)) {
            Some((kind, _)) => format!("join the {kind:?} namespace of linux.namespaces"),
            None => "join a namespace of the container".into(),
        },
        Step::Unshare => "create the cgroup namespace".into(),
        Step::AwaitMapping => "wait for the ids of the user namespace to be mapped".into(),
        Step::BecomeRoot => "become root of the user namespace".into(),
        Step::OomScore => "set oom_score_adj".into(),
        Step::Propagation => "set the propagation of the root".into(),
        Step::MakeMount => format!("make the mount of {}", mount()),
        Step::AttachRoot => "attach the root".into(),
        Step::PivotRoot => "change to the root".into(),
        Step::MountTarget => format!("make the mount point for {}", mount()),
        Step::AttachMount => format!("mount {}", mount()),
        Step::MountAttributes => format!("set the attributes of {}", mount()),
        Step::DeviceNode => {
            let path = plan.and_then(|p| p.devices.get(index)).map(|d| d.path.to_string_lossy().into_owned());
            format!("create the device /{}", path.unwrap_or_default())
        }
        Step::DeviceLink => "create the links in /dev".into(),
        Step::CreateContainerHook => "run the createContainer hooks".into(),
        Step::StartContainerHook => "run the startContainer hooks".into(),
        Step::Listener => "send the descriptor on which the system call filter asks".into(),
        Step::Console => "create the terminal".into(),
        Step::Sysctl => {
            let path = plan.and_then(|p| p.sysctls.get(index)).map(|s| s.0.to_string_lossy().into_owned());
            format!("set the kernel parameter /{}", path.unwrap_or_default())
        }
        Step::MaskPath => format!("mask {}", path(plan.map(|p| &p.masked))),
        Step::ReadOnlyPath => format!("make {} read-only", path(plan.map(|p| &p.read_only))),
        Step::ReadOnlyRoot => "make the root read-only".into(),
        Step::HostName => "set the host name".into(),
        Step::DomainName => "set the domain name".into(),
        Step::AwaitStart => "wait for the start".into(),
        Step::Session => "make a session".into(),
        Step::Stdio => "set up the standard streams".into(),
        Step::WorkingDirectory => format!("enter the working directory {}", process.cwd.to_string_lossy()),
        Step::Rlimit => format!("set the limit {}", limit_name(process, index)),
        Step::Groups => "set the groups".into(),
        Step::GroupId => format!("become group {}", process.gid.as_raw()),
        Step::UserId => format!("become user {}", process.uid.as_raw()),
        Step::Capabilities => "set the capabilities".into(),
        Step::NoNewPrivileges => "forbid new privileges".into(),
        Step::Seccomp => "load the system call filter".into(),
        Step::CloseDescriptors => "close descriptors".into(),
        Step::Exec => format!("execute {}", process.program),
        Step::Affinity => "bind the process to its CPUs (process.execCPUAffinity)".into(),
        Step::Scheduler => "set the scheduler (process.scheduler)".into(),
        Step::IoPriority => "set the I/O priority (process.ioPriority)".into(),
        Step::MemoryPolicy => "set the memory policy (linux.memoryPolicy)".into(),
        Step::Personality => "set the execution domain (linux.personality)".into(),
        Step::AppArmor => {
            format!("take on the AppArmor profile {:?} (process.apparmorProfile)", process.labels.profile())
        }
        Step::MountLabel => format!("label the mount of {} (linux.mountLabel)", mount()),
        Step::CopyUp => format!("copy what is below into the mount of {}", mount()),
        Step::Clone => "make the container's process".into(),
        Step::Keyring => "join a session keyring".into(),
        Step::Remount => format!("remount {}", mount()),
        Step::SelinuxLabel => "take on the SELinux label (process.selinuxLabel)".into(),
    }
}

fn limit_name(process: &ProcessPlan, index: usize) -> String {
    process
        .rlimits
        .get(index)
        .map_or_else(String::new, |(resource, _)| format!("{resource:?}").to_uppercase())
}

/// A warning, as a sentence.
pub(crate) fn warning_text(failure: &Failure, rest: u64, process: &ProcessPlan) -> String {
    match failure.step {
        Step::Capabilities => {
            let names = CapSet::from_bits(rest).names().join(", ");
            if failure.index == 1 {
                return format!(
                    "can't raise ambient capability {names}: an ambient one must be permitted and inheritable too \
                     (add it to process.capabilities.permitted and inheritable)"
                );
            }
            format!("cannot grant {names}: this process does not have them itself")
        }
        Step::Groups => {
            "cannot set the additional groups: whoever made the user namespace forbade it; they stay as they \
                         are"
            .into()
        }
        Step::Rlimit => {
            let name = limit_name(process, usize::from(failure.index));
            format!(
                "cannot raise the limit {name} beyond {rest}: that takes CAP_SYS_RESOURCE; it is set to {rest}"
            )
        }
        Step::Keyring => {
            "cannot join a session keyring: a system call filter forbids it; the container sees this process's keys"
                .into()
        }
        Step::OomScore => "cannot lower oom_score_adj: that takes CAP_SYS_RESOURCE; it stays as it is".into(),
        _ => format!("cannot {} in full: {}", act(failure, None, process), failure.errno),
    }
}
