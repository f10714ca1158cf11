//! Health check node ports: load balancers ask at them whether a Service with `externalTrafficPolicy: Local` has endpoints on this node.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use client::cache::Name;
use kernel::netlink::IpNet;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use crate::plan::Health;

/// Who asks is to have said what he asks by then.
const IDLE: Duration = Duration::from_secs(5);
/// After an error that is nobody's request's, and until a port is asked for again that another program has.
const PAUSE: Duration = Duration::from_secs(1);
/// No request is longer.
const REQUEST: usize = 8192;
/// Who asks at one port at the same time.
const CONNECTIONS: usize = 16;

/// What is answered, by port. A port is of one Service: the API server sees to that.
type Told = BTreeMap<u16, (Name, usize)>;

/// What Services say of their health.
#[derive(Debug, Default)]
pub struct Healths {
    told: Mutex<Told>,
    changed: Notify,
}

impl Healths {
    /// Takes what a Service says now in place of what it said; `None` for one that says nothing.
    pub fn enter(&self, name: &Name, health: Option<Health>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let before: Vec<u16> = told.iter().filter(|(_, (of, _))| of == name).map(|(port, _)| *port).collect();
        told.retain(|_, (of, _)| of != name);
        if let Some(health) = health {
            told.insert(health.port, (name.clone(), health.local));
        }
        if before != Vec::from_iter(health.map(|health| health.port)) {
            self.changed.notify_one();
        }
    }

    /// Takes what all Services say.
    pub fn enter_all(&self, all: impl IntoIterator<Item = (Name, Health)>) {
        let told = all.into_iter().map(|(name, health)| (health.port, (name, health.local))).collect();
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = told;
        self.changed.notify_one();
    }

    fn ports(&self) -> Vec<u16> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    /// The answer at a port.
    fn answer(&self, port: u16) -> Option<String> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let (name, local) = told.get(&port)?;
        let status = if *local > 0 { "200 OK" } else { "503 Service Unavailable" };
        let body = format!(
            "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{}\",\n\t\t\"name\": \"{}\"\n\t}},\n\t\"localEndpoints\": {local},\n\t\
             \"serviceProxyHealthy\": true\n}}",
            name.namespace, name.name
        );
        Some(format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n\
             X-Load-Balancing-Endpoint-Weight: {local}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ))
    }
}

/// Listens at all ports that Services name, and answers, for ever.
pub async fn serve(healths: Arc<Healths>, nodes: Arc<[IpNet]>) {
    let mut listening: BTreeMap<u16, AbortHandle> = BTreeMap::new();
    // Ends with this.
    let mut tasks = JoinSet::new();
    loop {
        let ports = healths.ports();
        listening.retain(|port, task| ports.contains(port) || (task.abort(), false).1);
        for port in ports {
            listening
                .entry(port)
                .or_insert_with(|| tasks.spawn(serve_port(healths.clone(), nodes.clone(), port)));
        }
        while tasks.try_join_next().is_some() {}
        healths.changed.notified().await;
    }
}

async fn serve_port(healths: Arc<Healths>, nodes: Arc<[IpNet]>, port: u16) {
    let mut told = false;
    let listener = loop {
        match listen(port).await {
            Ok(listener) => break listener,
            Err(error) if !std::mem::replace(&mut told, true) => {
                eprintln!(
                    "sextant services: warning: cannot listen at health check node port {port}: {error}; tries again"
                );
            }
            Err(_) => {}
        }
        tokio::time::sleep(PAUSE).await;
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                // At the addresses with node ports alone.
                let at = stream.local_addr().map(|at| at.ip().to_canonical());
                if !nodes.is_empty() && !at.is_ok_and(|at| nodes.iter().any(|net| net.contains(at))) {
                    continue;
                }
                let healths = healths.clone();
                connections.spawn(async move {
                    let _place = place;
                    drop(timeout(IDLE, answer(&healths, port, stream)).await);
                });
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// At all addresses of both families, or of IPv4 where the machine has no other.
async fn listen(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await
        }
        outcome => outcome,
    }
}

/// Whatever is asked, the answer is the same.
async fn answer(healths: &Healths, port: u16, mut stream: TcpStream) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if request.len() > REQUEST || stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let Some(answer) = healths.answer(port) else { return Ok(()) };
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn asked(port: u16) -> Option<String> {
        asked_at("127.0.0.1", port).await
    }

    async fn asked_at(address: &str, port: u16) -> Option<String> {
        let mut stream = TcpStream::connect((address, port)).await.ok()?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: node\r\n\r\n").await.ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.ok()?;
        Some(text)
    }

    async fn until(port: u16, is: impl Fn(Option<&str>) -> bool) {
        let began = std::time::Instant::now();
        loop {
            let text = asked(port).await;
            if is(text.as_deref()) {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(180), "{text:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn load_balancers_are_told_of_endpoints_on_this_node() {
        let free = TcpListener::bind("0.0.0.0:0").await.unwrap().local_addr().unwrap().port();
        let healths = Arc::new(Healths::default());
        let serving = tokio::spawn(serve(healths.clone(), Arc::from([])));
        let name = Name::new("shop", "web");
        healths.enter(&name, Some(Health { port: free, local: 2 }));
        until(free, |text| text.is_some_and(|text| text.starts_with("HTTP/1.1 200 OK\r\n"))).await;
        let text = asked(free).await.unwrap();
        assert!(text.contains("X-Load-Balancing-Endpoint-Weight: 2\r\n"), "{text}");
        let told: serde_json::Value = serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(told["service"], serde_json::json!({"namespace": "shop", "name": "web"}));
        assert_eq!(told["localEndpoints"], 2);
        healths.enter(&name, Some(Health { port: free, local: 0 }));
        assert!(asked(free).await.unwrap().starts_with("HTTP/1.1 503 "));
        healths.enter(&name, None);
        until(free, |text| text.is_none()).await;
        healths.enter_all([(name, Health { port: free, local: 1 })]);
        until(free, |text| text.is_some_and(|text| text.contains("Weight: 1\r\n"))).await;
        serving.abort();
    }
    #[tokio::test]
    async fn they_are_told_at_addresses_with_node_ports_alone() {
        let free = TcpListener::bind("0.0.0.0:0").await.unwrap().local_addr().unwrap().port();
        let healths = Arc::new(Healths::default());
        let nodes: Arc<[IpNet]> = Arc::from(["127.0.0.0/31".parse().unwrap()]);
        let serving = tokio::spawn(serve(healths.clone(), nodes));
        healths.enter(&Name::new("shop", "web"), Some(Health { port: free, local: 1 }));
        until(free, |text| text.is_some_and(|text| text.starts_with("HTTP/1.1 200 OK\r\n"))).await;
        for _ in 0..2 * CONNECTIONS {
            let text = asked_at("127.0.0.2", free).await;
            assert!(text.as_deref().is_none_or(str::is_empty), "{text:?}");
        }
        // Who is not answered holds no place.
        assert!(asked(free).await.unwrap().starts_with("HTTP/1.1 200 OK\r\n"));
        serving.abort();
    }
}
