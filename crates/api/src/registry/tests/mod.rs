//! The registry over a store of its own, with the kinds that are built in.

#![allow(clippy::unwrap_used, reason = "a test")]

mod collections;
mod controllers;
mod definitions;
mod deletions;
mod evictions;
mod objects;
mod watches;

use super::options::{DeleteOptions, ListOptions};
use super::{Answer, Body, Context, Registry, Settings, Target, View};
use crate::admission::{self, Admission};
use crate::contract::{Object, Result};
use crate::decode::Media;
use crate::kinds;
use crate::resource::{Asker, Part};
use crate::store::{self, Store};
use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::Arc;
use tempfile::TempDir;

pub(super) struct Rig {
    pub(super) registry: Registry,
    pub(super) context: Context,
    _folder: TempDir,
}

impl Rig {
    /// A registry with the namespace `default` and its account.
    pub(super) async fn new() -> Rig {
        Rig::over(store::Options::default()).await
    }

    /// The same with one more who has a say.
    pub(super) async fn with(admission: Arc<dyn Admission>) -> Rig {
        let mut admissions = admission::builtin(None);
        admissions.push(admission);
        Rig::of(store::Options::default(), admissions).await
    }

    /// The same over a store with other bounds.
    pub(super) async fn over(options: store::Options) -> Rig {
        Rig::of(options, admission::builtin(None)).await
    }

    async fn of(options: store::Options, admissions: Vec<Arc<dyn Admission>>) -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), options).unwrap();
        let registry = Registry::new(store, kinds::builtin(), admissions, Settings::default());
        let rig = Rig { registry, context: Context::of(Asker::default(), "tester/1.0"), _folder: folder };
        rig.create("v1", "Namespace", "", json!({"metadata": {"name": "default"}})).await.unwrap();
        rig
    }

    pub(super) fn target(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> Target {
        let resource = self.registry.resources().by_kind(api_version, kind).unwrap();
        Target { resource, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    pub(super) fn map(&self, name: &str) -> Target {
        self.target("v1", "ConfigMap", "default", name)
    }

    pub(super) async fn create(
        &self,
        api_version: &str,
        kind: &str,
        namespace: &str,
        mut object: Value,
    ) -> Result<Object> {
        let target = self.target(api_version, kind, namespace, "");
        object["apiVersion"] = api_version.into();
        object["kind"] = kind.into();
        let answer = self.registry.create(&self.context, &target, body(&object), View::Full).await?;
        assert_eq!(answer.code, 201);
        Ok(object_of(&answer))
    }

    pub(super) async fn create_map(&self, name: &str, metadata: Value) -> Object {
        let mut object = json!({"metadata": metadata, "data": {"a": "1"}});
        object["metadata"]["name"] = name.into();
        self.create("v1", "ConfigMap", "default", object).await.unwrap()
    }

    pub(super) async fn update(&self, target: &Target, object: &Object) -> Result<Object> {
        let body = body(&object.clone().into_value());
        let answer = self.registry.update(&self.context, target, Part::Main, body, View::Full).await?;
        Ok(object_of(&answer))
    }

    pub(super) async fn get(&self, target: &Target) -> Result<Object> {
        let answer = self.registry.get(&self.context, target, Part::Main, "", View::Full).await?;
        Ok(object_of(&answer))
    }

    pub(super) async fn delete(&self, target: &Target, options: &DeleteOptions) -> Result<Value> {
        let answer = self.registry.delete(&self.context, target, options, View::Full).await?;
        Ok(value_of(&answer))
    }

    pub(super) async fn list(&self, target: &Target, options: &ListOptions) -> Result<Value> {
        let answer = self.registry.list(&self.context, target, options, View::Full).await?;
        Ok(value_of(&answer))
    }
}

fn body(value: &Value) -> Body {
    Body::Bytes(Bytes::from(value.to_string()), Media::Json)
}

pub(super) fn value_of(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.json).unwrap()
}

fn object_of(answer: &Answer) -> Object {
    Object::from_value(value_of(answer)).unwrap()
}

pub(super) fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().unwrap();
    items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}
