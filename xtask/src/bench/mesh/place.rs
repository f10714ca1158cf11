//! Two networks with a link between them, a pod's and that of the backends, which is a pod's as well where there are two nodes, and who runs in which,
//! on which processor. Nodes have networks of their own, in which is nothing: their programs open sockets in those of pods.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use kernel::netlink::{IpNet, Route};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use testkit::netns::{Netns, addresses, change, index, join};

use super::super::Meter;
use super::super::api::side::spawn;
use super::super::ended::Ended;
use super::IDLE;
use super::measure::family;
use crate::Result;

/// Where backends are.
pub(super) const BACKEND: &str = "10.55.0.3";
/// Where the pod is that asks.
pub(super) const CLIENT: &str = "10.55.1.2";
const GATEWAY: &str = "10.55.1.1";
/// Descriptors of what does not rest.
const SPARE: u64 = 2000;
/// How long a program may take to its start, and to its end. Ours waits 20 s for connections that are open.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where a program runs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Network {
    /// The node's: that of this process.
    Node,
    Pod,
    Far,
    /// Those of the two nodes of a pair: the client's, and the backends'.
    ClientNode,
    BackendNode,
}

/// Whose processor.
#[derive(Debug, Clone, Copy)]
pub(super) enum Processor {
    /// The first one: clients, backends, and all that is not measured.
    First,
    /// The last one: what is measured.
    Last,
}

pub(super) struct Place {
    pod: Netns,
    far: Netns,
    nodes: [Netns; 2],
    folder: tempfile::TempDir,
}

impl Place {
    pub(super) fn new(meter: &Meter) -> Result<Self> {
        if sched_getaffinity(None)?.count() < 2 {
            return Err("the contest needs two processors, one of them for what is measured".into());
        }
        let everywhere: IpNet = "0.0.0.0/0".parse()?;
        let (pod, far) = (Netns::new(), Netns::new());
        far.run(|| addresses("lo", &[&format!("{BACKEND}/32")]));
        pod.run(|| {
            join("eth0", &far, ("pod0", None), &[&format!("{GATEWAY}/24")]);
            addresses("eth0", &[&format!("{CLIENT}/24")]);
            let (link, gateway) = (Some(index("eth0")), GATEWAY.parse().ok());
            change(|batch| batch.add_route(&Route { link, gateway, ..Route::to(everywhere) }));
        });
        Ok(Self { pod, far, nodes: [Netns::new(), Netns::new()], folder: meter.folder()? })
    }

    /// A folder that goes with this.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The pod's network.
    pub(super) fn pod(&self) -> &Netns {
        &self.pod
    }

    /// The backends' network.
    pub(super) fn far(&self) -> &Netns {
        &self.far
    }

    /// Does a client's work in the pod's network.
    pub(super) fn ask<T: Send>(&self, work: impl FnOnce() -> std::io::Result<T> + Send) -> Result<T> {
        let done = self.pod.run(move || {
            pin(Processor::First)?;
            work().map_err(|e| e.to_string())
        });
        Ok(done?)
    }

    /// What a client finds in the pod's network; nothing where it cannot begin.
    pub(super) fn asks(&self, work: impl FnOnce() -> bool + Send) -> bool {
        self.ask(|| Ok(work())).unwrap_or(false)
    }

    /// Starts a program that says what it has to say into `NAME.log` of the folder.
    pub(super) fn start(
        &self,
        meter: &Meter,
        network: Network,
        processor: Processor,
        command: Command,
        name: &str,
    ) -> Result<Ended> {
        let log = self.log(name);
        // A thread hands its network and its processor on to what it starts.
        let start = move || {
            pin(processor)?;
            spawn(meter, command, &log).map_err(|e| e.to_string())
        };
        let [near, distant] = &self.nodes;
        let started: Result<Ended, String> = match network {
            Network::Pod => self.pod.run(start),
            Network::Far => self.far.run(start),
            Network::ClientNode => near.run(start),
            Network::BackendNode => distant.run(start),
            Network::Node => std::thread::scope(|scope| {
                scope.spawn(start).join().unwrap_or_else(|_| Err("a thread has panicked".into()))
            }),
        };
        Ok(started.map_err(|e| format!("cannot start {name}: {e}"))?)
    }

    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.log"))
    }

    /// What a program has said.
    pub(super) fn words(&self, name: &str) -> String {
        std::fs::read_to_string(self.log(name)).unwrap_or_default()
    }

    /// Waits until something is so, while programs of these names run.
    pub(super) fn until(
        &self,
        programs: &mut [(&str, &mut Ended)],
        what: &str,
        is: impl Fn() -> bool,
    ) -> Result<()> {
        let began = Instant::now();
        while !is() {
            for (name, program) in programs.iter_mut() {
                if let Some(status) = program.0.try_wait()? {
                    return Err(format!("{name} has ended ({status}): {}", last(&self.words(name))).into());
                }
            }
            if began.elapsed() > PATIENCE {
                let said: Vec<String> = programs.iter().map(|(name, _)| last(&self.words(name))).collect();
                return Err(format!("{what} not within {} s: {}", PATIENCE.as_secs(), said.join("; ")).into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

/// The last lines of a text.
fn last(text: &str) -> String {
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("; ")
}

/// The calling thread, and what it starts, keep to a processor.
pub(super) fn pin(processor: Processor) -> Result<(), String> {
    let all = sched_getaffinity(None).map_err(|e| e.to_string())?;
    let mut set = (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu));
    let one = match processor {
        Processor::First => set.next(),
        Processor::Last => set.next_back(),
    };
    let mut wanted = CpuSet::new();
    wanted.set(one.ok_or("there is no processor")?);
    sched_setaffinity(None, &wanted).map_err(|e| format!("cannot keep to one processor: {e}"))
}

/// As many descriptors as there may be, for this and for all that it starts. A connection that rests is one, here and in each proxy.
pub(super) fn raise_limit() -> Result<()> {
    let (limit, needed) = (getrlimit(Resource::Nofile), IDLE as u64 + SPARE);
    let maximum = limit.maximum.map(|most| most.max(needed));
    let most = Rlimit { current: maximum, maximum };
    let set = setrlimit(Resource::Nofile, most);
    Ok(set.map_err(|e| format!("cannot have {needed} descriptors, which connections that rest need: {e}"))?)
}

/// Where a side is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct At {
    pub(super) http: SocketAddr,
    /// None where it is not measured.
    pub(super) rpc: Option<SocketAddr>,
    pub(super) bulk: SocketAddr,
}

/// A side that answers.
pub(super) struct Running {
    pub(super) programs: Vec<Ended>,
    pub(super) at: At,
}

impl Running {
    /// Its processes, and those that they have started.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.programs.iter().flat_map(|program| family(program.0.id())).collect()
    }

    /// Tells its programs to end, one after another, and waits until they have.
    pub(super) fn end(mut self) -> Result<()> {
        for program in &mut self.programs {
            let pid = Pid::from_child(&program.0);
            kill_process(pid, Signal::TERM)?;
            let began = Instant::now();
            while program.0.try_wait()?.is_none() {
                if began.elapsed() > PATIENCE {
                    return Err(format!("process {pid:?} does not end").into());
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    }
}
