//! The data path of a node's pods: one thread that serves what is captured in their network namespaces.
//!
//! A [`Node`] is told of pods and of tables by one other thread, in order. Connections to endpoints are made from within the pod's namespace, so
//! they come from the pod's own addresses, and what holds for the pod there holds for them.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::task::Poll;
use std::thread::{Builder, JoinHandle};

use rustix::event::{EventfdFlags, eventfd};
use rustix::net::getsockname;
use rustix::net::sockopt::{ip_original_dst, ipv6_original_dst};
use smi::contract::Name;

use crate::capture::{Listeners, MARK, RETURN_MARK};
use crate::identity::Certificates;
use crate::proxy::{Counts, Network, Origin, Proxy, Service, Settings, Tables};
use crate::reactor::{Reactor, Socket, race};
use crate::telemetry::{Counted, Line, Mirrored, Snapshot, Subject, Viewed};

/// A pod whose connections come to these listeners.
#[derive(Debug)]
pub struct Pod {
    /// A number that no other pod has or had; not 0.
    pub network: Network,
    /// Its name in the API.
    pub name: Name,
    /// Its network namespace.
    pub netns: OwnedFd,
    /// Those of [`Capture::begin`](crate::capture::Capture::begin).
    pub listeners: Listeners,
}

enum Command {
    Swap(Arc<Tables>),
    Identify(Arc<Certificates>),
    Enter(Pod, SyncSender<io::Result<()>>),
    Leave(Network),
    Drain,
    /// What was done in all, and by whom.
    Look(SyncSender<Whole>),
    /// A piece of what was counted, and behind which to go on.
    Read(Option<Subject>, SyncSender<(Vec<Counted>, Option<Subject>)>),
    /// The same of endpoints.
    View(Option<Place>, SyncSender<(Vec<Viewed>, Option<Place>)>),
    /// Lines go there from now on.
    Watch(Option<SyncSender<Line>>),
    Stop,
}

type Place = (Service, Network);

/// What is not read in pieces.
struct Whole {
    counts: Counts,
    idle: usize,
    swaps: u64,
    lost: u64,
    networks: Vec<Network>,
    mirrored: Vec<Mirrored>,
    tables: Arc<Tables>,
}

/// The thread, and who tells it what to do. It ends with this, and with it all connections.
#[derive(Debug)]
pub struct Node {
    commands: Sender<Command>,
    event: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    /// Begins without pods and tables. `over` is told, on that thread, when a pod that has left has no connection any more.
    ///
    /// # Errors
    /// The kernel's: no descriptor is left, or no thread.
    pub fn start(settings: Settings, over: impl Fn(Network) + Send + 'static) -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let listened = event.try_clone()?;
        let (commands, received) = channel();
        let (tell, told) = sync_channel(1);
        let thread = Builder::new().name("mesh".into()).spawn(move || {
            match Serving::new(settings, listened, Rc::new(over)) {
                Ok(serving) => {
                    let _gone = tell.send(Ok(()));
                    serving.run(received);
                }
                Err(e) => drop(tell.send(Err(e))),
            }
        })?;
        told.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))?;
        Ok(Self { commands, event, thread: Some(thread) })
    }

    fn tell(&self, command: Command) -> io::Result<()> {
        tell(&self.commands, &self.event, command)
    }

    /// Who looks at what is done, from whatever thread. It does not keep the node from ending.
    ///
    /// # Errors
    /// The kernel's: no descriptor is left.
    pub fn looker(&self) -> io::Result<Looker> {
        Ok(Looker { commands: self.commands.clone(), event: self.event.try_clone()? })
    }

    /// Goes by these tables from now on.
    ///
    /// # Errors
    /// The kernel's.
    pub fn swap(&self, tables: Arc<Tables>) -> io::Result<()> {
        self.tell(Command::Swap(tables))
    }

    /// Has members prove who they are to each other from now on, with these.
    ///
    /// # Errors
    /// The kernel's.
    pub fn identify(&self, certificates: Arc<Certificates>) -> io::Result<()> {
        self.tell(Command::Identify(certificates))
    }

    /// Serves a pod from now on, by the tables that were given before.
    ///
    /// # Errors
    /// The kernel's: no descriptor is left.
    pub fn enter(&self, pod: Pod) -> io::Result<()> {
        let (answer, answered) = sync_channel(1);
        self.tell(Command::Enter(pod, answer))?;
        answered.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))
    }

    /// Takes no new connection of a pod. Those that are open go on.
    ///
    /// # Errors
    /// The kernel's.
    pub fn leave(&self, network: Network) -> io::Result<()> {
        self.tell(Command::Leave(network))
    }

    /// Ends each connection whose requests are read after the request that it has, of all pods and for good.
    ///
    /// # Errors
    /// The kernel's.
    pub fn drain(&self) -> io::Result<()> {
        self.tell(Command::Drain)
    }
}

