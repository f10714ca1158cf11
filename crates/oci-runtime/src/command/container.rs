//! Makes a container of a bundle: for `create` and `run`.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use kernel::cgroup::Cgroup;
use rustix::io::Errno;
use rustix::net::SocketType;

use super::failure::Failure;
use super::options::Given;
use super::record::{Dir, OwnUnit, Record};
use super::{Context, console, handover, is_root, rootless};
use crate::contract::{self, Hooks, NamespaceType, Process, Spec, Status};
use crate::systemd::{Scope, Unit};
use crate::{Created, Setup, rdt};

/// How the container is to be made.
#[derive(Debug)]
pub(super) struct Request<'a> {
    given: &'a Given,
    pub(super) id: String,
    bundle: PathBuf,
    console_socket: Option<PathBuf>,
    pid_file: Option<PathBuf>,
    preserved: u32,
    keyring: bool,
    /// It waits for a `start`, which another process gives.
    waits: bool,
    /// This process stays with it.
    foreground: bool,
}

impl<'a> Request<'a> {
    pub(super) fn new(given: &'a Given, waits: bool) -> Result<Self, Failure> {
        let bundle = std::path::absolute(given.get("bundle").unwrap_or("."))
            .map_err(|e| Failure::usage(format!("cannot use --bundle {:?}: {e}", given.get("bundle"))))?;
        Ok(Self {
            given,
            id: given.id().to_owned(),
            bundle,
            console_socket: console::socket_path(given),
            pid_file: given.get("pid-file").filter(|path| !path.is_empty()).map(PathBuf::from),
            preserved: preserved(given)?,
            keyring: !given.has("no-new-keyring"),
            waits,
            foreground: !waits && !given.has("detach"),
        })
    }
}

/// How many descriptors the program inherits: `--preserve-fds`, and those of socket activation before them.
pub(super) fn preserved(given: &Given) -> Result<u32, Failure> {
    let asked: u32 = given.number("preserve-fds")?.unwrap_or(0);
    let count = asked.saturating_add(activation());
    for number in (3..).take(count as usize) {
        if fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_err() {
            return Err(Failure::usage(format!(
                "cannot use --preserve-fds {asked}: descriptor {number} is not open (open it, or give less)"
            )));
        }
    }
    Ok(count)
}

/// Descriptors that the service manager opened for this process.
fn activation() -> u32 {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    match (number("LISTEN_PID"), number("LISTEN_FDS")) {
        (Some(pid), Some(count)) if pid == std::process::id() => count,
        _ => 0,
    }
}

/// Tells the program of the descriptors from the service manager.
pub(super) fn pass_activation(process: &mut Process) {
    let count = activation();
    if count > 0 {
        process.env.push(format!("LISTEN_FDS={count}"));
        // Its number where it is; of a container that shares its caller's numbers it is not, which runc has so too.
        process.env.push("LISTEN_PID=1".to_owned());
    }
}

/// A container that is made and recorded. Its lock is held.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) created: Created,
    pub(super) dir: Dir,
    pub(super) record: Record,
}

/// Makes the container, up to where its program would run. A failure leaves nothing.
pub(super) fn make(context: &Context, request: &Request<'_>) -> Result<Made, Failure> {
    let (text, spec) = read_bundle(context, request)?;
    let path = spec.linux.as_ref().map_or("", |l| l.cgroups_path.as_str());
    let unit =
        context.systemd.then(|| Unit::parse(path, &request.id, rootless::own_systemd())).transpose()?;
    let dir = Dir::claim(&context.root, &request.id)?;
    let mut record = new_record(request, &spec);
    match build(context, request, &text, spec, unit, &dir, &mut record) {
        Ok(created) => Ok(Made { created, dir, record }),
        Err(failure) => {
            unmake(context, &record, dir);
            Err(failure)
        }
    }
}

