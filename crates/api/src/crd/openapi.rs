//! The rules that Kubernetes adds to those of OpenAPI: what keywords may be set together, and that CEL rules compile.

use super::fieldpath;
use super::schema::{Additional, Props, Rule, declared};
use crate::cel::types::{Declared, Shape};
use crate::cel::{ESTIMATE, ESTIMATE_ALL, LARGEST, Program, Wanted};
use crate::contract::field::{ErrorKind, FieldError, FieldErrors, Path};
use serde_json::Value;

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
const REASONS: [&str; 4] =
    ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// Everything that is wrong with a schema in these respects. CEL rules are looked at where `cel` says that the schema is
/// structural; `unchanged`: the version had this schema before, so that what its rules cost is accepted.
pub(super) fn validate(props: &Props, path: &Path, cel: bool, unchanged: bool) -> FieldErrors {
    let mut checker =
        Checker { schema: FieldErrors::new(), cel: FieldErrors::new(), costs: Vec::new(), unchanged };
    let context = Context {
        defaults: Ok(()),
        in_meta: false,
        root: true,
        uncorrelatable: None,
        cel: cel.then_some(Some(1)),
    };
    checker.node(props, path, &context);
    let Checker { mut schema, cel, costs, .. } = checker;
    schema.extend(cel);
    let total = costs.iter().fold(0_u64, |sum, (_, cost)| sum.saturating_add(*cost));
    if total > ESTIMATE_ALL {
        let mut expensive: Vec<&(Path, u64)> = costs.iter().collect();
        expensive.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
        for (path, _) in expensive.into_iter().take(4).filter(|(_, cost)| *cost > ESTIMATE_ALL / 100) {
            let detail =
                "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            schema.push(FieldError::forbidden(path, detail));
        }
        let name = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        schema.push(FieldError::forbidden(path, too_expensive(name, total, ESTIMATE_ALL)));
    }
    schema
}

/// What a node inherits from those above.
#[derive(Clone)]
struct Context {
    /// Why there may be no default, if so.
    defaults: Result<(), String>,
    in_meta: bool,
    root: bool,
    /// The first path above whose parts cannot be told again in an update.
    uncorrelatable: Option<Path>,
    /// How often the node can occur in an object (`None`: any number), where CEL rules are looked at.
    cel: Option<Option<u64>>,
}

struct Checker {
    schema: FieldErrors,
    cel: FieldErrors,
    costs: Vec<(Path, u64)>,
    unchanged: bool,
}

impl Checker {
    fn node(&mut self, props: &Props, path: &Path, context: &Context) {
        let before = self.schema.len();
        self.keywords(props, path, context);
        self.below(props, path, context);
        self.extensions(props, path);
        self.rules(props, path);
        if self.schema.len() == before && context.cel.is_some() && !props.rules.is_empty() {
            self.compile(props, path, context);
        }
    }

    fn forbid(&mut self, path: &Path, detail: &str) {
        self.schema.push(FieldError::forbidden(path, detail));
    }

    fn keywords(&mut self, props: &Props, path: &Path, context: &Context) {
        if !props.type_.is_empty() && !TYPES.contains(&props.type_.as_str()) {
            self.schema.push(FieldError::not_supported(&path.child("type"), props.type_.as_str(), &TYPES));
        }
        if let (Some(_), Err(reason)) = (&props.default, &context.defaults) {
            self.forbid(&path.child("default"), format!("must not be set {reason}").trim_end());
        }
        for name in props.refused.iter().filter(|name| **name != "$schema") {
            self.forbid(&path.child(name), &format!("{name} is not supported"));
        }
        if props.items_list {
            self.forbid(&path.child("items"), "items must be a schema object and not an array");
        }
        if props.type_ == "null" {
            self.forbid(&path.child("type"), "type cannot be set to null, use nullable as an alternative");
        }
        if context.in_meta && props.embedded {
            self.forbid(
                &path.child("x-kubernetes-embedded-resource"),
                "must not be used inside of resource meta",
            );
        }
        if props.unique_items {
            let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            self.forbid(&path.child("uniqueItems"), detail);
        }
    }

