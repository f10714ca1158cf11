//! A cloud in memory that does as it is told.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use cpi::contract::*;
use serde_json::json;

/// What is in it, and what is to go wrong: by call, once each.
#[derive(Default)]
pub(crate) struct State {
    /// What it was initialized with. Until then all else fails.
    pub(crate) cluster: Option<String>,
    pub(crate) balancers: BTreeMap<String, usize>,
    pub(crate) routes: Vec<Route>,
    pub(crate) failing: BTreeMap<&'static str, Error>,
    pub(crate) metadata: InstanceMetadata,
    /// The node that was last asked about.
    pub(crate) seen: Option<Node>,
    pub(crate) forgets_to_delete: bool,
    /// What it says of itself.
    pub(crate) trouble: Option<String>,
    pub(crate) revision: u64,
    pub(crate) is_of_nodes: bool,
}

#[derive(Default)]
pub(crate) struct Cloud(pub(crate) Mutex<State>);

impl Cloud {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn call<'a, T: Send + 'a>(
        &'a self,
        name: &'static str,
        act: impl FnOnce(&mut State) -> Result<T, Error> + Send + 'a,
    ) -> Answer<'a, T> {
        Box::pin(async move {
            let mut state = self.state();
            match state.failing.remove(name) {
                Some(error) => Err(error),
                None if state.cluster.is_none() && name != "initialize" => {
                    Err(Error::Failed(format!("{name} comes before it was initialized")))
                }
                None => act(&mut state),
            }
        })
    }
}

fn uid(service: &Service) -> String {
    service.metadata.uid.clone().unwrap_or_default()
}

impl CloudProvider for Cloud {
    fn name(&self) -> &str {
        "cloud"
    }

    fn initialize<'a>(&'a self, cluster: &'a str) -> Answer<'a, ()> {
        self.call("initialize", |state| {
            state.cluster = Some(cluster.into());
            Ok(())
        })
    }

    fn trouble(&self) -> Option<String> {
        self.state().trouble.clone()
    }

    fn revision(&self) -> u64 {
        self.state().revision
    }

    fn instances(&self) -> Option<&dyn Instances> {
        Some(self)
    }

    fn load_balancers(&self) -> Option<&dyn LoadBalancers> {
        Some(self)
    }

    fn routes(&self) -> Option<&dyn Routes> {
        Some(self)
    }
}

impl Instances for Cloud {
    fn instance_exists<'a>(&'a self, node: &'a Node) -> Answer<'a, bool> {
        self.call("exists", |_| Ok(node.metadata.name.as_deref() == Some("node-1")))
    }

    fn instance_shutdown<'a>(&'a self, _: &'a Node) -> Answer<'a, bool> {
        self.call("shutdown", |_| Ok(false))
    }

    fn instance_metadata<'a>(&'a self, node: &'a Node) -> Answer<'a, Option<InstanceMetadata>> {
        let is = node.metadata.name.as_deref() == Some("node-1");
        self.call("metadata", move |state| {
            state.seen = Some(node.clone());
            if is { Ok(Some(state.metadata.clone())) } else { Err(Error::InstanceNotFound) }
        })
    }
}

impl LoadBalancers for Cloud {
    fn is_of_nodes(&self) -> bool {
        self.state().is_of_nodes
    }

    fn get_load_balancer<'a>(
        &'a self,
        _: &'a str,
        service: &'a Service,
    ) -> Answer<'a, Option<LoadBalancerStatus>> {
        self.call("get", |state| Ok(state.balancers.get(&uid(service)).map(|_| status())))
    }

    fn ensure_load_balancer<'a>(
        &'a self,
        _: &'a str,
        service: &'a Service,
        nodes: &'a [Node],
    ) -> Answer<'a, LoadBalancerStatus> {
        self.call("ensure", |state| {
            state.balancers.insert(uid(service), nodes.len());
            Ok(status())
        })
    }

    fn update_load_balancer<'a>(
        &'a self,
        _: &'a str,
        service: &'a Service,
        nodes: &'a [Node],
    ) -> Answer<'a, ()> {
        self.call("update", |state| {
            state.balancers.insert(uid(service), nodes.len());
            Ok(())
        })
    }

    fn ensure_load_balancer_deleted<'a>(&'a self, _: &'a str, service: &'a Service) -> Answer<'a, ()> {
        self.call("delete", |state| {
            if !state.forgets_to_delete {
                state.balancers.remove(&uid(service));
            }
            Ok(())
        })
    }
}

impl Routes for Cloud {
    fn list_routes<'a>(&'a self, _: &'a str) -> Answer<'a, Vec<Route>> {
        self.call("list", |state| Ok(state.routes.clone()))
    }

    fn create_route<'a>(&'a self, _: &'a str, hint: &'a str, route: &'a Route) -> Answer<'a, ()> {
        self.call("create", |state| {
            state.routes.push(Route { name: hint.into(), ..route.clone() });
            Ok(())
        })
    }

    fn delete_route<'a>(&'a self, _: &'a str, route: &'a Route) -> Answer<'a, ()> {
        self.call("unroute", |state| {
            state.routes.retain(|one| one.name != route.name);
            Ok(())
        })
    }
}

pub(crate) fn status() -> LoadBalancerStatus {
    serde_json::from_value(json!({"ingress": [{"ip": "192.0.2.1", "ipMode": "VIP"}]})).unwrap()
}
