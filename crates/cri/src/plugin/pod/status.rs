//! PodSandboxStatus and ListPodSandbox, from memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::Pod;
use crate::contract::Error;
use crate::contract::v1::{
    LinuxPodSandboxStatus, Namespace, PodIp, PodSandbox, PodSandboxFilter, PodSandboxNetworkStatus,
    PodSandboxState, PodSandboxStatus, PodSandboxStatusRequest, PodSandboxStatusResponse,
};
use crate::plugin::clock;
use crate::plugin::history::Who;
use crate::plugin::node::Node;

impl Pod {
    /// SANDBOX_READY or SANDBOX_NOTREADY.
    pub(crate) fn state(&self) -> PodSandboxState {
        match self.is_ready() {
            true => PodSandboxState::SandboxReady,
            false => PodSandboxState::SandboxNotready,
        }
    }

    /// As PodSandboxStatus tells it.
    pub(crate) fn status(&self) -> PodSandboxStatus {
        let config = &self.record.config;
        // A stopped pod has given its addresses back.
        let addresses = if self.is_ready() { &*self.record.addresses } else { &[] };
        let mut ips = addresses.iter().map(ToString::to_string);
        PodSandboxStatus {
            id: self.id().to_owned(),
            metadata: config.metadata.clone(),
            state: self.state().into(),
            created_at: self.record.created,
            network: Some(PodSandboxNetworkStatus {
                ip: ips.next().unwrap_or_default(),
                additional_ips: ips.map(|ip| PodIp { ip }).collect(),
            }),
            linux: Some(LinuxPodSandboxStatus {
                namespaces: Some(Namespace { options: Some(self.namespace_options()) }),
            }),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            runtime_handler: self.record.handler.clone(),
        }
    }

    fn listed(&self) -> PodSandbox {
        let config = &self.record.config;
        PodSandbox {
            id: self.id().to_owned(),
            metadata: config.metadata.clone(),
            state: self.state().into(),
            created_at: self.record.created,
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            runtime_handler: self.record.handler.clone(),
        }
    }

    fn passes(&self, filter: &PodSandboxFilter) -> bool {
        self.id().starts_with(&filter.id)
            && filter.state.as_ref().is_none_or(|wanted| wanted.state() == self.state())
            && has_labels(&self.record.config.labels, &filter.label_selector)
    }
}

/// Whether all labels of `wanted` are there with their values.
pub(crate) fn has_labels(labels: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

impl Node {
    /// Pods that pass `filter`, the youngest first.
    pub(crate) fn list_pods(&self, filter: Option<&PodSandboxFilter>) -> Vec<PodSandbox> {
        let mut pods = self.state.pods();
        pods.retain(|pod| filter.is_none_or(|filter| pod.passes(filter)));
        pods.sort_by_key(|pod| std::cmp::Reverse(pod.record.created));
        pods.iter().map(|pod| pod.listed()).collect()
    }

    /// A pod's status; with `verbose` all that is known of it.
    pub(crate) fn pod_status(
        &self,
        request: &PodSandboxStatusRequest,
    ) -> Result<PodSandboxStatusResponse, Error> {
        // Before anything is read: a kubelet drops events that are older than this.
        let timestamp = clock::now();
        let pod = self.state.pod(&request.pod_sandbox_id)?;
        let containers = self.state.containers_of(pod.id());
        Ok(PodSandboxStatusResponse {
            status: Some(pod.status()),
            info: if request.verbose { self.info(&pod) } else { BTreeMap::new() },
            containers_statuses: containers.iter().map(|container| container.status()).collect(),
            timestamp,
        })
    }

    fn info(&self, pod: &Arc<Pod>) -> BTreeMap<String, String> {
        let record = &pod.record;
        let namespaces: BTreeMap<_, _> = record.namespaces.iter().map(|(kind, path)| (kind, path)).collect();
        let network = self.place.netns(&record.id).display().to_string();
        let network = (!super::is_host(&record.config)).then(|| json!({"type": "network", "path": network}));
        let held = record.namespaces.iter().map(|(kind, path)| json!({"type": kind, "path": path}));
        let by_type: Vec<_> = network.into_iter().chain(held).collect();
        let info = json!({
            "pid": 0,
            "processStatus": if pod.is_ready() { "running" } else { "" },
            "netNamespaceClosed": !pod.is_ready() && !super::is_host(&record.config),
            "network": record.network,
            "addresses": record.addresses,
            "namespaces": namespaces,
            // Where programs look for a pod's namespaces that know containerd.
            "runtimeSpec": {"linux": {"namespaces": by_type}},
            "runtimeHandler": record.handler,
            "runtimeType": "io.sextant.v1",
            "cgroup": record.cgroup,
            "config": record.config,
        });
        let history = self.history.told(&Who::of(&record.config));
        BTreeMap::from([("info".to_owned(), info.to_string()), ("history".to_owned(), history.to_string())])
    }
}