    fn below(&mut self, props: &Props, path: &Path, context: &Context) {
        let inner = Context { root: false, ..context.clone() };
        if let Some(additional) = &props.additional {
            let at = path.child("additionalProperties");
            if !props.properties.is_empty() && !matches!(additional, Additional::Any(true)) {
                self.forbid(&at, "additionalProperties and properties are mutual exclusive");
            }
            if let Additional::Of(values) = additional {
                let mut context = inner.clone();
                if context.in_meta {
                    context.defaults =
                        Err("inside additionalProperties applying to object metadata".to_owned());
                }
                context.cel = context.cel.map(|times| many(times, props.max_properties));
                self.node(values, &at, &context);
            }
        }
        let correlatable = matches!(props.map_type.as_deref(), None | Some("granular" | "atomic"));
        for (name, schema) in &props.properties {
            let mut below = inner.clone();
            if !correlatable {
                below.uncorrelatable.get_or_insert_with(|| path.clone());
            }
            if (context.root || props.embedded) && matches!(name.as_str(), "metadata" | "kind" | "apiVersion")
            {
                below.in_meta = true;
                if context.root {
                    below.defaults = Err(format!("in top-level {name}"));
                }
            }
            self.node(schema, &path.child("properties").key(name), &below);
        }
        let junctor = Context { cel: None, ..inner.clone() };
        if let Some(not) = &props.not {
            self.node(not, &path.child("not"), &junctor);
        }
        for (name, list) in [("allOf", &props.all_of), ("oneOf", &props.one_of), ("anyOf", &props.any_of)] {
            for (index, schema) in list.iter().enumerate() {
                self.node(schema, &path.child(name).index(index), &junctor);
            }
        }
        if let Some(items) = &props.items {
            let mut context = inner;
            if !props.is_list_type("map") {
                context.uncorrelatable.get_or_insert_with(|| path.clone());
            }
            context.cel = context.cel.map(|times| many(times, props.max_items));
            self.node(items, &path.child("items"), &context);
        }
    }

    fn extensions(&mut self, props: &Props, path: &Path) {
        if props.preserve == Some(false) {
            let at = path.child("x-kubernetes-preserve-unknown-fields");
            self.schema.push(FieldError::invalid(&at, false, "must be true or undefined"));
        }
        if let Some(map_type) = &props.map_type {
            self.needs_type(props, path, "object", "x-kubernetes-map-type");
            if !matches!(map_type.as_str(), "atomic" | "granular") {
                let at = path.child("x-kubernetes-map-type");
                self.schema.push(FieldError::not_supported(&at, map_type.as_str(), &["atomic", "granular"]));
            }
        }
        let at = path.child("x-kubernetes-list-type");
        if let Some(list_type) = &props.list_type {
            self.needs_type(props, path, "array", "x-kubernetes-list-type");
            if props.type_ == "array" && list_type == "set" {
                self.set(props, path);
            }
            if !matches!(list_type.as_str(), "atomic" | "set" | "map") {
                self.schema.push(FieldError::not_supported(
                    &at,
                    list_type.as_str(),
                    &["atomic", "set", "map"],
                ));
            }
        }
        if !props.list_keys.is_empty() {
            let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
            match props.list_type.as_deref() {
                None => self.schema.push(FieldError::required(&at, detail)),
                Some("map") => {}
                Some(other) => self.schema.push(FieldError::invalid(&at, other, detail)),
            }
        }
        if props.is_list_type("map") {
            self.map(props, path);
        }
        if matches!(props.list_type.as_deref(), Some("set" | "map")) {
            self.items_of_set_or_map(props, path);
        }
    }

    fn needs_type(&mut self, props: &Props, path: &Path, wanted: &str, keyword: &str) {
        if props.type_ == wanted {
            return;
        }
        let detail = format!("must be {wanted} if {keyword} is specified");
        let at = path.child("type");
        self.schema.push(if props.type_.is_empty() {
            FieldError::required(&at, detail)
        } else {
            FieldError::invalid(&at, props.type_.as_str(), detail)
        });
    }

    fn set(&mut self, props: &Props, path: &Path) {
        let Some(items) = &props.items else { return };
        let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
        let shown = items.list_type.as_deref().map_or(Value::Null, Value::from);
        let at = path.child("items");
        match items.type_.as_str() {
            "array" if !matches!(items.list_type.as_deref(), None | Some("atomic")) => {
                self.schema.push(FieldError::invalid(&at.child("x-kubernetes-list-type"), shown, detail));
            }
            "object" if items.map_type.as_deref() != Some("atomic") => {
                self.schema.push(FieldError::invalid(&at.child("x-kubernetes-map-type"), shown, detail));
            }
            _ => {}
        }
    }

