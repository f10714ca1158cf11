//! A provider behind the wire's services.

use std::sync::Arc;

use grpc::Status;

use crate::contract::wire::{Deferred, json, object, status};
use crate::contract::{self, CloudProvider, Error, Node, v1};

type Answered<T> = Result<T, Status>;

pub(super) struct Served(pub(super) Arc<dyn CloudProvider>);

impl Served {
    fn instances(&self) -> Answered<&dyn contract::Instances> {
        self.0.instances().ok_or_else(|| status(Error::NotImplemented))
    }

    fn load_balancers(&self) -> Answered<&dyn contract::LoadBalancers> {
        self.0.load_balancers().ok_or_else(|| status(Error::NotImplemented))
    }

    fn routes(&self) -> Answered<&dyn contract::Routes> {
        self.0.routes().ok_or_else(|| status(Error::NotImplemented))
    }

    fn clusters(&self) -> Answered<&dyn contract::Clusters> {
        self.0.clusters().ok_or_else(|| status(Error::NotImplemented))
    }
}

/// The nodes of a request.
fn nodes(all: &[Vec<u8>]) -> Answered<Vec<Node>> {
    let each = all.iter().enumerate().map(|(at, json)| object(&format!("nodes[{at}]"), json));
    Ok(each.collect::<Result<_, _>>()?)
}

/// The route of a request, which validation has seen.
fn route(route: Option<v1::Route>) -> Answered<contract::Route> {
    Ok(route.unwrap_or_default().try_into().map_err(|e: grpc::Failure| e.within("route"))?)
}

impl v1::Provider for Served {
    async fn get_info(&self, _: v1::GetInfoRequest) -> Answered<v1::GetInfoResponse> {
        Ok(v1::GetInfoResponse {
            name: self.0.name().into(),
            has_cluster_id: self.0.has_cluster_id(),
            instances: self.0.instances().is_some(),
            load_balancers: self.0.load_balancers().is_some(),
            routes: self.0.routes().is_some(),
            clusters: self.0.clusters().is_some(),
        })
    }

    async fn initialize(&self, request: v1::InitializeRequest) -> Answered<v1::InitializeResponse> {
        self.0.initialize(&request.cluster_name).await.map_err(status)?;
        Ok(v1::InitializeResponse {})
    }

    async fn get_state(&self, _: v1::GetStateRequest) -> Answered<v1::GetStateResponse> {
        Ok(v1::GetStateResponse {
            trouble: self.0.trouble().unwrap_or_default(),
            revision: self.0.revision(),
            load_balancers_of_nodes: self.0.load_balancers().is_some_and(|balancers| balancers.is_of_nodes()),
        })
    }
}

impl v1::Instances for Served {
    async fn instance_exists(
        &self,
        request: v1::InstanceExistsRequest,
    ) -> Answered<v1::InstanceExistsResponse> {
        let node = object("node", &request.node)?;
        let exists = self.instances()?.instance_exists(&node).await.map_err(status)?;
        Ok(v1::InstanceExistsResponse { exists: Some(exists) })
    }

    async fn instance_shutdown(
        &self,
        request: v1::InstanceShutdownRequest,
    ) -> Answered<v1::InstanceShutdownResponse> {
        let node = object("node", &request.node)?;
        let shutdown = self.instances()?.instance_shutdown(&node).await.map_err(status)?;
        Ok(v1::InstanceShutdownResponse { shutdown })
    }

    async fn instance_metadata(
        &self,
        request: v1::InstanceMetadataRequest,
    ) -> Answered<v1::InstanceMetadataResponse> {
        let node = object("node", &request.node)?;
        let metadata = self.instances()?.instance_metadata(&node).await.map_err(status)?;
        Ok(v1::InstanceMetadataResponse { metadata: metadata.map(Into::into) })
    }
}

impl v1::LoadBalancers for Served {
    async fn get_load_balancer_name(
        &self,
        request: v1::GetLoadBalancerNameRequest,
    ) -> Answered<v1::GetLoadBalancerNameResponse> {
        let service = object("service", &request.service)?;
        let name = self.load_balancers()?.load_balancer_name(&request.cluster_name, &service);
        Ok(v1::GetLoadBalancerNameResponse { name })
    }

