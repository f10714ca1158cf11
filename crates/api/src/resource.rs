//! What a resource is to the server: its names, its schema, and the rules of its kind.

use crate::contract::field::FieldErrors;
use crate::contract::{Object, Result};
use crate::schema::Schema;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::sync::Arc;

/// The names of a resource in one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The API group, empty for the core group.
    pub group: Cow<'static, str>,
    /// The version, such as `v1`.
    pub version: Cow<'static, str>,
    /// In paths: `pods`.
    pub plural: Cow<'static, str>,
    /// `pod`.
    pub singular: Cow<'static, str>,
    /// `Pod`.
    pub kind: Cow<'static, str>,
    /// `PodList`.
    pub list_kind: Cow<'static, str>,
    /// `po`.
    pub short: Vec<Cow<'static, str>>,
    /// `all`.
    pub categories: Vec<Cow<'static, str>>,
}

impl Names {
    /// `apps/v1`, or `v1` of the core group.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

/// What a resource can do beside get and list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verbs {
    /// create.
    pub create: bool,
    /// update, patch.
    pub update: bool,
    /// delete.
    pub delete: bool,
    /// deletecollection.
    pub delete_collection: bool,
    /// get, list, watch: false of reviews, which are created and answered and never kept.
    pub read: bool,
}

impl Verbs {
    /// Everything.
    pub const ALL: Verbs =
        Verbs { create: true, update: true, delete: true, delete_collection: true, read: true };
    /// What is created and answered, and never kept.
    pub const REVIEW: Verbs =
        Verbs { create: true, update: false, delete: false, delete_collection: false, read: false };
}

/// A resource in one version, as it is served.
#[derive(Clone)]
pub struct Resource {
    /// Its names.
    pub names: Names,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// What it can do.
    pub verbs: Verbs,
    /// Under which name its objects are kept: `pods`, `deployments.apps`. The same for all versions and for groups that
    /// share their objects (core and `events.k8s.io`).
    pub stored_as: Cow<'static, str>,
    /// The version (with group) in which objects are kept.
    pub storage_version: Cow<'static, str>,
    /// The rules of its kind.
    pub strategy: Arc<dyn Strategy>,
}

impl Resource {
    /// Whether it is of a custom resource definition.
    #[must_use]
    pub fn is_custom(&self) -> bool {
        self.strategy.prune(&mut Object::default()).is_some()
    }
}

/// Who asks, as far as rules of kinds look at it, and what else a request carries.
#[derive(Clone, Debug, Default)]
pub struct Asker {
    /// User name.
    pub user: String,
    /// Groups.
    pub groups: Vec<String>,
    /// Further facts of the user (`extra`).
    pub extra: Vec<(String, Vec<String>)>,
    /// Uid of the user; may be empty.
    pub uid: String,
}

impl Asker {
    /// As reviews, tokens and the audit log tell a user (`UserInfo` of `authentication.k8s.io/v1`).
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut map = Map::new();
        map.insert("username".to_owned(), self.user.as_str().into());
        if !self.uid.is_empty() {
            map.insert("uid".to_owned(), self.uid.as_str().into());
        }
        if !self.groups.is_empty() {
            map.insert("groups".to_owned(), self.groups.clone().into());
        }
        if !self.extra.is_empty() {
            let extra = self.extra.iter().map(|(key, values)| (key.clone(), values.clone().into()));
            map.insert("extra".to_owned(), extra.collect::<Map<_, _>>().into());
        }
        Value::Object(map)
    }
}

/// A column of `kubectl get`.
#[derive(Clone, Debug)]
pub struct Column {
    /// Its heading.
    pub name: Cow<'static, str>,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub kind: &'static str,
    /// `name` for the first column, else empty.
    pub format: &'static str,
    /// What it says.
    pub description: Cow<'static, str>,
    /// 0: always shown; 1: with `-o wide` only.
    pub priority: i32,
}

/// A subresource that is written through a view of the whole object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The object without its status.
    Main,
    /// `/status`.
    Status,
    /// `/scale` (through the paths of [`Strategy::scale`]).
    Scale,
    /// `/ephemeralcontainers` of pods.
    EphemeralContainers,
    /// `/resize` of pods.
    Resize,
    /// `/approval` of certificate signing requests.
    Approval,
    /// `/finalize` of namespaces.
    Finalize,
}

/// Where `/scale` finds its numbers.
#[derive(Clone, Debug)]
pub struct Scale {
    /// JSON path to the wished replicas: `.spec.replicas`.
    pub spec_replicas: Cow<'static, str>,
    /// JSON path to the replicas there are: `.status.replicas`.
    pub status_replicas: Cow<'static, str>,
    /// JSON path to the selector: of `kind: LabelSelector` or a string; empty when there is none.
    pub selector: Cow<'static, str>,
}

/// The rules of a kind. Every method works on objects of the version of its resource; the server has decoded them by
/// [`schema`](Strategy::schema), so that every field has the type that the schema says.
///
/// For a create: `default`, `prepare_create`, admission, `validate`. For an update: `default`, `prepare_update`, admission,
/// `validate_update` (which includes what `validate` would say).
pub trait Strategy: Send + Sync {
    /// The schema of the whole object, `metadata` included.
    fn schema(&self) -> Schema<'_>;

