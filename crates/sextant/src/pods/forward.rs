//! Ports of this machine that lead into a pod.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use cri::caller::Client;
use cri::contract::v1::{PodSandbox, PortForwardRequest};
use streaming::client::{Error, Forwarded, PortForward, Protocol, Target};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

use super::{PATIENCE, Runtime, pod_name, said};
use crate::failure::{Context, Result};

/// A port here and the pod's port that it leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ports {
    /// 0 is any that is free.
    pub(crate) local: u16,
    pub(crate) remote: u16,
}

impl FromStr for Ports {
    type Err = &'static str;

    /// LOCAL:REMOTE, :REMOTE, or one number for both.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "give LOCAL:REMOTE, :REMOTE for any free port here, or one port for both";
        let (local, remote) = text.split_once(':').unwrap_or((text, text));
        let remote = remote.parse().ok().filter(|port| *port > 0).ok_or(WRONG)?;
        let local = if local.is_empty() { 0 } else { local.parse().map_err(|_| WRONG)? };
        Ok(Self { local, remote })
    }
}

/// Listens until the command is ended. What is listened on is printed, a line each.
pub(crate) fn forward(runtime: &Runtime, pod: &PodSandbox, address: IpAddr, ports: &[Ports]) -> Result<()> {
    let way = Arc::new(Way {
        pod: pod.id.clone(),
        name: pod_name(pod),
        ports: ports.iter().map(|p| i32::from(p.remote)).collect(),
        socket: runtime.socket().to_owned(),
        open: Mutex::default(),
    });
    runtime.wait(async |_| {
        // A pod that takes none is told before anything listens.
        way.reach().await?;
        let mut servers = tokio::task::JoinSet::new();
        for ports in ports {
            let at = SocketAddr::new(address, ports.local);
            let listener = TcpListener::bind(at).await.context(|| format!("listen on {at}"))?;
            let bound = listener.local_addr().context(|| format!("listen on {at}"))?;
            let line = format!("{bound} leads to port {} of pod {}", ports.remote, way.name);
            writeln!(std::io::stdout(), "{line}").context(|| "say where it listens".into())?;
            servers.spawn(serve(listener, ports.remote, Arc::clone(&way)));
        }
        while servers.join_next().await.is_some() {}
        Ok(())
    })
}

async fn serve(listener: TcpListener, port: u16, way: Arc<Way>) {
    loop {
        match listener.accept().await {
            Ok((caller, _)) => {
                let way = Arc::clone(&way);
                tokio::spawn(async move {
                    if let Err(why) = pass(caller, port, &way).await {
                        complain(&format!("cannot reach port {port} of pod {}: {why}", way.name));
                    }
                });
            }
            // Too many are open: those that end make room.
            Err(error) => {
                complain(&format!("cannot accept a connection: {error}"));
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

/// Nobody may read it any more.
fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "sextant: {text}");
}

/// One connection, until both sides have ended it.
async fn pass(mut caller: TcpStream, port: u16, way: &Way) -> Result<(), String> {
    let mut forwarded = way.connect(port).await?;
    let copied = tokio::io::copy_bidirectional(&mut caller, &mut forwarded).await;
    match (forwarded.failure().await, copied) {
        (Some(text), _) => Err(text),
        // The caller left, or the pod's side did: neither is anybody's fault here.
        (None, _) => Ok(()),
    }
}

/// The connection that all others go over, made anew when its server went away.
struct Way {
    pod: String,
    name: String,
    ports: Vec<i32>,
    /// The runtime's.
    socket: PathBuf,
    open: Mutex<Option<Arc<PortForward>>>,
}

impl Way {
    async fn connect(&self, port: u16) -> Result<Forwarded, String> {
        let text = |e: Error| e.to_string();
        let first = self.reach().await.map_err(|e| e.to_string())?;
        match first.connect(port).await {
            Ok(forwarded) => Ok(forwarded),
            Err(_) => {
                let mut open = self.open.lock().await;
                // Another caller may have made a new one meanwhile.
                if open.as_ref().is_some_and(|open| Arc::ptr_eq(open, &first)) {
                    open.take();
                }
                drop(open);
                self.reach().await.map_err(|e| e.to_string())?.connect(port).await.map_err(text)
            }
        }
    }

    async fn reach(&self) -> Result<Arc<PortForward>> {
        let mut open = self.open.lock().await;
        if let Some(open) = &*open {
            return Ok(Arc::clone(open));
        }
        let request = PortForwardRequest { pod_sandbox_id: self.pod.clone(), port: self.ports.clone() };
        let what = format!("reach ports of pod {}", self.name);
        // Of its own: this is seldom, and the runtime may have been restarted since the last time.
        let client = Client::connect(&self.socket).await.map_err(|e| said(&what, &e))?;
        let answer = client.with_deadline(PATIENCE).port_forward(request).await;
        let answer = answer.map_err(|e| said(&what, &e))?;
        let made = PortForward::start(&Target::parse(&answer.url)?, Protocol::Spdy).await?;
        Ok(Arc::clone(open.insert(Arc::new(made))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_as_people_type_them() {
        let ports = |text: &str| text.parse::<Ports>().map(|p| (p.local, p.remote));
        assert_eq!(ports("8080:80"), Ok((8080, 80)));
        assert_eq!(ports("80"), Ok((80, 80)));
        assert_eq!(ports(":80"), Ok((0, 80)));
        for wrong in ["", ":", "80:", "0", "x:80", "70000", "1:2:3", "-1"] {
            assert!(ports(wrong).is_err(), "{wrong:?}");
        }
    }
}