/// Takes back what was made so far. What goes wrong is told: the first failure is the one that counts.
pub(super) fn unmake(context: &Context, record: &Record, dir: Dir) {
    if let Err(failure) = remove_cgroup(context, record) {
        context.log.warn(&failure.to_string());
    }
    if let Err(failure) = detach_root(record) {
        context.log.warn(&failure.to_string());
    }
    if let Err(failure) = record.rdt().and_then(|group| group.map_or(Ok(()), |group| Ok(group.remove()?))) {
        context.log.warn(&failure.to_string());
    }
    if let Err(failure) = dir.remove() {
        context.log.warn(&failure.to_string());
    }
}

/// The number of the mount that is seen at `rootfs`.
fn host_mount(rootfs: &Path) -> Result<u64, Failure> {
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
    let say = |e: Errno| Failure::new(format!("cannot look at {}: {e}", rootfs.display()));
    Ok(statx(CWD, rootfs, AtFlags::empty(), StatxFlags::MNT_ID).map_err(say)?.stx_mnt_id)
}

/// Takes away what a container without a mount namespace has mounted, if it came to that: another mount than the
/// recorded one is seen at its root then.
pub(super) fn detach_root(record: &Record) -> Result<(), Failure> {
    let Some(before) = record.host_mount else { return Ok(()) };
    let rootfs = Path::new(&record.rootfs);
    if rootfs.exists() && host_mount(rootfs)? != before {
        rustix::mount::unmount(rootfs, rustix::mount::UnmountFlags::DETACH)
            .map_err(|e| Failure::new(format!("cannot unmount {}: {e}", rootfs.display())))?;
    }
    Ok(())
}

/// Removes the cgroup, with all that is in it, and the unit it is of. Without a systemd to ask it goes by the cgroup
/// alone.
pub(super) fn remove_cgroup(context: &Context, record: &Record) -> Result<(), Failure> {
    let path = record.cgroup.as_deref().map(Path::new);
    let Some(unit) = &record.unit else { return Ok(path.map_or(Ok(()), kernel::cgroup::destroy)?) };
    // Its maker was killed before it had heard whether the unit is its own.
    let unsure = record.pid == 0;
    let removed = if unsure {
        crate::systemd::is_own(&unit.name, unit.user, &unit.description)
            .and_then(|own| if own { crate::systemd::remove(&unit.name, unit.user, path) } else { Ok(()) })
    } else {
        crate::systemd::remove(&unit.name, unit.user, path)
    };
    match removed {
        Err(crate::Error::Systemd(error)) if error.is_unreachable() => {
            context.log.warn(&format!("{error}: it was not told that unit {} has ended", unit.name));
            if unsure { remove_if_empty(path) } else { Ok(()) }
        }
        other => Ok(other?),
    }
}

/// What the killed maker of a container held has died with it: whatever is in the cgroup now is somebody else's.
fn remove_if_empty(path: Option<&Path>) -> Result<(), Failure> {
    let Some(cgroup) = path.map(Cgroup::at).transpose()? else { return Ok(()) };
    if cgroup.pids()?.is_empty() { Ok(cgroup.remove()?) } else { Ok(()) }
}

fn read_bundle(context: &Context, request: &Request<'_>) -> Result<(Vec<u8>, Spec), Failure> {
    let path = request.bundle.join("config.json");
    let text = fs::read(&path).map_err(|e| {
        Failure::new(format!("cannot read {}: {e} (give the bundle with --bundle)", path.display()))
    })?;
    let mut spec = contract::parse(&text)?;
    contract::validate(&spec)?;
    for warning in contract::warnings(&spec) {
        context.log.warn(&warning);
    }
    let terminal = spec.process.as_ref().is_some_and(|p| p.terminal);
    console::check(terminal, !request.foreground, request.console_socket.as_deref())?;
    if let Some(process) = &mut spec.process {
        pass_activation(process);
    } else if request.waits {
        // It may be created; what cannot be started is for `start` to say.
        spec.process = Some(Process { args: vec![String::new()], cwd: "/".into(), ..Process::default() });
    }
    Ok((text, spec))
}

