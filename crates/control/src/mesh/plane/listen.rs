//! Where nodes call: sockets that root alone may connect to, and addresses, over TLS 1.3.

use std::collections::HashMap;
use std::convert::Infallible;
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use meshwire::plugin;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::authority::{Authority, LEAF};
use super::keeper::now;
use super::service::Calls;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections at a time: nodes have one each.
const MOST: usize = 8192;
/// Of these, from one address. A node has one, and a second one while it does not know yet that the first has ended; but its pods may come from the
/// node's address, too, and each may have some.
const OF_ADDRESS: usize = 256;
/// So often one node may follow at a time, which it has shown to be: as for connections, without pods.
pub(super) const OF_NODE: usize = 16;
/// The longest request over them, in bytes: one has a token, an identity and a request for a certificate in it, and is read before it is known
/// whose it is.
const REQUEST: usize = 64 * 1024;
/// Calls of one of them at a time: a node follows, and asks for one certificate after the other.
const CALLS: u32 = 32;
/// How long calls have to end.
const GRACE: Duration = Duration::from_secs(1);
/// After a certificate could not be made.
const AGAIN: Duration = Duration::from_secs(5);

/// Serves at a socket for as long as it is polled.
///
/// # Errors
/// Somebody else serves there, or the machine refuses it.
pub(super) async fn unix(service: Arc<Calls>, path: &Path) -> Result<(), String> {
    let taken = format!(
        "another control plane serves on {}: stop it, or give this one its own socket",
        path.display()
    );
    let (listener, _bound) = grpc::listen(path, &taken).await.map_err(|error| error.to_string())?;
    eprintln!("sextant control: mesh: nodes call at unix:{}", path.display());
    let served = plugin::server(service).serve(listener, std::future::pending(), GRACE).await;
    served.map_err(|error| format!("cannot serve on {}: {error}", path.display()))
}

/// The certificate that is shown.
#[derive(Debug, Default)]
struct Shown(RwLock<Option<Arc<CertifiedKey>>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Has a certificate be shown of whoever signs, and a new one in time.
async fn show(shown: &Shown, mut authority: watch::Receiver<Option<Arc<Authority>>>) {
    loop {
        let signer = authority.borrow_and_update().clone();
        let wait = match signer.map(|signer| signer.own(now())) {
            // Who calls before there is an authority is not answered.
            None => Duration::MAX,
            Some(Ok((own, not_after))) => {
                *shown.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(own));
                Duration::from_secs((not_after - now()).clamp(60, LEAF).unsigned_abs() / 2)
            }
            Some(Err(why)) => {
                eprintln!("sextant control: warning: mesh: {why}; tries again");
                AGAIN
            }
        };
        // An authority that nobody keeps any more does not change.
        if let Ok(Err(_)) = timeout(wait, authority.changed()).await {
            return std::future::pending().await;
        }
    }
}

/// How many of something there are, by whose they are: of one so many at most, and [`MOST`] of all.
#[derive(Debug)]
pub(super) struct Places<K> {
    taken: Mutex<HashMap<K, usize>>,
    of_one: usize,
}

/// One of them.
pub(super) struct Place<K: Eq + Hash> {
    places: Arc<Places<K>>,
    of: K,
}

impl<K> Places<K> {
    pub(super) fn new(of_one: usize) -> Self {
        Self { taken: Mutex::new(HashMap::new()), of_one }
    }
}

impl<K: Clone + Eq + Hash> Places<K> {
    pub(super) fn take(self: &Arc<Self>, of: K) -> Option<Place<K>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.values().sum::<usize>() >= MOST || taken.get(&of).copied().unwrap_or_default() >= self.of_one
        {
            return None;
        }
        *taken.entry(of.clone()).or_default() += 1;
        Some(Place { places: self.clone(), of })
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.of);
            }
        }
    }
}

/// Serves at an address for as long as it is polled.
///
/// # Errors
/// The address cannot be listened on.
pub(super) async fn tcp(service: Arc<Calls>, address: SocketAddr) -> Result<(), String> {
    let failed = |why: String| format!("cannot listen on {address} for nodes of the mesh: {why}");
    let shown = Arc::new(Shown::default());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| failed(error.to_string()))?;
    let mut config = config.with_no_client_auth().with_cert_resolver(shown.clone());
    config.alpn_protocols = vec![b"h2".to_vec()];
    let listener = TcpListener::bind(address).await.map_err(|error| failed(error.to_string()))?;
    let bound = listener.local_addr().map_err(|error| failed(error.to_string()))?;
    eprintln!("sextant control: mesh: nodes call at https://{bound}");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let authority = service.authority.clone();
    let server = Arc::new(plugin::server(service).bounded(REQUEST, CALLS));
    tokio::select! {
        () = show(&shown, authority) => Ok(()),
        never = accept(listener, acceptor, server) => match never {},
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, server: Arc<grpc::Server>) -> Infallible {
    let (places, mut connections) = (Arc::new(Places::new(OF_ADDRESS)), JoinSet::new());
    loop {
        tokio::select! {
            Some(_ended) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    // One above the number is sent away, and may come again.
                    let Some(place) = places.take(peer.ip()) else { continue };
                    connections.spawn(connection(stream, acceptor.clone(), server.clone(), place));
                }
                // Descriptors have run out, most likely: others must end before this can go on.
                Err(_) => sleep(Duration::from_millis(50)).await,
            },
        }
    }
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    server: Arc<grpc::Server>,
    place: Place<IpAddr>,
) {
    if meshwire::look_after(&stream).is_err() {
        return;
    }
    if let Ok(Ok(stream)) = timeout(HANDSHAKE, acceptor.accept(stream)).await {
        server.serve_stream(stream).await;
    }
    drop(place);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_takes_all_places() {
        let places = Arc::new(Places::new(OF_NODE));
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut taken: Vec<Place<IpAddr>> = (0..OF_NODE).map(|_| places.take(one).unwrap()).collect();
        assert!(places.take(one).is_none());
        let kept = places.take(other).unwrap();
        taken.pop();
        assert!(places.take(one).is_some(), "and it is free again at once");
        drop((taken, kept));
        assert!(places.taken.lock().unwrap().is_empty());
    }
}
