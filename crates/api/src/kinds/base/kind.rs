//! A kind told in a few lines.

use super::table;
use crate::contract::field::FieldErrors;
use crate::contract::{Object, names};
use crate::resource::{Asker, Column, Names, Part, Resource, Scale, Strategy, Verbs};
use crate::schema::{Presence, Schema};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

type Prepare = fn(&mut Object);
type PrepareUpdate = fn(Part, &mut Object, &Object);
type Validate = fn(&Object) -> FieldErrors;
type ValidateUpdate = fn(Part, &Object, &Object) -> FieldErrors;
type Row = fn(&Object, i64) -> Vec<Value>;

/// The rules of a kind as functions, with what most kinds do where nothing is said. It is built once at start:
///
/// ```ignore
/// Kind::new("", "v1", "ConfigMap", "configmaps", "io.k8s.api.core.v1.ConfigMap")
///     .short(&["cm"])
///     .without_generation()
///     .validate(validate)
///     .validate_update(validate_update)
///     .table(columns, row)
///     .resource()
/// ```
#[derive(Clone)]
pub struct Kind {
    names: Names,
    namespaced: bool,
    verbs: Verbs,
    stored_as: Cow<'static, str>,
    storage_version: Option<&'static str>,
    type_name: &'static str,
    default: Prepare,
    prepare_create: Option<Prepare>,
    signed_by: fn(&mut Object, &Asker),
    prepare_update: PrepareUpdate,
    validate: Validate,
    validate_update: Option<ValidateUpdate>,
    name_errors: fn(&str, bool) -> Vec<String>,
    warnings: fn(&Object, Option<&Object>) -> Vec<String>,
    generation: bool,
    any_finalizer: bool,
    any_finalizer_at_first: bool,
    lax_updates: bool,
    parts: &'static [Part],
    status_keeps: &'static [&'static str],
    scale: Option<Scale>,
    columns: fn() -> Vec<Column>,
    described: OnceLock<Vec<Column>>,
    row: Row,
    deprecated: Option<&'static str>,
    early_warnings: fn(&Object) -> Vec<String>,
    refused_as: Option<(&'static str, &'static str)>,
    selectable: &'static [&'static str],
    selected: Option<fn(&Object, &str) -> String>,
    from_stored: fn(Object) -> crate::contract::Result<Object>,
    to_stored: fn(Object) -> crate::contract::Result<Object>,
}

impl Kind {
    /// A namespaced kind with all verbs, the columns name and age, no status of its own, a generation, and a DNS subdomain
    /// as name. The singular is the kind in lower case, the list kind ends with `List`, and objects are kept under
    /// `plural.group` in this version.
    #[must_use]
    pub fn new(
        group: &'static str,
        version: &'static str,
        kind: &'static str,
        plural: &'static str,
        type_name: &'static str,
    ) -> Kind {
        let stored_as = if group.is_empty() { plural.into() } else { format!("{plural}.{group}").into() };
        Kind {
            names: Names {
                group: group.into(),
                version: version.into(),
                plural: plural.into(),
                singular: kind.to_lowercase().into(),
                kind: kind.into(),
                list_kind: format!("{kind}List").into(),
                short: Vec::new(),
                categories: Vec::new(),
            },
            namespaced: true,
            verbs: Verbs::ALL,
            stored_as,
            storage_version: None,
            type_name,
            default: |_| {},
            prepare_create: None,
            signed_by: |_, _| {},
            prepare_update: |_, _, _| {},
            validate: |_| FieldErrors::new(),
            validate_update: None,
            name_errors: names::dns_subdomain,
            warnings: |_, _| Vec::new(),
            generation: true,
            any_finalizer: false,
            any_finalizer_at_first: false,
            lax_updates: false,
            parts: &[],
            status_keeps: &[],
            scale: None,
            columns: || vec![table::name(), table::age()],
            described: OnceLock::new(),
            row: |object, now| vec![object.name().into(), table::age_of(object, now)],
            deprecated: None,
            early_warnings: |_| Vec::new(),
            refused_as: None,
            selectable: &[],
            selected: None,
            from_stored: Ok,
            to_stored: Ok,
        }
    }

