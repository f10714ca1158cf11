//! What the authors of objects are told: `status.parents` of Gateway API's routes, and events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use client::queue::{Next, Pace, Queue};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Client, Error, ResourceExt as _};
use serde_json::{Value, json};
use smi::compile::{ParentStatus, Report};
use smi::contract::{Id, Kind};

use super::told::{AGAIN, Told};
use crate::mesh::kinds;

/// Whose part of a route's status is ours.
pub(super) const CONTROLLER: &str = "mesh.sextant.dev/controller";
/// The longest message of a condition, in bytes.
const LONGEST: usize = 32_768;

/// What there is to say, and who is to say it.
#[derive(Debug, Default)]
pub(super) struct Statuses(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    reports: BTreeMap<Id, Report>,
    /// Of the one that leads.
    queue: Option<Arc<Queue<Id>>>,
}

impl Statuses {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This has changed.
    pub(super) fn take(&self, reports: Vec<(Id, Option<Report>)>) {
        let mut state = self.state();
        for (id, report) in reports {
            if let Some(queue) = &state.queue {
                queue.add(id.clone());
            }
            match report {
                Some(report) => drop(state.reports.insert(id, report)),
                None => drop(state.reports.remove(&id)),
            }
        }
    }

    /// Tells all of it, and what changes, for as long as it is polled.
    pub(super) async fn tell(&self, client: &Client, host: &str) {
        let writer = Writer {
            client: client.clone(),
            told: Told::start(client, host).await,
            versions: Mutex::default(),
            uids: Mutex::default(),
        };
        let queue = Queue::new(Pace::default());
        {
            let mut state = self.state();
            state.queue = Some(queue.clone());
            queue.add_all(state.reports.keys().cloned());
        }
        let look = |id: Id| {
            let report = self.state().reports.get(&id).cloned();
            writer.look(id, report)
        };
        queue.run(look).await;
    }
}

/// Who writes.
struct Writer {
    client: Client,
    told: Told,
    /// The version of each kind that the server has.
    versions: Mutex<BTreeMap<Kind, &'static str>>,
    /// Of what was told.
    uids: Mutex<BTreeMap<Id, String>>,
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Writer {
    async fn look(&self, id: Id, report: Option<Report>) -> Next {
        let Some(report) = report else {
            if let Some(uid) = locked(&self.uids).remove(&id) {
                self.told.forget(&uid);
            }
            return Next::Done;
        };
        match self.write(&id, &report).await {
            Ok(()) => {}
            // It has changed since, and comes.
            Err(Error::Api(status)) if status.code == 409 => return Next::Again,
            Err(error) => {
                let cause = client::causes(&error);
                eprintln!(
                    "sextant control: warning: mesh: cannot write the status of {id}, and tries again: {cause}"
                );
                return Next::Again;
            }
        }
        // Somebody else may write over a status.
        if report.findings.is_empty() && !is_route(id.kind) { Next::Done } else { Next::After(AGAIN) }
    }

    async fn write(&self, id: &Id, report: &Report) -> Result<(), Error> {
        let Some(version) = self.version(id.kind).await? else { return Ok(()) };
        let of = ObjectReference {
            api_version: Some(format!("{}/{version}", id.kind.group())),
            kind: Some(id.kind.as_str().into()),
            namespace: Some(id.name.namespace.clone()),
            name: Some(id.name.name.clone()),
            uid: Some(report.uid.clone()),
            ..ObjectReference::default()
        };
        // One of the same name that is gone.
        if let Some(before) = locked(&self.uids).insert(id.clone(), report.uid.clone())
            && before != report.uid
        {
            self.told.forget(&before);
        }
        self.told.say(&of, &report.findings).await;
        if is_route(id.kind) { self.parents(id, version, report).await } else { Ok(()) }
    }

    /// The version of a kind that the server has.
    async fn version(&self, kind: Kind) -> Result<Option<&'static str>, Error> {
        let known = locked(&self.versions).get(&kind).copied();
        if known.is_some() {
            return Ok(known);
        }
        let others: BTreeSet<Kind> = Kind::all().filter(|other| *other != kind).collect();
        let found = kinds::served(&self.client, &others).await?;
        let version = found.first().map(|(_, version)| *version);
        if let Some(version) = version {
            locked(&self.versions).insert(kind, version);
        }
        Ok(version)
    }

    async fn parents(&self, id: &Id, version: &'static str, report: &Report) -> Result<(), Error> {
        let resource = ApiResource {
            group: id.kind.group().into(),
            version: version.into(),
            api_version: format!("{}/{version}", id.kind.group()),
            kind: id.kind.as_str().into(),
            plural: id.kind.plural().into(),
        };
        let routes: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &id.name.namespace, &resource);
        let Some(route) = routes.get_opt(&id.name.name).await? else {
            // Or it is of a version that is served no more.
            locked(&self.versions).remove(&id.kind);
            return Ok(());
        };
        // Of another, or of how it is now, there is a report to come.
        if route.uid().as_deref() != Some(report.uid.as_str()) {
            return Ok(());
        }
        let Some(parents) = renewed(&route.data["status"]["parents"], report, &now()) else { return Ok(()) };
        let patch = json!({"metadata": {"resourceVersion": route.resource_version()}, "status": {"parents": parents}});
        routes.patch_status(&id.name.name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
    }
}

