//! A request to its backend, once more where that is right.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answer::Answer;
use super::ask::Asked;
use super::connection::{Next, answered};
use super::exchange::{Done, Exchange};
use super::failed::Failed;
use super::progress::{Progress, Stage};
use super::reach::{is_denied, is_own};
use super::rules::{Frontend, Rule, Service, Share};
use super::{Counts, Origin, Proxy};
use crate::balance::Went;
use crate::reactor::{Buffer, Elapsed, Socket, race};
use crate::telemetry::{Call, Reason, add};

/// The longest time between two tries.
pub(super) const BACKOFF: Duration = Duration::from_secs(10);

/// What may still be tried.
struct Left {
    /// Answers that are tried again.
    tries: u32,
    /// Endpoints to which there was no connection.
    endpoints: u32,
    backoff: Duration,
    /// When the time for all of it is over.
    limit: Option<Instant>,
}

impl Left {
    /// Whether there is time to wait before another try.
    fn fits(&self, now: Instant) -> bool {
        self.limit.is_none_or(|limit| now + self.backoff < limit)
    }
}

impl Proxy {
    /// Sends a request, of which `out` is the head and what there was of the body, and passes the answer on.
    pub(super) async fn forward(
        self: &Rc<Self>,
        client: &Socket,
        buffer: &mut Buffer,
        (out, asked, origin): (&[u8], &Asked, &dyn Origin),
        (frontend, service, share, rule): (&Arc<Frontend>, Service, &Share, Option<&Rule>),
        call: &Call,
    ) -> Next {
        let began = self.reactor.now();
        self.budget.borrow_mut().request(began);
        let retry = rule.and_then(|rule| rule.retry.as_ref());
        let limit = rule.and_then(|rule| rule.request).map(|time| began + time);
        let mut left = Left {
            tries: retry.map_or(0, |retry| retry.attempts),
            endpoints: self.settings.other_endpoints,
            backoff: Duration::from_millis(retry.and_then(|retry| retry.backoff_ms).unwrap_or(0))
                .min(BACKOFF),
            limit,
        };
        let mut avoid: Vec<SocketAddr> = Vec::new();
        let progress = Progress::default();
        let mut fresh = false;
        loop {
            let balancer = self.balancer(origin, service);
            let picked = balancer
                .as_ref()
                .and_then(|balancer| balancer.pick(&avoid, &mut self.dice.borrow_mut(), self.reactor.now()));
            let Some(pick) = picked else {
                let text = format!("{}: the backend has no endpoint that is ready", frontend.name);
                call.finds_nobody();
                return self.give_up(client, asked, (503, text), &progress, call).await;
            };
            call.tries(pick.address());
            let now = self.reactor.now();
            let one = rule.and_then(|rule| rule.backend).map(|time| now + time);
            let limit_of_one = [limit, one].into_iter().flatten().min();
            // An answer that is thrown away must be followed by another try, so all that this needs is asked for before.
            let swallows = |status: u16| {
                let now = self.reactor.now();
                left.tries > 0
                    && retry.is_some_and(|retry| retry.codes.contains(&status))
                    && left.fits(now)
                    && self.budget.borrow_mut().retry(now)
            };
            let exchange = Exchange {
                proxy: self,
                origin,
                client,
                out,
                asked,
                response: &share.response,
                pick: &pick,
                swallows: &swallows,
                fresh,
                progress: &progress,
                call,
            };
            let failed = match self.reactor.before(limit_of_one, exchange.run(buffer)).await {
                Ok(Ok(Done::Keep)) => return Next::Keep,
                Ok(Ok(Done::Close)) => return Next::Close,
                Ok(Ok(Done::Tunnel(server))) => {
                    return Next::Tunnel(server, pick, Box::new(call.subject()));
                }
                Ok(Err(failed)) => failed,
                Err(Elapsed) if progress.stage.get() == Stage::Uploading => Failed::Unsent,
                Err(Elapsed) => {
                    if !progress.answering.get() {
                        let took = self.reactor.now().saturating_duration_since(now);
                        pick.went(Went::Badly(504, took), self.reactor.now());
                    }
                    Failed::Late
                }
            };
            let theirs = match &failed {
                Failed::NoConnection(e) => !is_own(e),
                Failed::NoAnswer | Failed::Broken(_) => true,
                _ => false,
            };
            if theirs {
                pick.went(Went::NotAtAll, self.reactor.now());
            }
            if matches!(failed, Failed::NoConnection(_)) {
                add(&self.series(call.subject()).failed, 1);
            }
            if progress.answering.get() || matches!(failed, Failed::Client) {
                call.blame(if matches!(failed, Failed::Client) { Reason::ClientGone } else { Reason::Cut });
                return Next::Reset;
            }
            if !matches!(failed, Failed::Stale) {
                avoid.push(pick.address());
            }
            let now = self.reactor.now();
            let others = balancer.is_some_and(|balancer| balancer.has_another(&avoid, now));
            let over = limit.is_some_and(|limit| now >= limit);
            let again = !over
                && !progress.uploading.get()
                && self.again(&failed, asked, (&mut left, others), &mut fresh);
            if !again {
                if matches!(failed, Failed::Status(_)) {
                    call.blame(Reason::NotRetried);
                }
                let told = failed.answer(&frontend.name, pick.address());
                return self.give_up(client, asked, told, &progress, call).await;
            }
            add(&self.series(call.subject()).retried, 1);
            call.again();
            drop(pick);
            if matches!(failed, Failed::Status(_) | Failed::Late | Failed::NoAnswer | Failed::Broken(_)) {
                let until = now + left.backoff;
                left.backoff = (left.backoff * 2).min(BACKOFF);
                let wait = async {
                    self.reactor.until(until).await;
                    false
                };
                let gone = async {
                    progress.gone(self, client).await;
                    true
                };
                if race(wait, gone).await {
                    call.gives_up();
                    return Next::Reset;
                }
            }
        }
    }

    /// Whether a request is tried again that has failed so.
    fn again(
        &self,
        failed: &Failed,
        asked: &Asked,
        (left, others): (&mut Left, bool),
        fresh: &mut bool,
    ) -> bool {
        let now = self.reactor.now();
        match failed {
            // Policies are those of all who answer.
            Failed::NoConnection(e) if is_denied(e) => return false,
            // It never reached anybody. Who could not be reached just now is not asked at once again.
            Failed::NoConnection(_) => {
                if left.endpoints == 0 || !others || !self.budget.borrow_mut().retry(now) {
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
            // The budget was charged when the answer was thrown away.
            Failed::Status(_) => left.tries = left.tries.saturating_sub(1),
            Failed::Late => {
                if !self.spend(left, now) {
                    return false;
                }
            }
            Failed::Client | Failed::Request(_) | Failed::Unsent => return false,
        }
        self.count(|counts: &mut Counts| counts.retried += 1);
        true
    }

    fn spend(&self, left: &mut Left, now: Instant) -> bool {
        if left.tries == 0 || !left.fits(now) || !self.budget.borrow_mut().retry(now) {
            return false;
        }
        left.tries -= 1;
        true
    }

    async fn give_up(
        self: &Rc<Self>,
        client: &Socket,
        asked: &Asked,
        (status, text): (u16, String),
        progress: &Progress,
        call: &Call,
    ) -> Next {
        let keep = asked.keeps_alive && asked.body.is_done() && !progress.uploading.get();
        answered(self, client, &Answer::new(status, text), asked, keep, call).await
    }
}