    /// The kind of its lists, where it is not its own with `List`.
    #[must_use]
    pub fn listed_as(mut self, list_kind: &'static str) -> Kind {
        self.names.list_kind = list_kind.into();
        self
    }

    /// Not in namespaces.
    #[must_use]
    pub fn cluster_scoped(mut self) -> Kind {
        self.namespaced = false;
        self
    }

    /// What it can do, where not everything.
    #[must_use]
    pub fn verbs(mut self, verbs: Verbs) -> Kind {
        self.verbs = verbs;
        self
    }

    /// Its finalizers need no domain, as those of kinds outside of Kubernetes' own groups.
    #[must_use]
    pub fn any_finalizer(mut self) -> Kind {
        self.any_finalizer = true;
        self
    }

    /// The same, but an update may not have such ones.
    #[must_use]
    pub fn any_finalizer_at_first(mut self) -> Kind {
        self.any_finalizer_at_first = true;
        self
    }

    /// The form of finalizers is looked at in new objects alone.
    #[must_use]
    pub fn lax_updates(mut self) -> Kind {
        self.lax_updates = true;
        self
    }

    /// What every request for this version is told.
    #[must_use]
    pub fn deprecated(mut self, warning: &'static str) -> Kind {
        self.deprecated = Some(warning);
        self
    }

