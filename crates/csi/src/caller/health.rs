//! Who asks how drivers are: `GET /healthz`, as the CSI project's liveness probe answers it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use grpc::Failure;
use grpc::page::Page;
use tokio::task::JoinSet;

use super::Client;

/// How long a driver may take to say that it is ready.
pub const ANSWER: Duration = Duration::from_secs(5);

/// Sockets of drivers, and whether there must be a driver at them.
pub type Asked = BTreeMap<PathBuf, bool>;

/// Where it is asked; nowhere, if nobody wants to.
#[derive(Debug)]
pub struct Health(Page);

impl Health {
    /// Listens, if that is asked for. `command` is who says so.
    ///
    /// # Errors
    /// Somebody else listens there, or the address is not this machine's.
    pub async fn listen(address: Option<SocketAddr>, command: &str) -> Result<Health, Failure> {
        let by = (command, "--health-listen");
        Page::listen(address, by, "/healthz", "text/plain; charset=utf-8").await.map(Health)
    }

    /// Answers for the drivers that `asked` names at the time.
    pub async fn serve(self, asked: impl Fn() -> Asked) -> ! {
        self.0
            .serve(|| {
                let asked = asked();
                async move { examine(&asked).await }
            })
            .await
    }
}

/// How the drivers are, in a line each; an error if one is not as it should be, or there is none.
async fn examine(asked: &Asked) -> Result<String, String> {
    // At once: who asks has not the time of several that do not answer.
    let mut probes = JoinSet::new();
    for (socket, is_needed) in asked.clone() {
        probes.spawn(async move {
            let found = probe(&socket, ANSWER).await;
            (socket, (is_needed, found))
        });
    }
    let all: BTreeMap<_, _> = probes.join_all().await.into_iter().collect();
    let (mut text, mut is_well, mut is_any) = (String::new(), true, false);
    for (socket, (is_needed, found)) in all {
        // What nobody serves is what a driver that is gone has left, unless there should be one.
        let is_left = matches!(found, Err(Unready::Gone(_))) && !is_needed;
        is_well &= found.is_ok() || is_left;
        is_any |= found.is_ok();
        let how = found.map_or_else(|unready| unready.to_string(), |()| "ok".into());
        let _infallible = writeln!(text, "{}: {how}", socket.display());
    }
    if !is_any {
        text.push_str("no driver is ready\n");
    }
    if is_well && is_any { Ok(text) } else { Err(text) }
}

/// Why a driver is not ready.
#[derive(Debug)]
pub enum Unready {
    /// Nobody serves there.
    Gone(String),
    /// It says so, or does not answer.
    Ill(String),
}

impl std::fmt::Display for Unready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Gone(text) | Self::Ill(text)) = self;
        f.write_str(text)
    }
}

/// Whether the driver at a socket is ready.
///
/// # Errors
/// It is not, or does not answer within `time`.
pub async fn probe(socket: &Path, time: Duration) -> Result<(), Unready> {
    let probed = async {
        let client = Client::connect(socket).await.map_err(|e| Unready::Gone(e.to_string()))?;
        client.with_deadline(time).is_ready().await.map_err(|e| Unready::Ill(e.to_string()))
    };
    match tokio::time::timeout(time, probed).await {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err(Unready::Ill("the driver says that it is not ready".into())),
        Ok(Err(unready)) => Err(unready),
        Err(_) => Err(Unready::Ill(format!("the driver does not answer within {} s", time.as_secs()))),
    }
}