fn now() -> String {
    format!("{:.0}", Timestamp::now())
}

/// Whether it is one of Gateway API's, which have a status.
fn is_route(kind: Kind) -> bool {
    matches!(kind, Kind::HttpRoute | Kind::GrpcRoute | Kind::TlsRoute | Kind::TcpRoute | Kind::UdpRoute)
}

/// `status.parents` as it is to be; `None` if it is so. Entries of other controllers are left where and as they are.
fn renewed(there: &Value, report: &Report, now: &str) -> Option<Vec<Value>> {
    let there = there.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut missing: Vec<&ParentStatus> = report.parents.iter().collect();
    let mut parents = Vec::new();
    for entry in there {
        if entry["controllerName"] != CONTROLLER {
            parents.push(entry.clone());
        } else if let Some(place) = missing.iter().position(|parent| parent.reference == entry["parentRef"]) {
            parents.push(status(missing.remove(place), &entry["conditions"], report.generation, now));
        }
    }
    parents.extend(missing.into_iter().map(|parent| status(parent, &Value::Null, report.generation, now)));
    (parents != there).then_some(parents)
}

fn status(parent: &ParentStatus, before: &Value, generation: i64, now: &str) -> Value {
    let conditions = parent.conditions.iter().map(|condition| {
        let status = if condition.status { "True" } else { "False" };
        let same = before.as_array().into_iter().flatten().find(|old| old["type"] == condition.kind);
        let since = same.filter(|old| old["status"] == status).and_then(|old| old["lastTransitionTime"].as_str());
        let end = condition.message.floor_char_boundary(LONGEST);
        json!({
            "type": condition.kind, "status": status, "reason": condition.reason, "message": &condition.message[..end],
            "observedGeneration": generation, "lastTransitionTime": since.unwrap_or(now),
        })
    });
    json!({
        "parentRef": parent.reference, "controllerName": CONTROLLER, "conditions": conditions.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use smi::compile::Condition;

    use super::*;

    const EARLY: &str = "2026-01-01T00:00:00Z";
    const LATE: &str = "2026-01-01T01:00:00Z";

    fn parent(name: &str, accepted: bool, message: &str) -> ParentStatus {
        let condition = Condition {
            kind: "Accepted",
            status: accepted,
            reason: if accepted { "Accepted" } else { "NoMatchingParent" },
            message: message.into(),
        };
        ParentStatus {
            reference: json!({"group": "", "kind": "Service", "name": name}),
            conditions: vec![condition],
        }
    }

    fn report(generation: i64, parents: &[ParentStatus]) -> Report {
        Report { uid: "u".into(), generation, findings: Vec::new(), parents: parents.to_vec() }
    }

    #[test]
    fn what_is_so_is_not_written() {
        let one = report(1, &[parent("web", true, "well")]);
        let first = renewed(&Value::Null, &one, EARLY).unwrap();
        assert_eq!(first[0]["controllerName"], CONTROLLER);
        assert_eq!(first[0]["conditions"][0]["status"], "True");
        assert_eq!(renewed(&json!(first), &one, LATE), None);
        // A route without a Service for a parent is not ours at all.
        assert_eq!(renewed(&Value::Null, &report(1, &[]), EARLY), None);
    }

    #[test]
    fn a_condition_keeps_its_time_until_it_turns() {
        let there = json!(renewed(&Value::Null, &report(1, &[parent("web", true, "well")]), EARLY).unwrap());
        let told = renewed(&there, &report(2, &[parent("web", true, "still")]), LATE).unwrap();
        let condition = &told[0]["conditions"][0];
        assert_eq!(
            (&condition["lastTransitionTime"], &condition["observedGeneration"]),
            (&json!(EARLY), &json!(2))
        );
        assert_eq!(condition["message"], "still");
        let turned = renewed(&there, &report(2, &[parent("web", false, "gone")]), LATE).unwrap();
        assert_eq!(turned[0]["conditions"][0]["lastTransitionTime"], LATE);
    }

    #[test]
    fn entries_of_others_stay_where_they_are() {
        let other = json!({"parentRef": {"name": "gateway"}, "controllerName": "example.com/gateway", "conditions": []});
        let old = status(&parent("old", true, "well"), &Value::Null, 1, EARLY);
        let web = status(&parent("web", true, "well"), &Value::Null, 1, EARLY);
        let there = json!([old, other, web]);
        let wanted = report(1, &[parent("web", true, "well"), parent("new", true, "well")]);
        let told = renewed(&there, &wanted, LATE).unwrap();
        let names: Vec<_> = told.iter().map(|entry| entry["parentRef"]["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["gateway", "web", "new"]);
        assert_eq!((&told[0], &told[1]), (&other, &web));
        // Nothing of ours is left, and what is left is others'.
        assert_eq!(renewed(&there, &report(1, &[]), LATE), Some(vec![other]));
    }

    #[test]
    fn a_message_is_no_longer_than_a_condition_takes() {
        let long = status(&parent("web", true, &"ä".repeat(20_000)), &Value::Null, 1, EARLY);
        assert_eq!(long["conditions"][0]["message"].as_str().map(str::len), Some(LONGEST));
    }

    #[test]
    fn times_are_whole_seconds() {
        let now = now();
        assert!(now.len() == EARLY.len() && now.ends_with('Z'), "{now}");
    }
}
