//! A provider behind a socket.

use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use grpc::Failure;
use tokio::sync::Mutex;

use super::Client;
use crate::contract::wire::{self, Deferred, error, json, object, provider_name};
use crate::contract::{
    Answer, CloudProvider, Clusters, Error, InstanceMetadata, Instances, LoadBalancerStatus, LoadBalancers,
    Node, Route, Routes, Service, load_balancer_name, v1,
};

/// How often the provider is asked how it is.
const LOOK: Duration = Duration::from_secs(2);
/// So much of what is wrong with what it goes by is taken, in characters.
const TROUBLE: usize = 1024;

/// The provider at a socket. It connects anew where the connection is gone, and initializes again then, as the provider may have been
/// started again; what the provider has is what it had at first. How it is is asked for by a task, which ends with this.
#[derive(Debug)]
pub struct Remote(Arc<Link>);

#[derive(Debug)]
struct Link {
    socket: PathBuf,
    deadline: Duration,
    info: v1::GetInfoResponse,
    held: Mutex<Held>,
    /// How the provider has said last that it is.
    state: std::sync::Mutex<v1::GetStateResponse>,
}

/// What is known of the process at the other end.
#[derive(Debug)]
struct Held {
    client: Option<Client>,
    /// What it was initialized with, and any that comes after it is to be.
    cluster: Option<String>,
    /// When it could not be reached, and why.
    failed: Option<(Instant, Error)>,
    /// It has said that it never tells how it is.
    is_mute: bool,
}

impl Remote {
    /// Connects, and asks who it is. Calls end after `deadline`. In a runtime of tokio.
    ///
    /// # Errors
    /// Nobody answers there, or what does is no provider, or has no name that it may have.
    pub async fn connect(socket: &Path, deadline: Duration) -> Result<Self, Failure> {
        let failed = |cause: &dyn std::fmt::Display| {
            Failure::unavailable(format!("cannot use the cloud provider at {}: {cause}", socket.display()))
        };
        let (client, info) = greet(socket, deadline).await.map_err(|e| failed(&e))?;
        provider_name(&info.name).map_err(|e| failed(&e))?;
        let held = Mutex::new(Held { client: Some(client), cluster: None, failed: None, is_mute: false });
        let link = Arc::new(Link {
            socket: socket.into(),
            deadline,
            info,
            held,
            state: std::sync::Mutex::default(),
        });
        tokio::spawn(follow(Arc::downgrade(&link)));
        Ok(Self(link))
    }

    async fn client(&self) -> Result<Client, Error> {
        self.0.client().await
    }
}

/// Asks now and then how the provider is, as long as somebody holds it.
async fn follow(link: Weak<Link>) {
    loop {
        let Some(link) = link.upgrade() else { return };
        link.look().await;
        drop(link);
        tokio::time::sleep(LOOK).await;
    }
}

impl Link {
    /// Asks how the provider is. Where that is not to be had it is as it was.
    async fn look(&self) {
        // Before it is initialized it has nothing to say; and whoever asks it for something connects anew, and hears why that fails.
        let client = match &*self.held.lock().await {
            Held { client: Some(client), cluster: Some(_), is_mute: false, .. } if !client.is_closed() => {
                client.clone()
            }
            _ => return,
        };
        let told = match client.get_state(v1::GetStateRequest {}).await {
            Ok(told) => {
                v1::GetStateResponse { trouble: told.trouble.chars().take(TROUBLE).collect(), ..told }
            }
            Err(error) if error.code() == grpc::Code::Unimplemented => {
                self.held.lock().await.is_mute = true;
                v1::GetStateResponse::default()
            }
            Err(_) => return,
        };
        *self.state() = told;
    }

    fn state(&self) -> MutexGuard<'_, v1::GetStateResponse> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection to the provider that it was at first, and that is initialized if it was ever.
    async fn client(&self) -> Result<Client, Error> {
        let came = Instant::now();
        let mut held = self.held.lock().await;
        // One that does not answer takes its time, and those who have waited for that would each wait for it in turn.
        if let Some((failed, why)) = &held.failed
            && came <= *failed
        {
            return Err(why.clone());
        }
        let done = self.connected(&mut held).await;
        if let Err(why) = &done {
            held.failed = Some((Instant::now(), why.clone()));
        }
        done
    }