    async fn get_load_balancer(
        &self,
        request: v1::GetLoadBalancerRequest,
    ) -> Answered<v1::GetLoadBalancerResponse> {
        let service = object("service", &request.service)?;
        match self.load_balancers()?.get_load_balancer(&request.cluster_name, &service).await {
            Ok(found) => {
                Ok(v1::GetLoadBalancerResponse { status: found.as_ref().map(json), ..Default::default() })
            }
            Err(Error::ImplementedElsewhere) => {
                Ok(v1::GetLoadBalancerResponse { status: None, implemented_elsewhere: true })
            }
            Err(error) => Err(status(error)),
        }
    }

    async fn ensure_load_balancer(
        &self,
        request: v1::EnsureLoadBalancerRequest,
    ) -> Answered<v1::EnsureLoadBalancerResponse> {
        let (service, nodes) = (object("service", &request.service)?, nodes(&request.nodes)?);
        match self.load_balancers()?.ensure_load_balancer(&request.cluster_name, &service, &nodes).await {
            Ok(made) => {
                Ok(v1::EnsureLoadBalancerResponse { status: Some(json(&made)), ..Default::default() })
            }
            Err(error) => {
                let Deferred { implemented_elsewhere, retry } = Deferred::of(error)?;
                Ok(v1::EnsureLoadBalancerResponse { status: None, implemented_elsewhere, retry })
            }
        }
    }

    async fn update_load_balancer(
        &self,
        request: v1::UpdateLoadBalancerRequest,
    ) -> Answered<v1::UpdateLoadBalancerResponse> {
        let (service, nodes) = (object("service", &request.service)?, nodes(&request.nodes)?);
        match self.load_balancers()?.update_load_balancer(&request.cluster_name, &service, &nodes).await {
            Ok(()) => Ok(v1::UpdateLoadBalancerResponse::default()),
            Err(error) => {
                let Deferred { implemented_elsewhere, retry } = Deferred::of(error)?;
                Ok(v1::UpdateLoadBalancerResponse { implemented_elsewhere, retry })
            }
        }
    }

    async fn ensure_load_balancer_deleted(
        &self,
        request: v1::EnsureLoadBalancerDeletedRequest,
    ) -> Answered<v1::EnsureLoadBalancerDeletedResponse> {
        let service = object("service", &request.service)?;
        match self.load_balancers()?.ensure_load_balancer_deleted(&request.cluster_name, &service).await {
            Ok(()) => Ok(v1::EnsureLoadBalancerDeletedResponse::default()),
            Err(error) => {
                let Deferred { implemented_elsewhere, retry } = Deferred::of(error)?;
                Ok(v1::EnsureLoadBalancerDeletedResponse { implemented_elsewhere, retry })
            }
        }
    }
}

impl v1::Routes for Served {
    async fn list_routes(&self, request: v1::ListRoutesRequest) -> Answered<v1::ListRoutesResponse> {
        let routes = self.routes()?.list_routes(&request.cluster_name).await.map_err(status)?;
        Ok(v1::ListRoutesResponse { routes: routes.into_iter().map(Into::into).collect() })
    }

    async fn create_route(&self, request: v1::CreateRouteRequest) -> Answered<v1::CreateRouteResponse> {
        let route = route(request.route)?;
        self.routes()?
            .create_route(&request.cluster_name, &request.name_hint, &route)
            .await
            .map_err(status)?;
        Ok(v1::CreateRouteResponse {})
    }

    async fn delete_route(&self, request: v1::DeleteRouteRequest) -> Answered<v1::DeleteRouteResponse> {
        let route = route(request.route)?;
        self.routes()?.delete_route(&request.cluster_name, &route).await.map_err(status)?;
        Ok(v1::DeleteRouteResponse {})
    }
}

impl v1::Clusters for Served {
    async fn list_clusters(&self, _: v1::ListClustersRequest) -> Answered<v1::ListClustersResponse> {
        let names = self.clusters()?.list_clusters().await.map_err(status)?;
        Ok(v1::ListClustersResponse { names })
    }

    async fn master(&self, request: v1::MasterRequest) -> Answered<v1::MasterResponse> {
        let address = self.clusters()?.master(&request.cluster_name).await.map_err(status)?;
        Ok(v1::MasterResponse { address })
    }
}
