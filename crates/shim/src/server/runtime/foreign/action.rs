//! A shim's program, executed as containerd does it: `start` makes the shim, `delete` takes away what one has left.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

use super::super::super::connection::Refusal;
use super::super::call::{Call, Env};
use crate::told::{self, Bootstrap};

/// containerd's namespace of pods.
const NAMESPACE: &str = "k8s.io";
/// How long an action may take: a virtual machine may come with it.
const LIMIT: Duration = Duration::from_secs(60);

/// What is executed, and for whom.
pub(super) struct Action<'a> {
    /// The handler and the program, for messages.
    pub(super) handler: &'a str,
    pub(super) program: &'a str,
    /// For files of its streams.
    pub(super) directory: &'a Path,
    /// Where the program's shim finds our events endpoint.
    pub(super) events: &'a str,
    /// The container, and its directory with `config.json`.
    pub(super) id: &'a str,
    pub(super) bundle: &'a Path,
}

impl Action<'_> {
    /// Makes the shim, and tells where it listens.
    pub(super) fn start(&self, options: &[u8]) -> Result<Bootstrap, Refusal> {
        let said = self.run("start", &[], options)?;
        told::bootstrap(&said)
            .map_err(|e| Refusal::internal(format!("handler {}: {} start: {e}", self.handler, self.program)))
    }

    /// Takes away what a shim that is gone has left of the container.
    pub(super) fn delete(&self) -> Result<(), Refusal> {
        let bundle = self.bundle.display().to_string();
        self.run("delete", &["-bundle", &bundle], &[]).map(drop)
    }

    fn run(&self, action: &str, flags: &[&str], input: &[u8]) -> Result<Vec<u8>, Refusal> {
        let what = format!("handler {}: {} {action}", self.handler, self.program);
        let file = |end: &str| self.directory.join(format!("{action}.{end}"));
        let (given, said, log) = (file("in"), file("out"), file("log"));
        let write =
            |path: &Path| open(path, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::APPEND);
        fs::write(&given, input).map_err(|e| Refusal::internal(format!("{}: {e}", given.display())))?;
        let fds: [OwnedFd; 3] = [open(&given, OFlags::RDONLY)?, write(&said)?, write(&log)?];
        let own = std::env::current_exe().unwrap_or_default();
        let own = own.display().to_string();
        // Its events come to our endpoint and not by this program: but the flag has to have a value.
        let mut words = vec![self.program, "-namespace", NAMESPACE, "-address", self.events];
        words.extend(["-publish-binary", &own, "-id", self.id]);
        words.extend(flags);
        words.push(action);
        let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        let env = Env(vec![
            format!("TTRPC_ADDRESS={}", self.events),
            format!("GRPC_ADDRESS={}", self.events),
            format!("NAMESPACE={NAMESPACE}"),
            "MAX_SHIM_VERSION=3".to_owned(),
        ]);
        // It looks for its bundle where it is.
        let inside = rustix::process::chdir(self.bundle)
            .map_err(|e| Refusal::internal(format!("cannot enter {}: {e}", self.bundle.display())));
        let call = inside.and_then(|()| Call::begin(what, &words, &env, log, LIMIT, &fds));
        let _ = rustix::process::chdir("/");
        let ended = call?.wait();
        let bytes = fs::read(&said);
        for path in [&given, &said] {
            let _ = fs::remove_file(path);
        }
        ended?;
        bytes.map_err(|e| Refusal::internal(format!("cannot read {}: {e}", said.display())))
    }
}

fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, Refusal> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o600)).map_err(|e| {
        Refusal::internal(format!("cannot open {}: {}", path.display(), std::io::Error::from(e)))
    })
}

/// Connects to the address that a shim has told.
pub(super) fn reach(path: &Path) -> std::io::Result<OwnedFd> {
    Ok(crate::connect_now(crate::short_path(path)?.path())?)
}

/// A path of a socket that others can connect to: a long one by way of a descriptor of this process.
pub(super) fn for_others(path: &Path) -> std::io::Result<(String, Option<OwnedFd>)> {
    use std::os::fd::AsRawFd;
    /// What fits into a socket's address.
    const LONGEST: usize = 107;
    let text = path.display().to_string();
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Ok((text, None)) };
    if text.len() <= LONGEST {
        return Ok((text, None));
    }
    let dir = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let short = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), dir.as_raw_fd())).join(name);
    Ok((short.display().to_string(), Some(dir)))
}
