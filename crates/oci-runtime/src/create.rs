//! The parent's side: makes a container, starts it, joins it.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use kernel::capability::{CapSet, Capability};
use kernel::cgroup::Cgroup;
use kernel::process::{Cloned, NewNamespaces, cstring};
use kernel::{Act, cgroup};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space};

use crate::agent::Agent;
use crate::contract::{self, Capabilities, Linux, NamespaceType, Process, Spec, State, Status};
use crate::created::{Created, Described};
use crate::plan::ProcessPlan;
use crate::{Error, Result, birth, init, outside, plan, rdt};

/// What the caller brings to a container beside its configuration.
#[derive(Debug)]
pub struct Setup<'a> {
    /// The container's id: hooks and seccomp agents are told.
    pub id: &'a str,
    /// What relative paths of the configuration are relative to.
    pub bundle: &'a Path,
    /// The root as a detached mount (see [`kernel::mount::overlay`] and [`kernel::mount::clone_tree`]).
    pub root: OwnedFd,
    /// A directory of the host, any, that is mounted on in the container's own mount namespace for a moment.
    pub stage: &'a Path,
    /// A configuration without a mount namespace is taken too. Then `stage` is mounted on in the host's, with all that the
    /// container mounts below, and the caller detaches it after the container's end, or when it did not come to be.
    pub shares_mounts: bool,
    /// The container's cgroup, made and with its limits (see [`limits`]); `None` leaves it in the caller's.
    pub cgroup: Option<&'a Cgroup>,
    /// Its group in the resctrl filesystem, made; a configuration with `linux.intelRdt` needs one.
    pub rdt: Option<&'a rdt::Group>,
    /// The process does nothing at all before [`Created::release`]: somebody else moves it to its cgroup.
    pub held: bool,
    /// Standard input, output and error, unless the process has a terminal.
    pub stdio: Option<[OwnedFd; 3]>,
    /// How many of the caller's descriptors, from 3 on, the program inherits.
    pub preserved: u32,
    /// The program gets a session keyring of its own, named after the container, instead of the caller's with its keys.
    pub keyring: bool,
    /// Where a start comes in once the container is left alone: see [`Created::detach`].
    pub listener: Option<OwnedFd>,
}

/// The limits that a configuration asks for, in the kernel's terms.
pub fn limits(spec: &Spec) -> Result<cgroup::Limits> {
    match spec.linux.as_ref().and_then(|l| l.resources.as_ref()) {
        Some(resources) => limits_of(resources),
        None => Ok(cgroup::Limits::default()),
    }
}

/// The same for the resources alone, as an update has them.
pub fn limits_of(resources: &contract::Resources) -> Result<cgroup::Limits> {
    plan::limits::plan(resources)
}

/// Makes the container of `spec`: namespaces, root, mounts and devices, up to the point where its program would run.
///
/// The calling process must have one thread (see [`kernel::process::clone`]). On an error nothing is left but the
/// cgroup, which is the caller's.
pub fn create(spec: &Spec, setup: Setup<'_>) -> Result<Created> {
    let mut created = begin(spec, setup)?;
    created.until_ready()?;
    Ok(created)
}

/// As [`create`], up to the moment when there is a process, which has a number to be written down before hooks run.
/// [`Created::until_ready`] goes on.
pub fn begin(spec: &Spec, setup: Setup<'_>) -> Result<Created> {
    let linux = spec.linux.as_ref();
    if !setup.shares_mounts && linux.is_none_or(|l| l.namespace(NamespaceType::Mount).is_none()) {
        return Err(Error::Unsupported {
            field: "linux.namespaces".into(),
            value: "no mount namespace".into(),
            hint: "the container's mounts would be the host's; add {\"type\": \"mount\"}",
        });
    }
    if setup.rdt.is_none() && spec.linux.as_ref().is_some_and(|l| l.intel_rdt.is_some()) {
        return Err(Error::Unsupported {
            field: "linux.intelRdt".into(),
            value: "a class of service".into(),
            hint: "whoever runs the container made no group in the resctrl filesystem; leave it out",
        });
    }
    let state = State {
        oci_version: contract::VERSION.to_owned(),
        id: setup.id.to_owned(),
        status: Status::Created,
        pid: 0,
        bundle: setup.bundle.to_string_lossy().into_owned(),
        annotations: spec.annotations.clone(),
    };
    let mut plan = plan::plan(spec, setup.bundle, setup.root, setup.stage)?;
    plan.process.stdio = setup.stdio;
    plan.process.preserved = setup.preserved;
    plan.process.keyring = setup.keyring.then(|| keyring(setup.id)).transpose()?;
    plan.process.listener = setup.listener;
    plan.process.held = setup.held;
    let slots: Vec<Option<OwnedFd>> = plan.mounts.iter().map(|_| None).collect();
    let (door, entrances) = doors(setup.cgroup)?;
    let (ours, theirs) = channel()?;
    let joined_pid = plan.namespaces.joined_pid.as_ref();
    let cloned = outside::with_clocks(plan.namespaces.clocks.as_deref(), || {
        around_pid_namespace(joined_pid, || {
            birth::born(&plan, door.as_ref().map(AsFd::as_fd), &entrances, theirs.as_fd())
        })
    })?;
    let child = match cloned {
        Cloned::Child => {
            // Held here too, the parent's side would never be seen to close.
            drop(ours);
            init::container(plan, slots, &entrances, theirs.as_fd())
        }
        Cloned::Parent(child) => child,
    };
    drop(theirs);
    let state = State { pid: child.pid, ..state };
    let agent = Agent::of(spec.linux.as_ref().and_then(|l| l.seccomp.as_ref()), &state);
    // The listening socket is the child's from here on: with its end nobody can connect any more.
    plan.process.listener = None;
    let warnings = std::mem::take(&mut plan.warnings);
    let mut created = Created::new(child, ours, Described::Container(Box::new(plan)), agent);
    created.warnings = warnings;
    created.life = Some((spec.hooks.clone().unwrap_or_default(), state));
    if let Some(group) = setup.rdt {
        group.add(created.pid())?;
    }
    if !setup.held {
        created.map_ids()?;
    }
    Ok(created)
}