    fn map(&mut self, props: &Props, path: &Path) {
        let keys_at = path.child("x-kubernetes-list-map-keys");
        if props.list_keys.is_empty() {
            let detail = "must not be empty if x-kubernetes-list-type is map";
            self.schema.push(FieldError::required(&keys_at, detail));
        }
        let Some(items) = &props.items else {
            let detail = "must have a schema if x-kubernetes-list-type is map";
            self.schema.push(FieldError::required(&path.child("items"), detail));
            return;
        };
        let at = path.child("items");
        if items.type_ != "object" {
            let detail = "must be object if parent array's x-kubernetes-list-type is map";
            self.schema.push(FieldError::invalid(&at.child("type"), items.type_.as_str(), detail));
            return;
        }
        let shown = || Value::from(props.list_keys.clone());
        for (index, key) in props.list_keys.iter().enumerate() {
            match items.properties.get(key) {
                Some(schema) if matches!(schema.type_.as_str(), "array" | "object") => {
                    let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                    let at = at.child("properties").key(key).child("type");
                    self.schema.push(FieldError::invalid(&at, items.type_.as_str(), detail));
                }
                Some(_) => {}
                None => {
                    let detail = "entries must all be names of item properties";
                    self.schema.push(FieldError::invalid(&keys_at, shown(), detail));
                }
            }
            if props.list_keys[..index].contains(key) {
                self.schema.push(FieldError::invalid(
                    &keys_at,
                    shown(),
                    "must not contain duplicate entries",
                ));
            }
        }
    }

    fn items_of_set_or_map(&mut self, props: &Props, path: &Path) {
        let (Some(items), Some(list_type)) = (&props.items, &props.list_type) else { return };
        let at = path.child("items");
        if items.nullable {
            let detail = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
            self.forbid(&at.child("nullable"), &detail);
        }
        if list_type != "map" {
            return;
        }
        for key in &props.list_keys {
            let Some(schema) = items.properties.get(key) else { continue };
            let at = at.child("properties").key(key);
            if !items.required.contains(key) && schema.default.is_none() {
                let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
                self.schema.push(FieldError::required(&at.child("default"), detail));
            }
            if schema.nullable {
                let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
                self.forbid(&at.child("nullable"), detail);
            }
        }
    }

    fn rules(&mut self, props: &Props, path: &Path) {
        let lines = |text: &str| text.contains(['\n', '\r']);
        for (index, rule) in props.rules.iter().enumerate() {
            let at = path.child("x-kubernetes-validations").index(index);
            let (text, message) = (rule.rule.trim(), rule.message.trim());
            if text.is_empty() {
                self.schema.push(FieldError::required(&at.child("rule"), "rule is not specified"));
            } else if !rule.message.is_empty() && message.is_empty() {
                let detail = "must be non-empty if specified";
                self.schema.push(FieldError::invalid(&at.child("message"), rule.message.as_str(), detail));
            } else if lines(message) {
                let detail = "must not contain line breaks";
                self.schema.push(FieldError::invalid(&at.child("message"), rule.message.as_str(), detail));
            } else if lines(text) && message.is_empty() {
                let detail = "message must be specified if rule contains line breaks";
                self.schema.push(FieldError::required(&at.child("message"), detail));
            }
            if !rule.message_expression.is_empty() && rule.message_expression.trim().is_empty() {
                let detail = "messageExpression must be non-empty if specified";
                self.schema.push(FieldError::required(&at.child("messageExpression"), detail));
            }
            if let Some(reason) = rule.reason.as_deref().filter(|reason| !REASONS.contains(reason)) {
                self.schema.push(FieldError::not_supported(&at.child("reason"), reason, &REASONS));
            }
            let at = at.child("fieldPath");
            let shown = rule.field_path.as_str();
            if !shown.is_empty() && shown.trim().is_empty() {
                self.schema.push(FieldError::invalid(&at, shown, "must be non-empty if specified"));
            }
            if lines(shown) {
                self.schema.push(FieldError::invalid(&at, shown, "must not contain line breaks"));
            }
            if !shown.is_empty() && fieldpath::find(shown, props, true).is_err() {
                self.schema.push(FieldError::invalid(&at, shown, "must be a valid path"));
            }
        }
    }

