//! Making and deleting pods for an owner.

use std::sync::Arc;

use client::cache::{Kind, Name};
use client::events::{Events, cut};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use kube::{Client, Error, Resource, ResourceExt as _};
use serde_json::Value;

use super::Context;
use super::awaited::{Awaited, What};

/// More pods than this are not made or deleted at once.
pub(super) const BURST: usize = 500;

/// What one controller makes and deletes.
pub(super) struct Hands {
    /// The API server.
    pub(super) client: Client,
    /// What the cache does not show yet.
    pub(super) awaited: Awaited,
    /// What people are told.
    pub(super) events: Events,
}

impl Hands {
    /// Those of a controller that Kubernetes calls `component`.
    pub(super) fn new(context: &Context, component: &str) -> Self {
        Self {
            client: context.client.clone(),
            awaited: Awaited::new(&context.pods),
            events: context.events(component),
        }
    }

    /// Whether pods of an owner were made or deleted of which the cache does not know.
    pub(super) async fn is_behind<O: Resource>(&self, owner: &O) -> bool {
        self.awaited.is_any::<Pod>(&self.client, &uid(owner)).await
    }

    /// Makes a pod, which has a name. Both are told as events of the owner.
    pub(super) async fn create<O>(&self, owner: &O, pod: Value) -> Result<(), Error>
    where
        O: Resource<DynamicType = ()>,
    {
        let pod: Pod = serde_json::from_value(pod).map_err(Error::SerdeError)?;
        let name = Name::new(owner.meta().namespace.clone().unwrap_or_default(), pod.name_any());
        self.awaited.note(&uid(owner), name.clone(), What::There);
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &name.namespace);
        let made = api.create(&PostParams::default(), &pod).await;
        match &made {
            Ok(_) => {
                self.events.normal(owner, "SuccessfulCreate", done::<O>("Create", owner, &name.name)).await;
            }
            Err(error) => {
                // What was refused does not come; of anything else nobody knows.
                if matches!(error, Error::Api(_)) {
                    self.awaited.forget(&name);
                }
                if !is_of_a_namespace_that_goes(error) {
                    let text = failed::<O>("Create", owner, &name.name, error);
                    self.events.warning(owner, "FailedCreate", text).await;
                }
            }
        }
        made.map(drop)
    }

    /// Makes pods, one first, and then twice as many each time while it goes well: a template that is refused is refused once.
    pub(super) async fn create_all<O>(&self, owner: &O, pods: Vec<Value>) -> Result<(), Error>
    where
        O: Resource<DynamicType = ()>,
    {
        let (mut pods, mut at_once) = (pods.into_iter(), 1);
        loop {
            let some: Vec<Value> = pods.by_ref().take(at_once).collect();
            if some.is_empty() {
                return Ok(());
            }
            let made = some.into_iter().map(|pod| self.create(owner, pod));
            futures_util::future::join_all(made).await.into_iter().collect::<Result<(), Error>>()?;
            at_once *= 2;
        }
    }

    /// Deletes a pod, if it is still the same.
    pub(super) async fn delete<O>(&self, owner: &O, pod: &Pod) -> Result<(), Error>
    where
        O: Resource<DynamicType = ()>,
    {
        let (name, its) = (Name::of(pod), uid(pod));
        self.awaited.note(&uid(owner), name.clone(), What::Gone(its.clone()));
        let deleted = delete::<Pod>(&self.client, &name, &its).await;
        match &deleted {
            Ok(()) => {
                self.events.normal(owner, "SuccessfulDelete", done::<O>("Delete", owner, &name.name)).await;
            }
            Err(error) => {
                if matches!(error, Error::Api(_)) {
                    self.awaited.forget(&name);
                }
                let text = failed::<O>("Delete", owner, &name.name, error);
                self.events.warning(owner, "FailedDelete", text).await;
            }
        }
        deleted
    }

    /// Deletes pods at the same time.
    pub(super) async fn delete_all<O>(&self, owner: &O, pods: &[Arc<Pod>]) -> Result<(), Error>
    where
        O: Resource<DynamicType = ()>,
    {
        let deleted = pods.iter().map(|pod| self.delete(owner, pod));
        futures_util::future::join_all(deleted).await.into_iter().collect()
    }
}

/// What is said of a pod that was made or deleted: of a StatefulSet's in other words, as Kubernetes has it.
fn done<O: Resource<DynamicType = ()>>(act: &str, owner: &O, pod: &str) -> String {
    match (O::kind(&()).as_ref(), act) {
        ("StatefulSet", _) => format!("{act} Pod {pod} in StatefulSet {} successful", owner.name_any()),
        (_, "Create") => format!("Created pod: {pod}"),
        _ => format!("Deleted pod: {pod}"),
    }
}

/// The same of one that was not.
fn failed<O: Resource<DynamicType = ()>>(act: &str, owner: &O, pod: &str, error: &Error) -> String {
    let why = says(error);
    match (O::kind(&()).as_ref(), act) {
        ("StatefulSet", _) => {
            format!("{act} Pod {pod} in StatefulSet {} failed error: {why}", owner.name_any())
        }
        (_, "Create") => format!("Error creating: {why}"),
        _ => format!("Error deleting: {why}"),
    }
}

/// Deletes the object of this name and uid; one that is gone, or another by now, is as wanted.
pub(super) async fn delete<K>(client: &Client, name: &Name, uid: &str) -> Result<(), Error>
where
    K: Kind + Resource<Scope = NamespaceResourceScope>,
{
    let preconditions = Some(Preconditions { uid: Some(uid.into()), resource_version: None });
    let how = DeleteParams { preconditions, ..DeleteParams::background() };
    let api: Api<K> = Api::namespaced(client.clone(), &name.namespace);
    match api.delete(&name.name, &how).await {
        Err(Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        done => done.map(drop),
    }
}

/// An object's uid.
pub(super) fn uid<K: Resource>(object: &K) -> String {
    object.meta().uid.clone().unwrap_or_default()
}

/// What the server said, as it said it, and no more of it than an event takes.
pub(super) fn says(error: &Error) -> String {
    cut(match error {
        Error::Api(status) => status.message.clone(),
        other => client::causes(other),
    })
}

/// Nothing is made in a namespace that is being deleted, and nobody need be told.
pub(super) fn is_of_a_namespace_that_goes(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.code == 403 && status.message.contains("because it is being terminated"))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};

    use super::*;

    #[test]
    fn of_a_stateful_set_it_is_told_in_other_words() {
        let metadata = serde_json::json!({"metadata": {"name": "web"}});
        let set: StatefulSet = serde_json::from_value(metadata.clone()).unwrap();
        assert_eq!(done("Create", &set, "web-0"), "Create Pod web-0 in StatefulSet web successful");
        let refused = Error::Api(kube::core::Status::failure("no", "Forbidden").with_code(403).boxed());
        let text = "Delete Pod web-0 in StatefulSet web failed error: no";
        assert_eq!(failed("Delete", &set, "web-0", &refused), text);
        let set: ReplicaSet = serde_json::from_value(metadata).unwrap();
        assert_eq!(
            (done("Create", &set, "p"), done("Delete", &set, "p")),
            ("Created pod: p".into(), "Deleted pod: p".into())
        );
        assert_eq!(failed("Create", &set, "p", &refused), "Error creating: no");
    }
}