    /// The schema as OpenAPI v3 tells it, where it is not that of a built-in type (the `openAPIV3Schema` of a custom
    /// resource definition, with its descriptions). `None`: it is told from [`schema`](Strategy::schema).
    fn openapi(&self) -> Option<Value> {
        None
    }

    /// Of custom resources: drops what the schema does not know and returns the paths of what was dropped
    /// (`spec.list[0].field`, in the order of unknown-field messages). Types are then judged by
    /// [`validate`](Strategy::validate) alone, so the decoder reads the body without a schema. `None` of built-in kinds,
    /// whose decoder does both.
    fn prune(&self, object: &mut Object) -> Option<Vec<String>> {
        let _ = object;
        None
    }

    /// Fills in what the client left out.
    fn default(&self, object: &mut Object);

    /// Takes away what a client cannot set at creation (the status) and sets what the server sets. `metadata` is the
    /// server's (uid, creationTimestamp, generation 1 where [`has_generation`](Strategy::has_generation)).
    fn prepare_create(&self, object: &mut Object) {
        object.0.remove("status");
    }

    /// Writes into a new object who asks, after [`prepare_create`](Strategy::prepare_create), where the kind keeps that
    /// (CertificateSigningRequest).
    fn signed_by(&self, object: &mut Object, asker: &Asker) {
        let _ = (object, asker);
    }

    /// The same for an update of `part`: what belongs to other parts is taken from `old`.
    fn prepare_update(&self, part: Part, object: &mut Object, old: &Object);

    /// Everything that is wrong with a new object, in Kubernetes' order and wording. `metadata` is checked by the server
    /// but for the name, see [`name_errors`](Strategy::name_errors).
    fn validate(&self, object: &Object) -> FieldErrors;

    /// Everything that is wrong with an updated one.
    fn validate_update(&self, part: Part, object: &Object, old: &Object) -> FieldErrors;

    /// Warnings about a new object as it was sent, before [`prepare_create`](Strategy::prepare_create).
    fn early_warnings(&self, object: &Object) -> Vec<String> {
        let _ = object;
        Vec::new()
    }

    /// The group and the kind that refusals name, where not its own.
    fn refused_as(&self) -> Option<(&str, &str)> {
        None
    }

    /// What is wrong with the name (details as in the message after `Invalid value: "x": `); by default a DNS subdomain.
    fn name_errors(&self, name: &str, prefix: bool) -> Vec<String>;

    /// Warnings for the client (`Warning:` headers), such as of a deprecated field or a kind that nothing acts on.
    fn warnings(&self, object: &Object, old: Option<&Object>) -> Vec<String> {
        let _ = (object, old);
        Vec::new()
    }

    /// What every request for the version is told, where it is deprecated.
    fn deprecation(&self) -> Option<&str> {
        None
    }

    /// Whether `metadata.generation` counts changes of what is not status (and not metadata).
    fn has_generation(&self) -> bool {
        true
    }

    /// Which parts beside the main one can be written.
    fn parts(&self) -> &[Part] {
        &[]
    }

    /// Where `/scale` finds its numbers, when [`Part::Scale`] is among the parts.
    fn scale(&self) -> Option<Scale> {
        None
    }

    /// The columns of `kubectl get`, after which `row` fills them.
    fn columns(&self) -> Vec<Column>;

    /// One row: a cell for each column. Ages are written as of `now` (seconds since 1970).
    fn row(&self, object: &Object, now: i64) -> Vec<Value>;

    /// Fields that a field selector may name beside `metadata.name` and `metadata.namespace`.
    fn selectable(&self) -> &[&str] {
        &[]
    }

    /// The same where the names are not known before the server runs (custom resources); what callers ask.
    fn selectable_names(&self) -> Vec<String> {
        self.selectable().iter().map(|name| (*name).to_owned()).collect()
    }

    /// The value of a selectable field.
    fn selected(&self, object: &Object, field: &str) -> String {
        let path: Vec<&str> = field.split('.').collect();
        match object.at(&path) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) | None => String::new(),
            Some(other) => other.to_string(),
        }
    }

    /// Whether an object, given as it is kept by the version that is kept, is told so. Definitions change after objects
    /// were kept: then [`from_stored`](Strategy::from_stored) makes of them what they are now.
    fn is_told_as_kept(&self, json: &[u8]) -> bool {
        let _ = json;
        true
    }

    /// Of custom resources, after [`prune`](Strategy::prune): reads the metadata of resources within them by its type, and
    /// returns what was unknown or there twice, as messages.
    ///
    /// # Errors
    /// What is not of its type, as the message of a refusal.
    fn coerce(&self, object: &mut Object) -> std::result::Result<Vec<String>, String> {
        let _ = object;
        Ok(Vec::new())
    }

    /// An object of this version from one as it is kept (`apiVersion` says of which).
    ///
    /// # Errors
    /// Where the kept one cannot be told in this version.
    #[expect(clippy::wrong_self_convention, reason = "the conversion is the resource's, of any object")]
    fn from_stored(&self, object: Object) -> Result<Object> {
        Ok(object)
    }

    /// An object as it is kept from one of this version.
    ///
    /// # Errors
    /// Where it cannot be told in the version that is kept.
    fn to_stored(&self, object: Object) -> Result<Object> {
        Ok(object)
    }
}
