//! Waiting for times, and for one of two things.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Instant;

use super::Reactor;

/// It took longer than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

impl Reactor {
    /// Waits for a time.
    pub async fn until(&self, at: Instant) {
        poll_fn(|_| {
            if self.now() >= at {
                return Poll::Ready(());
            }
            self.core.wake_at(at);
            Poll::Pending
        })
        .await;
    }

    /// Lets the others run first.
    pub async fn yield_now(&self) {
        let mut yielded = false;
        poll_fn(|_| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            // It stands in the queue already while it runs: it is put there behind the others, and polled whatever else happens.
            self.core.again.set(true);
            Poll::Pending
        })
        .await;
    }

    /// The current task runs then, if nothing runs it before.
    pub(crate) fn wake_at(&self, at: Instant) {
        self.core.wake_at(at);
    }

    /// Waits no longer than to a time, if there is one.
    ///
    /// # Errors
    /// It has passed.
    pub async fn before<T>(&self, at: Option<Instant>, work: impl Future<Output = T>) -> Result<T, Elapsed> {
        let mut work = pin!(work);
        poll_fn(|context| {
            if let Poll::Ready(value) = work.as_mut().poll(context) {
                return Poll::Ready(Ok(value));
            }
            let Some(at) = at else { return Poll::Pending };
            if self.now() >= at {
                return Poll::Ready(Err(Elapsed));
            }
            self.core.wake_at(at);
            Poll::Pending
        })
        .await
    }
}

/// The first of two that ends; the first that is named, if both have.
pub async fn race<T>(one: impl Future<Output = T>, other: impl Future<Output = T>) -> T {
    let (mut one, mut other) = (pin!(one), pin!(other));
    poll_fn(|context| match one.as_mut().poll(context) {
        Poll::Pending => other.as_mut().poll(context),
        ready => ready,
    })
    .await
}
