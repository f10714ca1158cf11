//! A cloud of the tests: what is in it outlives its callers, and it does as it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use cpi::contract::*;
use serde_json::json;
use tokio::sync::watch;

/// A load balancer, as it was last asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Balancer {
    pub(crate) ports: Vec<i32>,
    pub(crate) nodes: BTreeSet<String>,
}

/// What is in it.
#[derive(Default)]
pub(crate) struct State {
    /// By the node's name, whether it is stopped.
    pub(crate) instances: BTreeMap<String, bool>,
    /// By the service's uid.
    pub(crate) balancers: BTreeMap<String, Balancer>,
    /// By what they are called.
    pub(crate) routes: BTreeMap<String, Route>,
    /// What the next calls come to, one after the other.
    pub(crate) failing: BTreeMap<&'static str, Vec<Error>>,
    /// How often each call was asked for.
    pub(crate) calls: BTreeMap<&'static str, usize>,
    /// Calls that are not answered as long as they are here: `exists node-1`, `update UID`.
    pub(crate) held: BTreeSet<String>,
    /// Those that wait for that.
    pub(crate) waiting: BTreeSet<String>,
    /// Services that are asked for now, by their uids.
    busy: BTreeSet<String>,
    /// Calls that came while another for the same service ran.
    pub(crate) met: Vec<String>,
}

/// The provider. It serves until this is dropped.
pub(crate) struct Cloud {
    state: Arc<Mutex<State>>,
    socket: PathBuf,
    serving: Option<Serving>,
}

/// The program that it is, as far as it is one.
struct Serving {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Serving {
    /// It serves when this returns.
    fn start(state: &Arc<Mutex<State>>, socket: PathBuf) -> Self {
        let (stop, mut stopped) = watch::channel(false);
        let (ready, serves) = std::sync::mpsc::channel();
        let served = Arc::new(Served(state.clone()));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let until = async move { drop(stopped.wait_for(|stopped| *stopped).await) };
            let serving = cpi::plugin::serve(served, &socket, until, || ready.send(()).unwrap());
            runtime.block_on(serving).unwrap();
        });
        serves.recv().unwrap();
        Self { stop, thread }
    }

    fn end(self) {
        self.stop.send_replace(true);
        let ended = self.thread.join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

struct Served(Arc<Mutex<State>>);

impl Cloud {
    /// Serves at a socket: it does when this returns.
    pub(crate) fn serve(socket: PathBuf) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let serving = Some(Serving::start(&state, socket.clone()));
        Self { state, socket, serving }
    }

    /// The provider ends, and begins again; what is in its cloud stays.
    pub(crate) fn restart(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.end();
        }
        self.serving = Some(Serving::start(&self.state, self.socket.clone()));
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The load balancer of a service.
    pub(crate) fn balancer(&self, service: &Service) -> Option<Balancer> {
        self.state().balancers.get(&uid(service)).cloned()
    }

    /// Where routes lead, by their nodes.
    pub(crate) fn routes(&self) -> BTreeSet<(String, String)> {
        let state = self.state();
        state
            .routes
            .values()
            .map(|route| (route.target_node.clone(), route.destination_cidr.clone()))
            .collect()
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.end();
        }
    }
}

fn uid(service: &Service) -> String {
    service.metadata.uid.clone().unwrap()
}

fn name(node: &Node) -> String {
    node.metadata.name.clone().unwrap()
}

impl Served {
    fn call<'a, T: Send + 'a>(
        &'a self,
        call: &'static str,
        act: impl FnOnce(&mut State) -> Result<T, Error> + Send + 'a,
    ) -> Answer<'a, T> {
        Box::pin(async move {
            let mut state = self.0.lock().unwrap();
            *state.calls.entry(call).or_default() += 1;
            match state.failing.get_mut(call).and_then(|errors| errors.pop()) {
                Some(error) => Err(error),
                None => act(&mut state),
            }
        })
    }
}

/// A call for a service, while it runs.
struct Turn<'a>(&'a Mutex<State>, String);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.lock().unwrap().busy.remove(&self.1);
    }
}

impl Served {
    /// Resolves once a call may be answered.
    async fn may(&self, call: &str, of: &str) {
        let key = format!("{call} {of}");
        let waits = || {
            let mut state = self.0.lock().unwrap();
            let waits = state.held.contains(&key);
            if waits {
                state.waiting.insert(key.clone())
            } else {
                state.waiting.remove(&key)
            };
            waits
        };
        while waits() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn call_for<'a, T: Send + 'a>(
        &'a self,
        call: &'static str,
        service: &Service,
        act: impl FnOnce(&mut State) -> Result<T, Error> + Send + 'a,
    ) -> Answer<'a, T> {
        let uid = uid(service);
        Box::pin(async move {
            {
                let mut state = self.0.lock().unwrap();
                if !state.busy.insert(uid.clone()) {
                    state.met.push(format!("{call} {uid}"));
                }
            }
            let turn = Turn(&self.0, uid);
            self.may(call, &turn.1).await;
            self.call(call, act).await
        })
    }
}

