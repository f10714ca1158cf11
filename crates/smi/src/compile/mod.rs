//! From what a cluster has to the model of it.
//!
//! [`compile`] is a function; [`Compiler`] is that function for who is told of changes: it compiles again what a change may have
//! changed, and says what that was.
//!
//! The rules, in short (docs/smi.md has them with their reasons): a route in a Service's namespace is for all clients, one in another
//! namespace for that namespace's clients and then alone. On one port GRPCRoute goes before HTTPRoute, TLSRoute and TCPRoute, all of
//! them before a TrafficSplit. Of several splits the oldest counts, of several TCPRoutes too. A TrafficTarget closes those members of
//! the mesh that are its destination but for what it, or another one, allows.

mod endpoints;
mod input;
mod policy;
mod report;
mod routes;
mod service;
mod split;
#[cfg(test)]
mod tests;
mod workload;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use input::{Change, Pod, Service, ServiceKind, ServicePort, Slice, SliceEndpoint, SlicePort};
pub use report::{Condition, ParentStatus, Report};
pub use workload::{MEMBER, MODE};

use crate::contract::{Finding, Id, Kind, MOST, Name, Reason, cut};
use crate::model::{Delta, Key, Model, Shared};
use report::Made;
use world::{Unit, World};

/// What does not come from the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The SPIFFE trust domain.
    pub trust_domain: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { trust_domain: "cluster.local".into() }
    }
}

impl Settings {
    /// The identity of a service account.
    #[must_use]
    pub fn identity(&self, account: &Name) -> String {
        format!("spiffe://{}/ns/{}/sa/{}", self.trust_domain, account.namespace, account.name)
    }

    /// Whether an IdentityBinding of a namespace may speak for an identity. In this trust domain it does for its own namespace alone:
    /// otherwise who writes in one namespace let in workloads of another wherever his binding is named.
    pub(crate) fn may_bind(&self, namespace: &str, identity: &str) -> bool {
        let path = identity
            .strip_prefix("spiffe://")
            .and_then(|rest| rest.strip_prefix(self.trust_domain.as_str()))
            .and_then(|rest| rest.strip_prefix('/'));
        let own = |path: &str| {
            let account = path.strip_prefix("ns/").and_then(|rest| rest.strip_prefix(namespace));
            account.is_some_and(|rest| rest.starts_with('/'))
        };
        path.is_none_or(own)
    }
}

/// What a compilation has changed.
#[derive(Debug, Default)]
pub struct Outcome {
    /// In the model.
    pub delta: Delta,
    /// In what there is to say about objects; `None` of one that is gone.
    pub reports: Vec<(Id, Option<Report>)>,
}

/// The model of a cluster, and what there is to say about each object of the mesh.
#[must_use]
pub fn compile(
    settings: Settings,
    everything: impl IntoIterator<Item = Change>,
) -> (Model, BTreeMap<Id, Report>) {
    let mut compiler = Compiler::new(settings);
    everything.into_iter().for_each(|change| compiler.enter(change));
    compiler.compile();
    (compiler.model, compiler.reports)
}

/// Compiles what changes.
#[derive(Debug)]
pub struct Compiler {
    settings: Settings,
    world: World,
    /// What each unit has come to, its entries aside.
    made: BTreeMap<Unit, Kept>,
    model: Model,
    reports: BTreeMap<Id, Report>,
}

/// What is remembered of a unit.
#[derive(Debug, Default)]
struct Kept {
    keys: BTreeSet<Key>,
    findings: BTreeMap<Id, Vec<Finding>>,
    parents: BTreeMap<(Id, usize), ParentStatus>,
    uses: Vec<Name>,
}

