//! What the API server has said of who asks and may, kept for a short while, as a kubelet keeps it: a monitor that scrapes each few
//! seconds is asked about now and then.
//!
//! No token is kept, but a digest of it. What is kept is bounded in number, and those who are refused take no place from those who are
//! not.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::UserInfo;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

/// How long it is known whose a token is, or that it is nobody's.
const IDENTIFIED: Duration = Duration::from_secs(120);
/// How long it is known that somebody may.
const ALLOWED: Duration = Duration::from_secs(300);
/// How long it is known that somebody may not.
const REFUSED: Duration = Duration::from_secs(30);
/// How much is known at a time, of each kind.
const MOST: usize = 256;
/// The longest name of a user with its groups, in bytes as JSON, that is kept with a token: others are asked about again.
const LONGEST: usize = 8 << 10;

/// What a token, or a user with what is asked, comes to.
type Key = [u8; 32];

/// What is known.
#[derive(Debug, Default)]
pub(crate) struct Reviews {
    users: Mutex<Kept<Key, UserInfo>>,
    strangers: Mutex<Kept<Key, ()>>,
    allowed: Mutex<Kept<Key, ()>>,
    refused: Mutex<Kept<Key, ()>>,
}

/// Somebody who asks for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked(Key);

impl Asked {
    /// This user, who asks for `verb` of `subresource` of the node.
    pub(super) fn new(user: &UserInfo, verb: &str, subresource: &str) -> Self {
        // JSON: no name runs into another.
        Self(digest(&serde_json::json!([user, verb, subresource]).to_string()))
    }
}

impl Reviews {
    /// Whose a token is, as far as that is known: `Some(None)` of one that is nobody's.
    pub(super) fn user(&self, token: &str, now: Instant) -> Option<Option<UserInfo>> {
        let token = digest(token);
        if let Some(user) = locked(&self.users).get(&token, now) {
            return Some(Some(user.clone()));
        }
        locked(&self.strangers).get(&token, now).map(|()| None)
    }

    /// A token is this user's, or nobody's.
    pub(super) fn identify(&self, token: &str, user: Option<&UserInfo>, now: Instant) {
        let token = digest(token);
        match user {
            None => locked(&self.strangers).put(token, (), now, IDENTIFIED),
            Some(user) if serde_json::to_string(user).is_ok_and(|text| text.len() <= LONGEST) => {
                locked(&self.users).put(token, user.clone(), now, IDENTIFIED);
            }
            Some(_) => {}
        }
    }

    /// Whether somebody may, as far as that is known.
    pub(super) fn may(&self, asked: Asked, now: Instant) -> Option<bool> {
        if locked(&self.allowed).get(&asked.0, now).is_some() {
            return Some(true);
        }
        locked(&self.refused).get(&asked.0, now).map(|()| false)
    }

    /// Somebody may, or may not.
    pub(super) fn judge(&self, asked: Asked, may: bool, now: Instant) {
        let (kept, time) = if may { (&self.allowed, ALLOWED) } else { (&self.refused, REFUSED) };
        locked(kept).put(asked.0, (), now, time);
    }
}

fn locked<T>(kept: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

fn digest(text: &str) -> Key {
    Sha256::digest(text).into()
}

/// At most [`MOST`] values, each for its time.
#[derive(Debug)]
struct Kept<K, V>(HashMap<K, (V, Instant)>);

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Hash + Eq + Copy, V> Kept<K, V> {
    fn get(&self, key: &K, now: Instant) -> Option<&V> {
        self.0.get(key).filter(|(_, end)| now < *end).map(|(value, _)| value)
    }

    /// One too many drives out what is over, or else what would be so first.
    fn put(&mut self, key: K, value: V, now: Instant, time: Duration) {
        if self.0.len() >= MOST && !self.0.contains_key(&key) {
            self.0.retain(|_, (_, end)| now < *end);
        }
        if self.0.len() >= MOST && !self.0.contains_key(&key) {
            let first = self.0.iter().min_by_key(|(_, (_, end))| *end).map(|(key, _)| *key);
            first.map(|first| self.0.remove(&first));
        }
        self.0.insert(key, (value, now + time));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserInfo {
        UserInfo { username: Some(name.into()), ..UserInfo::default() }
    }

    #[test]
    fn what_was_said_is_known_for_its_time() {
        let (reviews, now) = (Reviews::default(), Instant::now());
        let later = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(reviews.user("token", now), None);
        reviews.identify("token", Some(&user("jane")), now);
        reviews.identify("none", None, now);
        assert_eq!(reviews.user("token", later(119)), Some(Some(user("jane"))));
        assert_eq!(reviews.user("none", later(119)), Some(None));
        assert_eq!([reviews.user("token", later(120)), reviews.user("none", later(120))], [None, None]);
        let asked = |verb| Asked::new(&user("jane"), verb, "metrics");
        assert_eq!(reviews.may(asked("get"), now), None);
        reviews.judge(asked("get"), true, now);
        reviews.judge(asked("create"), false, now);
        assert_eq!([299, 300].map(|at| reviews.may(asked("get"), later(at))), [Some(true), None]);
        assert_eq!([29, 30].map(|at| reviews.may(asked("create"), later(at))), [Some(false), None]);
        let others = [Asked::new(&user("john"), "get", "metrics"), Asked::new(&user("jane"), "get", "proxy")];
        assert_eq!(others.map(|asked| reviews.may(asked, now)), [None, None]);
        // Its groups are a part of who somebody is.
        let grouped = UserInfo { groups: Some(vec!["a".into()]), ..user("jane") };
        assert_ne!(Asked::new(&grouped, "get", "metrics"), asked("get"));
    }

    #[test]
    fn who_is_refused_takes_nobodys_place_and_the_oldest_go() {
        let (reviews, now) = (Reviews::default(), Instant::now());
        reviews.identify("token", Some(&user("jane")), now);
        for number in 0..2 * MOST {
            reviews.identify(&format!("guess {number}"), None, now + Duration::from_millis(number as u64));
        }
        let later = now + Duration::from_secs(1);
        assert_eq!(reviews.user("token", later), Some(Some(user("jane"))));
        assert_eq!(locked(&reviews.strangers).0.len(), MOST);
        let known = |number: usize| reviews.user(&format!("guess {number}"), later).is_some();
        assert_eq!([MOST - 1, MOST, 2 * MOST - 1].map(known), [false, true, true]);
        // What is over goes before what is not.
        let end = now + IDENTIFIED + Duration::from_millis(2 * MOST as u64);
        reviews.identify("one more", None, end);
        assert_eq!(locked(&reviews.strangers).0.len(), 1);
        let long = UserInfo { groups: Some(vec!["x".repeat(LONGEST)]), ..user("long") };
        reviews.identify("long", Some(&long), now);
        assert_eq!(reviews.user("long", now), None);
    }
}
