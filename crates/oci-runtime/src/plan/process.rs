//! A process: what it executes, as whom, and within which limits.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;

use kernel::arch::Arch;
use kernel::capability;
use kernel::process::{BESIDE_FLAGS, CStrings, cstring};
use kernel::seccomp::{RET_ALLOW, RET_LOG};
use rustix::fs::Gid;
use rustix::process::{Resource, Rlimit, Uid};

use super::label::{self, Labels, Modules};
use super::schedule::{self, Schedule};
use crate::Result;
use crate::contract::{Capabilities, Linux, NamespaceType, Process, RlimitType};
use crate::seccomp;

/// A process, ready to be executed.
#[derive(Debug)]
pub(crate) struct ProcessPlan {
    pub(crate) args: CStrings,
    pub(crate) env: CStrings,
    /// The program's name as given, for messages.
    pub(crate) program: String,
    /// Where to find the program, in order.
    pub(crate) candidates: Vec<CString>,
    /// Inside the container.
    pub(crate) cwd: CString,
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
    pub(crate) groups: Vec<Gid>,
    /// Its user namespace may be one in which nobody sets groups.
    pub(crate) user_namespace: bool,
    pub(crate) umask: Option<u32>,
    /// Where the configuration says nothing: none.
    pub(crate) capabilities: capability::Sets,
    pub(crate) no_new_privileges: bool,
    pub(crate) rlimits: Vec<(Resource, Rlimit)>,
    pub(crate) oom_score_adj: Option<Vec<u8>>,
    pub(crate) schedule: Schedule,
    pub(crate) labels: Labels,
    pub(crate) seccomp: Option<seccomp::Program>,
    pub(crate) terminal: bool,
    pub(crate) console_size: (u16, u16),
    /// Standard input, output and error; with a terminal they are ignored.
    pub(crate) stdio: Option<[OwnedFd; 3]>,
    /// The root of a container that has no mount namespace, for a process that joins it.
    pub(crate) shared_root: Option<OwnedFd>,
    /// How many descriptors, from 3 on, the program inherits.
    pub(crate) preserved: u32,
    /// The session keyring it gets; without a name it keeps the one of whoever called.
    pub(crate) keyring: Option<CString>,
    /// It waits to be moved to its cgroup before it does anything.
    pub(crate) held: bool,
    /// It is born into its PID namespace after all else is done: see [`lets_be_born_last`](Self::lets_be_born_last).
    pub(crate) born_last: bool,
    /// What a start comes in by, if not by the channel.
    pub(crate) listener: Option<OwnedFd>,
}

impl ProcessPlan {
    /// Whether the system call filter asks somebody.
    pub(crate) fn asks_agent(&self) -> bool {
        self.seccomp
            .as_ref()
            .is_some_and(|program| program.flags.contains(kernel::seccomp::Flags::NEW_LISTENER))
    }

