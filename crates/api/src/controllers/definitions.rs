//! Custom resource definitions: their names are accepted, their resources come and go, and their objects go with them.

use crate::contract::{Object, Result, Status};
use crate::crd::{Definition, FINALIZER, status};
use crate::kinds::base::Fields;
use crate::registry::client::{Change, Client};
use crate::registry::options::DeleteOptions;
use crate::registry::{Cursor, Registry, Target, now_text};
use crate::store::{Expect, Scope, Stored, Write};
use serde_json::Value;
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeSet, HashMap};
use std::hash::{Hash as _, Hasher as _};
use std::time::Duration;
use tokio::time::MissedTickBehavior;

const KIND: &str = "customresourcedefinitions.apiextensions.k8s.io";
/// When what is left of a deleted definition is looked at again.
const AGAIN: Duration = Duration::from_millis(500);

/// What is served, of which definition as it was when.
pub(super) struct Definitions {
    client: Client,
    /// What a definition said that its resources were built from, as a number.
    served: HashMap<String, u64>,
}

impl Definitions {
    /// Serves what the definitions that there are say, before anybody is answered. What cannot be served is told, and keeps
    /// nobody else from it.
    pub(super) async fn serve_all(client: &Client) -> Result<Definitions> {
        let mut definitions = Definitions { client: client.clone(), served: HashMap::new() };
        for definition in client.registry().every(KIND, None)? {
            if let Err(status) = definitions.attend(definition.name()).await {
                eprintln!("sextant: cannot serve {}: {status}", definition.name());
            }
        }
        Ok(definitions)
    }

    /// Follows the definitions.
    pub(super) async fn run(mut self) {
        let Ok(target) = self.client.target("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", "")
        else {
            return;
        };
        let mut changes = self.client.follow(target);
        let mut waiting: BTreeSet<String> = BTreeSet::new();
        let mut again = tokio::time::interval(AGAIN);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let names: Vec<String> = tokio::select! {
                change = changes.next() => match change {
                    Change::Applied(definition) => vec![definition.name().to_owned()],
                    // Names that it had are free for others.
                    Change::Gone(definition) => {
                        if let Err(status) = self.forget(definition.name()).await {
                            let name = definition.name();
                            eprintln!("sextant: cannot take away what is left of {name}: {status}");
                            waiting.insert(name.to_owned());
                        }
                        self.names()
                    }
                    Change::Settled => continue,
                },
                // However much happens meanwhile.
                _ = again.tick(), if !waiting.is_empty() => std::mem::take(&mut waiting).into_iter().collect(),
            };
            for name in names {
                match self.attend(&name).await {
                    Ok(true) => {
                        waiting.insert(name);
                    }
                    Ok(false) => {}
                    Err(status) => {
                        eprintln!("sextant: cannot serve {name}: {status}");
                        waiting.insert(name);
                    }
                }
            }
        }
    }

    fn names(&self) -> Vec<String> {
        let all = self.client.registry().every(KIND, None).unwrap_or_default();
        all.iter().map(|definition| definition.name().to_owned()).collect()
    }

    /// Brings one definition on; true when it has to be looked at again.
    async fn attend(&mut self, name: &str) -> Result<bool> {
        let registry = self.client.registry();
        let Some(definition) = registry.peek(KIND, "", name)? else {
            // What could not be taken away when it went.
            purge(registry, name, None).await?;
            return Ok(false);
        };
        let target = self.client.target("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", name)?;
        if definition.is_terminating() && definition.finalizers().any(|held| held == FINALIZER) {
            self.serve(&definition)?;
            return self.end(&target, &definition).await;
        }
        if definition.status().list("conditions").is_empty() && !self.served.contains_key(name) {
            // Nothing of a definition of that name that is gone comes back with this one.
            purge(registry, name, Some(created(&definition))).await?;
        }
        let others: Vec<Object> =
            registry.every(KIND, None)?.into_iter().filter(|other| other.name() != name).collect();
        let settled = self
            .client
            .change(&target, |live| {
                let mut changed = live.clone();
                status::settle(&mut changed, &others, &now_text());
                Ok(changed)
            })
            .await?;
        if let Err(refused) = self.serve(&settled) {
            self.client
                .change(&target, |live| {
                    let mut changed = live.clone();
                    status::unserved(&mut changed, &refused.message, &now_text());
                    Ok(changed)
                })
                .await?;
            eprintln!("sextant: cannot serve {name}: {refused}");
        }
        Ok(false)
    }

    /// Serves the resources of a definition that is established, if they are not served as they are.
    fn serve(&mut self, definition: &Object) -> Result<()> {
        let name = definition.name();
        let registry = self.client.registry();
        // What is built in stays, whatever a definition of the same name says: the one is as good as established.
        if !status::is_established(definition) || is_built_in(registry, name) {
            return Ok(());
        }
        let said = said(definition);
        if self.served.get(name) != Some(&said) {
            let resources = Definition::from_object(definition)?.resources();
            registry.set_custom(name, resources);
            self.served.insert(name.to_owned(), said);
        }
        Ok(())
    }

    /// A definition is gone: so is all that was kept under its name.
    async fn forget(&mut self, name: &str) -> Result<()> {
        self.client.registry().set_custom(name, Vec::new());
        self.served.remove(name);
        // There may be another of that name, with objects of its own.
        let again = self.client.registry().peek(KIND, "", name)?;
        purge(self.client.registry(), name, again.as_ref().map(created)).await
    }

    /// Deletes the objects of a definition, and lets it go when there was none left to delete: whoever follows them has
    /// half a second to hear of the last.
    async fn end(&self, target: &Target, definition: &Object) -> Result<bool> {
        let (found, left) = delete_objects(&self.client, definition).await?;
        self.client
            .change(target, |live| {
                let mut changed = live.clone();
                status::terminating(&mut changed, left, &now_text());
                if found == 0
                    && let Some(Value::Array(list)) = changed.metadata_mut().get_mut("finalizers")
                {
                    list.retain(|name| name != FINALIZER);
                }
                Ok(changed)
            })
            .await?;
        Ok(found > 0)
    }
}

