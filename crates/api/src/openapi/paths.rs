//! What can be asked of each resource.

mod further;

use super::definitions::{BINDING, Dialect, EVICTION, META, SCALE, TOKEN, list_name, type_name};
use crate::resource::{Part, Resource};
use serde_json::{Map, Value, json};

const LIST: &[&str] = &[
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
];
const WRITE: &[&str] = &["dryRun", "fieldManager", "fieldValidation"];
const PATCH: &[&str] = &["dryRun", "fieldManager", "fieldValidation", "force"];
const DELETE: &[&str] = &["dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy"];
const PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/apply-patch+yaml",
    STRATEGIC,
];
/// What custom resources do not take: kubectl looks for it here.
const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub(super) const ANSWERS: &[&str] = &["application/json", "application/yaml"];

/// `/api/v1` or `/apis/apps/v1`.
pub(super) fn base(group: &str, version: &str) -> String {
    if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") }
}

/// All paths of `resources`.
pub(super) fn of(resources: &[&Resource], dialect: Dialect) -> Value {
    let mut paths = Paths { dialect, paths: Map::new() };
    for resource in resources {
        paths.add(resource);
        paths.list_of_resources(resource);
    }
    Value::Object(paths.paths)
}

/// One operation.
struct Operation<'a> {
    /// `get`, of HTTP.
    method: &'a str,
    /// `x-kubernetes-action`
    action: &'a str,
    id: String,
    parameters: Vec<&'a str>,
    body: Option<String>,
    answer: Answer,
    kind: [&'a str; 3],
}

/// What an operation answers.
struct Answer {
    /// The type; empty: a text.
    name: String,
    media: &'static [&'static str],
}

impl Answer {
    fn of(name: impl Into<String>) -> Answer {
        Answer { name: name.into(), media: ANSWERS }
    }

    fn text(media: &'static [&'static str]) -> Answer {
        Answer { name: String::new(), media }
    }

    fn watch(media: &'static [&'static str]) -> Answer {
        Answer { name: format!("{META}WatchEvent"), media }
    }

    fn schema(&self, dialect: Dialect) -> Value {
        if self.name.is_empty() { json!({"type": "string"}) } else { dialect.reference(&self.name) }
    }
}

struct Paths {
    dialect: Dialect,
    paths: Map<String, Value>,
}

impl Paths {
    fn add(&mut self, resource: &Resource) {
        let names = &resource.names;
        let base = base(&names.group, &names.version);
        let all = format!("{base}/{}", names.plural);
        let scope = if resource.namespaced { "Namespaced" } else { "" };
        let collection = if resource.namespaced {
            format!("{base}/namespaces/{{namespace}}/{}", names.plural)
        } else {
            all.clone()
        };
        let telling = Telling::of(resource);
        self.put(&collection, collection_operations(resource, &telling, scope), &telling);
        if resource.namespaced && resource.verbs.read {
            let id = telling.id("list", "", "ForAllNamespaces");
            self.put(&all, vec![telling.list(id)], &telling);
        }
        if resource.verbs.read {
            let item = format!("{collection}/{{name}}");
            self.put(&item, item_operations(resource, &telling, scope), &telling);
            for (part, view) in parts(resource) {
                let operations = part_operations(&telling, scope, part, view);
                self.put(&format!("{item}/{part}"), operations, &telling);
            }
        }
        for (part, name, kind) in creations(resource) {
            let operation = Operation {
                method: "post",
                action: "post",
                id: telling.id("create", scope, &capital(part)),
                parameters: WRITE.to_vec(),
                body: Some(name.to_owned()),
                answer: Answer::of(name),
                kind,
            };
            self.put(&format!("{collection}/{{name}}/{part}"), vec![operation], &telling);
        }
        for (part, operations) in further::connections(resource, &telling) {
            self.put(&format!("{collection}/{{name}}/{part}"), operations, &telling);
        }
        // The second version is asked for by those who look for types: old paths would double it.
        if resource.verbs.read && self.dialect == Dialect::V3 {
            for (path, operation) in further::watches(resource, &telling, &base) {
                self.put(&path, vec![operation], &telling);
            }
        }
    }

