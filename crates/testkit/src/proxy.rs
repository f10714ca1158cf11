//! A proxy between a client of AWS' query protocol and a server of it, which fails calls as a test says.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::faulty::{Faulty, answer};

/// How a call fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The server never hears of it: it is answered so, with a status and a body.
    Refused(u16, String),
    /// The server does it, and nobody hears of that.
    Lost,
}

impl Fault {
    /// What EC2 says with this code.
    #[must_use]
    pub fn code(status: u16, code: &str) -> Self {
        Self::Refused(
            status,
            format!(
                "<Response><Errors><Error><Code>{code}</Code><Message>by a test</Message></Error></Errors></Response>"
            ),
        )
    }
}

/// What a test does before a call.
struct Before(Box<dyn FnOnce() + Send>);

impl fmt::Debug for Before {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Before")
    }
}

#[derive(Debug, Default)]
struct State {
    /// What is done before calls, by name, each once.
    before: Vec<(String, Before)>,
    /// Calls that fail, by name, how often, and how.
    faults: Vec<(String, usize, Fault)>,
    counts: BTreeMap<String, usize>,
}

/// A running proxy; it ends with the process.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub addr: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    /// In front of the server at `upstream`, which must close connections when it is asked to.
    ///
    /// # Panics
    /// No port of loopback is to be had.
    #[must_use]
    pub fn start(upstream: SocketAddr) -> Self {
        let state = Arc::<Mutex<State>>::default();
        let its = state.clone();
        // A client that is gone wants no answer.
        let server = Faulty::start(move |_, request, stream| drop(pass(request, stream, upstream, &its)));
        Self { addr: server.addr, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next `times` calls of this name fail so; `*` is any call.
    pub fn fail(&self, call: &str, times: usize, fault: Fault) {
        self.state().faults.push((call.into(), times, fault));
    }

    /// Before the next call of this name is answered, this is done: what others do meanwhile.
    pub fn before(&self, call: &str, act: impl FnOnce() + Send + 'static) {
        self.state().before.push((call.into(), Before(Box::new(act))));
    }

    /// No call fails any more. How many failures were still to come.
    pub fn heal(&self) -> usize {
        let left = std::mem::take(&mut self.state().faults);
        left.into_iter().map(|(_, times, _)| times).sum()
    }

    /// How often a call came.
    #[must_use]
    pub fn count(&self, call: &str) -> usize {
        self.state().counts.get(call).copied().unwrap_or_default()
    }

    /// How often calls came in all.
    #[must_use]
    pub fn total(&self) -> usize {
        self.state().counts.values().sum()
    }
}

fn pass(
    request: &str,
    stream: &mut TcpStream,
    upstream: SocketAddr,
    state: &Mutex<State>,
) -> std::io::Result<()> {
    let (headers, body) = request.split_once("\r\n\r\n").unwrap_or((request, ""));
    let call = body.split('&').find_map(|pair| pair.strip_prefix("Action=")).unwrap_or_default();
    let (before, fault) = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        *state.counts.entry(call.into()).or_default() += 1;
        let fits = |one: &&mut (String, usize, Fault)| one.1 > 0 && (one.0 == call || one.0 == "*");
        let at = state.before.iter().position(|one| one.0 == call);
        let before = at.map(|at| state.before.remove(at).1);
        let fault = state.faults.iter_mut().find(fits).map(|one| {
            one.1 -= 1;
            one.2.clone()
        });
        (before, fault)
    };
    if let Some(Before(act)) = before {
        act();
    }
    if let Some(Fault::Refused(status, body)) = &fault {
        answer(stream, *status, "content-type: text/xml\r\n", body.as_bytes());
        return Ok(());
    }
    let mut server = TcpStream::connect(upstream)?;
    let kept: String = headers
        .lines()
        .filter(|line| !line.to_ascii_lowercase().starts_with("connection:"))
        .map(|line| format!("{line}\r\n"))
        .collect();
    server.write_all(format!("{kept}connection: close\r\n\r\n{body}").as_bytes())?;
    let mut told = Vec::new();
    server.read_to_end(&mut told)?;
    if fault.is_none() {
        stream.write_all(&told)?;
    }
    Ok(())
}
