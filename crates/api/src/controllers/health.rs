//! How those fare that keep the objects in order, under the names that checks of Kubernetes have.

use crate::auth::Check;
use crate::registry::Registry;
use std::sync::OnceLock;
use tokio::task::AbortHandle;

/// Objects that are there since the start, and made again by the next one: what they are of, where, and their names.
///
/// A hook of Kubernetes that is done stays good, so these are looked for until they were all there once: at the start.
const MADE: [(&str, &str, &str, &[&str]); 5] = [
    ("poststarthook/start-system-namespaces-controller", "namespaces", "", &["default", "kube-system"]),
    (
        "poststarthook/start-cluster-authentication-info-controller",
        "configmaps",
        "kube-system",
        &[super::beginning::TRUST],
    ),
    (
        "poststarthook/scheduling/bootstrap-system-priority-classes",
        "priorityclasses.scheduling.k8s.io",
        "",
        &["system-node-critical", "system-cluster-critical"],
    ),
    (
        "poststarthook/start-kubernetes-service-cidr-controller",
        "servicecidrs.networking.k8s.io",
        "",
        &["kubernetes"],
    ),
    ("poststarthook/rbac/bootstrap-roles", "clusterroles.rbac.authorization.k8s.io", "", &["cluster-admin"]),
];

/// Whether a check is of what the start makes. What a webhook refused then is as little there after the next start, so
/// nobody should start again for it.
pub(crate) fn is_of_the_start(check: &str) -> bool {
    MADE.iter().any(|(name, ..)| *name == check)
}

/// Those that run until the server ends.
pub(super) struct Running {
    pub(super) api_services: AbortHandle,
    pub(super) addresses: AbortHandle,
    pub(super) endpoints: AbortHandle,
    pub(super) definitions: AbortHandle,
}

impl Running {
    /// Who does what Kubernetes has others do.
    fn named(&self) -> [(&'static str, &AbortHandle); 14] {
        [
            ("poststarthook/start-apiextensions-informers", &self.definitions),
            ("poststarthook/start-apiextensions-controllers", &self.definitions),
            ("poststarthook/crd-informer-synced", &self.definitions),
            ("poststarthook/start-service-ip-repair-controllers", &self.addresses),
            ("poststarthook/bootstrap-controller", &self.endpoints),
            ("poststarthook/start-kube-aggregator-informers", &self.api_services),
            ("poststarthook/apiservice-status-local-available-controller", &self.api_services),
            ("poststarthook/apiservice-status-remote-available-controller", &self.api_services),
            ("poststarthook/apiservice-registration-controller", &self.api_services),
            ("poststarthook/apiservice-discovery-controller", &self.api_services),
            ("poststarthook/kube-apiserver-autoregistration", &self.api_services),
            ("autoregister-completion", &self.api_services),
            ("poststarthook/apiservice-openapi-controller", &self.api_services),
            ("poststarthook/apiservice-openapiv3-controller", &self.api_services),
        ]
    }

    /// A check for each.
    pub(super) fn checks(&self, registry: &Registry) -> Vec<Check> {
        let mut checks: Vec<Check> = Vec::new();
        for (name, resource, namespace, objects) in MADE {
            let registry = registry.clone();
            let done = OnceLock::new();
            let check = move || {
                if done.get().is_none() {
                    all_are_there(&registry, resource, namespace, objects)?;
                    done.get_or_init(|| ());
                }
                Ok(())
            };
            // Who asks for the first time may come when one of them has been taken away.
            let _ = check();
            checks.push((name, Box::new(check)));
        }
        for (name, task) in self.named() {
            let task = task.clone();
            let check = move || {
                if task.is_finished() { Err("its controller has ended".to_owned()) } else { Ok(()) }
            };
            checks.push((name, Box::new(check)));
        }
        checks
    }
}

fn all_are_there(registry: &Registry, resource: &str, namespace: &str, names: &[&str]) -> Result<(), String> {
    for name in names {
        match registry.peek(resource, namespace, name) {
            Ok(Some(_)) => {}
            Ok(None) => return Err(format!("there is no {resource} {name}")),
            Err(status) => return Err(status.message),
        }
    }
    Ok(())
}