/// Which container to join, and how.
#[derive(Debug)]
pub struct Join<'a> {
    /// The container's configuration: its namespaces and its system call filter hold for the new process too.
    pub spec: &'a Spec,
    /// The container's first process.
    pub container: &'a OwnedFd,
    /// The container's cgroup.
    pub cgroup: Option<&'a Cgroup>,
    /// The container's group in the resctrl filesystem.
    pub rdt: Option<&'a rdt::Group>,
    /// As [`Setup::held`].
    pub held: bool,
    /// Standard input, output and error, unless the process has a terminal.
    pub stdio: Option<[OwnedFd; 3]>,
    /// How many of the caller's descriptors, from 3 on, the program inherits.
    pub preserved: u32,
    /// It gets the container's session keyring instead of the caller's, as it should where the container has one.
    pub keyring: bool,
    /// The container's state, for a seccomp agent.
    pub state: &'a State,
}

/// Brings a process into a running container, up to the point where its program would run.
///
/// Where `process` says nothing about capabilities it has those of the container's own process.
pub fn join(process: &Process, join: Join<'_>) -> Result<Created> {
    let mut created = begin_join(process, join)?;
    created.until_ready()?;
    Ok(created)
}

/// As [`join`], and does not wait: [`Created::advance`] goes on whenever [`Created::channel`] is readable.
///
/// For a caller that must not be held up: a process of the container may stop one that joins, for ever.
pub fn begin_join(process: &Process, join: Join<'_>) -> Result<Created> {
    let none = Linux::default();
    let linux = join.spec.linux.as_ref().unwrap_or(&none);
    let of_container = join.spec.process.as_ref().and_then(|p| p.capabilities.as_ref());
    let mut plan = plan::process::plan(process, linux, of_container, true)?;
    plan.stdio = join.stdio;
    plan.preserved = join.preserved;
    if linux.namespace(NamespaceType::Mount).is_none() {
        plan.shared_root = Some(root_of(join.container)?);
    }
    plan.keyring = join.keyring.then(|| keyring(&join.state.id)).transpose()?;
    plan.held = join.held;
    let (door, entrances) = doors(join.cgroup)?;
    let (ours, theirs) = channel()?;
    let mut kinds = kinds(linux);
    let own_pid = linux.namespace(NamespaceType::Pid).is_some();
    plan.born_last = own_pid && may_trace(&plan, of_container) && plan.lets_be_born_last();
    if plan.born_last {
        kinds |= ThreadNameSpaceType::PROCESS_ID;
    }
    let pid_namespace = (own_pid && !plan.born_last).then_some(join.container);
    let cloned = on_cpus(plan.schedule.first_cpus.as_deref(), || {
        around_pid_namespace(pid_namespace, || {
            Ok(kernel::process::clone(NewNamespaces::NONE, door.as_ref().map(AsFd::as_fd))?)
        })
    })?;
    let child = match cloned {
        Cloned::Child => {
            drop(ours);
            init::joined(&mut plan, join.container, kinds, &entrances, theirs.as_fd())
        }
        Cloned::Parent(child) => child,
    };
    drop(theirs);
    let agent = Agent::of(linux.seccomp.as_ref(), join.state);
    let created = Created::new(child, ours, Described::Joined(Box::new(plan)), agent);
    if let Some(group) = join.rdt {
        group.add(created.pid())?;
    }
    Ok(created)
}

