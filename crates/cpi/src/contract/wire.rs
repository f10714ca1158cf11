//! Between what providers are given and what goes over the wire.

use grpc::{Code, Failure, Status};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::id::is_name;
use super::{Error, InstanceMetadata, Node, NodeAddress, ProviderId, Route, v1};

/// The shortest time that a provider may have itself asked again after: no time at all is what one leaves out.
const SHORTEST_RETRY: u64 = 1000;
/// The longest time that a provider may have itself asked again after.
const LONGEST_RETRY: u64 = 24 * 60 * 60 * 1000;
/// What addresses of nodes are of.
const ADDRESSES: [&str; 5] = ["Hostname", "InternalIP", "ExternalIP", "InternalDNS", "ExternalDNS"];

/// An object in JSON.
pub(crate) fn json(object: &impl Serialize) -> Vec<u8> {
    // Kubernetes' objects have strings for keys, and no serializer of theirs fails.
    serde_json::to_vec(object).unwrap_or_default()
}

/// A node in JSON, without what says nothing of its instance and is most of it: with that a message had room for some 600 nodes.
pub(crate) fn node(node: &Node) -> Vec<u8> {
    let mut node = node.clone();
    node.metadata.managed_fields = None;
    if let Some(status) = &mut node.status {
        (status.images, status.volumes_attached, status.volumes_in_use) = (None, None, None);
    }
    json(&node)
}

/// The object in `field`.
pub(crate) fn object<T: DeserializeOwned>(field: &str, json: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(json)
        .map_err(|e| Failure::invalid(field, format!("is no such object in JSON: {e}")))
}

/// What a provider calls itself.
pub(crate) fn provider_name(name: &str) -> Result<(), Failure> {
    if is_name(name) {
        return Ok(());
    }
    let shown: String = name.chars().take(64).collect();
    let rule =
        "is no name of a provider: lower-case letters, digits, dashes and dots, 63 at most, a letter first";
    Err(Failure::invalid("name", format!("{shown:?} {rule}")))
}

/// How a provider's failure goes over the wire, where its message has no field for it.
pub(crate) fn status(error: Error) -> Status {
    let code = match &error {
        Error::NotImplemented => Code::Unimplemented,
        Error::InstanceNotFound => Code::NotFound,
        Error::AlreadyExists(_) => Code::AlreadyExists,
        // Only load balancers have these, and fields for them.
        Error::ImplementedElsewhere => Code::FailedPrecondition,
        Error::RetryAfter { .. } => Code::Unavailable,
        Error::Failed(_) => Code::Unknown,
    };
    Status::new(code, error.to_string())
}

/// What a call that failed tells.
pub(crate) fn error(error: grpc::Error) -> Error {
    match error {
        grpc::Error::Call { method, status } => match status.code {
            Code::Unimplemented => Error::NotImplemented,
            Code::NotFound if method.starts_with("Instance") => Error::InstanceNotFound,
            Code::AlreadyExists => Error::AlreadyExists(status.message),
            Code::Unknown => Error::Failed(status.message),
            _ => Error::of(grpc::Error::Call { method, status }),
        },
        other => Error::of(other),
    }
}

/// Failures of load balancers, for which their answers have fields.
pub(crate) struct Deferred {
    pub(crate) implemented_elsewhere: bool,
    pub(crate) retry: Option<v1::Retry>,
}

impl Deferred {
    /// Of a provider's failure; the status for any other.
    pub(crate) fn of(error: Error) -> Result<Self, Status> {
        match error {
            Error::ImplementedElsewhere => Ok(Self { implemented_elsewhere: true, retry: None }),
            Error::RetryAfter { message, after } => {
                let after_millis = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
                Ok(Self { implemented_elsewhere: false, retry: Some(v1::Retry { message, after_millis }) })
            }
            other => Err(status(other)),
        }
    }

