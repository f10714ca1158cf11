//! Copies of requests for whom a route names, whose answers nobody gets (Gateway API, RequestMirror).
//!
//! Each copy is a task of its own with a connection that is no other request's while it has it. What of a request was not sent to it yet waits in its
//! [`Feed`], which is bounded: a copy that is slower than the request itself is given up, and nothing of the request ever waits for it. So are copies
//! given up that are not answered some time after the request has ended, and none is begun where too many are on their way, or too much waits.
//!
//! Endpoints are chosen as for requests, but what copies meet there is kept apart: an endpoint that fails for a mirror is still asked by those
//! who want its answers. Nor are copies counted among requests, nor do they draw on what may be tried again.

mod feed;
mod http1;
mod http2;

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use smi::model::Endpoint;

use super::reach::{is_denied, is_own};
use super::rules::{Mirror, Rule};
use super::{Network, Origin, Proxy, Service};
use crate::balance::{Balancer, Pick, Went};
use crate::h2::Fields;
use crate::http1::Method;
use crate::reactor::{Socket, race};
use crate::telemetry::{Subject, Unmirrored};
pub(super) use feed::Copies;
use feed::Feed;
use http2::Wire;

/// So many connections of HTTP/2 wait for the next copy.
const IDLE: usize = 64;

/// An endpoint, and the network from which it is asked.
type Place = (Network, SocketAddr);

/// What copies have together.
#[derive(Default)]
pub(super) struct Mirrors {
    /// Those who get copies, as the copies of a network see them.
    balancers: RefCell<BTreeMap<(Service, Network), Rc<Balancer>>>,
    /// Connections of HTTP/2 without a copy; those of HTTP/1.1 are in the pool.
    idle: RefCell<Vec<Idle>>,
    /// Copies that are on their way.
    running: Cell<usize>,
    /// Bytes that wait in all feeds together.
    waiting: Cell<usize>,
}

struct Idle {
    place: Place,
    since: Instant,
    wire: Wire,
}

