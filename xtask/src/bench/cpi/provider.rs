//! A cloud of the bench: it has what is asked for at once, behind a socket as a program of its own has it, and counts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use cpi::contract::{
    Answer, CloudProvider, Error, InstanceMetadata, Instances, LoadBalancerIngress, LoadBalancerStatus,
    LoadBalancers, Node, NodeAddress, Route, Routes, Service,
};
use tokio::sync::watch;

use crate::Result;

/// Calls by their names in the contract.
pub(super) type Calls = BTreeMap<&'static str, usize>;

/// What is in it.
#[derive(Default)]
struct State {
    calls: Calls,
    /// By the service's uid, to how many nodes it leads, and of how many of these the instance was known then.
    balancers: BTreeMap<String, (usize, usize)>,
    routes: BTreeMap<String, Route>,
}

/// The provider. It serves until this is dropped.
pub(super) struct Cloud {
    served: Arc<Served>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<std::result::Result<(), String>>>,
}

#[derive(Default)]
struct Served(Mutex<State>);

impl Cloud {
    /// Serves at a socket: it does when this returns.
    pub(super) fn serve(socket: PathBuf) -> Result<Self> {
        let (stop, mut stopped) = watch::channel(false);
        let (ready, serves) = std::sync::mpsc::channel();
        let served = Arc::<Served>::default();
        let provider: Arc<dyn CloudProvider> = served.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let until = async move { drop(stopped.wait_for(|stopped| *stopped).await) };
            let serving = cpi::plugin::serve(provider, &socket, until, move || {
                // Who waits for it is there, or has failed.
                let _ = ready.send(());
            });
            runtime.map_err(|e| e.to_string())?.block_on(serving).map_err(|e| e.to_string())
        });
        let mut cloud = Self { served, stop, thread: Some(thread) };
        if serves.recv().is_err() {
            return Err(cloud.end().err().unwrap_or_else(|| "it has ended".into()).into());
        }
        Ok(cloud)
    }

    /// How often each call came.
    pub(super) fn calls(&self) -> Calls {
        self.served.state().calls.clone()
    }

    /// How often this call did.
    pub(super) fn count(&self, call: &str) -> usize {
        self.served.state().calls.get(call).copied().unwrap_or_default()
    }

    /// How many load balancers lead to so many nodes, all of them with their instances.
    pub(super) fn leading_to(&self, nodes: usize) -> usize {
        self.served.state().balancers.values().filter(|led| **led == (nodes, nodes)).count()
    }

    fn end(&mut self) -> std::result::Result<(), String> {
        self.stop.send_replace(true);
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().unwrap_or_else(|_| Err("the provider has panicked".into()))
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("warning: {error}");
        }
    }
}

fn uid(service: &Service) -> String {
    service.metadata.uid.clone().unwrap_or_default()
}

fn has_id(node: &&Node) -> bool {
    node.spec.as_ref().is_some_and(|spec| spec.provider_id.is_some())
}

impl Served {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call<T: Send + 'static>(
        &self,
        call: &'static str,
        act: impl FnOnce(&mut State) -> T,
    ) -> Answer<'static, T> {
        let mut state = self.state();
        *state.calls.entry(call).or_default() += 1;
        Box::pin(std::future::ready(Ok(act(&mut state))))
    }

    /// Has a load balancer lead to these nodes.
    fn lead(state: &mut State, service: &Service, nodes: &[Node]) {
        state.balancers.insert(uid(service), (nodes.len(), nodes.iter().filter(has_id).count()));
    }
}

impl CloudProvider for Served {
    fn name(&self) -> &str {
        "bench"
    }

    fn initialize<'a>(&'a self, _: &'a str) -> Answer<'a, ()> {
        self.call("Initialize", |_| ())
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

impl Instances for Served {
    fn instance_exists<'a>(&'a self, _: &'a Node) -> Answer<'a, bool> {
        self.call("InstanceExists", |_| true)
    }

    fn instance_shutdown<'a>(&'a self, _: &'a Node) -> Answer<'a, bool> {
        self.call("InstanceShutdown", |_| false)
    }

    fn instance_metadata<'a>(&'a self, node: &'a Node) -> Answer<'a, Option<InstanceMetadata>> {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        // Each node has an address of its own, by the number that it is called after.
        let number: u32 = name.rsplit('-').next().and_then(|text| text.parse().ok()).unwrap_or_default();
        let address = std::net::Ipv4Addr::from_bits(0x0a00_0000 + number).to_string();
        let metadata = InstanceMetadata {
            provider_id: format!("bench://{name}"),
            instance_type: "large".into(),
            node_addresses: vec![NodeAddress { type_: "InternalIP".into(), address }],
            zone: format!("zone-{}", number % 3),
            region: "region".into(),
            ..InstanceMetadata::default()
        };
        self.call("InstanceMetadata", |_| Some(metadata))
    }
}

impl LoadBalancers for Served {
    fn get_load_balancer<'a>(
        &'a self,
        _: &'a str,
        service: &'a Service,
    ) -> Answer<'a, Option<LoadBalancerStatus>> {
        self.call("GetLoadBalancer", |state| state.balancers.get(&uid(service)).map(|_| status()))
    }

    fn ensure_load_balancer<'a>(
        &'a self,
        _: &'a str,
        service: &'a Service,
        nodes: &'a [Node],
    ) -> Answer<'a, LoadBalancerStatus> {
        self.call("EnsureLoadBalancer", |state| {
            Self::lead(state, service, nodes);
            status()
        })
    }

    fn update_load_balancer<'a>(
        &'a self,
        _: &'a str,
        service: &'a Service,
        nodes: &'a [Node],
    ) -> Answer<'a, ()> {
        self.call("UpdateLoadBalancer", |state| Self::lead(state, service, nodes))
    }

    fn ensure_load_balancer_deleted<'a>(&'a self, _: &'a str, service: &'a Service) -> Answer<'a, ()> {
        self.call("EnsureLoadBalancerDeleted", |state| {
            state.balancers.remove(&uid(service));
        })
    }
}

impl Routes for Served {
    fn list_routes<'a>(&'a self, _: &'a str) -> Answer<'a, Vec<Route>> {
        self.call("ListRoutes", |state| state.routes.values().cloned().collect())
    }

    fn create_route<'a>(&'a self, _: &'a str, hint: &'a str, route: &'a Route) -> Answer<'a, ()> {
        let name = format!("{hint}-{}", route.destination_cidr);
        let made = self.call("CreateRoute", |state| {
            if state.routes.values().any(|one| one.destination_cidr == route.destination_cidr) {
                return Err(Error::AlreadyExists(format!("a route to {} is there", route.destination_cidr)));
            }
            state.routes.insert(name.clone(), Route { name, ..route.clone() });
            Ok(())
        });
        Box::pin(async move { made.await? })
    }

    fn delete_route<'a>(&'a self, _: &'a str, route: &'a Route) -> Answer<'a, ()> {
        self.call("DeleteRoute", |state| drop(state.routes.remove(&route.name)))
    }
}

fn status() -> LoadBalancerStatus {
    let ingress = LoadBalancerIngress { ip: Some("192.0.2.1".into()), ..LoadBalancerIngress::default() };
    LoadBalancerStatus { ingress: Some(vec![ingress]) }
}
