//! An API that a program serves behind an API server (`APIService`): the server hands requests on, as the front proxy that its certificate says that it is.
//!
//! [`proxies`] says who that is, [`register`] has requests be handed on, [`Server`] answers them; who has a server of its own has its parts. Whether somebody may
//! ask has the API server looked at: an answer is for whoever it hands on.

mod offer;
mod selector;
mod serve;
mod tls;

use serde_json::{Value, json};

pub use offer::{NAMESPACE, Offer, host, proxies, register};
pub use selector::selector;
pub use serve::{Answer, Asked, Server};
pub use tls::{Front, Identity, config, is_of, verifier};

/// Those who hand on what others ask.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    /// Who signs their certificates, in DER.
    pub authorities: Vec<Vec<u8>>,
    /// The names that these may bear; any, where there are none.
    pub names: Vec<String>,
}

/// The `Status` that a request is refused with.
#[must_use]
pub fn refusal(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": reason, "code": code})
}