    /// Short names.
    #[must_use]
    pub fn short(mut self, short: &[&'static str]) -> Kind {
        self.names.short = short.iter().map(|name| (*name).into()).collect();
        self
    }

    /// Categories, such as `all`.
    #[must_use]
    pub fn categories(mut self, categories: &[&'static str]) -> Kind {
        self.names.categories = categories.iter().map(|name| (*name).into()).collect();
        self
    }

    /// Under which name objects are kept, and in which version (`v1`, `autoscaling/v2`), where not under its own.
    #[must_use]
    pub fn stored(mut self, stored_as: &'static str, version: &'static str) -> Kind {
        self.stored_as = stored_as.into();
        self.storage_version = Some(version);
        self
    }

    /// How an object of this version is made of a kept one and back, where they differ.
    #[must_use]
    pub fn converted(
        mut self,
        from_stored: fn(Object) -> crate::contract::Result<Object>,
        to_stored: fn(Object) -> crate::contract::Result<Object>,
    ) -> Kind {
        self.from_stored = from_stored;
        self.to_stored = to_stored;
        self
    }

    /// Fills in what the client left out.
    #[must_use]
    pub fn default(mut self, default: Prepare) -> Kind {
        self.default = default;
        self
    }

    /// What is done to a new object, in place of dropping its status.
    #[must_use]
    pub fn prepare_create(mut self, prepare: Prepare) -> Kind {
        self.prepare_create = Some(prepare);
        self
    }

    /// Who made a new object is written into it.
    #[must_use]
    pub fn signed_by(mut self, signed_by: fn(&mut Object, &Asker)) -> Kind {
        self.signed_by = signed_by;
        self
    }

    /// What is done to an updated object, after what belongs to other parts was taken from the old one.
    #[must_use]
    pub fn prepare_update(mut self, prepare: PrepareUpdate) -> Kind {
        self.prepare_update = prepare;
        self
    }

    /// Everything that is wrong with a new object.
    #[must_use]
    pub fn validate(mut self, validate: Validate) -> Kind {
        self.validate = validate;
        self
    }

    /// Everything that is wrong with an update; where nothing is said, what [`validate`](Kind::validate) says of the new
    /// object.
    #[must_use]
    pub fn validate_update(mut self, validate: ValidateUpdate) -> Kind {
        self.validate_update = Some(validate);
        self
    }

    /// What is wrong with a name, where it is no DNS subdomain.
    #[must_use]
    pub fn named(mut self, name_errors: fn(&str, bool) -> Vec<String>) -> Kind {
        self.name_errors = name_errors;
        self
    }

    /// Warnings for the client.
    #[must_use]
    pub fn warnings(mut self, warnings: fn(&Object, Option<&Object>) -> Vec<String>) -> Kind {
        self.warnings = warnings;
        self
    }

    /// Warnings about a new object as it was sent.
    #[must_use]
    pub fn early_warnings(mut self, warnings: fn(&Object) -> Vec<String>) -> Kind {
        self.early_warnings = warnings;
        self
    }

    /// The group and the kind that refusals name.
    #[must_use]
    pub fn refused_as(mut self, group: &'static str, kind: &'static str) -> Kind {
        self.refused_as = Some((group, kind));
        self
    }

    /// `metadata.generation` is not counted.
    #[must_use]
    pub fn without_generation(mut self) -> Kind {
        self.generation = false;
        self
    }

    /// The parts beside the main one. With [`Part::Status`] among them an update of the main part keeps the status, and one
    /// of the status keeps everything else but the metadata.
    #[must_use]
    pub fn parts(mut self, parts: &'static [Part]) -> Kind {
        self.parts = parts;
        self
    }

    /// Fields of the metadata that an update of the status keeps: `labels`.
    #[must_use]
    pub fn status_keeps(mut self, fields: &'static [&'static str]) -> Kind {
        self.status_keeps = fields;
        self
    }

    /// Where `/scale` finds its numbers; [`Part::Scale`] has to be among the parts.
    #[must_use]
    pub fn scale(mut self, spec: &'static str, status: &'static str, selector: &'static str) -> Kind {
        self.scale = Some(Scale {
            spec_replicas: spec.into(),
            status_replicas: status.into(),
            selector: selector.into(),
        });
        self
    }

    /// Columns and rows.
    #[must_use]
    pub fn table(mut self, columns: fn() -> Vec<Column>, row: Row) -> Kind {
        self.columns = columns;
        self.row = row;
        self
    }

    /// Fields that a field selector may name.
    #[must_use]
    pub fn selectable(mut self, fields: &'static [&'static str]) -> Kind {
        self.selectable = fields;
        self
    }

    /// The values of selectable fields, where they are not found by their path.
    #[must_use]
    pub fn selected(mut self, selected: fn(&Object, &str) -> String) -> Kind {
        self.selected = Some(selected);
        self
    }

    /// The resource as it is served.
    #[must_use]
    pub fn resource(self) -> Resource {
        Resource {
            names: self.names.clone(),
            namespaced: self.namespaced,
            verbs: self.verbs,
            stored_as: self.stored_as.clone(),
            storage_version: self
                .storage_version
                .map_or_else(|| self.names.api_version().into(), Cow::Borrowed),
            strategy: Arc::new(self),
        }
    }

    /// Empties the status: it is there and empty where its schema says that it always is.
    fn without_status(&self, object: &mut Object) {
        let status = self.schema().field("status");
        if status.is_some_and(|status| status.node().presence == Presence::Always) {
            object.0.insert("status".to_owned(), Map::new().into());
        } else {
            object.0.remove("status");
        }
    }

    fn finalizer_errors(&self, object: &Object) -> FieldErrors {
        if self.any_finalizer { FieldErrors::new() } else { names::own_finalizer_errors(object) }
    }

    /// Takes everything beside `fields` from `old`; metadata and type are nobody's here.
    fn keep_all_but(object: &mut Object, old: &Object, fields: &[&str]) {
        let spared =
            |name: &str| matches!(name, "apiVersion" | "kind" | "metadata") || fields.contains(&name);
        object.0.retain(|name, _| spared(name));
        for (name, value) in &old.0 {
            if !spared(name) {
                object.0.insert(name.clone(), value.clone());
            }
        }
    }
}