    async fn connected(&self, held: &mut Held) -> Result<Client, Error> {
        if let Some(client) = held.client.as_ref().filter(|client| !client.is_closed()) {
            return Ok(client.clone());
        }
        let (client, info) = greet(&self.socket, self.deadline).await.map_err(Error::of)?;
        if info != self.info {
            return Err(Error::Failed(format!(
                "cannot use the cloud provider at {}: it was {:?}, and is {:?} now; start the controllers again",
                self.socket.display(),
                self.info,
                info
            )));
        }
        if let Some(cluster) = &held.cluster {
            let again = initialize(&client, cluster).await;
            again.map_err(|e| {
                let socket = self.socket.display();
                Error::Failed(format!("cannot initialize the cloud provider at {socket} again: {e}"))
            })?;
        }
        (held.client, held.is_mute) = (Some(client.clone()), false);
        Ok(client)
    }
}

/// Initializes the provider at the other end, if it wants that.
async fn initialize(client: &Client, cluster: &str) -> Result<(), Error> {
    match client.initialize(v1::InitializeRequest { cluster_name: cluster.into() }).await.map_err(error) {
        Err(Error::NotImplemented) => Ok(()),
        done => done.map(drop),
    }
}

async fn greet(socket: &Path, deadline: Duration) -> Result<(Client, v1::GetInfoResponse), grpc::Error> {
    let client = Client::connect(socket, deadline).await?;
    let info = client.get_info(v1::GetInfoRequest {}).await?;
    Ok((client, info))
}

impl CloudProvider for Remote {
    fn name(&self) -> &str {
        &self.0.info.name
    }

    fn has_cluster_id(&self) -> bool {
        self.0.info.has_cluster_id
    }

    fn initialize<'a>(&'a self, cluster: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            // Held over the call: no other may connect anew meanwhile, and not know of it.
            let mut held = self.0.held.lock().await;
            initialize(&self.0.connected(&mut held).await?, cluster).await?;
            held.cluster = Some(cluster.into());
            Ok(())
        })
    }

    fn trouble(&self) -> Option<String> {
        Some(self.0.state().trouble.clone()).filter(|trouble| !trouble.is_empty())
    }

    fn revision(&self) -> u64 {
        self.0.state().revision
    }

    fn instances(&self) -> Option<&dyn Instances> {
        self.0.info.instances.then_some(self)
    }

    fn load_balancers(&self) -> Option<&dyn LoadBalancers> {
        self.0.info.load_balancers.then_some(self)
    }

    fn routes(&self) -> Option<&dyn Routes> {
        self.0.info.routes.then_some(self)
    }

    fn clusters(&self) -> Option<&dyn Clusters> {
        self.0.info.clusters.then_some(self)
    }
}

impl Instances for Remote {
    fn instance_exists<'a>(&'a self, node: &'a Node) -> Answer<'a, bool> {
        Box::pin(async move {
            let request = v1::InstanceExistsRequest { node: wire::node(node) };
            let told = self.client().await?.instance_exists(request).await.map_err(error)?.exists;
            let none = || Failure::invalid("exists", "is missing; it must be set");
            told.ok_or_else(none).map_err(|e| wrong("InstanceExists", &e))
        })
    }

    fn instance_shutdown<'a>(&'a self, node: &'a Node) -> Answer<'a, bool> {
        Box::pin(async move {
            let request = v1::InstanceShutdownRequest { node: wire::node(node) };
            Ok(self.client().await?.instance_shutdown(request).await.map_err(error)?.shutdown)
        })
    }

    fn instance_metadata<'a>(&'a self, node: &'a Node) -> Answer<'a, Option<InstanceMetadata>> {
        Box::pin(async move {
            let request = v1::InstanceMetadataRequest { node: wire::node(node) };
            let told = self.client().await?.instance_metadata(request).await.map_err(error)?.metadata;
            told.map(InstanceMetadata::try_from).transpose().map_err(|e| wrong("InstanceMetadata", &e))
        })
    }
}

/// An answer that cannot be used.
fn wrong(call: &str, failure: &Failure) -> Error {
    Error::Failed(format!("the cloud provider answers {call} wrongly: {failure}"))
}

impl LoadBalancers for Remote {
    /// Kubernetes' own name: who asks does not wait, and no controller needs another. [`Client`] asks the provider.
    fn load_balancer_name(&self, _: &str, service: &Service) -> String {
        load_balancer_name(service)
    }

    fn is_of_nodes(&self) -> bool {
        self.0.state().load_balancers_of_nodes
    }

