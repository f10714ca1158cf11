//! The least that a container of the default configuration can cost: everything known beforehand, one clone3, the
//! kernel's work, execve. It reads no configuration, keeps no state and reports no error in words, so no runtime can be
//! it; `cargo xtask bench oci-run` measures how far runtimes are from it.
//!
//! `bare prepare BUNDLE PROGRAM...` writes `config.json` and `filter.bpf` for all sides of the bench.
//! `bare run BUNDLE CGROUP PROGRAM...` runs PROGRAM in BUNDLE/rootfs.

use std::error::Error;
use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

use kernel::cgroup::{self, Cgroup};
use kernel::mount::{Attributes, attach, clone_tree, filesystem, set_attributes};
use kernel::path::{Dangling, make_dirs_c, open_c};
use kernel::process::{CStrings, Cloned, NewNamespaces, clone, cstring, exec, exit_now};
use oci_runtime::{contract, default_spec, seccomp};
use rustix::fs::{FileType, Mode, OFlags, mknodat};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::thread::UnshareFlags;

type Failure = Box<dyn Error>;

fn main() -> Result<ExitCode, Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["prepare", bundle, program @ ..] => prepare(Path::new(bundle), program).map(|()| ExitCode::SUCCESS),
        ["run", bundle, cgroup, program @ ..] => run(Path::new(bundle), Path::new(cgroup), program),
        _ => Err("bare prepare BUNDLE PROGRAM... | bare run BUNDLE CGROUP PROGRAM...".into()),
    }
}

fn prepare(bundle: &Path, program: &[&str]) -> Result<(), Failure> {
    let mut spec = default_spec::container();
    // A v1 tree's own mounts would be one for each hierarchy: not what is to be compared.
    spec.mounts.retain(|mount| mount.kind != "cgroup");
    if let Some(process) = &mut spec.process {
        process.args = program.iter().map(|&arg| arg.to_owned()).collect();
    }
    contract::validate(&spec)?;
    std::fs::write(bundle.join("config.json"), serde_json::to_vec(&spec)?)?;
    let profile = spec.linux.as_ref().and_then(|linux| linux.seccomp.as_ref()).ok_or("no filter")?;
    std::fs::write(bundle.join("filter.bpf"), seccomp::compile(profile)?.to_bytes())?;
    Ok(())
}

/// What the child needs, ready.
struct Container {
    root: OwnedFd,
    stage: std::ffi::CString,
    filter: seccomp::Program,
    capabilities: kernel::capability::Sets,
    program: std::ffi::CString,
    args: CStrings,
    env: CStrings,
}

fn run(bundle: &Path, path: &Path, program: &[&str]) -> Result<ExitCode, Failure> {
    let cgroup = Cgroup::at(path)?;
    cgroup.create()?;
    let (birth, entrances) = (cgroup.birth()?, cgroup.entrances()?);
    let rootfs = cstring(bundle.join("rootfs").as_os_str().as_encoded_bytes())?;
    let caps = default_spec::CAPABILITIES;
    let container = Container {
        root: clone_tree(rustix::fs::CWD, &rootfs, true)?,
        stage: rootfs,
        filter: seccomp::Program::from_bytes(&std::fs::read(bundle.join("filter.bpf"))?).ok_or("filter")?,
        capabilities: kernel::capability::Sets {
            bounding: caps,
            effective: caps,
            permitted: caps,
            ..kernel::capability::Sets::default()
        },
        program: cstring(program.first().ok_or("no program")?.as_bytes())?,
        args: CStrings::new(program)?,
        env: CStrings::new([default_spec::PATH])?,
    };
    let new = [NewNamespaces::IPC, NewNamespaces::UTS, NewNamespaces::MOUNT, NewNamespaces::NET]
        .into_iter()
        .fold(NewNamespaces::PID, NewNamespaces::with);
    let child = match clone(new, birth.as_ref().map(AsFd::as_fd))? {
        Cloned::Parent(child) => child,
        Cloned::Child => {
            // Nothing is told but the number.
            let errno = inside(&container, &entrances).err().unwrap_or(rustix::io::Errno::NOEXEC);
            exit_now(errno.raw_os_error())
        }
    };
    let exit = child.wait()?;
    cgroup.remove()?;
    Ok(ExitCode::from(u8::try_from(exit.code()).unwrap_or(255)))
}

const PATH: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