impl CloudProvider for Served {
    fn name(&self) -> &str {
        "stand"
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
    fn instance_exists<'a>(&'a self, node: &'a Node) -> Answer<'a, bool> {
        let name = name(node);
        Box::pin(async move {
            self.may("exists", &name).await;
            self.call("exists", move |state| Ok(state.instances.contains_key(&name))).await
        })
    }

    fn instance_shutdown<'a>(&'a self, node: &'a Node) -> Answer<'a, bool> {
        self.call("shutdown", |state| {
            state.instances.get(&name(node)).copied().ok_or(Error::InstanceNotFound)
        })
    }

    fn instance_metadata<'a>(&'a self, node: &'a Node) -> Answer<'a, Option<InstanceMetadata>> {
        self.call("metadata", |state| {
            let name = name(node);
            state.instances.get(&name).ok_or(Error::InstanceNotFound)?;
            let address = NodeAddress { type_: "InternalIP".into(), address: "10.0.0.1".into() };
            Ok(Some(InstanceMetadata {
                provider_id: format!("stand://{name}"),
                instance_type: "large".into(),
                node_addresses: vec![address],
                zone: "z1".into(),
                region: "r1".into(),
                additional_labels: [("example.com/rack".to_owned(), "7".to_owned())].into(),
            }))
        })
    }
}

fn status() -> LoadBalancerStatus {
    serde_json::from_value(json!({"ingress": [{"ip": "192.0.2.1", "ipMode": "VIP"}]})).unwrap()
}

fn wanted(service: &Service, nodes: &[Node]) -> Balancer {
    let ports =
        service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()).map(|port| port.port).collect();
    Balancer { ports, nodes: nodes.iter().map(name).collect() }
}

impl LoadBalancers for Served {
    fn get_load_balancer<'a>(
        &'a self,
        _: &'a str,
        service: &'a Service,
    ) -> Answer<'a, Option<LoadBalancerStatus>> {
        self.call_for("get", service, |state| Ok(state.balancers.get(&uid(service)).map(|_| status())))
    }

    fn ensure_load_balancer<'a>(
        &'a self,
        _: &'a str,
        service: &'a Service,
        nodes: &'a [Node],
    ) -> Answer<'a, LoadBalancerStatus> {
        self.call_for("ensure", service, |state| {
            let mut held = service.metadata.finalizers.iter().flatten();
            let is_held = held.any(|one| one == "service.kubernetes.io/load-balancer-cleanup");
            assert!(is_held, "nothing would take it away: {:?}", service.metadata);
            state.balancers.insert(uid(service), wanted(service, nodes));
            Ok(status())
        })
    }

    fn update_load_balancer<'a>(
        &'a self,
        _: &'a str,
        service: &'a Service,
        nodes: &'a [Node],
    ) -> Answer<'a, ()> {
        self.call_for("update", service, |state| {
            let there = state.balancers.get_mut(&uid(service));
            there.ok_or_else(|| Error::Failed("there is no such load balancer".into()))?.nodes =
                nodes.iter().map(name).collect();
            Ok(())
        })
    }

    fn ensure_load_balancer_deleted<'a>(&'a self, _: &'a str, service: &'a Service) -> Answer<'a, ()> {
        self.call_for("delete", service, |state| {
            state.balancers.remove(&uid(service));
            Ok(())
        })
    }
}

impl Routes for Served {
    fn list_routes<'a>(&'a self, _: &'a str) -> Answer<'a, Vec<Route>> {
        self.call("list", |state| Ok(state.routes.values().cloned().collect()))
    }

    fn create_route<'a>(&'a self, _: &'a str, hint: &'a str, route: &'a Route) -> Answer<'a, ()> {
        self.call("create", move |state| {
            if state.routes.values().any(|one| one.destination_cidr == route.destination_cidr) {
                return Err(Error::AlreadyExists(format!("a route to {} is there", route.destination_cidr)));
            }
            let name = format!("{hint}-{}", route.destination_cidr);
            state.routes.insert(name.clone(), Route { name, ..route.clone() });
            Ok(())
        })
    }

    fn delete_route<'a>(&'a self, _: &'a str, route: &'a Route) -> Answer<'a, ()> {
        self.call("unroute", |state| {
            state.routes.remove(&route.name);
            Ok(())
        })
    }
}