    fn get_load_balancer<'a>(
        &'a self,
        cluster: &'a str,
        service: &'a Service,
    ) -> Answer<'a, Option<LoadBalancerStatus>> {
        Box::pin(async move {
            let request = v1::GetLoadBalancerRequest { cluster_name: cluster.into(), service: json(service) };
            let told = self.client().await?.get_load_balancer(request).await.map_err(error)?;
            if told.implemented_elsewhere {
                return Err(Error::ImplementedElsewhere);
            }
            let status = told.status.map(|json| object("status", &json)).transpose();
            status.map_err(|e| wrong("GetLoadBalancer", &e))
        })
    }

    fn ensure_load_balancer<'a>(
        &'a self,
        cluster: &'a str,
        service: &'a Service,
        nodes: &'a [Node],
    ) -> Answer<'a, LoadBalancerStatus> {
        Box::pin(async move {
            let (service, nodes) = (json(service), nodes.iter().map(wire::node).collect());
            let request = v1::EnsureLoadBalancerRequest { cluster_name: cluster.into(), service, nodes };
            let told = self.client().await?.ensure_load_balancer(request).await.map_err(error)?;
            Deferred { implemented_elsewhere: told.implemented_elsewhere, retry: told.retry }.told()?;
            let none =
                || Failure::invalid("status", "is missing; it must be set where the load balancer is made");
            let status = told.status.ok_or_else(none).and_then(|json| object("status", &json));
            status.map_err(|e| wrong("EnsureLoadBalancer", &e))
        })
    }

    fn update_load_balancer<'a>(
        &'a self,
        cluster: &'a str,
        service: &'a Service,
        nodes: &'a [Node],
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            let (service, nodes) = (json(service), nodes.iter().map(wire::node).collect());
            let request = v1::UpdateLoadBalancerRequest { cluster_name: cluster.into(), service, nodes };
            let told = self.client().await?.update_load_balancer(request).await.map_err(error)?;
            Deferred { implemented_elsewhere: told.implemented_elsewhere, retry: told.retry }.told()
        })
    }

    fn ensure_load_balancer_deleted<'a>(&'a self, cluster: &'a str, service: &'a Service) -> Answer<'a, ()> {
        Box::pin(async move {
            let request =
                v1::EnsureLoadBalancerDeletedRequest { cluster_name: cluster.into(), service: json(service) };
            let told = self.client().await?.ensure_load_balancer_deleted(request).await.map_err(error)?;
            Deferred { implemented_elsewhere: told.implemented_elsewhere, retry: told.retry }.told()
        })
    }
}

impl Routes for Remote {
    fn list_routes<'a>(&'a self, cluster: &'a str) -> Answer<'a, Vec<Route>> {
        Box::pin(async move {
            let request = v1::ListRoutesRequest { cluster_name: cluster.into() };
            let told = self.client().await?.list_routes(request).await.map_err(error)?.routes;
            let each = told.into_iter().enumerate();
            let each = each
                .map(|(at, route)| Route::try_from(route).map_err(|e| e.within(&format!("routes[{at}]"))));
            each.collect::<Result<_, _>>().map_err(|e| wrong("ListRoutes", &e))
        })
    }

    fn create_route<'a>(&'a self, cluster: &'a str, hint: &'a str, route: &'a Route) -> Answer<'a, ()> {
        Box::pin(async move {
            let (cluster_name, name_hint) = (cluster.into(), hint.into());
            let request =
                v1::CreateRouteRequest { cluster_name, name_hint, route: Some(route.clone().into()) };
            self.client().await?.create_route(request).await.map_err(error).map(drop)
        })
    }

    fn delete_route<'a>(&'a self, cluster: &'a str, route: &'a Route) -> Answer<'a, ()> {
        Box::pin(async move {
            let request =
                v1::DeleteRouteRequest { cluster_name: cluster.into(), route: Some(route.clone().into()) };
            self.client().await?.delete_route(request).await.map_err(error).map(drop)
        })
    }
}

impl Clusters for Remote {
    fn list_clusters(&self) -> Answer<'_, Vec<String>> {
        Box::pin(async move {
            Ok(self.client().await?.list_clusters(v1::ListClustersRequest {}).await.map_err(error)?.names)
        })
    }

    fn master<'a>(&'a self, cluster: &'a str) -> Answer<'a, String> {
        Box::pin(async move {
            let request = v1::MasterRequest { cluster_name: cluster.into() };
            Ok(self.client().await?.master(request).await.map_err(error)?.address)
        })
    }
}
