//! How far a request has come, and whether anybody still waits for its answer.

use std::cell::Cell;

use super::Proxy;
use crate::reactor::Socket;

/// What a try waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Stage {
    /// The endpoint: to take the connection, and what is there of the request.
    #[default]
    Reaching,
    /// The rest of the request's body, of the client or of the endpoint that is to take it.
    Uploading,
    /// The answer: the request was sent whole.
    Asked,
}

/// Marks of a request that its tries share.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) stage: Cell<Stage>,
    /// The client is being sent something that would be cut if anything else were sent.
    pub(super) answering: Cell<bool>,
    /// More of the body was read than is kept: it cannot be sent once more.
    pub(super) uploading: Cell<bool>,
    /// Rises with each piece of the answer.
    pub(super) pieces: Cell<u64>,
    /// The answer passes unread, and whoever passes it on sees when that rests.
    pub(super) carrying: Cell<bool>,
}

impl Progress {
    /// Ends when the client is gone: both ways, or it sends nothing more and for [`Settings::stall`](super::Settings) nothing comes for it
    /// either. A client that is gone and one that has only said all that it wants to say begin alike.
    pub(super) async fn gone(&self, proxy: &Proxy, client: &Socket) {
        client.ended().await;
        loop {
            let pieces = self.pieces.get();
            let limit = proxy.reactor.now() + proxy.settings.stall;
            let dead = proxy.reactor.before(Some(limit), client.dead()).await.is_ok();
            if dead || (pieces == self.pieces.get() && !self.carrying.get()) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::rc::Rc;
    use std::time::Duration;

    use super::*;
    use crate::proxy::Settings;
    use crate::reactor::Reactor;

    #[test]
    fn who_has_said_all_is_there_while_it_is_sent_something() {
        let reactor = Reactor::new().unwrap();
        let stall = Duration::from_millis(20);
        let proxy = Proxy::new(&reactor, Settings { stall, ..Settings::default() });
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        let client = reactor.socket(ours.into()).unwrap();
        let (progress, rests) = (Rc::new(Progress::default()), Rc::new(Cell::new(false)));
        let (sending, rested, turning) = (progress.clone(), rests.clone(), reactor.clone());
        reactor.spawn(async move {
            let end = turning.now() + 10 * stall;
            // A piece in each turn of the loop, however long it takes; then it passes unread for as long.
            while turning.now() < end {
                sending.pieces.set(sending.pieces.get() + 1);
                turning.yield_now().await;
            }
            sending.carrying.set(true);
            turning.until(turning.now() + 10 * stall).await;
            rested.set(true);
            sending.carrying.set(false);
        });
        reactor.run(async move { progress.gone(&proxy, &client).await }).unwrap();
        assert!(rests.get(), "it was given up while something came for it");
        drop(theirs);
    }
}
