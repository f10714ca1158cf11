//! The sessions that run, and their end.

use std::sync::Arc;

use tokio::sync::watch;

use crate::remote_command::Session;

/// How far a server's end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Open,
    /// No more connections are taken.
    Refusing,
    /// Everything is over.
    Over,
}

pub(super) struct Sessions {
    phase: watch::Sender<Phase>,
    count: watch::Sender<usize>,
}

impl Sessions {
    pub(super) fn new() -> Sessions {
        Sessions { phase: watch::Sender::new(Phase::Open), count: watch::Sender::new(0) }
    }

    pub(super) fn count(&self) -> usize {
        *self.count.borrow()
    }

    pub(super) fn refuse(&self) {
        self.phase.send_modify(|phase| *phase = Phase::Refusing.max(*phase));
    }

    pub(super) fn end(&self) {
        self.phase.send_replace(Phase::Over);
    }

    /// Waits until no more connections are to be taken.
    pub(super) async fn refused(&self) {
        let _ = self.phase.subscribe().wait_for(|phase| *phase >= Phase::Refusing).await;
    }

    /// Waits until everything is to be over.
    pub(super) async fn over(&self) {
        let _ = self.phase.subscribe().wait_for(|phase| *phase == Phase::Over).await;
    }

    /// Waits until no session runs.
    pub(super) async fn ended(&self) {
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }

    /// Runs a session on a task of its own. At the server's end it is dropped where it stands.
    pub(super) fn spawn(self: &Arc<Sessions>, session: Session) {
        self.count.send_modify(|count| *count += 1);
        let counted = Counted(Arc::clone(self));
        tokio::spawn(async move {
            tokio::select! {
                () = session => {}
                () = counted.0.over() => {}
            }
        });
    }
}

struct Counted(Arc<Sessions>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.count.send_modify(|count| *count -= 1);
    }
}
