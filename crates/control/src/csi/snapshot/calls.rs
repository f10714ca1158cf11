//! Calls of drivers, and what their answers mean.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use csi::caller::Driver;
use csi::contract::v1::controller_service_capability::rpc::Type as Call;
use csi::contract::v1::{GetSnapshotRequest, ListSnapshotsRequest, Snapshot};
use grpc::Code;
use kube::Resource;

use super::Snapshots;
use super::write;
use crate::queue::Next;

/// Why a driver did not do what it was asked.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) message: String,
    /// Whether it is certain that nothing is being done any more.
    pub(super) is_final: bool,
    /// Whether another call on the same volume was in the way.
    pub(super) is_aborted: bool,
}

impl Failed {
    /// What failed before the driver was called: what an earlier call does is not known by that.
    pub(super) fn before(message: impl Into<String>) -> Self {
        Self { message: message.into(), is_final: false, is_aborted: false }
    }

    /// When to call again. Calls that are in each other's way must not all wait equally long, and longer each time: they would meet again.
    pub(super) fn next(&self, uid: &str) -> Next {
        if !self.is_aborted {
            return Next::Again;
        }
        let spread =
            uid.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into())) % 1000;
        Next::After(Duration::from_millis(500 + spread))
    }
}

impl From<grpc::Error> for Failed {
    fn from(error: grpc::Error) -> Self {
        let code = error.code();
        Self { message: error.to_string(), is_final: is_final(code), is_aborted: code == Code::Aborted }
    }
}

/// Whether a call that ended so is over: else it may still be at work, and succeed.
pub(super) fn is_final(code: Code) -> bool {
    !matches!(
        code,
        Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Unavailable
            | Code::ResourceExhausted
            | Code::Aborted
    )
}

impl Snapshots {
    /// The secret that an object's annotations name, or nothing.
    ///
    /// # Errors
    /// It is not there, or only half named.
    pub(super) async fn secrets<K: Resource>(
        &self,
        of: &K,
        [name, namespace]: [&str; 2],
    ) -> Result<BTreeMap<String, String>, String> {
        match (write::annotation(of, name), write::annotation(of, namespace)) {
            (None, None) => Ok(BTreeMap::new()),
            (Some(name), Some(namespace)) if !name.is_empty() && !namespace.is_empty() => {
                self.context.secret(namespace, name).await
            }
            _ => Err(format!("annotations {name} and {namespace}: both are needed")),
        }
    }
}

/// What a driver says of a snapshot, by the call that it has for that. One that has none is believed to have it.
pub(super) async fn find(
    driver: &Driver,
    handle: &str,
    secrets: BTreeMap<String, String>,
) -> Result<Snapshot, Failed> {
    let missing = || Failed::before(format!("driver {} has no snapshot {handle}", driver.name));
    if driver.controls(Call::GetSnapshot) {
        let request = GetSnapshotRequest { snapshot_id: handle.into(), secrets };
        return match driver.client.get_snapshot(request).await {
            Ok(answer) => answer.snapshot.ok_or_else(missing),
            Err(error) if error.code() == Code::NotFound => Err(missing()),
            Err(error) => Err(error.into()),
        };
    }
    if !driver.controls(Call::ListSnapshots) {
        return Ok(Snapshot { snapshot_id: handle.into(), ready_to_use: true, ..Default::default() });
    }
    let mut request = ListSnapshotsRequest { snapshot_id: handle.into(), secrets, ..Default::default() };
    let mut tokens = BTreeSet::new();
    loop {
        let page = driver.client.list_snapshots(request.clone()).await?;
        let mut snapshots = page.entries.into_iter().filter_map(|entry| entry.snapshot);
        // Drivers may list more than they were asked for.
        if let Some(found) = snapshots.find(|snapshot| snapshot.snapshot_id == handle) {
            return Ok(found);
        }
        if page.next_token.is_empty() || !tokens.insert(page.next_token.clone()) {
            return Err(missing());
        }
        request.starting_token = page.next_token;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_over_is_final() {
        for code in [
            Code::Cancelled,
            Code::DeadlineExceeded,
            Code::Unavailable,
            Code::ResourceExhausted,
            Code::Aborted,
        ] {
            assert!(!is_final(code), "{code}");
        }
        for code in
            [Code::InvalidArgument, Code::NotFound, Code::Internal, Code::Unimplemented, Code::OutOfRange]
        {
            assert!(is_final(code), "{code}");
        }
    }
}