fn tell(commands: &Sender<Command>, event: &OwnedFd, command: Command) -> io::Result<()> {
    commands.send(command).map_err(|_| io::ErrorKind::BrokenPipe)?;
    rustix::io::write(event, &1_u64.to_ne_bytes())?;
    Ok(())
}

/// Looks at what a node does.
#[derive(Debug)]
pub struct Looker {
    commands: Sender<Command>,
    event: OwnedFd,
}

impl Looker {
    /// Asks, and waits for the answer: a turn of the node's loop.
    fn ask<T>(&self, command: impl FnOnce(SyncSender<T>) -> Command) -> io::Result<T> {
        let (answer, answered) = sync_channel(1);
        tell(&self.commands, &self.event, command(answer))?;
        answered.recv().map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// What was done until now. It is read in pieces, between which connections are served.
    ///
    /// # Errors
    /// The node has ended.
    pub fn look(&self) -> io::Result<Snapshot> {
        let (Whole { counts, idle, swaps, lost, networks, mirrored, tables }, series) = self.read()?;
        let (mut endpoints, mut behind) = (Vec::new(), None);
        loop {
            let (piece, next) = self.ask(|answer| Command::View(behind, answer))?;
            endpoints.extend(piece);
            if next.is_none() {
                break;
            }
            behind = next;
        }
        Ok(Snapshot { counts, idle, swaps, lost, networks, series, mirrored, endpoints, tables })
    }

    /// What was counted until now, and the tables that name what it numbers: a part of [`Self::look`], for who needs no endpoints.
    ///
    /// # Errors
    /// The node has ended.
    pub fn counted(&self) -> io::Result<(Vec<Counted>, Arc<Tables>)> {
        self.read().map(|(whole, series)| (series, whole.tables))
    }

    fn read(&self) -> io::Result<(Whole, Vec<Counted>)> {
        let whole = self.ask(Command::Look)?;
        let (mut series, mut behind) = (Vec::new(), None);
        loop {
            let (piece, next) = self.ask(|answer| Command::Read(behind, answer))?;
            series.extend(piece);
            if next.is_none() {
                return Ok((whole, series));
            }
            behind = next;
        }
    }

    /// Has a line of each request and connection that ends go there, in place of where they went before; nowhere, if that is nowhere. Nobody waits for who
    /// takes them: what does not fit is lost, and counted.
    ///
    /// # Errors
    /// The node has ended.
    pub fn watch(&self, lines: Option<SyncSender<Line>>) -> io::Result<()> {
        tell(&self.commands, &self.event, Command::Watch(lines))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // If it cannot be told there is no thread any more.
        if self.tell(Command::Stop).is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _panicked = thread.join();
        }
    }
}

/// What the thread has.
struct Serving {
    reactor: Reactor,
    proxy: Rc<Proxy>,
    event: Socket,
    home: Rc<File>,
    pods: BTreeMap<Network, Rc<PodNetwork>>,
    over: Rc<dyn Fn(Network)>,
}

impl Serving {
    fn new(settings: Settings, event: OwnedFd, over: Rc<dyn Fn(Network)>) -> io::Result<Self> {
        let reactor = Reactor::new()?;
        let event = reactor.socket(event)?;
        let home = Rc::new(File::open("/proc/thread-self/ns/net")?);
        let proxy = Proxy::new(&reactor, settings);
        Ok(Self { reactor, proxy, event, home, pods: BTreeMap::new(), over })
    }

    fn run(self, commands: Receiver<Command>) {
        let reactor = self.reactor.clone();
        let served = reactor.run(self.obey(commands));
        if let Err(error) = served {
            // Nobody would be served, and nobody must be led here any more: capture ends with the process.
            eprintln!("sextant mesh: cannot wait for connections: {error}");
            std::process::abort();
        }
        reactor.abandon();
    }

    async fn obey(mut self, commands: Receiver<Command>) {
        while self.event.event().await.is_ok() {
            loop {
                match commands.try_recv() {
                    Ok(Command::Swap(tables)) => self.proxy.swap(tables),
                    Ok(Command::Identify(certificates)) => self.proxy.identify(certificates),
                    // Who has asked may be gone.
                    Ok(Command::Enter(pod, answer)) => drop(answer.send(self.enter(pod))),
                    Ok(Command::Leave(network)) => self.leave(network),
                    Ok(Command::Drain) => self.proxy.drain(),
                    // Who has asked may be gone.
                    Ok(Command::Look(answer)) => drop(answer.send(self.whole())),
                    Ok(Command::Read(behind, answer)) => {
                        drop(answer.send(self.proxy.telemetry().read(behind)));
                    }
                    Ok(Command::View(behind, answer)) => drop(answer.send(self.proxy.viewed(behind))),
                    Ok(Command::Watch(lines)) => self.proxy.telemetry().watch(lines),
                    Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return,
                    Err(TryRecvError::Empty) => break,
                }
            }
        }
    }

