//! What a request must satisfy whatever the state of the cluster. The dispatch calls it before every handler.

use grpc::Failure;

use super::flows;
use super::v1::{FollowRequest, ReportRequest, SignRequest};

/// The longest name of a node, in bytes.
const NAME: usize = 253;
/// The longest token. Those of service accounts have about 1 KiB.
const TOKEN: usize = 16 * 1024;
/// The longest identity, as SPIFFE has it.
const IDENTITY: usize = 2048;
/// The longest request for a certificate. One of a key on P-256 has about 400 bytes.
const REQUEST: usize = 8 * 1024;

type Verdict = Result<(), Failure>;

/// A message whose fields can be wrong by themselves.
pub trait Validate {
    /// The first field that is wrong.
    ///
    /// # Errors
    /// [`grpc::Code::InvalidArgument`] with the field's path and what to do.
    fn validate(&self) -> Verdict;
}

fn bounded(field: &str, length: usize, most: usize) -> Verdict {
    if length > most {
        return Err(Failure::invalid(field, format!("has {length} bytes, {most} is the most")));
    }
    Ok(())
}

fn node(name: &str) -> Verdict {
    if name.is_empty() {
        return Err(Failure::invalid("node", "is empty; it must be the node's name"));
    }
    bounded("node", name.len(), NAME)?;
    if name.chars().any(char::is_control) {
        return Err(Failure::invalid("node", "has a control character in it"));
    }
    Ok(())
}

impl Validate for FollowRequest {
    fn validate(&self) -> Verdict {
        node(&self.node)?;
        bounded("token", self.token.len(), TOKEN)
    }
}

impl Validate for SignRequest {
    fn validate(&self) -> Verdict {
        node(&self.node)?;
        bounded("token", self.token.len(), TOKEN)?;
        bounded("identity", self.identity.len(), IDENTITY)?;
        if !self.identity.starts_with("spiffe://") {
            return Err(Failure::invalid(
                "identity",
                "is none; it must be spiffe://DOMAIN/ns/NAMESPACE/sa/NAME",
            ));
        }
        bounded("csr_der", self.csr_der.len(), REQUEST)
    }
}

impl Validate for ReportRequest {
    fn validate(&self) -> Verdict {
        node(&self.node)?;
        bounded("token", self.token.len(), TOKEN)?;
        flows::check(&self.flows)
    }
}
