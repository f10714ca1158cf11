//! The types of SMI and of Gateway API's routes, read from JSON.
//!
//! SMI's specification, its Go types and its CRDs contradict each other; where they do, every reading is taken that can be told apart
//! from the others, and a [`Finding`] says what was made of it (docs/smi.md has the list). Reading goes by the object's shape, not by
//! its `apiVersion`: an API server that converts nothing changes only the latter.

pub mod access;
mod crds;
mod finding;
pub mod gateway;
pub mod http;
mod meta;
pub mod metrics;
mod part;
pub mod specs;
pub mod split;
#[cfg(test)]
mod tests;

use serde_json::Value;

pub use crds::{CRDS, Crd};
pub use finding::{Finding, Reason};
pub use meta::{Id, Kind, Meta, Name, is_name};
use part::Notes;
pub(crate) use part::{MOST, cut};

/// One object of any kind that the mesh goes by.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// Who may call whom.
    TrafficTarget(access::TrafficTarget),
    /// Who is who (draft v1alpha4).
    IdentityBinding(access::IdentityBinding),
    /// Named HTTP requests.
    HttpRouteGroup(specs::HttpRouteGroup),
    /// SMI's TCPRoute or UDPRoute: named ports.
    Ports(specs::PortRoute),
    /// Weights of the Services behind a Service.
    TrafficSplit(split::TrafficSplit),
    /// A route of Gateway API.
    Route(gateway::Route),
}

impl Object {
    /// Its kind and name.
    #[must_use]
    pub fn id(&self) -> Id {
        let kind = match self {
            Self::TrafficTarget(_) => Kind::TrafficTarget,
            Self::IdentityBinding(_) => Kind::IdentityBinding,
            Self::HttpRouteGroup(_) => Kind::HttpRouteGroup,
            Self::Ports(it) => it.transport.smi_kind(),
            Self::TrafficSplit(_) => Kind::TrafficSplit,
            Self::Route(it) => it.kind.kind(),
        };
        Id { kind, name: self.meta().name.clone() }
    }

    /// Its metadata.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        match self {
            Self::TrafficTarget(it) => &it.meta,
            Self::IdentityBinding(it) => &it.meta,
            Self::HttpRouteGroup(it) => &it.meta,
            Self::Ports(it) => &it.meta,
            Self::TrafficSplit(it) => &it.meta,
            Self::Route(it) => &it.meta,
        }
    }
}

/// An object, and what there is to say about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    /// As it was understood.
    pub object: Object,
    /// What was tolerated, left out or refused in it.
    pub findings: Vec<Finding>,
}

/// Why something is no object of the mesh at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not a kind, or a version, that is known here.
    #[error(
        "cannot read object: apiVersion {api_version:?} with kind {kind:?} is none of a mesh's; it takes {}",
        Kind::known()
    )]
    Unknown {
        /// Its `apiVersion`.
        api_version: String,
        /// Its `kind`.
        kind: String,
    },
    /// It has no name that could be used.
    #[error("cannot read {kind}: metadata.{field} is {value:?}; it must be a name as in RFC 1123")]
    Unnamed {
        /// What it would have been.
        kind: Kind,
        /// `name` or `namespace`.
        field: &'static str,
        /// What stands there.
        value: String,
    },
}

/// Reads an object of any kind and version.
///
/// # Errors
/// It is of an unknown kind or version, or has no usable name. Anything else that is wrong with it is in [`Read::findings`].
pub fn read(value: &Value) -> Result<Read, Refused> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let kind = Kind::of(api_version, kind)
        .ok_or_else(|| Refused::Unknown { api_version: api_version.into(), kind: kind.into() })?;
    let meta = Meta::read(value, kind)?;
    let mut notes = Notes::default();
    let object = match kind {
        Kind::TrafficTarget => Object::TrafficTarget(access::TrafficTarget::read(meta, value, &mut notes)),
        Kind::IdentityBinding => {
            Object::IdentityBinding(access::IdentityBinding::read(meta, value, &mut notes))
        }
        Kind::HttpRouteGroup => Object::HttpRouteGroup(specs::HttpRouteGroup::read(meta, value, &mut notes)),
        Kind::TcpPorts => {
            Object::Ports(specs::PortRoute::read(meta, specs::Transport::Tcp, value, &mut notes))
        }
        Kind::UdpPorts => {
            Object::Ports(specs::PortRoute::read(meta, specs::Transport::Udp, value, &mut notes))
        }
        Kind::TrafficSplit => Object::TrafficSplit(split::TrafficSplit::read(meta, value, &mut notes)),
        Kind::HttpRoute | Kind::GrpcRoute | Kind::TlsRoute | Kind::TcpRoute | Kind::UdpRoute => {
            Object::Route(gateway::Route::read(meta, kind, value, &mut notes))
        }
    };
    Ok(Read { object, findings: notes.done() })
}
