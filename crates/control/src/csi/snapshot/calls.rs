//! Calls of drivers, and what their answers mean.

use std::collections::{BTreeMap, BTreeSet};

use csi::caller::Driver;
use csi::contract::v1::controller_service_capability::rpc::Type as Call;
use csi::contract::v1::{GetSnapshotRequest, ListSnapshotsRequest, Snapshot};
use grpc::Code;

use super::Snapshots;
use super::contents::Content;
use super::write;
use crate::csi::failure::Failure;
use crate::csi::secrets::{self, Use};

impl Snapshots {
    /// The secret that a content's annotations name, or nothing.
    ///
    /// # Errors
    /// It is not there, or only half named.
    pub(super) async fn secrets<C: Content>(&self, of: &C) -> Result<BTreeMap<String, String>, String> {
        let [name, namespace] = C::SECRET;
        match (write::annotation(of, name), write::annotation(of, namespace)) {
            (None, None) => Ok(BTreeMap::new()),
            (Some(name), Some(namespace)) if !name.is_empty() && !namespace.is_empty() => {
                self.context.secret(namespace, name).await
            }
            _ => Err(format!("annotations {name} and {namespace}: both are needed")),
        }
    }

    /// The secret that a class names for what was there before, or nothing.
    ///
    /// # Errors
    /// It is not there, or the class does not name it well.
    pub(super) async fn secrets_to_ask(
        &self,
        of: Use,
        parameters: Option<&BTreeMap<String, String>>,
        content: &str,
    ) -> Result<BTreeMap<String, String>, String> {
        match secrets::of_content(of, parameters, content, None)? {
            Some(place) => self.context.secret(&place.namespace, &place.name).await,
            None => Ok(BTreeMap::new()),
        }
    }
}

/// What a driver says of a snapshot, by the call that it has for that; `None` where it has none of this handle. A driver without such a
/// call is believed to have it.
pub(super) async fn find(
    driver: &Driver,
    handle: &str,
    secrets: BTreeMap<String, String>,
) -> Result<Option<Snapshot>, Failure> {
    if driver.controls(Call::GetSnapshot) {
        let request = GetSnapshotRequest { snapshot_id: handle.into(), secrets };
        return match driver.client.get_snapshot(request).await {
            Ok(answer) => Ok(answer.snapshot),
            Err(error) if error.code() == Code::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        };
    }
    if !driver.controls(Call::ListSnapshots) {
        let believed = Snapshot { snapshot_id: handle.into(), ready_to_use: true, ..Default::default() };
        return Ok(Some(believed));
    }
    let mut request = ListSnapshotsRequest { snapshot_id: handle.into(), secrets, ..Default::default() };
    let mut tokens = BTreeSet::new();
    loop {
        let page = driver.client.list_snapshots(request.clone()).await?;
        let mut snapshots = page.entries.into_iter().filter_map(|entry| entry.snapshot);
        // Drivers may list more than they were asked for.
        if let Some(found) = snapshots.find(|snapshot| snapshot.snapshot_id == handle) {
            return Ok(Some(found));
        }
        if page.next_token.is_empty() || !tokens.insert(page.next_token.clone()) {
            return Ok(None);
        }
        request.starting_token = page.next_token;
    }
}
