//! A definition, ready to serve.

use super::custom::Custom;
use crate::contract::field::{FieldError, Path};
use crate::contract::{Object, Result, Status};
use crate::kinds::base::Fields;
use crate::resource::{Names, Resource, Verbs};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::sync::Arc;

/// An accepted definition.
pub struct Definition {
    resources: Vec<Resource>,
}

impl Definition {
    /// The definition in `object`, which is complete (defaults filled in) and valid.
    ///
    /// # Errors
    /// Where no version is kept, which validation would have refused.
    pub fn from_object(object: &Object) -> Result<Definition> {
        let spec = object.spec();
        let versions = spec.list("versions");
        let Some(storage) = versions.iter().find(|version| version.is("storage")) else {
            let detail = "must have exactly one version marked as storage version";
            let errors = vec![FieldError::invalid(&Path::new("spec").child("versions"), Value::Null, detail)];
            let group = "apiextensions.k8s.io";
            return Err(Status::invalid(group, "CustomResourceDefinition", object.name(), &errors));
        };
        let group = spec.text("group");
        let accepted =
            Fields::map(object.status(), "acceptedNames").filter(|names| !names.text("plural").is_empty());
        let names = accepted.or_else(|| Fields::map(spec, "names"));
        let stored_as = format!("{}.{group}", names.text("plural"));
        let storage = format!("{group}/{}", storage.text("name"));
        let resource = |version: &Value| Resource {
            names: self::names(names, group, version.text("name")),
            namespaced: spec.text("scope") == "Namespaced",
            verbs: Verbs::ALL,
            stored_as: Cow::Owned(stored_as.clone()),
            storage_version: Cow::Owned(storage.clone()),
            strategy: Arc::new(Custom::new(group, names.text("kind"), version)),
        };
        Ok(Definition {
            resources: versions.iter().filter(|version| version.is("served")).map(resource).collect(),
        })
    }

    /// A resource for each served version. All keep their objects in the storage version under `plural.group`.
    #[must_use]
    pub fn resources(&self) -> Vec<Resource> {
        self.resources.clone()
    }
}

fn names(names: Option<&Map<String, Value>>, group: &str, version: &str) -> Names {
    let text = |name: &str| Cow::Owned(names.text(name).to_owned());
    let list = |name: &str| names.texts(name).map(|text| Cow::Owned(text.to_owned())).collect();
    Names {
        group: Cow::Owned(group.to_owned()),
        version: Cow::Owned(version.to_owned()),
        plural: text("plural"),
        singular: text("singular"),
        kind: text("kind"),
        list_kind: text("listKind"),
        short: list("shortNames"),
        categories: list("categories"),
    }
}
