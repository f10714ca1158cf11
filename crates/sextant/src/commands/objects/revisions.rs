//! What Deployments, StatefulSets and DaemonSets were before: `rollout history` and `rollout undo`.

use api::serve::yaml;
use serde_json::{Value, json};

use super::rollout::Rolling;
use crate::failure::{Failure, Result};
use crate::objects::{Call, JSON, Server, list, number, shown, text};
use crate::output::line;

const STRATEGIC: &str = "application/strategic-merge-patch+json";
const OPERATIONS: &str = "application/json-patch+json";
/// Where a ReplicaSet says which revision of its Deployment it is.
const REVISION: &str = "deployment.kubernetes.io/revision";
/// Where people say why they have changed something.
const CAUSE: &str = "kubernetes.io/change-cause";
/// The label by which ReplicaSets of a Deployment tell their pods apart.
const HASH: &str = "pod-template-hash";
/// Annotations that are a Deployment's own, and no part of what it rolls out.
const OWN: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    "deployment.kubernetes.io/revision-history",
    "deployment.kubernetes.io/desired-replicas",
    "deployment.kubernetes.io/max-replicas",
    "deprecated.deployment.rollback.to",
];

/// What was rolled out once: a ReplicaSet or a ControllerRevision.
struct Revision {
    number: i64,
    object: Value,
}

impl Revision {
    /// What pods were made from.
    fn template(&self) -> Value {
        let place = if self.object.get("data").is_some() { "/data/spec/template" } else { "/spec/template" };
        let mut template = self.object.pointer(place).cloned().unwrap_or_default();
        if let Some(fields) = template.as_object_mut() {
            fields.remove("$patch");
        }
        if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
            labels.remove(HASH);
        }
        template
    }

    /// What brings the owner back to a ControllerRevision, unless somebody has changed it meanwhile; `None` where that says nothing.
    fn change(&self, owner: &Value) -> Option<Value> {
        let mut change = self.object.pointer("/data")?.as_object()?.clone();
        let version = json!({"resourceVersion": text(owner, "/metadata/resourceVersion")});
        change.insert("metadata".to_owned(), version);
        Some(change.into())
    }

    fn annotations(&self) -> serde_json::Map<String, Value> {
        let all = self.object.pointer("/metadata/annotations").and_then(Value::as_object);
        all.cloned().unwrap_or_default()
    }
}

/// Shows what was rolled out, or what pods of one revision were made from.
pub(super) fn history(server: &Server, one: &Rolling, wanted: Option<i64>) -> Result<()> {
    let title = one.kind.of(&one.name);
    let owner = server.get(&one.path)?;
    let all = revisions(server, one, &owner)?;
    if let Some(wanted) = wanted {
        let revision = found(&all, wanted, &title)?;
        print!("{title} with revision #{wanted}\n{}", yaml::write(&revision.template()));
        return Ok(());
    }
    println!("{title}\nREVISION  CHANGE-CAUSE");
    for revision in all {
        let annotations = revision.annotations();
        let cause = annotations.get(CAUSE).and_then(Value::as_str).filter(|cause| !cause.is_empty());
        println!("{:<8}  {}", revision.number, shown(cause.unwrap_or("<none>")));
    }
    Ok(())
}

/// Has pods made again from what they were made from before, or at a revision.
pub(super) fn undo(server: &Server, one: &Rolling, wanted: Option<i64>) -> Result<()> {
    let title = one.kind.of(&one.name);
    let owner = server.get(&one.path)?;
    if owner.pointer("/spec/paused") == Some(&Value::Bool(true)) {
        return Err(Failure::new(format!(
            "cannot roll {title} back: it is paused (set spec.paused to false first)"
        )));
    }
    let all = revisions(server, one, &owner)?;
    let revision = match wanted {
        Some(wanted) => found(&all, wanted, &title)?,
        None => all.iter().rev().nth(1).ok_or_else(|| {
            Failure::new(format!("cannot roll {title} back: there is no revision before the one it has"))
        })?,
    };
    let template = revision.template();
    if owner.pointer("/spec/template") == Some(&template) {
        let number = revision.number;
        line(format_args!("{title} skipped rollback (current template already matches revision {number})"));
        return Ok(());
    }
    let call = if one.kind.name == "Deployment" {
        let change = json!([
            // What somebody has changed meanwhile is looked at first.
            {"op": "test", "path": "/metadata/resourceVersion", "value": text(&owner, "/metadata/resourceVersion")},
            {"op": "replace", "path": "/spec/template", "value": template},
            {"op": "add", "path": "/metadata/annotations", "value": annotations(&owner, revision)},
        ]);
        Call::patch(&one.path, OPERATIONS, change)
    } else {
        let change = revision.change(&owner).ok_or_else(|| {
            Failure::new(format!(
                "cannot roll {title} back: data of its controllerrevision {} is no object",
                text(&revision.object, "/metadata/name")
            ))
        })?;
        Call::patch(&one.path, STRATEGIC, change)
    };
    server.ask(call.with("fieldManager", "sextant"))?;
    line(format_args!("{title} rolled back"));
    Ok(())
}

