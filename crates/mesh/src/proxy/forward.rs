//! A request to its backend, once more where that is right.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answer::Answer;
use super::ask::Asked;
use super::connection::{Next, answered};
use super::exchange::{Done, Exchange, Failed};
use super::rules::{Frontend, Rule, Service, Share};
use super::{Counts, Proxy};
use crate::balance::Went;
use crate::reactor::{Buffer, Elapsed, Socket};

/// The longest time between two tries.
const BACKOFF: Duration = Duration::from_secs(10);

/// What may still be tried.
struct Left {
    /// Answers that are tried again.
    tries: u32,
    /// Endpoints to which there was no connection.
    endpoints: u32,
    backoff: Duration,
}

impl Proxy {
    /// Sends a request, of which `out` is the head and what there was of the body, and passes the answer on.
    pub(super) async fn forward(
        self: &Rc<Self>,
        client: &Socket,
        buffer: &mut Buffer,
        out: &[u8],
        asked: &Asked,
        (frontend, service, share, rule): (&Arc<Frontend>, Service, &Share, Option<&Rule>),
    ) -> Next {
        let began = self.reactor.now();
        self.budget.borrow_mut().request(began);
        let retry = rule.and_then(|rule| rule.retry.as_ref());
        let limit = rule.and_then(|rule| rule.request).map(|time| began + time);
        let mut left = Left {
            tries: retry.map_or(0, |retry| retry.attempts),
            endpoints: self.settings.other_endpoints,
            backoff: Duration::from_millis(retry.and_then(|retry| retry.backoff_ms).unwrap_or(0)),
        };
        let mut avoid: Vec<SocketAddr> = Vec::new();
        let (answering, uploading) = (Cell::new(false), Cell::new(false));
        let mut fresh = false;
        loop {
            let picked = self
                .balancer(service)
                .and_then(|balancer| balancer.pick(&avoid, &mut self.dice.borrow_mut(), self.reactor.now()));
            let Some(pick) = picked else {
                let text = format!("{}: the backend has no endpoint that is ready", frontend.name);
                return self.give_up(client, asked, 503, text, &uploading).await;
            };
            let now = self.reactor.now();
            let one = rule.and_then(|rule| rule.backend).map(|time| now + time);
            let limit_of_one = [limit, one].into_iter().flatten().min();
            let codes = retry.filter(|_| left.tries > 0).map_or(&[][..], |retry| &retry.codes);
            let exchange = Exchange {
                proxy: self,
                client,
                out,
                asked,
                response: &share.response,
                pick: &pick,
                codes,
                fresh,
                answering: &answering,
                uploading: &uploading,
            };
            let failed = match self.reactor.before(limit_of_one, exchange.run(buffer)).await {
                Ok(Ok(Done::Keep)) => return Next::Keep,
                Ok(Ok(Done::Close)) => return Next::Close,
                Ok(Ok(Done::Tunnel(server))) => return Next::Tunnel(server, pick),
                Ok(Err(failed)) => failed,
                Err(Elapsed) => {
                    pick.went(
                        Went::Badly(504, self.reactor.now().saturating_duration_since(now)),
                        self.reactor.now(),
                    );
                    Failed::Late
                }
            };
            if matches!(failed, Failed::NoConnection(_) | Failed::NoAnswer | Failed::Broken(_)) {
                pick.went(Went::NotAtAll, self.reactor.now());
            }
            if answering.get() || matches!(failed, Failed::Client) {
                return Next::Reset;
            }
            let over = limit.is_some_and(|limit| self.reactor.now() >= limit);
            let again = !over && !uploading.get() && self.again(&failed, asked, &mut left, &mut fresh);
            if !again {
                let (status, text) = failed.answer(&frontend.name, pick.address());
                return self.give_up(client, asked, status, text, &uploading).await;
            }
            if !matches!(failed, Failed::Stale) {
                avoid.push(pick.address());
            }
            drop(pick);
            if matches!(failed, Failed::Status(_) | Failed::Late | Failed::NoAnswer)
                && !self.pause(&mut left, limit).await
            {
                let text = format!("{}: it took longer than the route lets it", frontend.name);
                return self.give_up(client, asked, 504, text, &uploading).await;
            }
        }
    }

    /// Whether a request is tried again that has failed so.
    fn again(&self, failed: &Failed, asked: &Asked, left: &mut Left, fresh: &mut bool) -> bool {
        let now = self.reactor.now();
        match failed {
            // It never reached anybody.
            Failed::NoConnection(_) => {
                if left.endpoints == 0 || !self.budget.borrow_mut().retry(now) {
                    return false;
                }
                left.endpoints -= 1;
            }
            // It was sent as the connection ended, which happens to idle ones: once more, over a new one.
            Failed::Stale => {
                self.count(|counts| counts.stale += 1);
                if !asked.method.is_idempotent() || *fresh {
                    return false;
                }
                *fresh = true;
            }
            Failed::NoAnswer | Failed::Broken(_) => {
                if !asked.method.is_idempotent() || !self.spend(left, now) {
                    return false;
                }
            }
            Failed::Status(_) | Failed::Late => {
                if !self.spend(left, now) {
                    return false;
                }
            }
            Failed::Client | Failed::Request(_) => return false,
        }
        self.count(|counts: &mut Counts| counts.retried += 1);
        true
    }

    fn spend(&self, left: &mut Left, now: Instant) -> bool {
        if left.tries == 0 || !self.budget.borrow_mut().retry(now) {
            return false;
        }
        left.tries -= 1;
        true
    }

    /// Waits before the next try, longer each time; false where the time for all of it would be over.
    async fn pause(&self, left: &mut Left, limit: Option<Instant>) -> bool {
        let until = self.reactor.now() + left.backoff;
        left.backoff = (left.backoff * 2).min(BACKOFF);
        if limit.is_some_and(|limit| until >= limit) {
            return false;
        }
        self.reactor.until(until).await;
        true
    }

    async fn give_up(
        self: &Rc<Self>,
        client: &Socket,
        asked: &Asked,
        status: u16,
        text: String,
        uploading: &Cell<bool>,
    ) -> Next {
        let keep = asked.keeps_alive && asked.body.is_done() && !uploading.get();
        answered(self, client, &Answer::new(status, text), asked, keep).await
    }
}
