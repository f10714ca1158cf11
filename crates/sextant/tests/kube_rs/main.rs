//! kube-rs, the client of Sextant's own controllers, against `sextant api`: what it knows of an API server has to be there.
#![allow(clippy::unwrap_used, reason = "a test")]

mod controller;
mod definition;
mod objects;
mod server;
mod watches;

use std::fmt::Debug;
use std::time::Duration;

/// Longer than anything takes on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(120);

/// What comes of it in time.
async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("nothing came of it in two minutes")
}

/// The code and reason that a call was refused with, and the message.
fn refusal<T: Debug>(answer: kube::Result<T>) -> (u16, String, String) {
    match answer {
        Err(kube::Error::Api(status)) => (status.code, status.reason.clone(), status.message.clone()),
        other => panic!("not refused: {other:?}"),
    }
}
