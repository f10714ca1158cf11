//! A request, from its beginning to its end.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use super::series::{Series, Subject, add};
use super::{Line, Reason, Request};
use crate::proxy::{Answer, Network, Proxy, RuleId, Service};

/// What is known of a request until it ends.
#[derive(Debug)]
pub(crate) struct Call {
    subject: Cell<Subject>,
    began: Instant,
    status: Cell<u16>,
    grpc: Cell<Option<u8>>,
    reason: Cell<Option<Reason>>,
    sent: Cell<u64>,
    received: Cell<u64>,
    retries: Cell<u32>,
    /// What was asked, if somebody wants to know.
    pub(crate) request: Option<Box<Request>>,
    /// Who has come to a pod, in the same case.
    pub(crate) peer: Option<Box<str>>,
}

impl Call {
    pub(crate) fn new(network: Network, now: Instant) -> Self {
        Self {
            subject: Cell::new(Subject { network, ..Subject::default() }),
            began: now,
            status: Cell::new(0),
            grpc: Cell::new(None),
            reason: Cell::new(None),
            sent: Cell::new(0),
            received: Cell::new(0),
            retries: Cell::new(0),
            request: None,
            peer: None,
        }
    }

    fn change(&self, change: impl FnOnce(&mut Subject)) {
        let mut subject = self.subject.get();
        change(&mut subject);
        self.subject.set(subject);
    }

    /// It asks for this port of a Service.
    pub(crate) fn asks(&self, frontend: Service) {
        self.change(|subject| subject.frontend = Some(frontend));
    }

    /// It goes by this rule...
    pub(crate) fn by(&self, rule: Option<RuleId>) {
        self.change(|subject| subject.rule = rule);
    }

    /// ... to this port of a Service...
    pub(crate) fn aims(&self, backend: Service) {
        self.change(|subject| subject.backend = Some(backend));
    }

    /// ... and to this endpoint, which has not answered yet.
    pub(crate) fn tries(&self, endpoint: SocketAddr) {
        self.change(|subject| subject.endpoint = Some(endpoint));
        self.status.set(0);
    }

    /// Nobody is asked: there is no endpoint.
    pub(crate) fn finds_nobody(&self) {
        self.change(|subject| subject.endpoint = None);
        self.blame(Reason::NoEndpoint);
    }

    pub(crate) fn subject(&self) -> Subject {
        self.subject.get()
    }

    /// The proxy answers it itself.
    pub(crate) fn answers_itself(&self, answer: &Answer) {
        self.status.set(answer.status);
        if answer.rule.is_some() {
            self.by(answer.rule);
        }
        answer.reason.into_iter().for_each(|reason| self.blame(reason));
    }

    /// The client has left while it was to be sent once more.
    pub(crate) fn gives_up(&self) {
        self.status.set(0);
        self.blame(Reason::ClientGone);
    }

    /// It is answered with this status.
    pub(crate) fn answers(&self, status: u16) {
        self.status.set(status);
    }

    /// The answer's status of gRPC.
    pub(crate) fn answers_grpc(&self, status: Option<&[u8]>) {
        if let Some(status) = status {
            // What is no number is none that anybody knows.
            let number = str::from_utf8(status).ok().and_then(|status| status.parse().ok());
            self.grpc.set(Some(number.unwrap_or(u8::MAX)));
        }
    }

    /// The first reason that is named counts.
    pub(crate) fn blame(&self, reason: Reason) {
        self.reason.set(self.reason.get().or(Some(reason)));
    }

    /// So many bytes went to the endpoint.
    pub(crate) fn sent(&self, count: usize) {
        add(&self.sent, count as u64);
    }

    /// So many bytes went to the client.
    pub(crate) fn received(&self, count: usize) {
        add(&self.received, count as u64);
    }

    /// It is sent once more: what it was answered until now is nobody's.
    pub(crate) fn again(&self) {
        self.status.set(0);
        self.retries.set(self.retries.get() + 1);
    }
}