    /// The failure that an answer tells, if it tells one.
    pub(crate) fn told(self) -> Result<(), Error> {
        if self.implemented_elsewhere {
            return Err(Error::ImplementedElsewhere);
        }
        match self.retry {
            Some(v1::Retry { message, after_millis }) => {
                let after =
                    std::time::Duration::from_millis(after_millis.clamp(SHORTEST_RETRY, LONGEST_RETRY));
                Err(Error::RetryAfter { message, after })
            }
            None => Ok(()),
        }
    }
}

impl From<NodeAddress> for v1::NodeAddress {
    fn from(NodeAddress { type_, address }: NodeAddress) -> Self {
        Self { r#type: type_, address }
    }
}

fn addresses(field: &str, all: Vec<v1::NodeAddress>) -> Result<Vec<NodeAddress>, Failure> {
    let each = all.into_iter().enumerate().map(|(at, v1::NodeAddress { r#type, address })| {
        if ADDRESSES.contains(&r#type.as_str()) {
            return Ok(NodeAddress { type_: r#type, address });
        }
        let shown: String = r#type.chars().take(64).collect();
        let one_of = ADDRESSES.join(", ");
        Err(Failure::invalid(format!("{field}[{at}].type"), format!("{shown:?} is none of {one_of}")))
    });
    each.collect()
}

impl From<InstanceMetadata> for v1::Metadata {
    fn from(metadata: InstanceMetadata) -> Self {
        Self {
            provider_id: metadata.provider_id,
            instance_type: metadata.instance_type,
            addresses: metadata.node_addresses.into_iter().map(Into::into).collect(),
            zone: metadata.zone,
            region: metadata.region,
            additional_labels: metadata.additional_labels,
        }
    }
}

impl TryFrom<v1::Metadata> for InstanceMetadata {
    type Error = Failure;

    /// Without a provider id it is not refused: the controller says what is wrong with that.
    fn try_from(metadata: v1::Metadata) -> Result<Self, Failure> {
        if !metadata.provider_id.is_empty() {
            metadata.provider_id.parse::<ProviderId>()?;
        }
        Ok(Self {
            provider_id: metadata.provider_id,
            instance_type: metadata.instance_type,
            node_addresses: addresses("addresses", metadata.addresses)?,
            zone: metadata.zone,
            region: metadata.region,
            additional_labels: metadata.additional_labels,
        })
    }
}

impl From<Route> for v1::Route {
    fn from(route: Route) -> Self {
        Self {
            name: route.name,
            target_node: route.target_node,
            enable_node_addresses: route.enable_node_addresses,
            target_node_addresses: route.target_node_addresses.into_iter().map(Into::into).collect(),
            destination_cidr: route.destination_cidr,
            blackhole: route.blackhole,
        }
    }
}

impl TryFrom<v1::Route> for Route {
    type Error = Failure;

    fn try_from(route: v1::Route) -> Result<Self, Failure> {
        Ok(Self {
            name: route.name,
            target_node: route.target_node,
            enable_node_addresses: route.enable_node_addresses,
            target_node_addresses: addresses("target_node_addresses", route.target_node_addresses)?,
            destination_cidr: route.destination_cidr,
            blackhole: route.blackhole,
        })
    }
}

/// Any bytes as what a provider answers: what the fuzz target feeds. No panic, whatever they are; what is taken goes over the wire
/// and is the same.
pub(crate) fn exercise(bytes: &[u8]) {
    use prost::Message as _;
    if let Ok(metadata) =
        v1::Metadata::decode(bytes).map_err(drop).and_then(|m| InstanceMetadata::try_from(m).map_err(drop))
    {
        let again = InstanceMetadata::try_from(v1::Metadata::from(metadata.clone()));
        assert!(again.is_ok_and(|again| again == metadata));
    }
    if let Ok(route) = v1::Route::decode(bytes).map_err(drop).and_then(|r| Route::try_from(r).map_err(drop)) {
        let again = Route::try_from(v1::Route::from(route.clone()));
        assert!(again.is_ok_and(|again| again == route));
    }
    let _ = object::<Node>("node", bytes);
    let _ = object::<super::LoadBalancerStatus>("status", bytes);
}