/// Sets `field` of `map` to what it is in `old`, or removes it.
fn keep(map: &mut Map<String, Value>, old: Option<&Map<String, Value>>, field: &str) {
    match old.and_then(|old| old.get(field)) {
        Some(value) => drop(map.insert(field.to_owned(), value.clone())),
        None => drop(map.remove(field)),
    }
}

impl Strategy for Kind {
    fn schema(&self) -> Schema<'_> {
        crate::schema::builtin(self.type_name)
            .unwrap_or_else(|| panic!("the built-in schemas have no type {}", self.type_name))
    }

    fn default(&self, object: &mut Object) {
        (self.default)(object);
    }

    fn prepare_create(&self, object: &mut Object) {
        match self.prepare_create {
            Some(prepare) => prepare(object),
            None => self.without_status(object),
        }
    }

    fn signed_by(&self, object: &mut Object, asker: &Asker) {
        (self.signed_by)(object, asker);
    }

    fn prepare_update(&self, part: Part, object: &mut Object, old: &Object) {
        match part {
            Part::Main | Part::Scale if self.parts.contains(&Part::Status) => {
                keep(&mut object.0, Some(&old.0), "status");
            }
            Part::Status => {
                Kind::keep_all_but(object, old, &["status"]);
                let kept = old.0.get("metadata").and_then(Value::as_object);
                for field in self.status_keeps {
                    keep(object.metadata_mut(), kept, field);
                }
            }
            _ => {}
        }
        (self.prepare_update)(part, object, old);
    }

    fn validate(&self, object: &Object) -> FieldErrors {
        let mut errors =
            if self.any_finalizer_at_first { FieldErrors::new() } else { self.finalizer_errors(object) };
        errors.extend((self.validate)(object));
        errors
    }

    fn validate_update(&self, part: Part, object: &Object, old: &Object) -> FieldErrors {
        let mut errors = self.finalizer_errors(object);
        if part == Part::Main && !self.lax_updates {
            errors.extend(names::finalizer_form_errors(object));
        }
        errors.extend(match self.validate_update {
            Some(validate) => validate(part, object, old),
            None => (self.validate)(object),
        });
        errors
    }

    fn name_errors(&self, name: &str, prefix: bool) -> Vec<String> {
        (self.name_errors)(name, prefix)
    }

    fn warnings(&self, object: &Object, old: Option<&Object>) -> Vec<String> {
        (self.warnings)(object, old)
    }

    fn deprecation(&self) -> Option<&str> {
        self.deprecated
    }

    fn early_warnings(&self, object: &Object) -> Vec<String> {
        (self.early_warnings)(object)
    }

    fn refused_as(&self) -> Option<(&str, &str)> {
        self.refused_as
    }

    fn has_generation(&self) -> bool {
        self.generation
    }

    fn parts(&self) -> &[Part] {
        self.parts
    }

    fn scale(&self) -> Option<Scale> {
        self.scale.clone()
    }

    fn columns(&self) -> Vec<Column> {
        self.described.get_or_init(|| table::described((self.columns)(), self.type_name)).clone()
    }

    fn row(&self, object: &Object, now: i64) -> Vec<Value> {
        (self.row)(object, now)
    }

    fn selectable(&self) -> &[&str] {
        self.selectable
    }

    fn selected(&self, object: &Object, field: &str) -> String {
        if let Some(selected) = self.selected {
            return selected(object, field);
        }
        let path: Vec<&str> = field.split('.').collect();
        match object.at(&path) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) | None => String::new(),
            Some(other) => other.to_string(),
        }
    }

    fn from_stored(&self, object: Object) -> crate::contract::Result<Object> {
        (self.from_stored)(object)
    }

    fn to_stored(&self, object: Object) -> crate::contract::Result<Object> {
        (self.to_stored)(object)
    }
}
