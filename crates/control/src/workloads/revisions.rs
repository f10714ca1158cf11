//! ControllerRevisions: the templates that a set has had, each kept as an object, so that an earlier one can be had again.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use client::cache::{Cache, Name};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Error, Resource, ResourceExt as _};
use serde_json::{Value, json};

use super::{hands, owned, pods};

/// On a pod: of which revision it is.
pub(super) const POD: &str = "controller-revision-hash";

/// The revisions of one owner, the oldest first; the last is of the template as it is.
#[derive(Clone, Debug)]
pub(super) struct Revisions(Vec<Arc<ControllerRevision>>);

/// What a revision keeps of a template: a patch that brings it back.
fn data(template: &PodTemplateSpec) -> Value {
    let mut template = json!(template);
    template["$patch"] = json!("replace");
    json!({"spec": {"template": template}})
}

fn kept(revision: &ControllerRevision) -> Value {
    revision.data.as_ref().map(|data| data.0.clone()).unwrap_or_default()
}

impl Revisions {
    /// Those of `owner`, whose template this is; a new one is made for a new template, with `label` as the label of its hash.
    pub(super) async fn of<O>(
        client: &Client,
        cache: &Cache<ControllerRevision>,
        owner: &O,
        template: &PodTemplateSpec,
        label: &str,
    ) -> Result<Self, Error>
    where
        O: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Debug,
    {
        let uid = hands::uid(owner);
        let mut mine = cache.find(|revision| owned::is_of(&revision.metadata, &uid));
        mine.sort_by_key(|revision| (revision.revision, revision.name_any()));
        let wanted = data(template);
        let next = mine.last().map_or(1, |last| last.revision + 1);
        let api: Api<ControllerRevision> =
            Api::namespaced(client.clone(), owner.meta().namespace.as_deref().unwrap_or_default());
        if let Some(at) = mine.iter().position(|revision| kept(revision) == wanted) {
            let mut its = mine.remove(at);
            if !mine.is_empty() && at < mine.len() {
                // An earlier template again: it is the latest now.
                let patch = json!({"metadata": {"uid": its.uid(), "resourceVersion": its.resource_version()}, "revision": next});
                its = Arc::new(
                    api.patch(&its.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?,
                );
            }
            mine.push(its);
            return Ok(Self(mine));
        }
        // A name that another template has counts on.
        for collisions in 0_u8..10 {
            let hash = pods::encode(pods::fnv(format!("{wanted}{collisions}").as_bytes()));
            let name = format!("{}-{hash}", owner.name_any());
            let mut labels =
                json!(template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default());
            labels[label] = json!(hash);
            let made = json!({
                "metadata": {"name": name, "labels": labels, "ownerReferences": [owned::reference(owner)]},
                "data": wanted, "revision": next,
            });
            let made: ControllerRevision = serde_json::from_value(made).map_err(Error::SerdeError)?;
            let its = match api.create(&PostParams::default(), &made).await {
                Err(Error::Api(status)) if status.code == 409 => api.get(&name).await?,
                done => done?,
            };
            if kept(&its) != wanted {
                continue;
            }
            match owned::controller(&its.metadata) {
                Some(held) if held.uid != uid => continue,
                // One that an owner of this name has left behind with its pods: they are of it.
                None if owner.meta().deletion_timestamp.is_none() => owned::adopt(&api, &its, owner).await?,
                _ => {}
            }
            mine.push(Arc::new(its));
            break;
        }
        Ok(Self(mine))
    }

    /// That of the template as it is.
    pub(super) fn update(&self) -> Option<&Arc<ControllerRevision>> {
        self.0.last()
    }

    /// The template of the revision of this name.
    pub(super) fn template(&self, name: &str) -> Option<PodTemplateSpec> {
        let its = self.0.iter().find(|revision| revision.name_any() == name)?;
        let mut template = kept(its)["spec"]["template"].clone();
        template.as_object_mut()?.remove("$patch");
        serde_json::from_value(template).ok()
    }

    /// Forgets the oldest ones beyond so many, except those in use.
    pub(super) async fn truncate(
        &self,
        client: &Client,
        limit: Option<i32>,
        used: &BTreeSet<String>,
    ) -> Result<(), Error> {
        let limit = usize::try_from(limit.unwrap_or(10)).unwrap_or_default();
        let idle = self.0.iter().rev().skip(1).rev().filter(|one| !used.contains(&one.name_any()));
        let idle: Vec<_> = idle.collect();
        let over = idle.len().saturating_sub(limit);
        for one in idle.into_iter().take(over) {
            hands::delete::<ControllerRevision>(client, &Name::of(&**one), &hands::uid(&**one)).await?;
        }
        Ok(())
    }
}
