//! Who asks, and what they may.
//!
//! [`Access`] says who sends a request: by a certificate of the [`Authority`], by a token of [`Tokens`], or nobody. [`Rbac`]
//! decides by the roles and bindings that are kept; [`Reviews`] answers questions about both; [`audit`] writes down who did
//! what. There is no authorizer that holds a node to its own pods.

mod access;
mod attributes;
pub mod audit;
mod authority;
pub mod certificate;
pub mod kubeconfig;
pub mod rbac;
mod reviews;
mod tokens;

pub use access::{Access, Check};
pub use attributes::{Attributes, Decision, ResourceAttributes};
pub(crate) use authority::provider;
pub use authority::{Authority, Error, FRONT_PROXY, FrontProxy, Identity, replace};
pub use rbac::{Escalation, Rbac};
pub use reviews::Reviews;
pub(crate) use tokens::secrets;
pub use tokens::{Bound, Tokens, Verified};

use crate::resource::Asker;

/// The group of everybody who proved who they are.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of everybody who did not.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The user that a request without credentials is.
pub const ANONYMOUS: &str = "system:anonymous";
/// The group that may do everything, whatever roles say.
pub const MASTERS: &str = "system:masters";

/// Says what somebody may do.
pub trait Authorizer: Send + Sync {
    /// Whether `asker` may do what `attributes` say.
    fn authorize(&self, asker: &Asker, attributes: &Attributes) -> Decision;
}

/// Who a request without credentials comes from.
#[must_use]
pub fn anonymous() -> Asker {
    Asker { user: ANONYMOUS.to_owned(), groups: vec![UNAUTHENTICATED.to_owned()], ..Asker::default() }
}

/// Everybody may do everything: for tests and for servers behind a socket that only its owner can open.
#[derive(Clone, Copy, Debug)]
pub struct AllowAll;

impl Authorizer for AllowAll {
    fn authorize(&self, _: &Asker, _: &Attributes) -> Decision {
        Decision::Allow(String::new())
    }
}
