//! Changes to objects: patches of what this controller is to say, against the version that it has read.

use std::fmt::Debug;

use client::events::Events;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::types::SnapshotError;
use crate::csi::finalizers;

/// Why a look came to no end.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The object is another by now than was read: look again.
    Changed,
    /// Anything else.
    Failed(String),
}

impl From<kube::Error> for Trouble {
    fn from(error: kube::Error) -> Self {
        match &error {
            kube::Error::Api(status)
                if status.is_not_found() || status.is_conflict() || status.is_already_exists() =>
            {
                Self::Changed
            }
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// What can be patched.
pub(super) trait Patched: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned {}

impl<K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned> Patched for K {}

/// Patches an object that is as it was read; the object as it is then.
pub(super) async fn patch<K: Patched>(api: &Api<K>, object: &K, change: Value) -> Result<K, Trouble> {
    Ok(finalizers::change(api, object, change).await?)
}

/// Puts a finalizer on an object that is as it was read; the object as it is then.
pub(super) async fn hold<K: Patched>(api: &Api<K>, object: K, finalizer: &str) -> Result<K, Trouble> {
    match finalizers::has(&object, finalizer) {
        true => Ok(object),
        false => Ok(finalizers::add(api, &object, finalizer).await?),
    }
}

/// Takes finalizers from an object.
pub(super) async fn release<K: Patched>(api: &Api<K>, object: &K, held: &[&str]) -> Result<(), Trouble> {
    Ok(finalizers::remove_all(api, object, held, &[]).await?)
}

/// Says in an object's status what has failed, and by an event, unless it says so already.
pub(super) async fn fail<K: Patched>(
    events: &Events,
    api: &Api<K>,
    object: &K,
    told: Option<&SnapshotError>,
    (reason, message): (&str, &str),
) -> Result<(), Trouble> {
    if told.and_then(|error| error.message.as_deref()) == Some(message) {
        return Ok(());
    }
    let error = json!({"message": message, "time": Time(Timestamp::now())});
    patch_status(api, object, json!({"readyToUse": false, "error": error})).await?;
    events.warning(object, reason, message).await;
    Ok(())
}

/// Patches the status of an object, whatever else has changed of it; the object as it is then.
pub(super) async fn patch_status<K: Patched>(api: &Api<K>, object: &K, status: Value) -> Result<K, Trouble> {
    let change = Patch::Merge(json!({"metadata": {"uid": object.meta().uid}, "status": status}));
    Ok(api.patch_status(name(object), &PatchParams::default(), &change).await?)
}

/// Makes an object.
pub(super) async fn create<K: Resource<DynamicType = ()>>(
    client: &Client,
    namespace: Option<&str>,
    mut object: Value,
) -> Result<DynamicObject, kube::Error> {
    let resource = ApiResource::erase::<K>(&());
    object["apiVersion"] = json!(resource.api_version);
    object["kind"] = json!(resource.kind);
    let object: DynamicObject = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    api.create(&PostParams::default(), &object).await
}

/// An object's name.
pub(super) fn name<K: Resource>(object: &K) -> &str {
    object.meta().name.as_deref().unwrap_or_default()
}

/// Its uid.
pub(super) fn uid<K: Resource>(object: &K) -> &str {
    object.meta().uid.as_deref().unwrap_or_default()
}

/// Its namespace.
pub(super) fn namespace<K: Resource>(object: &K) -> &str {
    object.meta().namespace.as_deref().unwrap_or_default()
}

/// Whether it is to go.
pub(super) fn is_deleted<K: Resource>(object: &K) -> bool {
    object.meta().deletion_timestamp.is_some()
}

/// What an annotation of it says.
pub(super) fn annotation<'a, K: Resource>(object: &'a K, key: &str) -> Option<&'a str> {
    object.meta().annotations.as_ref()?.get(key).map(String::as_str)
}

/// What others say of it in its metadata: whether it is to go, its labels, and its annotations but one.
pub(super) fn matter<K: Resource>(object: &K, but: &str) -> impl PartialEq + use<K> {
    let meta = object.meta();
    let mut annotations = meta.annotations.clone().unwrap_or_default();
    annotations.remove(but);
    (meta.uid.clone(), is_deleted(object), meta.labels.clone(), annotations)
}

/// A time of so many nanoseconds since 1970.
pub(super) fn time(nanoseconds: i64) -> Option<Time> {
    Timestamp::from_nanosecond(nanoseconds.into()).ok().map(Time)
}

/// A driver's time in nanoseconds since 1970; now, where it told none.
pub(super) fn nanoseconds(time: Option<csi::contract::v1::Timestamp>) -> i64 {
    let told = time.filter(|time| time.seconds != 0 || time.nanos != 0);
    let told = told.and_then(|time| time.seconds.checked_mul(1_000_000_000)?.checked_add(time.nanos.into()));
    told.unwrap_or_else(|| i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX))
}
