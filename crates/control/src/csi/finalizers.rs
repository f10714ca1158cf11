//! Finalizers and annotations, changed without losing what others have written meanwhile.

use std::fmt::Debug;

use kube::api::{Api, Patch, PatchParams};
use kube::{Error, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// How often a change is tried again where others change the object at the same time.
const TRIES: usize = 8;

/// Whether an object has a finalizer.
pub(crate) fn has<K: Resource>(object: &K, finalizer: &str) -> bool {
    object.meta().finalizers.iter().flatten().any(|held| held == finalizer)
}

/// Adds a finalizer to an object that is as it was read; the object as it is then.
///
/// # Errors
/// The API server's; a conflict where the object has changed since, or is another by now.
pub(crate) async fn add<K>(api: &Api<K>, object: &K, finalizer: &str) -> Result<K, Error>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    patch(api, object, json!({"finalizers": with(object, finalizer)})).await
}

/// An object's finalizers, and this one.
pub(super) fn with<K: Resource>(object: &K, finalizer: &str) -> Vec<String> {
    let held = object.meta().finalizers.iter().flatten().filter(|held| *held != finalizer).cloned();
    held.chain([finalizer.to_owned()]).collect()
}

/// Takes a finalizer from an object, and annotations with it. An object that is gone, or is another by now, is as wanted.
///
/// # Errors
/// The API server's.
pub(crate) async fn remove<K>(
    api: &Api<K>,
    object: &K,
    finalizer: &str,
    annotations: &[&str],
) -> Result<(), Error>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    remove_all(api, object, &[finalizer], annotations).await
}

/// The same of several finalizers at once.
///
/// # Errors
/// The API server's.
pub(super) async fn remove_all<K>(
    api: &Api<K>,
    object: &K,
    finalizers: &[&str],
    annotations: &[&str],
) -> Result<(), Error>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let mut object = object.clone();
    for left in (0..TRIES).rev() {
        let mut left_held = object.meta().finalizers.clone().unwrap_or_default();
        left_held.retain(|held| !finalizers.contains(&held.as_str()));
        let annotated = object.meta().annotations.iter().flatten();
        let without: serde_json::Map<String, Value> = annotated
            .filter(|(key, _)| annotations.contains(&key.as_str()))
            .map(|(key, _)| (key.clone(), Value::Null))
            .collect();
        if without.is_empty() && !finalizers.iter().any(|finalizer| has(&object, finalizer)) {
            return Ok(());
        }
        match patch(api, &object, json!({"finalizers": left_held, "annotations": without})).await {
            Err(Error::Api(status)) if status.code == 409 && left > 0 => {}
            Err(Error::Api(status)) if status.code == 404 => return Ok(()),
            done => return done.map(drop),
        }
        match again(api, &object).await? {
            Some(fresh) => object = fresh,
            None => return Ok(()),
        }
    }
    Ok(())
}

/// The same object as it is now; `None` where it is gone, or another has its name.
///
/// # Errors
/// The API server's.
pub(super) async fn again<K>(api: &Api<K>, object: &K) -> Result<Option<K>, Error>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let fresh = api.get_opt(object.meta().name.as_deref().unwrap_or_default()).await?;
    Ok(fresh.filter(|fresh| fresh.meta().uid == object.meta().uid))
}

/// Patches metadata of an object that is as it was read.
pub(super) async fn patch<K>(api: &Api<K>, object: &K, metadata: Value) -> Result<K, Error>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    change(api, object, json!({"metadata": metadata})).await
}

/// Patches an object that is as it was read.
pub(super) async fn change<K>(api: &Api<K>, object: &K, mut change: Value) -> Result<K, Error>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let meta = object.meta();
    change["metadata"]["uid"] = json!(meta.uid);
    change["metadata"]["resourceVersion"] = json!(meta.resource_version);
    let patch = Patch::Merge(change);
    api.patch(meta.name.as_deref().unwrap_or_default(), &PatchParams::default(), &patch).await
}
