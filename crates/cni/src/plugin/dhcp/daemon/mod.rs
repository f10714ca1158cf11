//! `dhcp daemon`: gets leases for plugins and renews them. One thread serves all; only to open a socket inside a
//! namespace another one goes there, and ends.

mod conversation;
mod flags;
mod state;
mod tenant;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kernel::signal::Signals;
use rustix::event::{PollFd, PollFlags, Timespec};

use super::client::Output;
use super::rpc::{Call, Method};
use crate::contract::{Code, Error, Request, ValidAttachment};
use conversation::Conversation;
use flags::Flags;
use tenant::{Key, Tenant, now};

/// Conversations at once; more wait in the socket's queue.
const CONVERSATIONS: usize = 512;

/// The daemon's `main`: ends with SIGTERM or SIGINT. Leases stay, for the next one to go on with.
pub(crate) fn main(args: impl IntoIterator<Item = String>) -> ExitCode {
    let flags = match Flags::parse(args) {
        Ok(flags) => flags,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::from(2);
        }
    };
    match Daemon::new(flags).and_then(Daemon::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dhcp daemon: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Forgets the lease of a request that no daemon was there to hear.
pub(super) fn forget(socket: &Path, request: &Request<'_>) -> Result<(), Error> {
    let attachment = request.attachment;
    state::remove(&state::dir(socket), request.network, &attachment.container_id, &attachment.ifname)
        .map_err(|e| Error::because("cannot forget a DHCP lease", e).code(Code::Io))
}

/// GC: leases of the request's network whose attachments are gone, with the configurations they were got with.
pub(super) fn stale(socket: &Path, request: &Request<'_>) -> Result<Vec<(ValidAttachment, Vec<u8>)>, Error> {
    Ok(state::stale(&state::dir(socket), request, &request.valid_attachments()?))
}

struct Daemon {
    flags: Flags,
    signals: Signals,
    listener: UnixListener,
    socket: PathBuf,
    /// The socket is ours to remove, not of whoever activated us.
    bound: bool,
    state: PathBuf,
    tenants: BTreeMap<Key, Tenant>,
    conversations: Vec<Conversation>,
}

impl Daemon {
    fn new(flags: Flags) -> Result<Self, Error> {
        let signals = Signals::receive(&[15, 2])?;
        let socket = PathBuf::from(format!("{}{}", flags.host_prefix, flags.socket));
        let (listener, bound) = match inherited()? {
            Some(listener) => (listener, false),
            None => (listen(&socket)?, true),
        };
        listener.set_nonblocking(true).map_err(failed("listen at", &socket))?;
        if let Some(path) = &flags.pidfile {
            std::fs::write(path, std::process::id().to_string()).map_err(failed("write", path))?;
        }
        let state = state::dir(&socket);
        let mut daemon = Self {
            flags,
            signals,
            listener,
            socket,
            bound,
            state,
            tenants: BTreeMap::new(),
            conversations: Vec::new(),
        };
        daemon.resume();
        Ok(daemon)
    }

    /// Goes on with the leases of the daemon before.
    fn resume(&mut self) {
        for kept in state::all(&self.state) {
            let key = (kept.network.clone(), kept.call.container_id.clone(), kept.call.ifname.clone());
            match Tenant::resume(kept, &self.flags.host_prefix, self.flags.patience) {
                Ok(tenant) => drop(self.tenants.insert(key, tenant)),
                Err(error) => {
                    log(&key, &format!("not resumed: {error}"));
                    self.forget(&key);
                }
            }
        }
    }

    fn run(mut self) -> Result<(), Error> {
        while self.signals.next().is_none() {
            let ready = self.wait()?;
            if ready.listener {
                self.accept();
            }
            for at in ready.conversations {
                self.converse(at);
            }
            for key in ready.tenants {
                let outcome = self.tenants.get_mut(&key).map(Tenant::receive);
                self.settle(&key, outcome);
            }
            let time = now();
            let due = |tenant: &Tenant| tenant.client.next().is_some_and(|next| next <= time);
            let due: Vec<_> =
                self.tenants.iter().filter(|(_, t)| due(t)).map(|(key, _)| key.clone()).collect();
            for key in due {
                let outcome = self.tenants.get_mut(&key).map(Tenant::wake);
                self.settle(&key, outcome);
            }
            self.conversations.retain(|conversation| !conversation.over || conversation.has_to_say());
        }
        if self.bound {
            let _ = std::fs::remove_file(&self.socket);
        }
        if let Some(path) = &self.flags.pidfile {
            let _ = std::fs::remove_file(path);
        }
        Ok(())
    }

    /// Waits until there is something to do.
    fn wait(&self) -> Result<Ready, Error> {
        let next = self.tenants.values().filter_map(|tenant| tenant.client.next()).min();
        let timeout = next.map(|next| next.saturating_sub(now()));
        let timeout = timeout.map(|time| Timespec {
            tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        });
        let full = self.conversations.len() >= CONVERSATIONS;
        let listening = if full { PollFlags::empty() } else { PollFlags::IN };
        let mut fds = vec![
            PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.listener.as_fd(), listening),
        ];
        for conversation in &self.conversations {
            let flags =
                if conversation.has_to_say() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
            fds.push(PollFd::from_borrowed_fd(conversation.stream.as_fd(), flags));
        }
        let listening: Vec<(&Key, BorrowedFd<'_>)> = self
            .tenants
            .iter()
            .filter_map(|(key, tenant)| Some((key, tenant.socket.as_ref()?.as_fd())))
            .collect();
        fds.extend(listening.iter().map(|(_, fd)| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Error::because("cannot wait for events", e).code(Code::Io)),
        }
        let is_ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let (own, others) = is_ready.split_at(2);
        let (conversations, tenants) = others.split_at(self.conversations.len());
        Ok(Ready {
            listener: own.get(1) == Some(&true),
            conversations: (0..).zip(conversations).filter(|(_, ready)| **ready).map(|(at, _)| at).collect(),
            tenants: listening
                .iter()
                .zip(tenants)
                .filter(|(_, r)| **r)
                .map(|((key, _), _)| (*key).clone())
                .collect(),
        })
    }

    fn accept(&mut self) {
        while self.conversations.len() < CONVERSATIONS
            && let Ok((stream, _)) = self.listener.accept()
        {
            self.conversations.extend(Conversation::new(stream));
        }
    }

    fn converse(&mut self, at: usize) {
        let Some(conversation) = self.conversations.get_mut(at) else { return };
        if conversation.has_to_say() {
            conversation.write();
        }
        match conversation.read() {
            Ok(Some((call, number))) => self.serve(at, call, number),
            Ok(None) => {}
            Err(error) => eprintln!("dhcp daemon: {error}"),
        }
    }

    fn serve(&mut self, at: usize, call: Call, number: u64) {
        let method = call.method;
        let outcome = match method {
            Method::Allocate => self.allocate(call),
            Method::Release => tenant::key(&call).map(|key| {
                self.release(&key);
                None
            }),
        };
        let Some(conversation) = self.conversations.get_mut(at) else { return };
        match outcome {
            Ok(Some(key)) => {
                conversation.waits = Some((key.clone(), number));
                self.answer(&key);
            }
            Ok(None) => conversation.answer(method, number, Ok(&crate::contract::AddResult::default())),
            Err(error) => conversation.answer(method, number, Err(&error.to_string())),
        }
    }

    /// Sees to it that there is, or will be, a lease.
    fn allocate(&mut self, call: Call) -> Result<Option<Key>, Error> {
        let key = tenant::key(&call)?;
        if !self.tenants.contains_key(&key) {
            let tenant = Tenant::new(call, &self.flags.host_prefix, self.flags.patience)?;
            self.tenants.insert(tenant.key(), tenant);
        }
        Ok(Some(key))
    }

    fn release(&mut self, key: &Key) {
        if let Some(mut tenant) = self.tenants.remove(key)
            && let Err(error) = tenant.release()
        {
            log(key, &format!("not released: {error}"));
        }
        self.forget(key);
        self.refuse(key, "the lease was released meanwhile");
    }

    fn forget(&self, (network, container_id, ifname): &Key) {
        if let Err(error) = state::remove(&self.state, network, container_id, ifname) {
            eprintln!("dhcp daemon: cannot remove what is kept of a lease: {error}");
        }
    }

    /// Acts on what has become of a lease.
    fn settle(&mut self, key: &Key, outcome: Option<Result<Option<Output>, Error>>) {
        match outcome {
            None | Some(Ok(None | Some(Output::Send { .. }))) => {}
            Some(Ok(Some(Output::Granted))) => {
                let kept = self.tenants.get(key).map_or(Ok(()), |tenant| tenant.keep(&self.state));
                if let Err(error) = kept {
                    log(key, &format!("the next daemon will not know the lease: {error}"));
                }
                self.answer(key);
            }
            Some(Ok(Some(Output::Failed))) => {
                self.tenants.remove(key);
                self.refuse(key, "no more tries");
            }
            Some(Ok(Some(Output::Lost(why)))) => {
                log(key, &format!("lease lost, the link goes down: {why}"));
                let down = self.tenants.remove(key).map_or(Ok(()), |tenant| tenant.set_down());
                if let Err(error) = down {
                    log(key, &error.to_string());
                }
                self.forget(key);
            }
            Some(Err(error)) => self.stumble(key, &error),
        }
    }

    /// A message could not be sent or received: whoever waits is told; a lease is kept as long as its link is there.
    fn stumble(&mut self, key: &Key, error: &Error) {
        log(key, &error.to_string());
        let Some(tenant) = self.tenants.get_mut(key) else { return };
        tenant.socket = None;
        if tenant.client.lease().is_none() || tenant.is_gone() {
            self.tenants.remove(key);
            self.forget(key);
            self.refuse(key, &error.to_string());
        }
    }

    /// Answers those who wait for a lease that is there.
    fn answer(&mut self, key: &Key) {
        let Some(result) = self.tenants.get(key).and_then(Tenant::result) else { return };
        let text = result.as_ref().map_err(ToString::to_string);
        self.tell(key, text.as_ref().map(|result| *result).map_err(String::as_str));
        if result.is_err() {
            self.release(key);
        }
    }

    fn refuse(&mut self, key: &Key, why: &str) {
        self.tell(key, Err(why));
    }

    fn tell(&mut self, key: &Key, outcome: Result<&crate::contract::AddResult, &str>) {
        for conversation in &mut self.conversations {
            if let Some((_, number)) = conversation.waits.clone().filter(|(waits, _)| waits == key) {
                conversation.answer(Method::Allocate, number, outcome);
            }
        }
    }
}

/// What [`Daemon::wait`] has found.
struct Ready {
    listener: bool,
    conversations: Vec<usize>,
    tenants: Vec<Key>,
}

fn log((network, container_id, ifname): &Key, what: &str) {
    eprintln!("dhcp daemon: {container_id}/{network}/{ifname}: {what}");
}

/// The socket of whoever activated us (sd_listen_fds(3)).
fn inherited() -> Result<Option<UnixListener>, Error> {
    let variable = |name: &str| std::env::var(name).ok();
    if variable("LISTEN_PID").is_none_or(|pid| pid != std::process::id().to_string()) {
        return Ok(None);
    }
    match variable("LISTEN_FDS").as_deref() {
        None | Some("0") => Ok(None),
        Some("1") => Ok(kernel::process::take_inherited(3).map(UnixListener::from)),
        Some(more) => Err(Error::new(
            Code::InvalidEnvironment,
            format!("cannot use LISTEN_FDS={more}: one socket is enough"),
        )),
    }
}

/// Listens at `path`. A socket that a killed daemon left is replaced, one that somebody answers at is not.
fn listen(path: &Path) -> Result<UnixListener, Error> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(failed("create directory", dir))?;
    if path.exists()
        && UnixStream::connect(path).is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused)
    {
        std::fs::remove_file(path).map_err(failed("remove", path))?;
    }
    let listener = UnixListener::bind(path).map_err(failed("listen at", path))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .map_err(failed("protect", path))?;
    Ok(listener)
}

fn failed(verb: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.display().to_string();
    move |e| Error::because(format!("cannot {verb} {path}"), e).code(Code::Io)
}

/// Any bytes as what is kept of a lease: for the fuzzer.
pub(super) fn exercise(bytes: &[u8]) {
    let _ = state::Kept::parse(bytes, "boot");
}