/// Whether somebody in the container may trace processes of the host's root: not in a user namespace of its own.
fn may_trace(plan: &ProcessPlan, of_container: Option<&Capabilities>) -> bool {
    let bounding = of_container.map(|c| CapSet::from_names(c.bounding.iter().map(String::as_str)).0);
    let all = [bounding.unwrap_or_default(), plan.capabilities.bounding];
    !plan.user_namespace && all.iter().any(|set| set.contains(Capability::SysPtrace))
}

/// The root of the container's first process.
fn root_of(container: &OwnedFd) -> Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    let path = format!("/proc/{}/root", kernel::process::pid_of(container.as_fd())?);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(&path, flags, Mode::empty()).act("open", || path)?;
    // As long as it has not ended, nobody else has its number.
    match kernel::process::await_end(container.as_fd(), Some(std::time::Duration::ZERO), None) {
        Ok(kernel::process::Waited::TimedOut) => Ok(root),
        _ => Err(kernel::Error::new("join", "a container that has ended", Errno::SRCH).into()),
    }
}

/// The namespaces a joining process enters by the container's pidfd; the PID namespace is entered by being born.
fn kinds(linux: &Linux) -> ThreadNameSpaceType {
    linux.namespaces.iter().fold(ThreadNameSpaceType::empty(), |kinds, namespace| {
        kinds
            | match namespace.kind {
                NamespaceType::Pid => ThreadNameSpaceType::empty(),
                NamespaceType::Network => ThreadNameSpaceType::NETWORK,
                NamespaceType::Mount => ThreadNameSpaceType::MOUNT,
                NamespaceType::Ipc => ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION,
                NamespaceType::Uts => ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME,
                NamespaceType::User => ThreadNameSpaceType::USER,
                NamespaceType::Cgroup => ThreadNameSpaceType::CONTROL_GROUP,
                NamespaceType::Time => ThreadNameSpaceType::TIME,
            }
    })
}

/// The name of a container's session keyring, which is how it is found again.
fn keyring(id: &str) -> Result<CString> {
    Ok(cstring(format!("_ses.{id}").as_bytes())?)
}

fn doors(cgroup: Option<&Cgroup>) -> Result<(Option<OwnedFd>, Vec<OwnedFd>)> {
    match cgroup {
        Some(cgroup) => Ok((cgroup.birth()?, cgroup.entrances()?)),
        None => Ok((None, Vec::new())),
    }
}

fn channel() -> Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .act("make", || "a channel to the container's process")?)
}

/// Runs `clone` so that its child is born in `namespace`; this process's later children are born where it is itself.
fn around_pid_namespace(
    namespace: Option<&OwnedFd>,
    clone: impl FnOnce() -> Result<Cloned>,
) -> Result<Cloned> {
    let Some(namespace) = namespace else { return clone() };
    let own = rustix::fs::open(c"/proc/self/ns/pid", rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty())
        .act("open", || "this process's PID namespace")?;
    // A pidfd or a namespace file: the kernel tells them apart.
    match move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::ProcessID)) {
        Err(Errno::INVAL) => {
            rustix::thread::move_into_thread_name_spaces(namespace.as_fd(), ThreadNameSpaceType::PROCESS_ID)
        }
        other => other,
    }
    .act("join", || "a PID namespace")?;
    let cloned = clone();
    if !matches!(cloned, Ok(Cloned::Child)) {
        match move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::ProcessID)) {
            // Who entered the container's user namespace to get here may not go back, and has nothing more to clone.
            Err(Errno::PERM) => Ok(()),
            other => other,
        }
        .act("leave", || "a PID namespace")?;
    }
    cloned
}

/// Runs `clone` on these CPUs, which its child starts on; this process goes back to its own.
fn on_cpus(cpus: Option<&[u64]>, clone: impl FnOnce() -> Result<Cloned>) -> Result<Cloned> {
    use kernel::schedule::{affinity, set_affinity};
    let Some(cpus) = cpus else { return clone() };
    let mut own = [0; 128];
    affinity(&mut own).act("read", || "the CPUs of this process")?;
    set_affinity(cpus).act("bind", || "this process to the CPUs of process.execCPUAffinity.initial")?;
    let cloned = clone();
    if !matches!(cloned, Ok(Cloned::Child)) {
        set_affinity(&own).act("give back", || "the CPUs of this process")?;
    }
    cloned
}

/// `/dev/null` as all three standard streams, for a process that is given none.
pub fn null_stdio() -> Result<[OwnedFd; 3]> {
    let null = rustix::fs::open(
        c"/dev/null",
        rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .act("open", || "/dev/null")?;
    let copy = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().act("duplicate", || "/dev/null");
    Ok([copy(null.as_fd())?, copy(null.as_fd())?, null])
}
