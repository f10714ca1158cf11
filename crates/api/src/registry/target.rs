//! What a request is about, and the form in which it is answered.

use crate::contract::Object;
use crate::decode::Media;
use crate::resource::Resource;
use bytes::Bytes;
use std::sync::Arc;

/// What a request is about.
#[derive(Clone)]
pub struct Target {
    /// The resource, in the version of the request.
    pub resource: Arc<Resource>,
    /// The namespace; empty for all of them and for what is in none.
    pub namespace: String,
    /// The name; empty for the collection.
    pub name: String,
}

impl Target {
    /// The same resource and namespace with another name.
    #[must_use]
    pub fn named(&self, name: &str) -> Target {
        Target { name: name.to_owned(), ..self.clone() }
    }
}

/// What a client sent.
#[derive(Clone, Debug)]
pub enum Body {
    /// As bytes, yet to be decoded.
    Bytes(Bytes, Media),
    /// An object of the process itself.
    Object(Object),
}

/// How a patch is meant (its `Content-Type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// `application/json-patch+json`.
    Json,
    /// `application/merge-patch+json`.
    Merge,
    /// `application/strategic-merge-patch+json`.
    Strategic,
    /// `application/apply-patch+yaml`.
    Apply,
}

/// How much of each object a table holds (`includeObject`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Include {
    /// None of it.
    None,
    /// Its metadata, the default.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

/// The version of `meta.k8s.io` in which tables and metadata are told. They are the same in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Meta {
    /// `v1`.
    #[default]
    V1,
    /// `v1beta1`, which clients ask for that are older than Kubernetes 1.15.
    V1Beta1,
}

impl Meta {
    /// Group and version.
    #[must_use]
    pub fn api_version(self) -> &'static str {
        match self {
            Meta::V1 => "meta.k8s.io/v1",
            Meta::V1Beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

/// In what form objects are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// As they are.
    #[default]
    Full,
    /// `as=Table` of `meta.k8s.io`.
    Table(Include, Meta),
    /// `as=PartialObjectMetadata`, or for collections `as=PartialObjectMetadataList`.
    Metadata(Meta),
}

/// What was answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status code: 200, 201 or 202.
    pub code: u16,
    /// The JSON of the object, list, table or `Status`.
    pub json: Bytes,
}
