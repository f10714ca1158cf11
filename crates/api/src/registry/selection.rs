//! Which objects of a collection a request means.

use super::target::Target;
use super::{document, options::ListOptions};
use crate::contract::selector::{FieldSelector, LabelSelector};
use crate::contract::{Object, Result, Status};
use crate::resource::Resource;
use crate::store::Scope;
use std::sync::Arc;

/// Which objects of a collection a request means.
#[derive(Clone)]
pub(super) struct Selection {
    pub(super) resource: Arc<Resource>,
    pub(super) scope: Scope,
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Selection {
    /// Reads the selectors of a request.
    pub(super) fn new(target: &Target, options: &ListOptions) -> Result<Selection> {
        let resource = Arc::clone(&target.resource);
        let labels = LabelSelector::parse(&options.labels)?;
        let mut fields = FieldSelector::parse(&options.fields)?;
        for wish in &fields.requirements {
            known(&resource, &wish.field)?;
        }
        if !target.name.is_empty() {
            if !fields.is_everything() && fields.exact("metadata.name") != Some(&target.name) {
                return Err(Status::bad_request("fieldSelector metadata.name doesn't match requested name"));
            }
            if fields.is_everything() {
                fields.requirements.push(crate::contract::selector::FieldRequirement {
                    field: "metadata.name".to_owned(),
                    equal: true,
                    value: target.name.clone(),
                });
            }
        }
        let namespace = match (target.namespace.as_str(), fields.exact("metadata.namespace")) {
            ("", Some(selected)) if resource.namespaced && !selected.is_empty() => Some(selected.to_owned()),
            ("", _) => None,
            (given, _) => Some(given.to_owned()),
        };
        let scope = Scope { resource: resource.stored_as.to_string(), namespace };
        Ok(Selection { resource, scope, labels, fields })
    }

    /// Whether it means all that there are.
    pub(super) fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    /// The one name that it means, where it means one.
    pub(super) fn name(&self) -> Option<&str> {
        self.fields.exact("metadata.name")
    }

    /// Whether it means an object, given as it is kept.
    pub(super) fn means(&self, json: &[u8]) -> Result<bool> {
        if self.is_everything() {
            return Ok(true);
        }
        Ok(self.means_object(&document::open(&self.resource, json)?))
    }

    /// Whether it means an object of the resource's version.
    pub(super) fn means_object(&self, object: &Object) -> bool {
        self.labels.matches(object.strings("labels"))
            && self.fields.matches(|field| match field {
                "metadata.name" => object.name().to_owned(),
                "metadata.namespace" => object.namespace().to_owned(),
                field => self.resource.strategy.selected(object, field),
            })
    }
}

/// Refuses a field that objects of the resource cannot be selected by.
fn known(resource: &Resource, field: &str) -> Result<()> {
    let selectable = resource.strategy.selectable_names();
    if matches!(field, "metadata.name" | "metadata.namespace") || selectable.iter().any(|name| name == field)
    {
        return Ok(());
    }
    let message = if selectable.is_empty() && !resource.is_custom() {
        format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
    } else {
        format!("field label not supported: {field}")
    };
    Err(Status::bad_request(message))
}
