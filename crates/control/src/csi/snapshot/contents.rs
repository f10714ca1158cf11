//! What contents of snapshots and of groups have in common: what holds them, when they go, and how calls of their drivers are told.

use std::sync::Arc;

use client::cache::Kind;
use client::queue::Next;
use csi::caller::Driver;
use grpc::Code;
use k8s_openapi::ClusterResourceScope;
use kube::{Api, Client, Resource};
use serde_json::json;

use super::types::{DeletionPolicy, SnapshotError, VolumeGroupSnapshotContent, VolumeSnapshotContent};
use super::write::{self, Trouble};
use super::{Snapshots, names};
use crate::csi::failure::Failure;
use crate::csi::finalizers;

/// A content of either kind.
pub(super) trait Content: Kind + Resource<Scope = ClusterResourceScope> {
    /// Its finalizer: the driver may have something for it.
    const IS_BOUND: &'static str;
    /// The annotation that says that a call of the driver may be making that.
    const BEING_CREATED: &'static str;
    /// The annotation that says that who has it is going, so that it may go.
    const BEING_DELETED: &'static str;
    /// The annotations that name the secret to create and delete with.
    const SECRET: [&'static str; 2];
    /// Reasons of events: the spec is wrong (and what must be set), the driver has not created, it has not told, it has not deleted.
    const INVALID: [&'static str; 2];
    const NOT_CREATED: &'static str;
    const NOT_TOLD: &'static str;
    const NOT_DELETED: &'static str;

    /// Its driver.
    fn driver(&self) -> &str;
    /// The uid of the object of a user that has it; nothing if none has.
    fn user(&self) -> &str;
    /// The class, where it is of one.
    fn class(&self) -> Option<&str>;
    fn policy(&self) -> DeletionPolicy;
    /// Whether the spec tells of volumes to cut, and whether it tells of what was there before.
    fn source(&self) -> (bool, bool);
    fn is_ready(&self) -> bool;
    fn error(&self) -> Option<&SnapshotError>;

    fn api(client: &Client) -> Api<Self> {
        Api::all(client.clone())
    }
}

impl Content for VolumeSnapshotContent {
    const IS_BOUND: &'static str = names::CONTENT_IS_BOUND;
    const BEING_CREATED: &'static str = names::BEING_CREATED;
    const BEING_DELETED: &'static str = names::BEING_DELETED;
    const SECRET: [&'static str; 2] = names::SECRET;
    const INVALID: [&'static str; 2] = ["ContentValidationError", "volumeHandle and snapshotHandle"];
    const NOT_CREATED: &'static str = "SnapshotCreationFailed";
    const NOT_TOLD: &'static str = "SnapshotContentCheckandUpdateFailed";
    const NOT_DELETED: &'static str = "SnapshotDeleteError";

    fn driver(&self) -> &str {
        &self.spec.driver
    }

    fn user(&self) -> &str {
        &self.spec.volume_snapshot_ref.uid
    }

    fn class(&self) -> Option<&str> {
        self.spec.volume_snapshot_class_name.as_deref()
    }

    fn policy(&self) -> DeletionPolicy {
        self.spec.deletion_policy
    }

    fn source(&self) -> (bool, bool) {
        let source = &self.spec.source;
        (source.volume_handle.is_some(), source.snapshot_handle.is_some())
    }

    fn is_ready(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.ready_to_use == Some(true))
    }

    fn error(&self) -> Option<&SnapshotError> {
        self.status.as_ref()?.error.as_ref()
    }
}

impl Content for VolumeGroupSnapshotContent {
    const IS_BOUND: &'static str = names::GROUP_CONTENT_IS_BOUND;
    const BEING_CREATED: &'static str = names::GROUP_BEING_CREATED;
    const BEING_DELETED: &'static str = names::GROUP_BEING_DELETED;
    const SECRET: [&'static str; 2] = names::GROUP_SECRET;
    const INVALID: [&'static str; 2] =
        ["GroupContentValidationError", "volumeHandles and groupSnapshotHandles"];
    const NOT_CREATED: &'static str = "GroupSnapshotCreationFailed";
    const NOT_TOLD: &'static str = "GroupSnapshotContentCheckandUpdateFailed";
    const NOT_DELETED: &'static str = "GroupSnapshotDeleteError";

    fn driver(&self) -> &str {
        &self.spec.driver
    }

    fn user(&self) -> &str {
        &self.spec.volume_group_snapshot_ref.uid
    }

    fn class(&self) -> Option<&str> {
        self.spec.volume_group_snapshot_class_name.as_deref()
    }

    fn policy(&self) -> DeletionPolicy {
        self.spec.deletion_policy
    }

    fn source(&self) -> (bool, bool) {
        let source = &self.spec.source;
        (!source.volume_handles.is_empty(), source.group_snapshot_handles.is_some())
    }

    fn is_ready(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.ready_to_use == Some(true))
    }

    fn error(&self) -> Option<&SnapshotError> {
        self.status.as_ref()?.error.as_ref()
    }
}

impl Snapshots {
    /// A content as it is now, held if somebody has it, and its driver. `None`: there is nothing to be done by this process, or not yet.
    pub(super) async fn held<C: Content>(&self, content: &C) -> Result<Option<(C, Arc<Driver>)>, Trouble> {
        let api = C::api(&self.context.client);
        // What is done to a driver is done by what holds now.
        let Some(mut content) = api.get_opt(write::name(content)).await? else { return Ok(None) };
        let (is_of_volumes, was_there) = content.source();
        if is_of_volumes == was_there {
            let [reason, fields] = C::INVALID;
            let text = format!("spec.source: exactly one of {fields} must be set");
            self.context.events.warning(&content, reason, text).await;
            return Ok(None);
        }
        if self.context.setup.snapshot_controller
            && !content.user().is_empty()
            && !write::is_deleted(&content)
        {
            content = write::hold(&api, content, C::IS_BOUND).await?;
        }
        let labels = content.meta().labels.as_ref();
        let is_ours = self.context.setup.node.as_ref().is_none_or(|node| {
            labels.and_then(|labels| labels.get(names::MANAGED_BY)).is_some_and(|of| of == node)
        });
        let driver = self.context.drivers.get(content.driver()).filter(|_| is_ours);
        Ok(driver.map(|driver| (content, driver)))
    }

    /// Notes that a call of the driver may create something from now on: until it is known what came of it, the content does not go.
    /// `None`: nothing holds the content any more, so nothing must come of it.
    pub(super) async fn mark<C: Content>(&self, content: C) -> Result<Option<C>, Trouble> {
        let is_held = finalizers::has(&content, C::IS_BOUND);
        if !is_held && write::is_deleted(&content) {
            return Ok(None);
        }
        if is_held && write::annotation(&content, C::BEING_CREATED).is_some() {
            return Ok(Some(content));
        }
        let change = json!({"metadata": {"annotations": {C::BEING_CREATED: "yes"},
            "finalizers": finalizers::with(&content, C::IS_BOUND)}});
        Ok(Some(write::patch(&C::api(&self.context.client), &content, change).await?))
    }

    /// Notes that no call of the driver may still create something.
    pub(super) async fn unmark<C: Content>(&self, content: C) -> Result<C, Trouble> {
        if write::annotation(&content, C::BEING_CREATED).is_none() {
            return Ok(content);
        }
        let change = json!({"metadata": {"annotations": {C::BEING_CREATED: null}}});
        write::patch(&C::api(&self.context.client), &content, change).await
    }

    /// Says why a call that was to create something did not, and has it made again.
    pub(super) async fn not_created<C: Content>(
        &self,
        mut content: C,
        failure: &Failure,
    ) -> Result<Next, Trouble> {
        let mut message = failure.message();
        if failure.code() == Some(Code::AlreadyExists) {
            // Of this name, which is made for this content alone: what an earlier call has left must not be forgotten.
            let (name, mark) = (write::name(&content), C::BEING_CREATED);
            message = format!(
                "{message}; the driver may have what was asked for otherwise: if not, take annotation {mark} from {name} to delete it"
            );
        } else if failure.is_final() {
            content = self.unmark(content).await?;
        }
        self.fail(&content, C::NOT_CREATED, &message).await
    }

    /// Says what has failed, once, and tries again.
    pub(super) async fn fail<C: Content>(
        &self,
        content: &C,
        reason: &str,
        message: &str,
    ) -> Result<Next, Trouble> {
        let (api, events) = (C::api(&self.context.client), &self.context.events);
        write::fail(events, &api, content, content.error(), (reason, message)).await?;
        Ok(Next::Again)
    }

    /// Says that the driver has not deleted what it has for a content, and tries again.
    pub(super) async fn not_deleted<C: Content>(&self, content: &C, handle: &str, why: &Failure) -> Next {
        let text = format!("cannot delete {handle}: {why}");
        self.context.events.warning(content, C::NOT_DELETED, text).await;
        Next::Again
    }

    /// Lets a content go.
    pub(super) async fn let_go<C: Content>(&self, content: &C) -> Result<Next, Trouble> {
        write::release(&C::api(&self.context.client), content, &[C::IS_BOUND]).await?;
        Ok(Next::Done)
    }

    /// Tells the driver's part that a content may go, and has it go if its snapshots do; whether they do.
    pub(super) async fn give_up<C: Content>(&self, content: &C) -> Result<bool, Trouble> {
        let api = C::api(&self.context.client);
        let goes = content.policy() == DeletionPolicy::Delete;
        if write::annotation(content, C::BEING_DELETED).is_none() {
            let change = json!({"metadata": {"annotations": {C::BEING_DELETED: "yes"}}});
            write::patch(&api, content, change).await?;
        }
        if goes && !write::is_deleted(content) {
            api.delete(write::name(content), &Default::default()).await?;
        }
        Ok(goes)
    }
}

/// What of a content has to change for it to be worth another look: all but what is said here.
pub(super) fn matter<C: Content>(content: &C) -> impl PartialEq + use<C> {
    let of = (content.user().to_owned(), content.class().map(str::to_owned), content.policy());
    (write::matter(content, C::BEING_CREATED), of)
}

/// Whether a content that is to go may go: nobody has it, or who had it goes, and no call of its driver may still make it.
pub(super) fn may_go<C: Content>(content: &C) -> bool {
    let (_, was_there) = content.source();
    let is_nobodys = was_there && content.user().is_empty();
    let is_told = write::annotation(content, C::BEING_DELETED).is_some();
    let is_known = write::annotation(content, C::BEING_CREATED).is_none();
    write::is_deleted(content) && (is_nobodys || is_told && is_known)
}
