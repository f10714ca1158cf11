//! Bytes that requests hold, counted together and for each user: who holds too many is turned away, and nobody waits for
//! what another may never give back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::contract::{Details, Reason, Status};

/// So many bytes may be held.
pub(crate) struct Budget {
    /// By all together.
    most: usize,
    /// By one user.
    share: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: usize,
    users: HashMap<String, usize>,
}

impl State {
    fn add(&mut self, user: &str, bytes: usize) {
        self.held += bytes;
        *self.users.entry(user.to_owned()).or_default() += bytes;
    }
}

impl Budget {
    pub(crate) fn new(most: usize, share: usize) -> Arc<Budget> {
        Arc::new(Budget { most, share, state: Mutex::default() })
    }

    /// What one user may hold.
    pub(crate) fn share(&self) -> usize {
        self.share
    }

    /// What a request of a user holds: nothing yet.
    pub(crate) fn of(self: &Arc<Self>, user: &str) -> Held {
        Held { budget: Arc::clone(self), user: user.to_owned(), bytes: 0 }
    }
}

/// What a request holds, until it is dropped.
pub(crate) struct Held {
    budget: Arc<Budget>,
    user: String,
    bytes: usize,
}

impl Held {
    /// Takes so many bytes more.
    ///
    /// # Errors
    /// 429 where they are not to be had.
    pub(crate) fn more(&mut self, bytes: usize) -> Result<(), Status> {
        let mut state = self.budget.state.lock().unwrap_or_else(PoisonError::into_inner);
        let own = state.users.get(&self.user).copied().unwrap_or(0);
        if own + bytes > self.budget.share || state.held + bytes > self.budget.most {
            return Err(too_many());
        }
        self.bytes += bytes;
        state.add(&self.user, bytes);
        Ok(())
    }

    /// Takes so many bytes more, whether they are to be had or not.
    pub(crate) fn take(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.budget.state.lock().unwrap_or_else(PoisonError::into_inner).add(&self.user, bytes);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.budget.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.held = state.held.saturating_sub(self.bytes);
        let left = state.users.get(&self.user).map_or(0, |own| own.saturating_sub(self.bytes));
        if left == 0 {
            state.users.remove(&self.user);
        } else if let Some(own) = state.users.get_mut(&self.user) {
            *own = left;
        }
    }
}

/// 429, with the second after which to come again.
pub(crate) fn too_many() -> Status {
    let details = Details { retry_after_seconds: 1, ..Details::default() };
    Status::new(429, Reason::TooManyRequests, "Too many requests, please try again later.").with(details)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_cannot_take_what_others_need() {
        let budget = Budget::new(100, 40);
        let (mut greedy, mut again, mut other) =
            (budget.of("greedy"), budget.of("greedy"), budget.of("other"));
        assert!(greedy.more(30).is_ok() && again.more(10).is_ok());
        let refused = again.more(1).unwrap_err();
        assert_eq!((refused.code, refused.details.unwrap().retry_after_seconds), (429, 1));
        assert!(other.more(40).is_ok());
        let mut third = budget.of("third");
        assert!(third.more(21).is_err() && third.more(20).is_ok());
        drop(greedy);
        assert!(again.more(30).is_ok());
        // What is taken all the same keeps out who comes next.
        again.take(30);
        assert!(again.more(1).is_err() && third.more(1).is_err());
        drop((again, other, third));
        assert!(budget.state.lock().unwrap().users.is_empty());
        assert_eq!(budget.state.lock().unwrap().held, 0);
    }
}
