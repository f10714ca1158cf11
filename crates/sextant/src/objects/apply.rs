//! Server-side apply of many objects.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::call::Call;
use super::documents::Document;
use super::named::checked;
use super::{JSON, Kind, Kinds, Refused, Server, condition, text};
use crate::failure::{Failure, Result};

/// Who owns the fields that are applied.
const MANAGER: &str = "sextant";
/// A patch that is the object as it is wanted; JSON is YAML.
const APPLY: &str = "application/apply-patch+yaml";
/// How long a definition may take until its kind is served.
const ESTABLISHED: Duration = Duration::from_secs(10);
/// How long a namespace may take until it has its service account.
const ACCOUNT: Duration = Duration::from_secs(5);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// How it is done.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Wishes<'a> {
    /// Where objects go that name no namespace; those that name another are refused.
    pub(crate) namespace: Option<&'a str>,
    /// Fields that somebody else owns are taken.
    pub(crate) force: bool,
    /// Nothing is kept.
    pub(crate) dry_run: bool,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Created,
    Configured,
    Unchanged,
}

impl Outcome {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
        }
    }
}

/// One object that was applied.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) kind: Kind,
    /// Where the object is.
    pub(crate) path: String,
    pub(crate) object: Value,
    pub(crate) outcome: Outcome,
}

impl Applied {
    /// `deployment.apps/web`.
    pub(crate) fn name(&self) -> String {
        self.kind.of(text(&self.object, "/metadata/name"))
    }
}

/// Applies all of them, in the order in which they need each other, and goes on past those that are refused.
pub(crate) fn apply(
    server: &Server,
    mut documents: Vec<Document>,
    wishes: Wishes<'_>,
    mut tell: impl FnMut(&Applied),
) -> Result<(Vec<Applied>, Vec<Failure>)> {
    in_order(&mut documents);
    let mut kinds = server.kinds()?;
    let (mut done, mut failures) = (Vec::new(), Vec::new());
    let mut definitions = Vec::new();
    for document in &documents {
        if kinds.of_object(document.api_version(), document.kind()).is_none() && !definitions.is_empty() {
            established(server, &std::mem::take(&mut definitions));
            kinds = server.kinds()?;
        }
        match one(server, &kinds, document, wishes) {
            Ok(applied) => {
                if document.kind() == "CustomResourceDefinition" {
                    definitions.push(applied.path.clone());
                }
                tell(&applied);
                done.push(applied);
            }
            Err(failure) => failures.push(failure),
        }
    }
    Ok((done, failures))
}

/// Has them in the order in which they need each other: in groups, and within one in that of the files.
pub(crate) fn in_order(documents: &mut [Document]) {
    documents.sort_by_key(|document| rank(document.kind()));
}

/// What others need comes first: namespaces, definitions, then what pods are admitted by or are given; what has a say about all others
/// comes last, as its own pods are among those.
fn rank(kind: &str) -> u8 {
    match kind {
        "Namespace" => 0,
        "CustomResourceDefinition" => 1,
        "PriorityClass"
        | "StorageClass"
        | "RuntimeClass"
        | "IngressClass"
        | "ServiceAccount"
        | "Secret"
        | "ConfigMap"
        | "ResourceQuota"
        | "LimitRange"
        | "ClusterRole"
        | "ClusterRoleBinding"
        | "Role"
        | "RoleBinding"
        | "PersistentVolume"
        | "PersistentVolumeClaim"
        | "Service" => 2,
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" | "APIService" => 4,
        _ => 3,
    }
}

fn one(server: &Server, kinds: &Kinds, document: &Document, wishes: Wishes<'_>) -> Result<Applied> {
    let what = format!("{} {:?} ({})", document.kind(), document.name(), document.place);
    let cannot = |why: &str| Failure::new(format!("cannot apply {what}: {why}"));
    let (kind, path) = place(server, kinds, document, wishes.namespace).map_err(|why| cannot(&why))?;
    let refused = |refused: Refused| {
        let hint = if refused.code == 409 { " (--force-conflicts takes these fields)" } else { "" };
        cannot(&format!("{}{hint}", refused.message))
    };
    let before = server.find_at(&path).map_err(refused)?;
    let until = Instant::now() + ACCOUNT;
    let (code, object) = loop {
        let call = Call::patch(&path, APPLY, document.object.clone())
            .with("fieldManager", MANAGER)
            .with("fieldValidation", "Strict")
            .with("force", if wishes.force { "true" } else { "" })
            .with("dryRun", if wishes.dry_run { "All" } else { "" });
        match server.ask_with_code(call) {
            // A new namespace gets it in a moment.
            Err(early) if is_early(&early) && Instant::now() < until => std::thread::sleep(PAUSE),
            answer => break answer.map_err(refused)?,
        }
    };
    let version = |object: &Value| text(object, "/metadata/resourceVersion").to_owned();
    let outcome = match before {
        None => Outcome::Created,
        _ if code == 201 => Outcome::Created,
        // What is only tried gets no new version.
        Some(before) if wishes.dry_run && before != object => Outcome::Configured,
        Some(before) if version(&before) == version(&object) || lean(&before) == lean(&object) => {
            Outcome::Unchanged
        }
        Some(_) => Outcome::Configured,
    };
    Ok(Applied { kind: kind.clone(), path, object, outcome })
}

/// An object without what controllers write while it is applied, and what is kept of that.
fn lean(object: &Value) -> Value {
    let mut lean = object.clone();
    if let Some(fields) = lean.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = lean["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
        metadata.remove("managedFields");
    }
    lean
}

/// Whether a pod came before the service account of its namespace.
fn is_early(refused: &Refused) -> bool {
    refused.code == 403 && refused.message.contains("error looking up service account")
}

/// What kind an object is of, and where it is.
///
/// # Errors
/// Words that say why nobody knows.
pub(crate) fn place<'k>(
    server: &Server,
    kinds: &'k Kinds,
    document: &Document,
    namespace: Option<&str>,
) -> Result<(&'k Kind, String), String> {
    let kind = kinds.of_object(document.api_version(), document.kind()).ok_or_else(|| {
        format!(
            "the server has no kind {} in {} (is its definition applied?)",
            document.kind(),
            document.api_version()
        )
    })?;
    let own = text(&document.object, "/metadata/namespace");
    if let Some(namespace) =
        namespace.filter(|namespace| kind.is_namespaced && !own.is_empty() && *namespace != own)
    {
        return Err(format!("it says namespace {own}, and --namespace says {namespace}"));
    }
    let within = if own.is_empty() { namespace.unwrap_or(&server.namespace) } else { own };
    checked(within).map_err(|failure| failure.to_string())?;
    Ok((kind, format!("{}/{}", kind.path(Some(within)), document.name())))
}

/// Waits until these definitions are served; who uses their kinds is told if they are not.
fn established(server: &Server, definitions: &[String]) {
    let until = Instant::now() + ESTABLISHED;
    for path in definitions {
        while Instant::now() < until {
            let object = server.ask(Call::get(path, JSON)).unwrap_or_default();
            if condition(&object, "Established").is_some_and(|one| text(one, "/status") == "True") {
                break;
            }
            std::thread::sleep(PAUSE);
        }
    }
}