    /// Whether a process in between can give up all that the program must not have and still make the program's process:
    /// its filter lets it, nobody is asked, and its scheduler is one that is inherited.
    pub(crate) fn lets_be_born_last(&self) -> bool {
        let allows = |program: &seccomp::Program, name: &str, args: [u64; 2]| {
            let Some(nr) = Arch::NATIVE.number(name) else { return false };
            let args = [args[0], args[1], 0, 0, 0, 0];
            let call = seccomp::Call { nr, arch: Arch::NATIVE.audit(), args };
            matches!(program.evaluate(&call), Some(RET_ALLOW | RET_LOG))
        };
        let needed = [
            ("clone", [BESIDE_FLAGS, 0]),
            ("sendmsg", [0, 0]),
            ("write", [0, 0]),
            ("read", [0, 0]),
            ("close", [0, 0]),
            ("exit_group", [0, 0]),
            ("setsid", [0, 0]),
            ("ioctl", [0, libc::TIOCSCTTY]),
        ];
        let filter = self.seccomp.as_ref();
        filter.is_none_or(|program| needed.iter().all(|(name, args)| allows(program, name, *args)))
            && !self.asks_agent()
            && self.schedule.scheduler.is_none()
    }
}

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Plans `process`; what it says nothing about is as in `capabilities`. `joins`: the container runs already.
pub(crate) fn plan(
    process: &Process,
    linux: &Linux,
    capabilities: Option<&Capabilities>,
    joins: bool,
) -> Result<ProcessPlan> {
    let program = process.args.first().cloned().unwrap_or_default();
    let candidates = if program.contains('/') {
        vec![cstring(program.as_bytes())?]
    } else {
        let path = process.env.iter().rev().find_map(|e| e.strip_prefix("PATH=")).unwrap_or(PATH);
        path.split(':')
            .map(|dir| cstring(format!("{}/{program}", if dir.is_empty() { "." } else { dir }).as_bytes()))
            .collect::<kernel::Result<_>>()?
    };
    let filter = linux.seccomp.as_ref().map(seccomp::compile).transpose()?;
    let size = process.console_size.unwrap_or_default();
    Ok(ProcessPlan {
        args: CStrings::new(&process.args)?,
        env: environment(&process.env)?,
        program,
        candidates,
        cwd: cstring(process.cwd.as_bytes())?,
        uid: Uid::from_raw(process.user.uid),
        gid: Gid::from_raw(process.user.gid),
        groups: process.user.additional_gids.iter().map(|&g| Gid::from_raw(g)).collect(),
        user_namespace: linux.namespace(NamespaceType::User).is_some(),
        umask: process.user.umask,
        capabilities: process.capabilities.as_ref().or(capabilities).map(sets).unwrap_or_default(),
        no_new_privileges: process.no_new_privileges,
        rlimits: process
            .rlimits
            .iter()
            .map(|r| {
                let limit = |n: u64| (n != u64::MAX).then_some(n);
                (resource(r.kind), Rlimit { current: limit(r.soft), maximum: limit(r.hard) })
            })
            .collect(),
        oom_score_adj: process.oom_score_adj.map(|n| n.to_string().into_bytes()),
        schedule: schedule::plan(process, linux, joins)?,
        labels: label::plan(process, || Modules::of(Path::new("/sys")))?,
        seccomp: filter,
        terminal: process.terminal,
        console_size: (size.height.min(u16::MAX.into()) as u16, size.width.min(u16::MAX.into()) as u16),
        stdio: None,
        shared_root: None,
        preserved: 0,
        keyring: None,
        held: false,
        born_last: false,
        listener: None,
    })
}

/// Of variables that are there twice the last counts, and a home that is missing is for the child to find.
fn environment(given: &[String]) -> Result<CStrings> {
    let name = |entry: &str| entry.split_once('=').map(|(name, _)| name.to_owned());
    let mut seen = std::collections::BTreeSet::new();
    let mut kept: Vec<&String> =
        given.iter().rev().filter(|entry| name(entry).is_none_or(|name| seen.insert(name))).collect();
    kept.retain(|entry| entry.as_str() != "HOME=");
    kept.reverse();
    let home = kept.iter().any(|entry| entry.starts_with("HOME="));
    Ok(if home { CStrings::new(kept)? } else { CStrings::with_room(kept, 3 * libc::PATH_MAX as usize)? })
}

fn sets(given: &Capabilities) -> capability::Sets {
    // A name the kernel does not have is for `contract::warnings` to tell.
    let set = |names: &[String]| capability::CapSet::from_names(names.iter().map(String::as_str)).0;
    capability::Sets {
        bounding: set(&given.bounding),
        effective: set(&given.effective),
        permitted: set(&given.permitted),
        inheritable: set(&given.inheritable),
        ambient: set(&given.ambient),
    }
}

fn resource(kind: RlimitType) -> Resource {
    match kind {
        RlimitType::RlimitAs => Resource::As,
        RlimitType::RlimitCore => Resource::Core,
        RlimitType::RlimitCpu => Resource::Cpu,
        RlimitType::RlimitData => Resource::Data,
        RlimitType::RlimitFsize => Resource::Fsize,
        RlimitType::RlimitLocks => Resource::Locks,
        RlimitType::RlimitMemlock => Resource::Memlock,
        RlimitType::RlimitMsgqueue => Resource::Msgqueue,
        RlimitType::RlimitNice => Resource::Nice,
        RlimitType::RlimitNofile => Resource::Nofile,
        RlimitType::RlimitNproc => Resource::Nproc,
        RlimitType::RlimitRss => Resource::Rss,
        RlimitType::RlimitRtprio => Resource::Rtprio,
        RlimitType::RlimitRttime => Resource::Rttime,
        RlimitType::RlimitSigpending => Resource::Sigpending,
        RlimitType::RlimitStack => Resource::Stack,
    }
}
