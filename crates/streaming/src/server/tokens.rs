//! Calls that wait for their client.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::sync::Notify;

/// How long a token works.
pub(super) const LIFETIME: Duration = Duration::from_secs(60);

/// Tokens that may be outstanding.
pub(super) const MOST: usize = 1000;

/// Why no address can be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoAddress {
    /// CRI's code for it is ResourceExhausted.
    #[error("cannot take another stream: 1000 wait for their client already; try again in a minute")]
    TooMany,
    /// The machine is not ready to make tokens.
    #[error("cannot make a token for a stream: the machine has no random numbers yet")]
    NoRandomNumbers,
}

/// Calls by their token.
pub(super) struct Tokens<C> {
    waiting: Mutex<Waiting<C>>,
    lifetime: Duration,
    /// Told of the first call that waits, so that somebody drops it in time.
    pub(super) inserted: Arc<Notify>,
}

struct Waiting<C> {
    calls: HashMap<String, C>,
    /// Oldest first; tokens that have been used are among them.
    order: VecDeque<(Instant, String)>,
}

impl<C> Tokens<C> {
    pub(super) fn new(lifetime: Duration) -> Tokens<C> {
        let waiting = Waiting { calls: HashMap::new(), order: VecDeque::new() };
        Tokens { waiting: Mutex::new(waiting), lifetime, inserted: Arc::default() }
    }

    /// Remembers a call, and gives its token: 128 random bits that stand in an address as they are.
    pub(super) fn insert(&self, call: C) -> Result<String, NoAddress> {
        let mut random = [0; 16];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| NoAddress::NoRandomNumbers)?;
        let token = URL_SAFE_NO_PAD.encode(random);
        let mut waiting = self.lock();
        waiting.expire();
        if waiting.calls.len() >= MOST {
            return Err(NoAddress::TooMany);
        }
        waiting.calls.insert(token.clone(), call);
        waiting.order.push_back((Instant::now() + self.lifetime, token.clone()));
        drop(waiting);
        self.inserted.notify_one();
        Ok(token)
    }

    /// Whether a token is for a call that `fits`.
    pub(super) fn has(&self, token: &str, fits: impl Fn(&C) -> bool) -> bool {
        let mut waiting = self.lock();
        waiting.expire();
        waiting.calls.get(token).is_some_and(fits)
    }

    /// Gives a token's call, once.
    pub(super) fn take(&self, token: &str) -> Option<C> {
        let mut waiting = self.lock();
        waiting.expire();
        waiting.calls.remove(token)
    }

    /// Drops what is too old, and says when the next will be.
    pub(super) fn expire(&self) -> Option<Instant> {
        self.lock().expire()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<C>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C> Waiting<C> {
    fn expire(&mut self) -> Option<Instant> {
        let now = Instant::now();
        while let Some((end, token)) = self.order.front() {
            // One that was used goes too: its place in the order is worth nothing.
            if *end > now && self.calls.contains_key(token) {
                return Some(*end);
            }
            self.calls.remove(token);
            self.order.pop_front();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_works_once() {
        let tokens = Tokens::new(LIFETIME);
        let token = tokens.insert("call").expect("a token");
        assert_eq!(token.len(), 22);
        assert!(tokens.has(&token, |_| true));
        assert!(!tokens.has(&token, |call| *call == "another"));
        assert_eq!(tokens.take(&token), Some("call"));
        assert_eq!(tokens.take(&token), None);
        assert_eq!(tokens.expire(), None);
    }

    #[test]
    fn a_token_expires_and_its_call_is_dropped() {
        let lasting = Tokens::new(LIFETIME);
        lasting.insert(()).expect("a token");
        assert!(lasting.expire().is_some());
        let tokens = Tokens::new(Duration::from_millis(20));
        let call = Arc::new(());
        let token = tokens.insert(Arc::clone(&call)).expect("a token");
        std::thread::sleep(Duration::from_millis(30));
        assert_eq!(tokens.expire(), None);
        assert_eq!(Arc::strong_count(&call), 1);
        assert!(tokens.take(&token).is_none());
    }

    #[test]
    fn there_are_a_thousand_and_no_more() {
        let tokens = Tokens::new(LIFETIME);
        let all: Vec<String> = (0..MOST).map(|n| tokens.insert(n).expect("a token")).collect();
        assert_eq!(tokens.insert(MOST), Err(NoAddress::TooMany));
        let middle = all.get(500).expect("a thousand");
        assert_eq!(tokens.take(middle), Some(500));
        tokens.insert(MOST).expect("a place is free again");
    }
}