/// What is copied, as it goes on.
#[derive(Clone, Copy)]
pub(super) enum Original<'a> {
    /// Of HTTP/1.1: its head, and what there was of the body.
    One(&'a [u8], Method),
    /// The head of one of HTTP/2.
    Two(&'a Fields),
}

/// How a copy is asked.
enum Form {
    /// Its head is the first that its feed has.
    One(Method),
    Two(Fields),
}

/// A copy.
struct Job {
    service: Service,
    form: Form,
    /// Nothing comes behind the head.
    bodyless: bool,
    feed: Rc<Feed>,
    subject: Subject,
    /// When the route lets nobody wait any longer.
    limit: Option<Instant>,
}

/// A copy counts as on its way until this is dropped.
struct Running(Rc<Proxy>);

impl Running {
    fn begin(proxy: &Rc<Proxy>) -> Self {
        let running = &proxy.mirrors.running;
        running.set(running.get() + 1);
        Self(proxy.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let running = &self.0.mirrors.running;
        running.set(running.get().saturating_sub(1));
    }
}

impl Mirrors {
    /// A port of a Service has these endpoints from now on.
    pub(super) fn set(&self, service: Service, endpoints: &[Endpoint], now: Instant) {
        let mut balancers = self.balancers.borrow_mut();
        for (_, balancer) in balancers.range((service, Network(0))..=(service, Network(u64::MAX))) {
            balancer.set(endpoints, now);
        }
        if endpoints.is_empty() {
            balancers.retain(|(of, _), _| *of != service);
        }
    }

    /// Nobody of this network is served any more.
    pub(super) fn forget(&self, network: Network) {
        self.balancers.borrow_mut().retain(|(_, of), _| *of != network);
        self.keep(|(of, _), _| of != network);
    }

    /// Closes connections that have waited for too long.
    pub(super) fn sweep(&self, now: Instant, age: Duration) {
        self.keep(|_, since| now.saturating_duration_since(since) < age);
    }

    /// Closes those that wait, but for those of which this is true.
    pub(super) fn keep(&self, keeps: impl Fn(Place, Instant) -> bool) {
        let mut kept = std::mem::take(&mut *self.idle.borrow_mut());
        kept.retain(|idle| keeps(idle.place, idle.since));
        *self.idle.borrow_mut() = kept;
    }

    /// Closes all that wait, and says how many they were.
    pub(super) fn shed(&self) -> usize {
        let idle = std::mem::take(&mut *self.idle.borrow_mut());
        idle.len()
    }

    /// The connection to an endpoint that was used last and is still good.
    fn take(&self, place: Place, now: Instant, age: Duration) -> Option<Wire> {
        loop {
            let found = {
                let mut idle = self.idle.borrow_mut();
                let at = idle.iter().rposition(|idle| idle.place == place)?;
                idle.remove(at)
            };
            let Idle { since, mut wire, .. } = found;
            if now.saturating_duration_since(since) < age && wire.is_good(now) {
                return Some(wire);
            }
        }
    }

    /// Keeps a connection for the next copy.
    fn put(&self, place: Place, wire: Wire, now: Instant) {
        let mut idle = self.idle.borrow_mut();
        let oldest = if idle.len() >= IDLE { Some(idle.remove(0)) } else { None };
        idle.push(Idle { place, since: now, wire });
        drop(idle);
        drop(oldest);
    }
}

impl Proxy {
    /// Begins the copies of a request that its rule wants: `whole` says that nothing comes behind what there is of it. What comes is given to them by
    /// [`Copies`], whose end is the request's.
    pub(super) fn mirror(
        self: &Rc<Self>,
        mirrors: &[Mirror],
        (origin, subject, rule): (&Rc<dyn Origin>, Subject, Option<&Rule>),
        original: Original<'_>,
        whole: bool,
    ) -> Copies {
        let mut copies = Copies::default();
        for mirror in mirrors {
            if !mirror.draws(&mut self.dice.borrow_mut()) {
                continue;
            }
            let subject = Subject { backend: Some(mirror.service), endpoint: None, ..subject };
            // A head that does not wait as bytes is kept as long as the copy takes.
            let (first, beside) = match original {
                Original::One(bytes, _) => (bytes, 0),
                Original::Two(head) => (&[][..], head.size()),
            };
            let waiting = self.mirrors.waiting.get() + first.len() + beside;
            if self.mirrors.running.get() >= self.settings.mirrors || waiting > self.settings.mirror_queues {
                self.telemetry.mirrored(subject, Err(Unmirrored::Busy));
                continue;
            }
            let times = rule.map_or([None; 2], |rule| [rule.request, rule.backend]);
            let limit = times.into_iter().flatten().min().map(|time| self.reactor.now() + time);
            let form = match original {
                Original::One(_, method) => Form::One(method),
                Original::Two(head) => Form::Two(head.clone()),
            };
            let feed = Feed::new(self, first, whole);
            feed.keep_beside(beside);
            copies.add(&feed);
            let job = Job { service: mirror.service, form, bodyless: whole, feed, subject, limit };
            self.reactor.spawn(run(Running::begin(self), origin.clone(), job));
        }
        copies
    }

    /// Those who get copies, as the copies of a network see them; `None` where there is nobody.
    fn mirror_balancer(&self, network: Network, service: Service) -> Option<Rc<Balancer>> {
        let tables = self.tables.borrow();
        let endpoints = tables.endpoints(service);
        if endpoints.is_empty() {
            return None;
        }
        let mut balancers = self.mirrors.balancers.borrow_mut();
        let begin = || {
            let balancer = Balancer::new(self.settings.ejection);
            balancer.set(endpoints, self.reactor.now());
            Rc::new(balancer)
        };
        Some(balancers.entry((service, network)).or_insert_with(begin).clone())
    }
}

/// A copy, from its beginning to its end.
async fn run(running: Running, origin: Rc<dyn Origin>, job: Job) {
    let proxy = &running.0;
    let Job { service, form, bodyless, feed, subject, limit } = job;
    let ended = async { Err(feed.ended(limit).await) };
    let asked = async {
        match &form {
            Form::One(method) => http1::ask(proxy, &origin, service, &feed, *method).await,
            Form::Two(head) => http2::ask(proxy, &origin, service, &feed, (head, bodyless)).await,
        }
    };
    let outcome = race(ended, asked).await;
    // Nothing more waits for it, however much is still to come of the request.
    feed.close();
    proxy.telemetry.mirrored(subject, outcome);
}

/// An endpoint that gets a copy, and a connection to it: one that is there, or a new one. Another is tried where there is no connection to the first, since
/// nothing of the copy has gone anywhere yet.
async fn connected<C>(
    proxy: &Rc<Proxy>,
    origin: &Rc<dyn Origin>,
    service: Service,
    there: impl Fn(Place) -> Option<C>,
    new: impl Fn(Socket) -> C,
) -> Result<(Pick, C), Unmirrored> {
    let network = origin.network();
    let balancer = proxy.mirror_balancer(network, service).ok_or(Unmirrored::NoEndpoint)?;
    let mut avoid = Vec::new();
    for _ in 0..=proxy.settings.other_endpoints {
        let picked = balancer.pick(&avoid, &mut proxy.dice.borrow_mut(), proxy.reactor.now());
        let pick = picked.ok_or(Unmirrored::NoEndpoint)?;
        if let Some(found) = there((network, pick.address())) {
            return Ok((pick, found));
        }
        let error = match proxy.reach(&**origin, pick.address()).await {
            Ok(socket) => {
                socket.set_patience(proxy.settings.stall);
                return Ok((pick, new(socket)));
            }
            Err(error) => error,
        };
        if !is_own(&error) {
            pick.went(Went::NotAtAll, proxy.reactor.now());
        }
        avoid.push(pick.address());
        // Policies are those of all who answer.
        if is_denied(&error) || !balancer.has_another(&avoid, proxy.reactor.now()) {
            break;
        }
    }
    Err(Unmirrored::NoConnection)
}

/// Takes note of what became of a copy at an endpoint. What was given up here says nothing about that.
fn note(pick: &Pick, answered: Result<u16, Unmirrored>, took: Duration, now: Instant) {
    match answered {
        Ok(status) if status < 500 => pick.went(Went::Well(took), now),
        Ok(status) => pick.went(Went::Badly(status, took), now),
        Err(Unmirrored::NoAnswer) => pick.went(Went::NotAtAll, now),
        Err(_) => {}
    }
}