fn new_record(request: &Request<'_>, spec: &Spec) -> Record {
    let linux = spec.linux.as_ref();
    let path = linux.map_or("", |l| l.cgroups_path.as_str());
    let cgroup = if path.trim_matches('/').is_empty() { request.id.as_str() } else { path };
    let own_pids = linux.and_then(|l| l.namespace(NamespaceType::Pid)).is_some_and(|n| n.path.is_empty());
    let later = spec.hooks.as_ref().map(|h| Hooks {
        start_container: h.start_container.clone(),
        poststart: h.poststart.clone(),
        poststop: h.poststop.clone(),
        ..Hooks::default()
    });
    let root = spec.root.as_ref().map_or("", |r| r.path.as_str());
    Record {
        format: 1,
        id: request.id.clone(),
        status: Status::Creating,
        pid: 0,
        start_time: 0,
        bundle: request.bundle.to_string_lossy().into_owned(),
        rootfs: request.bundle.join(root).to_string_lossy().into_owned(),
        created: crate::timestamp(SystemTime::now()),
        owner: rustix::process::getuid().as_raw(),
        cgroup: Some(cgroup.trim_matches('/').to_owned()),
        rdt: spec.linux.as_ref().and_then(|l| l.intel_rdt.clone()),
        host_mount: None,
        unit: None,
        own_pids,
        inherits_keyring: !request.keyring,
        annotations: spec.annotations.clone(),
        hooks: later.filter(|h| *h != Hooks::default()),
    }
}

fn build(
    context: &Context,
    request: &Request<'_>,
    text: &[u8],
    mut spec: Spec,
    unit: Option<Unit>,
    dir: &Dir,
    record: &mut Record,
) -> Result<Created, Failure> {
    dir.write_config(text)?;
    if spec.linux.as_ref().is_none_or(|l| l.namespace(NamespaceType::Mount).is_none()) {
        record.host_mount = Some(host_mount(Path::new(&record.rootfs))?);
    }
    let limits = crate::limits(&spec)?;
    let scope = unit.map(|unit| prepare_unit(context, unit, &spec, record)).transpose()?;
    if scope.is_none() {
        refuse_foreign(record)?;
    }
    dir.write(record)?;
    let cgroup = if scope.is_none() { make_cgroup(context, record, &limits)? } else { None };
    let rdt = record.rdt.as_ref().map(|rdt| rdt::Group::create(rdt, &record.id)).transpose()?;
    let listener = if request.waits {
        let listening = crate::unix::listen(&dir.start_socket(), SocketType::SEQPACKET);
        let say = |e: Errno| Failure::new(format!("cannot listen at {}: {e}", dir.start_socket().display()));
        Some(listening.map_err(say)?)
    } else {
        None
    };
    rootless::enter(&mut spec)?;
    let rootfs = Path::new(&record.rootfs);
    let setup = Setup {
        id: &request.id,
        bundle: &request.bundle,
        root: root(rootfs)?,
        stage: rootfs,
        shares_mounts: record.host_mount.is_some(),
        cgroup: cgroup.as_ref(),
        rdt: rdt.as_ref(),
        held: scope.is_some(),
        stdio: None,
        preserved: request.preserved,
        keyring: request.keyring,
        listener,
    };
    let early = spec.hooks.as_ref().is_some_and(|h| h.kinds()[..3].iter().any(|(_, list)| !list.is_empty()));
    context.log.debug(|| "nsexec container setup: a process is cloned into its namespaces".to_owned());
    let mut created = crate::begin(&spec, setup)?;
    record.pid = created.pid();
    record.start_time = kernel::process::start_time(record.pid)?;
    if let Some(scope) = scope {
        let placed = scope.place(record.pid, &limits);
        if matches!(&placed, Err(crate::Error::Systemd(error)) if error.is_taken()) {
            (record.unit, record.cgroup) = (None, None);
        }
        let (cgroup, missing) = placed?;
        warn_of(context, &missing);
        record.cgroup = Some(cgroup.path().to_string_lossy().into_owned());
        created.release()?;
    }
    if early {
        // A hook may ask for the state, or never end.
        dir.write(record)?;
    }
    let ready = created.until_ready();
    if let Err(error @ crate::Error::Hook { .. }) = &ready {
        context.log.debug(|| error.to_string());
        let state = record.state(Status::Stopped);
        crate::hooks::poststop(record.hooks.as_ref(), &state).iter().for_each(|text| context.log.warn(text));
    }
    ready?;
    context.log.inside(&created);
    created.warnings.drain(..).for_each(|warning| context.log.warn(&warning));
    if let Some(socket) = &request.console_socket
        && let Some(master) = created.console.take()
    {
        handover::console(socket, master.as_fd())?;
    }
    handover::process(request.given, "standard", created.pidfd())?;
    if let Some(path) = &request.pid_file {
        write_pid(path, record.pid)?;
    }
    record.status = if request.waits { Status::Created } else { Status::Running };
    dir.write(record)?;
    Ok(created)
}