fn inside(container: &Container, entrances: &[OwnedFd]) -> rustix::io::Result<()> {
    cgroup::enter(entrances.iter().map(AsFd::as_fd))?;
    kernel::namespace::unshare(UnshareFlags::NEWCGROUP)?;
    mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let stage = rustix::fs::open(container.stage.as_c_str(), PATH, Mode::empty())?;
    let old = rustix::fs::open(c"/", PATH | OFlags::DIRECTORY, Mode::empty())?;
    attach(&container.root, &stage)?;
    rustix::process::fchdir(&container.root)?;
    rustix::process::pivot_root(c".", c".")?;
    rustix::process::fchdir(&old)?;
    unmount(c".", UnmountFlags::DETACH)?;
    rustix::process::chdir(c"/")?;
    let root = rustix::fs::open(c"/", PATH | OFlags::DIRECTORY, Mode::empty())?;
    mounts(&root)?;
    devices(&root)?;
    seal(&root)?;
    // Without no_new_privs this takes CAP_SYS_ADMIN, so it comes before the capabilities go.
    container.filter.load()?;
    container.capabilities.drop_bounding()?;
    container.capabilities.apply()?;
    Err(exec(&container.program, &container.args, &container.env))
}

fn mounts(root: &OwnedFd) -> rustix::io::Result<()> {
    type Options<'a> = &'a [(&'a CStr, Option<&'a CStr>)];
    let quiet = Attributes::NOSUID | Attributes::NOEXEC | Attributes::NODEV;
    let size = (c"size", Some(c"65536k"));
    let all: [(&CStr, &CStr, Options<'_>, u64); 6] = [
        (c"proc", c"proc", &[], quiet),
        (c"dev", c"tmpfs", &[(c"mode", Some(c"755")), size], Attributes::NOSUID),
        (
            c"dev/pts",
            c"devpts",
            &[(c"newinstance", None), (c"ptmxmode", Some(c"0666")), (c"mode", Some(c"0620"))],
            Attributes::NOSUID | Attributes::NOEXEC,
        ),
        (c"dev/shm", c"tmpfs", &[(c"mode", Some(c"1777")), size], quiet),
        (c"dev/mqueue", c"mqueue", &[], quiet),
        (c"sys", c"sysfs", &[], quiet | Attributes::RDONLY),
    ];
    for (target, kind, options, flags) in all {
        let mount = filesystem(kind, None, options.iter().copied(), flags)?;
        attach(&mount, make_dirs_c(root, target, Dangling::Refused)?)?;
    }
    Ok(())
}

fn devices(root: &OwnedFd) -> rustix::io::Result<()> {
    let dev = open_c(root, c"dev", PATH)?;
    let all =
        [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
    for (name, major, minor) in all {
        let number = rustix::fs::makedev(major, minor);
        mknodat(&dev, name, FileType::CharacterDevice, Mode::from_raw_mode(0o666), number)?;
    }
    let links = [
        (c"fd", c"/proc/self/fd"),
        (c"stdin", c"/proc/self/fd/0"),
        (c"stdout", c"/proc/self/fd/1"),
        (c"stderr", c"/proc/self/fd/2"),
        (c"ptmx", c"pts/ptmx"),
    ];
    links.into_iter().try_for_each(|(name, to)| rustix::fs::symlinkat(to, &dev, name))
}

fn seal(root: &OwnedFd) -> rustix::io::Result<()> {
    let read_only = Attributes { set: Attributes::RDONLY, ..Attributes::default() };
    for path in default_spec::READONLY_PATHS {
        let Ok(target) = open(root, path) else { continue };
        let tree = clone_tree(&target, c"", true)?;
        set_attributes(&tree, read_only, true, None)?;
        attach(&tree, &target)?;
    }
    let mut empty: Option<OwnedFd> = None;
    for path in default_spec::MASKED_PATHS {
        let Ok(target) = open(root, path) else { continue };
        if !FileType::from_raw_mode(rustix::fs::fstat(&target)?.st_mode).is_dir() {
            attach(clone_tree(open_c(root, c"dev/null", PATH)?, c"", false)?, &target)?;
        } else if let Some(first) = &empty {
            attach(clone_tree(first, c"", false)?, &target)?;
        } else {
            let first = filesystem(c"tmpfs", None, [], Attributes::RDONLY)?;
            attach(&first, &target)?;
            empty = Some(first);
        }
    }
    Ok(())
}

fn open(root: &OwnedFd, path: &str) -> rustix::io::Result<OwnedFd> {
    let mut buffer = [0_u8; 64];
    let bytes = path.trim_start_matches('/').as_bytes();
    buffer.get_mut(..bytes.len()).ok_or(rustix::io::Errno::NAMETOOLONG)?.copy_from_slice(bytes);
    let path = CStr::from_bytes_until_nul(&buffer).map_err(|_| rustix::io::Errno::INVAL)?;
    open_c(root, path, PATH)
}