    /// Where the resources of a version are listed.
    fn list_of_resources(&mut self, resource: &Resource) {
        let (telling, dialect) = (Telling::of(resource), self.dialect);
        let path = format!("{}/", base(&resource.names.group, &resource.names.version));
        self.paths.entry(path).or_insert_with(|| {
            let schema = dialect.reference(&format!("{META}APIResourceList"));
            let mut told = json!({
                "tags": [telling.tag],
                "description": "The resources of this version.",
                "operationId": format!("get{}APIResources", telling.package),
                "responses": {"401": {"description": "Unauthorized"}},
            });
            told["responses"]["200"] = match dialect {
                Dialect::V2 => json!({"description": "OK", "schema": schema}),
                Dialect::V3 => json!({"description": "OK", "content": content(ANSWERS, &schema)}),
            };
            if dialect == Dialect::V2 {
                told["produces"] = ANSWERS.into();
            }
            json!({"get": told})
        });
    }

    fn put(&mut self, path: &str, operations: Vec<Operation<'_>>, telling: &Telling<'_>) {
        let mut item = Map::new();
        for operation in operations {
            item.insert(operation.method.to_owned(), self.operation(&operation, telling));
        }
        let mut parameters = Vec::new();
        for name in ["name", "namespace"] {
            if path.contains(&format!("{{{name}}}")) {
                parameters.push(parameter(self.dialect, name, "path"));
            }
        }
        parameters.push(parameter(self.dialect, "pretty", "query"));
        item.insert("parameters".to_owned(), parameters.into());
        self.paths.insert(path.to_owned(), Value::Object(item));
    }

    fn operation(&self, operation: &Operation<'_>, telling: &Telling<'_>) -> Value {
        let [group, version, kind] = operation.kind;
        let mut told = json!({
            "tags": [telling.tag],
            "description": format!("{} {kind}", operation.action),
            "operationId": operation.id,
            "x-kubernetes-action": operation.action,
            "x-kubernetes-group-version-kind": {"group": group, "kind": kind, "version": version},
        });
        let mut parameters: Vec<Value> =
            operation.parameters.iter().map(|name| parameter(self.dialect, name, "query")).collect();
        let patches =
            if telling.custom { PATCHES.split_last().map_or(PATCHES, |(_, rest)| rest) } else { PATCHES };
        let bodies = if operation.method == "patch" { patches } else { &["*/*"] };
        let (answer, produced) = (operation.answer.schema(self.dialect), operation.answer.media);
        match self.dialect {
            Dialect::V2 => {
                if let Some(body) = &operation.body {
                    let schema = self.dialect.reference(body);
                    let required = operation.method != "delete";
                    parameters.insert(
                        0,
                        json!({"name": "body", "in": "body", "required": required, "schema": schema}),
                    );
                }
                told["consumes"] = bodies.into();
                told["produces"] = produced.into();
                told["schemes"] = json!(["https"]);
                told["responses"] = json!({"200": {"description": "OK", "schema": answer}});
            }
            Dialect::V3 => {
                if let Some(body) = &operation.body {
                    let schema = self.dialect.reference(body);
                    told["requestBody"] = json!({"content": content(bodies, &schema)});
                    if operation.method != "delete" {
                        told["requestBody"]["required"] = true.into();
                    }
                }
                told["responses"] =
                    json!({"200": {"description": "OK", "content": content(produced, &answer)}});
            }
        }
        told["responses"]["401"] = json!({"description": "Unauthorized"});
        if !parameters.is_empty() {
            told["parameters"] = parameters.into();
        }
        told
    }
}

pub(super) fn content(media: &[&str], schema: &Value) -> Value {
    media.iter().map(|media| ((*media).to_owned(), json!({"schema": schema}))).collect::<Map<_, _>>().into()
}

fn collection_operations<'a>(resource: &Resource, telling: &Telling<'a>, scope: &str) -> Vec<Operation<'a>> {
    let mut operations = Vec::new();
    if resource.verbs.read {
        operations.push(telling.list(telling.id("list", scope, "")));
    }
    if resource.verbs.create {
        operations.push(Operation {
            method: "post",
            action: "post",
            id: telling.id("create", scope, ""),
            parameters: WRITE.to_vec(),
            body: Some(telling.name.clone()),
            answer: Answer::of(&*telling.name),
            kind: telling.kind,
        });
    }
    if resource.verbs.delete_collection {
        operations.push(Operation {
            method: "delete",
            action: "deletecollection",
            id: telling.id("delete", &format!("Collection{scope}"), ""),
            parameters: [DELETE, &LIST[1..8]].concat(),
            body: Some(format!("{META}DeleteOptions")),
            answer: Answer::of(format!("{META}Status")),
            kind: telling.kind,
        });
    }
    operations
}