/// What the resources of a definition are built from.
fn said(definition: &Object) -> u64 {
    let mut hasher = DefaultHasher::new();
    definition.uid().hash(&mut hasher);
    for part in [definition.0.get("spec"), definition.status().field("acceptedNames")] {
        part.map(Value::to_string).hash(&mut hasher);
    }
    hasher.finish()
}

/// When an object was made, as an RFC 3339 time.
fn created(object: &Object) -> &str {
    object.text(&["metadata", "creationTimestamp"])
}

/// Takes out of the store what is kept under the name of a definition and was made before a time (`None`: all of it),
/// whatever holds it.
async fn purge(registry: &Registry, name: &str, before: Option<&str>) -> Result<()> {
    if is_built_in(registry, name) {
        return Ok(());
    }
    let scope = Scope { resource: name.to_owned(), namespace: None };
    let mut cursor = Cursor::new(registry.store(), &scope, None, None);
    while !cursor.has_ended() {
        let page = cursor.next().map_err(Status::internal)?;
        cursor.renew();
        let old = |stored: &Stored| {
            let object = serde_json::from_slice(&stored.json).ok().and_then(Object::from_value);
            before.is_none_or(|before| object.is_none_or(|object| created(&object) < before))
        };
        let write = |stored: Stored| Write {
            key: stored.key,
            expect: Expect::Revision(stored.revision),
            value: None,
        };
        let writes: Vec<Write> = page.into_iter().filter(old).map(write).collect();
        if !writes.is_empty() {
            registry.store().commit(writes).await.map_err(Status::internal)?;
        }
    }
    Ok(())
}

/// Deletes all objects of a definition; how many there were, and how many are left.
async fn delete_objects(client: &Client, definition: &Object) -> Result<(usize, usize)> {
    let kind = definition.name();
    if is_built_in(client.registry(), kind) {
        return Ok((0, 0));
    }
    let objects = client.registry().every(kind, None)?;
    let resource = client.registry().resources().kept().into_iter().find(|kept| kept.stored_as == kind);
    let Some(resource) = resource else { return Ok((objects.len(), objects.len())) };
    for object in objects.iter().filter(|object| !object.is_terminating()) {
        let target = Target {
            resource: resource.clone(),
            namespace: object.namespace().to_owned(),
            name: object.name().to_owned(),
        };
        match client.delete(&target, &DeleteOptions::default()).await {
            Err(status) if status.code == 404 => {}
            other => other?,
        }
    }
    Ok((objects.len(), client.registry().every(kind, None)?.len()))
}

/// Whether a kind of that name (`plural.group`) is there without a definition.
fn is_built_in(registry: &Registry, name: &str) -> bool {
    registry.resources().iter().any(|resource| {
        let names = &resource.names;
        !resource.is_custom()
            && name
                .strip_prefix(&*names.plural)
                .is_some_and(|rest| rest.strip_prefix('.') == Some(&*names.group))
    })
}

/// 403 of a create while the definition is being deleted.
pub(crate) fn creatable(registry: &Registry, stored_as: &str, name: &str) -> Result<()> {
    match registry.peek(KIND, "", stored_as)? {
        Some(definition) if definition.is_terminating() => {
            let (plural, group) = stored_as.split_once('.').unwrap_or((stored_as, ""));
            let cause = "create not allowed while custom resource definition is terminating";
            Err(Status::forbidden(group, plural, name, cause))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::kept;

    const NAME: &str = "widgets.example.com";

    #[tokio::test]
    async fn nothing_is_taken_away_where_it_cannot_be_read_whose_it_is() {
        let (_folder, store) = kept::store();
        let registry = Registry::new(store.clone(), crate::kinds::builtin(), Vec::new(), Default::default());
        let client = Client::new(registry.clone(), "tester");
        let mut definitions = Definitions { client, served: HashMap::new() };
        // More than are read at once.
        let widget = r#"{"metadata":{"resourceVersion":"","creationTimestamp":"2026-01-01T10:00:00Z"}}"#;
        let widgets = (0..10).map(|index| kept::write(NAME, "a", &format!("w{index}"), widget)).collect();
        store.commit(widgets).await.unwrap();
        let left = || registry.every(NAME, None).unwrap().len();
        let cut = r#"{"metadata":{"resourceVersion":"""#;
        store.commit(vec![kept::write(KIND, "", NAME, cut)]).await.unwrap();
        definitions.forget(NAME).await.unwrap_err();
        assert_eq!(left(), 10, "the definition that is there may be theirs");
        let before = r#"{"metadata":{"resourceVersion":"","creationTimestamp":"2026-01-01T10:00:00Z"}}"#;
        store.commit(vec![kept::write(KIND, "", NAME, before)]).await.unwrap();
        definitions.forget(NAME).await.unwrap();
        assert_eq!(left(), 10, "they are of the one that is there");
        let key = crate::store::Key { resource: KIND.into(), namespace: String::new(), name: NAME.into() };
        store.commit(vec![Write { key, expect: Expect::Any, value: None }]).await.unwrap();
        // As it is done with a name that waits since it could not be forgotten.
        assert!(!definitions.attend(NAME).await.unwrap());
        assert_eq!(left(), 0);
    }
}
