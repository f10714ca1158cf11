//! What a request must satisfy whatever the state of the cloud. The dispatch calls it before every handler.

use grpc::Failure;

use super::Cidr;
use super::v1::*;

/// The longest name of a cluster or a node, in bytes: as DNS has it.
const NAME: usize = 253;
/// No object of Kubernetes is larger.
const OBJECT: usize = 3 * 1024 * 1024;

type Verdict = Result<(), Failure>;

/// A message whose fields can be wrong by themselves.
pub trait Validate {
    /// The first field that is wrong.
    ///
    /// # Errors
    /// [`grpc::Code::InvalidArgument`] with the field's path and what to do.
    fn validate(&self) -> Result<(), Failure>;
}

fn name(field: &str, value: &str) -> Verdict {
    if value.is_empty() {
        return Err(Failure::invalid(field, "is empty; it must be set"));
    }
    if value.len() > NAME {
        return Err(Failure::invalid(field, format!("has {} bytes, {NAME} is the most", value.len())));
    }
    if value.chars().any(char::is_control) {
        return Err(Failure::invalid(field, "has a control character in it"));
    }
    Ok(())
}

fn object(field: &str, json: &[u8]) -> Verdict {
    match json.len() {
        0 => Err(Failure::invalid(field, "is empty; it must be the object as JSON")),
        length if length > OBJECT => {
            Err(Failure::invalid(field, format!("has {length} bytes, {OBJECT} is the most")))
        }
        _ => Ok(()),
    }
}

fn objects(field: &str, all: &[Vec<u8>]) -> Verdict {
    all.iter().enumerate().try_for_each(|(at, json)| object(&format!("{field}[{at}]"), json))
}

fn route(route: Option<&Route>) -> Verdict {
    let route = route.ok_or_else(|| Failure::invalid("route", "is missing; it must be set"))?;
    let read = route.destination_cidr.parse::<Cidr>();
    read.map(drop).map_err(|e| Failure::invalid("route.destination_cidr", e.message))
}

impl Validate for GetInfoRequest {
    fn validate(&self) -> Verdict {
        Ok(())
    }
}

impl Validate for GetStateRequest {
    fn validate(&self) -> Verdict {
        Ok(())
    }
}

impl Validate for ListClustersRequest {
    fn validate(&self) -> Verdict {
        Ok(())
    }
}

macro_rules! of_a_cluster {
    ($($message:ident)*) => {
        $(impl Validate for $message {
            fn validate(&self) -> Verdict {
                name("cluster_name", &self.cluster_name)
            }
        })*
    };
}

of_a_cluster! { InitializeRequest ListRoutesRequest MasterRequest }

macro_rules! of_a_node {
    ($($message:ident)*) => {
        $(impl Validate for $message {
            fn validate(&self) -> Verdict {
                object("node", &self.node)
            }
        })*
    };
}

of_a_node! { InstanceExistsRequest InstanceShutdownRequest InstanceMetadataRequest }

macro_rules! of_a_service {
    ($($message:ident)*) => {
        $(impl Validate for $message {
            fn validate(&self) -> Verdict {
                name("cluster_name", &self.cluster_name)?;
                object("service", &self.service)
            }
        })*
    };
}

of_a_service! { GetLoadBalancerNameRequest GetLoadBalancerRequest EnsureLoadBalancerDeletedRequest }

macro_rules! of_a_service_and_nodes {
    ($($message:ident)*) => {
        $(impl Validate for $message {
            fn validate(&self) -> Verdict {
                name("cluster_name", &self.cluster_name)?;
                object("service", &self.service)?;
                objects("nodes", &self.nodes)
            }
        })*
    };
}

of_a_service_and_nodes! { EnsureLoadBalancerRequest UpdateLoadBalancerRequest }

impl Validate for CreateRouteRequest {
    fn validate(&self) -> Verdict {
        name("cluster_name", &self.cluster_name)?;
        name("name_hint", &self.name_hint)?;
        route(self.route.as_ref())?;
        name("route.target_node", self.route.as_ref().map_or("", |route| &route.target_node))
    }
}

impl Validate for DeleteRouteRequest {
    fn validate(&self) -> Verdict {
        name("cluster_name", &self.cluster_name)?;
        route(self.route.as_ref())
    }
}