fn item_operations<'a>(resource: &Resource, telling: &Telling<'a>, scope: &str) -> Vec<Operation<'a>> {
    let mut operations = vec![telling.read(scope, "", &telling.name, telling.kind)];
    if resource.verbs.update {
        operations.extend(telling.updates(scope, "", &telling.name, telling.kind));
    }
    if resource.verbs.delete {
        operations.push(Operation {
            method: "delete",
            action: "delete",
            id: telling.id("delete", scope, ""),
            parameters: DELETE.to_vec(),
            body: Some(format!("{META}DeleteOptions")),
            answer: Answer::of(format!("{META}Status")),
            kind: telling.kind,
        });
    }
    operations
}

fn part_operations<'a>(
    telling: &Telling<'a>,
    scope: &str,
    part: &str,
    view: Option<&str>,
) -> Vec<Operation<'a>> {
    let (name, kind) = match view {
        Some(name) => (name, ["autoscaling", "v1", "Scale"]),
        None => (telling.name.as_str(), telling.kind),
    };
    let suffix = capital(part);
    let mut operations = vec![telling.read(scope, &suffix, name, kind)];
    operations.extend(telling.updates(scope, &suffix, name, kind));
    operations
}

/// What is written through a view, and the type of the view where it is another one.
fn parts(resource: &Resource) -> Vec<(&'static str, Option<&'static str>)> {
    let part = |part: &Part| match part {
        Part::Main => None,
        Part::Status => Some(("status", None)),
        Part::Scale => Some(("scale", Some(SCALE))),
        Part::EphemeralContainers => Some(("ephemeralcontainers", None)),
        Part::Resize => Some(("resize", None)),
        Part::Approval => Some(("approval", None)),
        Part::Finalize => Some(("finalize", None)),
    };
    resource.strategy.parts().iter().filter_map(part).collect()
}

