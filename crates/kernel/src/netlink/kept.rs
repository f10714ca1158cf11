use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use super::socket::{Protocol, Socket};
use crate::Result;

/// How many idle sockets of a protocol are kept: as many as threads are at work most of the time.
const IDLE: usize = 8;

/// Sockets that are used again: opening and closing one costs more than most of what is said over it, and closing one of
/// netfilter waits for what others have changed.
///
/// A socket belongs to the network namespace it was opened in. So whoever keeps sockets uses them from threads in one
/// network namespace.
#[derive(Debug)]
pub struct Sockets {
    route: Mutex<Vec<Socket>>,
    netfilter: Mutex<Vec<Socket>>,
    idle: usize,
}

impl Default for Sockets {
    fn default() -> Self {
        Self { idle: IDLE, ..Self::NONE_KEPT }
    }
}

impl Sockets {
    /// Keeps none.
    pub const NONE_KEPT: Self =
        Self { route: Mutex::new(Vec::new()), netfilter: Mutex::new(Vec::new()), idle: 0 };

    /// One of [`Protocol::Route`], that was used before or opened in the caller's network namespace.
    pub fn route(&self) -> Result<Kept<'_>> {
        self.take(Protocol::Route, &self.route)
    }

    /// One of [`Protocol::Netfilter`], likewise.
    pub fn netfilter(&self) -> Result<Kept<'_>> {
        self.take(Protocol::Netfilter, &self.netfilter)
    }

    fn take<'a>(&'a self, protocol: Protocol, home: &'a Mutex<Vec<Socket>>) -> Result<Kept<'a>> {
        let idle = home.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let socket = idle.map_or_else(|| Socket::open(protocol), Ok)?;
        Ok(Kept { socket: Some(socket), home, idle: self.idle })
    }
}

/// A socket that goes back to where it was taken.
#[derive(Debug)]
pub struct Kept<'a> {
    /// Taken by [`Drop`] alone.
    socket: Option<Socket>,
    home: &'a Mutex<Vec<Socket>>,
    idle: usize,
}

impl Deref for Kept<'_> {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        self.socket.as_ref().expect("not dropped")
    }
}

impl DerefMut for Kept<'_> {
    fn deref_mut(&mut self) -> &mut Socket {
        self.socket.as_mut().expect("not dropped")
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        let mut home = self.home.lock().unwrap_or_else(PoisonError::into_inner);
        if home.len() < self.idle {
            home.extend(self.socket.take());
        }
    }
}
