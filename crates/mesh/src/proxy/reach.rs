//! Connections to endpoints, and how long a peer may rest.

use std::io;
use std::net::SocketAddr;

use rustix::io::Errno;

use super::secured::{Full, NoCertificate, Way};
use super::{Origin, Proxy};
use crate::hbone::Denied;
use crate::reactor::Socket;

/// Whether this process or node has run out of something.
fn is_short(error: &io::Error) -> bool {
    const OWN: [Errno; 6] =
        [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL, Errno::AGAIN];
    Errno::from_io_error(error).is_some_and(|errno| OWN.contains(&errno))
}

/// Whether an error says nothing about who was to be reached: something has run out here, there is no certificate to show, there are as many connections
/// as may be, or the other end refuses this pod, whoever answers there.
pub(super) fn is_own(error: &io::Error) -> bool {
    let is_ours = error.get_ref().is_some_and(|e| e.is::<NoCertificate>() || e.is::<Full>());
    is_short(error) || is_denied(error) || is_ours
}

/// Whether policies of the other end do not let this pod connect.
pub(super) fn is_denied(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|e| e.is::<Denied>())
}

impl Proxy {
    /// Connects from the clients' network in the time there is for it: over HBONE where a member answers. If something of our own has run out,
    /// connections that wait for a request make room, and it is tried once more.
    ///
    /// # Errors
    /// The kernel's, or the time is over.
    pub(super) async fn reach(&self, origin: &dyn Origin, to: SocketAddr) -> io::Result<Socket> {
        let limit = self.reactor.now() + self.settings.connect;
        let mut shed = false;
        loop {
            let connecting = async {
                match self.way(origin, to)? {
                    Way::Plain => Socket::connect_over(&self.reactor, origin.socket(to.is_ipv4())?, to).await,
                    // What a handshake takes is not held by connections without one.
                    Way::Secured(secured) => Box::pin(self.reach_secured(origin, to, secured, limit)).await,
                }
            };
            let connected = self.reactor.before(Some(limit), connecting).await;
            match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Err(e) if !shed && is_short(&e) && self.shed() > 0 => shed = true,
                Err(e) => return Err(e),
                Ok(socket) => {
                    self.count(|counts| counts.connected += 1);
                    return Ok(socket);
                }
            }
        }
    }

    /// Waits for a peer that has begun to send or to take something no longer than it may rest. How long a backend thinks is the route's to
    /// bound.
    ///
    /// # Errors
    /// Those of the work, or it rested for too long.
    pub(super) async fn moving<T>(&self, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        let limit = self.reactor.now() + self.settings.stall;
        self.reactor.before(Some(limit), work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_have_run_out_of_is_our_own() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL] {
            assert!(is_own(&errno.into()), "{errno:?}");
        }
        for errno in [Errno::CONNREFUSED, Errno::CONNRESET, Errno::TIMEDOUT, Errno::HOSTUNREACH] {
            assert!(!is_own(&errno.into()), "{errno:?}");
        }
        assert!(!is_own(&io::ErrorKind::TimedOut.into()), "the time to connect");
    }
}