    fn compile(&mut self, props: &Props, path: &Path, context: &Context) {
        let at = path.child("x-kubernetes-validations");
        let Some(declared) = declared(props, context.root || props.embedded, "selfType") else {
            let detail =
                "internal error: failed to construct type information for x-kubernetes-validations rules";
            self.cel.push(FieldError::internal(&at, detail));
            return;
        };
        // Where nothing bounds how often it occurs, the size of a request does.
        let times = context.cel.flatten().unwrap_or_else(|| LARGEST / (least_size(&declared) + 1));
        for (index, rule) in props.rules.iter().enumerate().filter(|(_, rule)| !rule.rule.trim().is_empty()) {
            self.rule(rule, &declared, times, &at.index(index), context);
        }
    }

    fn rule(&mut self, rule: &Rule, declared: &Declared, times: u64, at: &Path, context: &Context) {
        let optional = rule.optional_old_self == Some(true);
        let program = match Program::compile(&rule.rule, declared, optional, Wanted::Bool) {
            Ok(program) => program,
            Err(message) => {
                self.cel.push(uncompiled(&at.child("rule"), rule, message));
                return;
            }
        };
        self.cost(&at.child("rule"), "estimated rule cost", program.most.saturating_mul(times));
        if !rule.message_expression.is_empty() {
            let at = at.child("messageExpression");
            match Program::compile(&rule.message_expression, declared, optional, Wanted::String) {
                Ok(message) => self.cost(&at, "estimated messageExpression cost", message.most),
                Err(message) => self.cel.push(uncompiled(&at, rule, message)),
            }
        }
        match (program.reads("oldSelf"), &context.uncorrelatable, rule.optional_old_self) {
            (true, Some(above), _) => {
                let detail = format!(
                    "oldSelf cannot be used on the uncorrelatable portion of the schema within {above}"
                );
                self.cel.push(FieldError::invalid(&at.child("rule"), rule.rule.as_str(), detail));
            }
            (false, _, Some(value)) => {
                let detail = "may not be set if oldSelf is not used in rule";
                self.cel.push(FieldError::invalid(&at.child("optionalOldSelf"), value, detail));
            }
            _ => {}
        }
    }

    fn cost(&mut self, at: &Path, name: &str, cost: u64) {
        if !self.unchanged && cost > ESTIMATE {
            self.cel.push(FieldError::forbidden(at, too_expensive(name, cost, ESTIMATE)));
        }
        self.costs.push((at.clone(), cost));
    }
}

fn least_size(declared: &Declared) -> u64 {
    match declared.shape {
        Shape::Dyn => 1,
        _ => declared.least_size,
    }
}

/// How often something occurs below a list or map of at most `most` entries.
fn many(times: Option<u64>, most: Option<i64>) -> Option<u64> {
    let most = u64::try_from(most?).unwrap_or(0);
    Some(times?.saturating_mul(most))
}

/// An error that shows the rule: as Kubernetes keeps it within itself, in its order of fields.
fn uncompiled(at: &Path, rule: &Rule, detail: String) -> FieldError {
    let text = |text: &str| crate::contract::field::go_json(&Value::from(text));
    let reason = rule.reason.as_deref().map_or("null".to_owned(), text);
    let optional = rule.optional_old_self.map_or("null".to_owned(), |value| value.to_string());
    let shown = format!(
        "{{\"Rule\":{},\"Message\":{},\"MessageExpression\":{},\"Reason\":{reason},\"FieldPath\":{},\"OptionalOldSelf\":{optional}}}",
        text(&rule.rule),
        text(&rule.message),
        text(&rule.message_expression),
        text(&rule.field_path),
    );
    FieldError { kind: ErrorKind::Invalid, field: at.as_str().to_owned(), shown: Some(shown), detail }
}

fn too_expensive(name: &str, cost: u64, limit: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "it is a factor to be read by people")]
    let factor = cost as f64 / limit as f64;
    let factor = if factor > 100.0 {
        "more than 100x".to_owned()
    } else if factor < 1.5 {
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{name} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and \
         maxLength where arrays, maps, and strings are declared)"
    )
}