impl Proxy {
    /// A request has ended.
    pub(crate) fn ended(&self, call: &Call) {
        let now = self.now();
        let (subject, took) = (call.subject.get(), now.saturating_duration_since(call.began));
        let series = self.series(subject);
        series.request(call.status.get(), call.grpc.get(), took);
        add(&series.sent, call.sent.get());
        add(&series.received, call.received.get());
        if let Some(reason) = call.reason.get() {
            series.because(reason);
        }
        if self.telemetry().is_watched()
            && let Some(request) = &call.request
        {
            self.telemetry().tell(Line {
                at: SystemTime::now(),
                client: subject.network,
                peer: call.peer.as_deref().map(str::to_owned),
                frontend: subject.frontend,
                rule: subject.rule,
                backend: subject.backend,
                endpoint: subject.endpoint,
                request: Some(Request::clone(request)),
                status: call.status.get(),
                grpc: call.grpc.get(),
                took,
                sent: call.sent.get(),
                received: call.received.get(),
                reason: call.reason.get(),
                retries: call.retries.get(),
            });
        }
    }
}

impl Proxy {
    /// Policies have refused a connection to `to`, of somebody whom `who` names.
    pub(crate) fn refused(&self, subject: Subject, to: SocketAddr, who: impl FnOnce() -> String) {
        self.series(subject).because(Reason::Denied);
        if self.telemetry().is_watched() {
            self.telemetry().tell(Line {
                at: SystemTime::now(),
                client: subject.network,
                peer: Some(who()),
                frontend: subject.frontend,
                rule: None,
                backend: subject.backend,
                endpoint: Some(to),
                request: None,
                status: 0,
                grpc: None,
                took: Duration::ZERO,
                sent: 0,
                received: 0,
                reason: Some(Reason::Denied),
                retries: 0,
            });
        }
    }
}

/// A connection that is passed on unread, while it is open.
#[derive(Debug)]
pub(crate) struct Passing<'p> {
    proxy: &'p Proxy,
    subject: Subject,
    peer: Option<String>,
    began: Instant,
    series: Rc<Series>,
    sent: Cell<u64>,
    received: Cell<u64>,
    torn: Cell<bool>,
}

impl<'p> Passing<'p> {
    /// In a box: a connection that is not passed on so has no room for it.
    pub(crate) fn begin(proxy: &'p Proxy, subject: Subject) -> Box<Self> {
        let series = proxy.series(subject);
        add(&series.opened, 1);
        Box::new(Self {
            proxy,
            subject,
            peer: None,
            began: proxy.now(),
            series,
            sent: Cell::new(0),
            received: Cell::new(0),
            torn: Cell::new(false),
        })
    }

    /// The same, of somebody who has come to a pod, whom `who` names if somebody wants to know.
    pub(crate) fn of(mut self: Box<Self>, who: impl FnOnce() -> String) -> Box<Self> {
        self.peer = self.proxy.telemetry().is_watched().then(who);
        self
    }

    /// Where bytes are counted that go to the endpoint, and those that go to the client.
    pub(crate) fn meters(&self) -> [[&Cell<u64>; 2]; 2] {
        [[&self.sent, &self.series.sent], [&self.received, &self.series.received]]
    }

    /// A reset has ended it.
    pub(crate) fn is_torn(&self) {
        self.torn.set(true);
    }
}

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        let now = self.proxy.now();
        add(&self.series.closed, 1);
        add(&self.series.torn, u64::from(self.torn.get()));
        self.series.last.set(now);
        if self.proxy.telemetry().is_watched() {
            self.proxy.telemetry().tell(Line {
                at: SystemTime::now(),
                client: self.subject.network,
                peer: self.peer.take(),
                frontend: self.subject.frontend,
                rule: self.subject.rule,
                backend: self.subject.backend,
                endpoint: self.subject.endpoint,
                request: None,
                status: 0,
                grpc: None,
                took: now.saturating_duration_since(self.began),
                sent: self.sent.get(),
                received: self.received.get(),
                reason: self.torn.get().then_some(Reason::Cut),
                retries: 0,
            });
        }
    }
}