    fn whole(&self) -> Whole {
        let telemetry = self.proxy.telemetry();
        Whole {
            counts: self.proxy.counts(),
            idle: self.proxy.idle(),
            swaps: telemetry.swaps.get(),
            lost: telemetry.lost(),
            networks: self.pods.keys().copied().collect(),
            mirrored: telemetry.mirrors(),
            tables: self.proxy.tables(),
        }
    }

    fn enter(&mut self, pod: Pod) -> io::Result<()> {
        let Pod { network, name, netns, listeners } = pod;
        let sockets = |list: Vec<OwnedFd>| {
            let sockets = list.into_iter().map(|listener| self.reactor.socket(listener));
            sockets.collect::<io::Result<Vec<Socket>>>()
        };
        let outbound = sockets(listeners.outbound)?;
        let (plain, secured) = (sockets(listeners.plain)?, sockets(listeners.secured)?);
        let captured = Rc::new(PodNetwork {
            network,
            name,
            netns,
            home: self.home.clone(),
            left: Cell::new(false),
            proxy: Rc::downgrade(&self.proxy),
            over: self.over.clone(),
        });
        for listener in outbound {
            self.serve(&captured, self.proxy.clone().accept(listener, captured.clone()));
        }
        for listener in plain {
            self.serve(&captured, self.proxy.clone().accept_plain(listener, captured.clone()));
        }
        for listener in secured {
            self.serve(&captured, self.proxy.clone().accept_secured(listener, captured.clone()));
        }
        self.pods.insert(network, captured);
        Ok(())
    }

    /// Accepts for as long as the pod is served.
    fn serve(&self, captured: &Rc<PodNetwork>, accepting: impl Future<Output = ()> + 'static) {
        let leaving = captured.clone();
        self.reactor.spawn(race(accepting, async move { leaving.left().await }));
    }

    fn leave(&mut self, network: Network) {
        if let Some(captured) = self.pods.remove(&network) {
            captured.left.set(true);
            self.proxy.part(network);
            // Those that accept see it.
            self.reactor.wake_all();
        }
    }
}

/// The network of a captured pod. Each of its connections has it.
struct PodNetwork {
    network: Network,
    name: Name,
    netns: OwnedFd,
    /// The namespace of the thread.
    home: Rc<File>,
    left: Cell<bool>,
    proxy: Weak<Proxy>,
    over: Rc<dyn Fn(Network)>,
}

impl PodNetwork {
    /// Waits until the pod is to be served no more.
    async fn left(&self) {
        poll_fn(|_| if self.left.get() { Poll::Ready(()) } else { Poll::Pending }).await;
    }
}

impl Origin for PodNetwork {
    fn destination(&self, connection: BorrowedFd<'_>) -> io::Result<SocketAddr> {
        let own = SocketAddr::try_from(getsockname(connection)?)?;
        let to: SocketAddr = match own {
            SocketAddr::V4(_) => ip_original_dst(connection)?.into(),
            SocketAddr::V6(_) => ipv6_original_dst(connection)?.into(),
        };
        // Who connects to the listener itself was not led here, and would be led in a circle. Nothing else of loopback is led here.
        if to.ip().is_loopback() || to == own { Err(io::ErrorKind::InvalidInput.into()) } else { Ok(to) }
    }

    fn namespace(&self) -> Option<&str> {
        Some(&self.name.namespace)
    }

    fn workload(&self) -> Option<&Name> {
        Some(&self.name)
    }

    fn network(&self) -> Network {
        self.network
    }

    fn socket(&self, ipv4: bool) -> io::Result<OwnedFd> {
        kernel::socket::tcp_in(&self.netns, &*self.home, ipv4, MARK).map_err(|e| e.source)
    }

    fn socket_from(&self, from: IpAddr, _to: SocketAddr) -> io::Result<OwnedFd> {
        kernel::socket::tcp_from(&self.netns, &*self.home, from, RETURN_MARK).map_err(|e| e.source)
    }
}

impl Drop for PodNetwork {
    fn drop(&mut self) {
        if let Some(proxy) = self.proxy.upgrade() {
            proxy.forget(self.network);
        }
        (self.over)(self.network);
    }
}
