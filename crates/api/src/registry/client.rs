//! The client of who runs in the same process: what kube-rs is over HTTP.

use super::options::{DeleteOptions, ListOptions, Propagation};
use super::target::{Body, PatchKind, Target, View};
use super::{Context, Registry, Watching, document};
use crate::contract::{Object, Result, Status};
use crate::resource::Part;
use bytes::Bytes;
use serde_json::Value;
use std::collections::{HashMap, VecDeque};

/// A client that acts under the name of a part of the server.
#[derive(Clone)]
pub struct Client {
    registry: Registry,
    context: Context,
}

impl Client {
    /// A client that owns the fields it sets as `manager`.
    #[must_use]
    pub fn new(registry: Registry, manager: &str) -> Client {
        Client { registry, context: Context::of_system(manager) }
    }

    /// What it works on.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// What a kind in a version is called; `namespace` is empty for all of them.
    ///
    /// # Errors
    /// 404 where there is no such kind.
    pub fn target(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> Result<Target> {
        let resource = self.registry.resources().by_kind(api_version, kind).ok_or_else(|| {
            Status::new(
                404,
                crate::contract::Reason::NotFound,
                format!("no matches for kind {kind:?} in version {api_version:?}"),
            )
        })?;
        Ok(Target { resource, namespace: namespace.to_owned(), name: name.to_owned() })
    }

    /// The object.
    ///
    /// # Errors
    /// 404 where it is not there.
    pub fn get(&self, target: &Target) -> Result<Object> {
        self.registry.object(target)
    }

    /// All objects of a collection that a label selector means (empty: all), and the version at which they were so.
    ///
    /// # Errors
    /// 400 for a selector that is none.
    pub fn list(&self, target: &Target, labels: &str) -> Result<(Vec<Object>, String)> {
        let options = ListOptions { labels: labels.to_owned(), ..ListOptions::default() };
        let selection = super::selection::Selection::new(target, &options)?;
        let listed = self.registry.listed(&selection, &options)?;
        let objects: Result<Vec<Object>> =
            listed.items.iter().map(|stored| document::open(&target.resource, &stored.json)).collect();
        Ok((objects?, listed.revision.to_string()))
    }

    /// Creates an object.
    ///
    /// # Errors
    /// As of [`Registry::create`].
    pub async fn create(&self, target: &Target, object: Object) -> Result<Object> {
        let answer = self.registry.create(&self.context, target, Body::Object(object), View::Full).await?;
        document::parse(&answer.json)
    }

    /// Replaces an object, or the part of it.
    ///
    /// # Errors
    /// As of [`Registry::update`].
    pub async fn update(&self, target: &Target, part: Part, object: Object) -> Result<Object> {
        let body = Body::Object(object);
        let answer = self.registry.update(&self.context, target, part, body, View::Full).await?;
        document::parse(&answer.json)
    }

    /// Patches an object, or the part of it.
    ///
    /// # Errors
    /// As of [`Registry::patch`].
    pub async fn patch(&self, target: &Target, part: Part, kind: PatchKind, patch: &Value) -> Result<Object> {
        let body = Bytes::from(patch.to_string());
        let answer = self.registry.patch(&self.context, target, part, kind, body, View::Full).await?;
        document::parse(&answer.json)
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// As of [`Registry::delete`].
    pub async fn delete(&self, target: &Target, options: &DeleteOptions) -> Result<()> {
        self.registry.delete(&self.context, target, options, View::Full).await.map(drop)
    }

    /// Deletes an object whose uid is `uid`, and those that it owns after it.
    ///
    /// # Errors
    /// As of [`Registry::delete`]; 409 where it is another one of that name.
    pub async fn delete_uid(&self, target: &Target, uid: &str) -> Result<()> {
        let mut options =
            DeleteOptions { propagation: Some(Propagation::Background), ..DeleteOptions::default() };
        options.preconditions.uid = Some(uid.to_owned());
        self.delete(target, &options).await
    }

    /// Changes an object without the rules of its kind, until nobody else is faster.
    ///
    /// # Errors
    /// 404 where it is not there, and what `make` refuses.
    pub async fn change(
        &self,
        target: &Target,
        make: impl Fn(&Object) -> Result<Object> + Send + Sync,
    ) -> Result<Object> {
        let make = |live: Option<&Object>| make(live.ok_or_else(|| target.not_found())?);
        self.registry.change_directly(&self.context, target, "", &make).await
    }

    /// A watch of a collection that goes on whatever happens.
    #[must_use]
    pub fn follow(&self, target: Target) -> Follow {
        Follow { client: self.clone(), target, watch: None, known: HashMap::new(), waiting: VecDeque::new() }
    }
}

/// What happened to an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It is there, for the first time or in another state.
    Applied(Object),
    /// It is gone; this was its last state, or its names and uid where that was not seen.
    Gone(Object),
    /// Everything that is there has been told, for the first time or once more.
    Settled,
}

/// A watch that lists again when it has to, and then tells what it missed.
pub struct Follow {
    client: Client,
    target: Target,
    watch: Option<Watching>,
    /// Names, uid and resource version of what has been told, by namespace and name.
    known: HashMap<(String, String), Object>,
    waiting: VecDeque<Change>,
}

impl Follow {
    /// The next change. It may be dropped while it waits.
    pub async fn next(&mut self) -> Change {
        loop {
            if let Some(change) = self.waiting.pop_front() {
                return change;
            }
            if self.watch.is_none() {
                if let Err(status) = self.list_again().await {
                    eprintln!("sextant: cannot list {}: {status}", self.target.resource.names.plural);
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                }
                continue;
            }
            let frame = match &mut self.watch {
                Some(watch) => watch.next().await,
                None => None,
            };
            match frame {
                Some(frame) => self.told(&frame),
                None => self.watch = None,
            }
        }
    }