impl Compiler {
    /// Of a cluster that has nothing.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let (world, model) = (World::default(), Model::default());
        Self { settings, world, made: BTreeMap::new(), model, reports: BTreeMap::new() }
    }

    /// Takes a change. Nothing is compiled before [`Self::compile`] is called, so that many may come at once.
    pub fn enter(&mut self, change: Change) {
        self.world.enter(change);
    }

    /// The model as it was compiled last.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// What there was to say then.
    #[must_use]
    pub fn reports(&self) -> &BTreeMap<Id, Report> {
        &self.reports
    }

    /// Compiles what has changed since.
    pub fn compile(&mut self) -> Outcome {
        let mut outcome = Outcome::default();
        let mut touched = std::mem::take(&mut self.world.touched);
        for unit in std::mem::take(&mut self.world.dirty) {
            let made = match &unit {
                Unit::Service(name) => service::compile(&self.world, name),
                Unit::Endpoints(name) => endpoints::compile(&self.world, name),
                Unit::Policy(name) => policy::compile(&self.world, &self.settings, name),
                Unit::Binding(name) => policy::binding(&self.world, &self.settings, name),
                Unit::Workload(name) => workload::compile(&self.world, &self.settings, name),
            };
            self.keep(unit, made, &mut outcome.delta, &mut touched);
        }
        outcome.delta.set.sort_by(|a, b| a.key.cmp(&b.key));
        outcome.delta.removed.sort();
        for id in touched {
            let report = self.report(&id);
            if self.reports.get(&id) != report.as_ref() {
                match &report {
                    Some(report) => self.reports.insert(id.clone(), report.clone()),
                    None => self.reports.remove(&id),
                };
                outcome.reports.push((id, report));
            }
        }
        outcome
    }

    fn keep(&mut self, unit: Unit, made: Made, delta: &mut Delta, touched: &mut BTreeSet<Id>) {
        let before = self.made.remove(&unit).unwrap_or_default();
        let mut keys = BTreeSet::new();
        for (key, entry) in made.entries {
            let entry = Arc::new(entry);
            if self.model.put(key.clone(), entry.clone()) {
                delta.set.push(Shared { key: key.clone(), entry });
            }
            keys.insert(key);
        }
        for key in before.keys.difference(&keys) {
            if self.model.remove(key) {
                delta.removed.push(key.clone());
            }
        }
        touched.extend(before.findings.keys().chain(made.findings.keys()).cloned());
        touched.extend(before.parents.keys().chain(made.parents.keys()).map(|(id, _)| id.clone()));
        if let Unit::Service(user) = &unit {
            self.world.uses(user, &before.uses, &made.uses);
        }
        let kept = Kept { keys, findings: made.findings, parents: made.parents, uses: made.uses };
        if !(kept.keys.is_empty()
            && kept.findings.is_empty()
            && kept.parents.is_empty()
            && kept.uses.is_empty())
        {
            self.made.insert(unit, kept);
        }
    }

    /// What there is to say of an object: its own findings, and those of what was compiled of it.
    fn report(&self, id: &Id) -> Option<Report> {
        let said = self.world.said.get(id)?;
        let units: Vec<Unit> = match id.kind {
            Kind::TrafficTarget => vec![Unit::Policy(id.name.clone())],
            Kind::IdentityBinding => vec![Unit::Binding(id.name.clone())],
            Kind::TrafficSplit => {
                let apex = self.world.splits.get(&id.name).and_then(|split| split.service());
                apex.map(Unit::Service).into_iter().collect()
            }
            _ => {
                let parents = self.world.routes.get(id).into_iter().flat_map(|route| &route.parents);
                parents.map(|parent| Unit::Service(parent.service.clone())).collect()
            }
        };
        let (mut findings, mut parents) = (said.findings.clone(), BTreeMap::new());
        for kept in units.iter().filter_map(|unit| self.made.get(unit)) {
            findings.extend(kept.findings.get(id).into_iter().flatten().cloned());
            let range = kept.parents.range((id.clone(), 0)..=(id.clone(), usize::MAX));
            parents.extend(range.map(|((_, place), status)| (*place, status.clone())));
        }
        let mut seen = BTreeSet::new();
        findings.retain(|finding| seen.insert(finding.clone()));
        findings.truncate(MOST);
        let parents = parents.into_values().collect();
        Some(Report { uid: said.meta.uid.clone(), generation: said.meta.generation, findings, parents })
    }
}

/// A finding, shorter to write.
fn finding(
    reason: Reason,
    field: impl Into<String>,
    value: impl AsRef<str>,
    advice: impl Into<String>,
) -> Finding {
    Finding { reason, field: field.into(), value: cut(value.as_ref()), advice: advice.into() }
}