/// Below an object something is created: the part, its type, and its kind.
fn creations(resource: &Resource) -> Vec<(&'static str, &'static str, [&'static str; 3])> {
    match &*resource.stored_as {
        "pods" => vec![
            ("binding", BINDING, ["", "v1", "Binding"]),
            ("eviction", EVICTION, ["policy", "v1", "Eviction"]),
        ],
        "serviceaccounts" => vec![("token", TOKEN, ["authentication.k8s.io", "v1", "TokenRequest"])],
        _ => Vec::new(),
    }
}

/// Names of a resource in its operations.
struct Telling<'a> {
    name: String,
    list: String,
    kind: [&'a str; 3],
    /// `AppsV1`
    package: String,
    tag: String,
    custom: bool,
}

impl<'a> Telling<'a> {
    fn of(resource: &'a Resource) -> Telling<'a> {
        let names = &resource.names;
        let words = words(&names.group);
        Telling {
            name: type_name(resource),
            list: list_name(resource),
            kind: [&names.group, &names.version, &names.kind],
            package: format!("{words}{}", capital(&names.version)),
            tag: format!("{}_{}", lower(&words), names.version),
            custom: resource.is_custom(),
        }
    }

    fn id(&self, verb: &str, scope: &str, suffix: &str) -> String {
        let [_, _, kind] = self.kind;
        // `deleteAppsV1CollectionNamespacedDeployment`, `listAppsV1NamespacedDeployment`
        format!("{verb}{}{scope}{kind}{suffix}", self.package)
    }

    fn list(&self, id: String) -> Operation<'a> {
        let (parameters, answer) = (LIST.to_vec(), Answer::of(&*self.list));
        Operation { method: "get", action: "list", id, parameters, body: None, answer, kind: self.kind }
    }

    fn read(&self, scope: &str, suffix: &str, name: &str, kind: [&'a str; 3]) -> Operation<'a> {
        let (id, answer) = (self.id("read", scope, suffix), Answer::of(name));
        Operation { method: "get", action: "get", id, parameters: Vec::new(), body: None, answer, kind }
    }

    fn updates(&self, scope: &str, suffix: &str, name: &str, kind: [&'a str; 3]) -> [Operation<'a>; 2] {
        [
            Operation {
                method: "put",
                action: "put",
                id: self.id("replace", scope, suffix),
                parameters: WRITE.to_vec(),
                body: Some(name.to_owned()),
                answer: Answer::of(name),
                kind,
            },
            Operation {
                method: "patch",
                action: "patch",
                id: self.id("patch", scope, suffix),
                parameters: PATCH.to_vec(),
                body: Some(format!("{META}Patch")),
                answer: Answer::of(name),
                kind,
            },
        ]
    }
}

/// A group as a word of operations: `Apps`, `RbacAuthorization`, `Core`.
pub(super) fn words(group: &str) -> String {
    let group = group.strip_suffix(".k8s.io").unwrap_or(group);
    let group = if group.is_empty() { "core" } else { group };
    group.split(['.', '-']).map(capital).collect()
}

/// The same with a small first letter, as tags have it.
pub(super) fn lower(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_ascii_lowercase().to_string() + letters.as_str())
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}

fn parameter(dialect: Dialect, name: &str, place: &str) -> Value {
    let (kind, description) = match name {
        "command" => ("string", "What is run; given again for each argument."),
        "container" => ("string", "Which container of the pod; the only one where it is not said."),
        "follow" => ("boolean", "Whether the log goes on as it is written."),
        "insecureSkipTLSVerifyBackend" => ("boolean", "Whether the node's certificate may be any."),
        "limitBytes" => ("integer", "At most so many bytes of the log."),
        "ports" => ("integer", "Which ports of the pod; only clients over WebSocket say so here."),
        "previous" => ("boolean", "The log of the container that ran before."),
        "sinceSeconds" => ("integer", "Only lines of so many last seconds."),
        "stderr" => ("boolean", "Whether its errors are sent."),
        "stdin" => ("boolean", "Whether it is sent input."),
        "stdout" => ("boolean", "Whether its output is sent."),
        "stream" => ("string", "Which lines: All, Stdout or Stderr."),
        "tailLines" => ("integer", "Only so many last lines."),
        "timestamps" => ("boolean", "Whether each line begins with its time."),
        "tty" => ("boolean", "Whether it runs with a terminal."),
        "allowWatchBookmarks" => ("boolean", "Whether a watch sends bookmarks."),
        "continue" => ("string", "Goes on with a list that was cut, with what it said to go on with."),
        "dryRun" => ("string", "All: everything is done but nothing is kept."),
        "fieldManager" => ("string", "Who makes the change: at most 128 printable characters."),
        "fieldSelector" => ("string", "Only objects whose fields are so."),
        "fieldValidation" => (
            "string",
            "What is done about unknown and duplicate fields: Ignore, Warn (the default) or Strict.",
        ),
        "force" => ("boolean", "Fields that others own are taken from them; of apply patches only."),
        "gracePeriodSeconds" => ("integer", "How many seconds the object has to end; 0: none."),
        "labelSelector" => ("string", "Only objects whose labels are so."),
        "limit" => ("integer", "At most so many objects in one answer."),
        "name" => ("string", "The name of the object."),
        "namespace" => ("string", "The namespace of the objects."),
        "orphanDependents" => ("boolean", "Deprecated: see propagationPolicy."),
        "pretty" => ("string", "Whether the answer is indented."),
        "propagationPolicy" => ("string", "What becomes of dependents: Orphan, Background or Foreground."),
        "resourceVersion" => ("string", "The version that the answer has to have, see resourceVersionMatch."),
        "resourceVersionMatch" => ("string", "How resourceVersion is meant: Exact or NotOlderThan."),
        "sendInitialEvents" => ("boolean", "Whether a watch begins with what is there."),
        "timeoutSeconds" => ("integer", "After so many seconds the answer ends."),
        "watch" => ("boolean", "Whether changes are sent as they happen."),
        _ => ("string", ""),
    };
    let mut told = json!({"name": name, "in": place, "description": description});
    if place == "path" {
        told["required"] = true.into();
    }
    let schema = json!({"type": kind, "uniqueItems": true});
    match dialect {
        Dialect::V2 => {
            told["type"] = kind.into();
            told["uniqueItems"] = true.into();
        }
        Dialect::V3 => told["schema"] = schema,
    }
    told
}
