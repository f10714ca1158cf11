//! Port-forward.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::command::accepted;
use super::{Error, LINGER, PING, Protocol, Target, upgrade};
use crate::mux::{Connection, Gone, Transport};
use crate::spdy::{Headers, Spdy};
use crate::websocket::{Side, Tunnel};
use crate::{Input, Output};

const VERSION: &str = "portforward.k8s.io";
const TUNNELLED: &str = "SPDY/3.1+portforward.k8s.io";

/// What the text of an error may have.
const TEXT_MAX: u64 = 4096;

/// The way to a pod's ports. Dropping it ends the connection, and all that goes over it.
pub struct PortForward {
    connection: Connection,
    requests: AtomicU32,
}

impl PortForward {
    /// Asks `target` for it.
    ///
    /// # Errors
    /// No connection, or no agreement.
    pub async fn start(target: &Target, protocol: Protocol) -> Result<PortForward, Error> {
        let transport = match protocol {
            Protocol::Spdy => upgrade::spdy(target, &[VERSION]).await?.transport,
            Protocol::WebSocket => tunnel(target).await?,
            Protocol::Auto => match tunnel(target).await {
                Err(refusal) if refusal.is_refusal() => upgrade::spdy(target, &[VERSION]).await?.transport,
                other => other?,
            },
        };
        let (connection, driver) = Connection::new(transport, Box::new(Spdy::client()));
        tokio::spawn(driver.pings(PING, Duration::MAX));
        Ok(PortForward { connection, requests: AtomicU32::new(0) })
    }

    /// Connects to a port of the pod. That nobody listens there is found out from [`Forwarded::failure`], once the
    /// connection has broken.
    ///
    /// # Errors
    /// The server does not take it, or is gone.
    pub async fn connect(&self, port: u16) -> Result<Forwarded, Error> {
        let (port, request) = (port.to_string(), self.requests.fetch_add(1, Ordering::Relaxed).to_string());
        let open = |kind| {
            self.connection.open(&Headers::new(&[
                ("streamType", kind),
                ("port", &port),
                ("requestID", &request),
            ]))
        };
        let (mut error, mut data) = (open("error"), open("data"));
        accepted(&mut error.1, "error").await?;
        accepted(&mut data.1, "data").await?;
        // Dropped, its other half tells that nothing is ever sent on the error stream.
        Ok(Forwarded { input: data.0, output: data.1, error: error.0 })
    }

    /// Waits until the server is gone.
    pub async fn gone(&self) {
        let gone: Gone = self.connection.gone();
        gone.wait().await;
    }
}

impl Drop for PortForward {
    fn drop(&mut self) {
        self.connection.close(LINGER);
    }
}

async fn tunnel(target: &Target) -> Result<Box<dyn Transport>, Error> {
    let upgraded = upgrade::websocket(target, &[TUNNELLED]).await?;
    Ok(Box::new(Tunnel::new(upgraded.transport, Side::Client)))
}

/// A connection to a port of a pod: bytes both ways, and each way ends alone.
#[derive(Debug)]
pub struct Forwarded {
    input: Input,
    output: Output,
    error: Input,
}

impl Forwarded {
    /// What went wrong on the server's side, if anything did. To be called when the connection has ended or broken.
    pub async fn failure(self) -> Option<String> {
        let Forwarded { input, output, error } = self;
        drop((input, output));
        let mut text = Vec::new();
        // What came before the connection broke counts.
        let _ = error.take(TEXT_MAX).read_to_end(&mut text).await;
        (!text.is_empty()).then(|| String::from_utf8_lossy(&text).into_owned())
    }
}

impl AsyncRead for Forwarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_read(context, into)
    }
}

impl AsyncWrite for Forwarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.output).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_shutdown(context)
    }
}