/// A cgroup with processes in it is somebody else's, and would end with the container; nothing is born in a frozen one.
fn refuse_foreign(record: &mut Record) -> Result<(), Failure> {
    let Some(cgroup) = record.cgroup()?.filter(Cgroup::exists) else { return Ok(()) };
    let (count, frozen) = (cgroup.pids()?.len(), cgroup.is_frozen());
    let path = cgroup.path().display().to_string();
    let cause = match (count, frozen) {
        (0, false) => return Ok(()),
        (0, true) => {
            format!(
                "container's cgroup unexpectedly frozen: {path} (thaw it, or give another linux.cgroupsPath)"
            )
        }
        (n, _) => format!(
            "container's cgroup is not empty: {n} process(es) found in {path} (give another linux.cgroupsPath)"
        ),
    };
    // It is not for this container to remove.
    record.cgroup = None;
    Err(Failure::container("create", &record.id, cause))
}

/// Connects to systemd, and notes which unit will be and where its cgroup, as far as that is known before.
fn prepare_unit(context: &Context, unit: Unit, spec: &Spec, record: &mut Record) -> Result<Scope, Failure> {
    let (name, user) = (unit.name.clone(), rootless::own_systemd());
    record.cgroup = (!user).then(|| unit.cgroup().to_string_lossy().into_owned());
    let description = format!("container {} of {}", record.id, context.root.display());
    let scope = Scope::prepare(unit, user, &description, &spec.annotations)?;
    record.unit = Some(OwnUnit { name, user, description: scope.description().to_owned() });
    Ok(scope)
}

/// Tells of limits that nothing on this machine holds.
pub(super) fn warn_of(context: &Context, missing: &[&str]) {
    for name in missing {
        context.log.warn(&format!("cannot limit {name}: no cgroup controller of this machine does"));
    }
}

/// The cgroup with its limits. Without root it may be out of reach: then the container has none of its own.
fn make_cgroup(
    context: &Context,
    record: &mut Record,
    limits: &kernel::cgroup::Limits,
) -> Result<Option<Cgroup>, Failure> {
    let Some(cgroup) = record.cgroup()? else { return Ok(None) };
    let made = cgroup.create().and_then(|()| cgroup.apply(limits));
    match made {
        Ok(missing) => {
            warn_of(context, &missing);
            Ok(Some(cgroup))
        }
        Err(error) if context.rootless.unwrap_or_else(|| !is_root() || rootless::in_user_namespace()) => {
            context.log.debug(|| format!("{error}: the container has no cgroup of its own"));
            record.cgroup = None;
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// The root as a detached mount, with what is mounted below it.
fn root(path: &Path) -> Result<OwnedFd, Failure> {
    let name = kernel::process::cstring(path.as_os_str().as_encoded_bytes())?;
    kernel::mount::clone_tree(rustix::fs::CWD, &name, true).map_err(|e| {
        Failure::new(format!("cannot open root.path {}: {}", path.display(), std::io::Error::from(e)))
    })
}

/// Writes a process's number as a whole: its reader waits for the file.
pub(super) fn write_pid(path: &Path, pid: i32) -> Result<(), Failure> {
    let say = |e: std::io::Error| Failure::new(format!("cannot write --pid-file {}: {e}", path.display()));
    let name = path.file_name().ok_or_else(|| say(std::io::ErrorKind::InvalidInput.into()))?;
    let next = path.with_file_name(format!(".{}", name.to_string_lossy()));
    fs::write(&next, pid.to_string()).and_then(|()| fs::rename(&next, path)).map_err(say)
}