/// All revisions of an object, the oldest first.
fn revisions(server: &Server, one: &Rolling, owner: &Value) -> Result<Vec<Revision>> {
    let plural = if one.kind.name == "Deployment" { "replicasets" } else { "controllerrevisions" };
    let path = format!("/apis/apps/v1/namespaces/{}/{plural}", server.namespace);
    let uid = text(owner, "/metadata/uid");
    let is_its = |object: &&Value| {
        let mut owners = list(object, "/metadata/ownerReferences").iter();
        owners.any(|owner| {
            text(owner, "/uid") == uid && owner.pointer("/controller") == Some(&Value::Bool(true))
        })
    };
    let found = server.ask(Call::get(&path, JSON))?;
    let mut all: Vec<Revision> = list(&found, "/items")
        .iter()
        .filter(is_its)
        .filter_map(|object| Some(Revision { number: revision(object)?, object: object.clone() }))
        .collect();
    all.sort_by_key(|revision| revision.number);
    Ok(all)
}

/// Which revision it is; `None` of a ReplicaSet that nobody has numbered yet.
fn revision(object: &Value) -> Option<i64> {
    if object.get("data").is_some() {
        return Some(number(object, "/revision"));
    }
    object.pointer("/metadata/annotations")?.get(REVISION)?.as_str()?.parse().ok()
}

fn found<'a>(all: &'a [Revision], wanted: i64, title: &str) -> Result<&'a Revision> {
    all.iter().find(|revision| revision.number == wanted).ok_or_else(|| {
        let known: Vec<String> = all.iter().map(|revision| revision.number.to_string()).collect();
        let why = match known.is_empty() {
            true => "it has none yet (is sextant control running?)".to_owned(),
            false => format!("there are {}", known.join(", ")),
        };
        Failure::new(format!("cannot find revision {wanted} of {title}: {why}"))
    })
}

/// The annotations of a Deployment that goes back: its own, and for the rest those that it had.
fn annotations(owner: &Value, revision: &Revision) -> Value {
    let is_own = |name: &str| OWN.contains(&name);
    let now = owner.pointer("/metadata/annotations").and_then(Value::as_object).cloned().unwrap_or_default();
    let now = now.into_iter().filter(|(name, _)| is_own(name));
    let then = revision.annotations().into_iter().filter(|(name, _)| !is_own(name));
    Value::Object(now.chain(then).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_back_is_what_was_rolled_out_and_no_more() {
        let set = json!({"metadata": {"annotations": {REVISION: "2", CAUSE: "then", "deployment.kubernetes.io/max-replicas": "3"}},
            "spec": {"template": {"metadata": {"labels": {"app": "a", HASH: "x"}}, "spec": {}}}});
        let one = Revision { number: revision(&set).unwrap(), object: set };
        assert_eq!(one.number, 2);
        assert_eq!(one.template(), json!({"metadata": {"labels": {"app": "a"}}, "spec": {}}));
        let owner = json!({"metadata": {"annotations": {REVISION: "3", CAUSE: "now", "other": "now"}}});
        assert_eq!(annotations(&owner, &one), json!({REVISION: "3", CAUSE: "then"}));
        let kept = json!({"revision": 7, "data": {"spec": {"template": {"$patch": "replace", "spec": {}}}}});
        let one = Revision { number: revision(&kept).unwrap(), object: kept };
        assert_eq!((one.number, one.template()), (7, json!({"spec": {}})));
        let owner = json!({"metadata": {"resourceVersion": "5"}});
        let change = one.change(&owner).unwrap();
        assert_eq!((&change["metadata"], change["spec"].is_object()), (&owner["metadata"], true));
        // What somebody else has written there is no change.
        for data in [json!("text"), json!([1]), json!(null)] {
            let one = Revision { number: 1, object: json!({"data": data}) };
            assert_eq!((one.change(&owner), one.template()), (None, Value::Null));
        }
        assert_eq!(revision(&json!({"metadata": {}})), None);
        let refused = found(&[one], 6, "daemonset.apps/a").err().unwrap().to_string();
        assert_eq!(refused, "cannot find revision 6 of daemonset.apps/a: there are 7");
        let refused = found(&[], 1, "daemonset.apps/a").err().unwrap().to_string();
        assert_eq!(
            refused,
            "cannot find revision 1 of daemonset.apps/a: it has none yet (is sextant control running?)"
        );
    }
}
