use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Resolver, Said};

/// Connections at the same time.
const CONNECTIONS: usize = 128;
/// A client that says nothing for so long is gone.
const IDLE: Duration = Duration::from_secs(10);
/// After an error that is nobody's request's (no descriptor left).
const PAUSE: Duration = Duration::from_millis(50);
/// No request is longer.
const REQUEST: usize = 4096;

/// Where requests come in.
#[derive(Debug)]
pub struct Listeners {
    datagrams: UdpSocket,
    streams: TcpListener,
}

impl Listeners {
    /// At this address, for datagrams and streams. With port 0 both have the same one that is free.
    ///
    /// # Errors
    /// The address is not of this machine, or somebody has it.
    pub async fn bind(at: SocketAddr) -> io::Result<Self> {
        let streams = TcpListener::bind(at).await?;
        let datagrams = UdpSocket::bind(streams.local_addr()?).await?;
        Ok(Self { datagrams, streams })
    }

    /// Where they are.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.streams.local_addr()
    }
}

/// Answers all that comes in, for ever.
pub async fn serve(resolver: Arc<Resolver>, listeners: Listeners) {
    let Listeners { datagrams, streams } = listeners;
    tokio::join!(serve_datagrams(&resolver, Arc::new(datagrams)), serve_streams(&resolver, streams));
}

async fn serve_datagrams(resolver: &Arc<Resolver>, socket: Arc<UdpSocket>) {
    let mut buffer = vec![0; REQUEST];
    // Ends with this.
    let mut asked = JoinSet::new();
    loop {
        while asked.try_join_next().is_some() {}
        // An error is that of an answer that nobody has taken.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        match resolver.say(buffer.get(..length).unwrap_or_default(), true) {
            Said::Nothing => {}
            Said::Reply(reply) => drop(socket.send_to(&reply, from).await),
            Said::Ask(question) => {
                let (resolver, socket) = (resolver.clone(), socket.clone());
                asked.spawn(async move {
                    let reply = resolver.ask(*question, true).await;
                    drop(socket.send_to(&reply, from).await);
                });
            }
        }
    }
}

async fn serve_streams(resolver: &Arc<Resolver>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let resolver = resolver.clone();
                connections.spawn(async move {
                    let _place = place;
                    drop(serve_stream(&resolver, stream).await);
                });
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn serve_stream(resolver: &Resolver, mut stream: TcpStream) -> io::Result<()> {
    loop {
        let mut request = Vec::new();
        timeout(IDLE, async {
            let length = usize::from(stream.read_u16().await?);
            request.resize(length, 0);
            stream.read_exact(&mut request).await
        })
        .await??;
        let Some(reply) = resolver.reply(&request, false).await else { return Ok(()) };
        let length = u16::try_from(reply.len()).map_err(io::Error::other)?;
        timeout(IDLE, stream.write_all(&[&length.to_be_bytes(), reply.as_slice()].concat())).await??;
    }
}