    async fn list_again(&mut self) -> Result<()> {
        let (objects, version) = self.client.list(&self.target, "")?;
        let options = ListOptions { watch: true, version, ..ListOptions::default() };
        let registry = self.client.registry.clone();
        let watch = registry.watch(&self.client.context, &self.target, &options, View::Full).await?;
        let mut missing = std::mem::take(&mut self.known);
        for object in objects {
            let before = missing.remove(&key(&object));
            self.known.insert(key(&object), skeleton(&object));
            match before {
                Some(before) if before.resource_version() == object.resource_version() => {}
                Some(before) if before.uid() != object.uid() => {
                    self.waiting.push_back(Change::Gone(before));
                    self.waiting.push_back(Change::Applied(object));
                }
                _ => self.waiting.push_back(Change::Applied(object)),
            }
        }
        self.waiting.extend(missing.into_values().map(Change::Gone));
        self.waiting.push_back(Change::Settled);
        self.watch = Some(watch);
        Ok(())
    }

    fn told(&mut self, frame: &[u8]) {
        let mut frame = serde_json::from_slice::<Value>(frame).unwrap_or(Value::Null);
        let object = Object::from_value(frame["object"].take()).unwrap_or_default();
        match frame["type"].as_str() {
            Some("ADDED" | "MODIFIED") => {
                self.known.insert(key(&object), skeleton(&object));
                self.waiting.push_back(Change::Applied(object));
            }
            Some("DELETED") => {
                self.known.remove(&key(&object));
                self.waiting.push_back(Change::Gone(object));
            }
            Some("BOOKMARK") => {}
            _ => self.watch = None,
        }
    }
}

fn key(object: &Object) -> (String, String) {
    (object.namespace().to_owned(), object.name().to_owned())
}

/// What is remembered of an object: enough to tell that it is gone.
fn skeleton(object: &Object) -> Object {
    let mut skeleton = Object::default();
    for field in ["name", "namespace", "uid", "resourceVersion"] {
        if let Some(value) = object.at(&["metadata", field]) {
            skeleton.metadata_mut().insert(field.to_owned(), value.clone());
        }
    }
    skeleton
}
