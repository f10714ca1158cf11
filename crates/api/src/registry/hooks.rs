//! What others answer for the registry: access reviews and tokens. Where nobody does, the answer says so.

use super::Registry;
use super::context::Context;
use crate::contract::{Object, Reason, Result, Status};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};

/// A future behind a pointer.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Who makes tokens of service accounts (`serviceaccounts/token`).
pub trait TokenIssuer: Send + Sync {
    /// The answered TokenRequest.
    fn issue<'a>(
        &'a self,
        context: &'a Context,
        account: &'a Object,
        request: Object,
    ) -> BoxFuture<'a, Result<Object>>;
}

/// Who answers objects that are created and never kept, such as access reviews.
pub trait Reviewer: Send + Sync {
    /// The answered review.
    fn review<'a>(&'a self, context: &'a Context, review: Object) -> BoxFuture<'a, Result<Object>>;
}

#[derive(Default)]
pub(super) struct Hooks {
    issuer: RwLock<Option<Arc<dyn TokenIssuer>>>,
    reviewers: RwLock<HashMap<String, Arc<dyn Reviewer>>>,
}

impl Registry {
    /// From now on `issuer` makes the tokens.
    pub fn set_token_issuer(&self, issuer: Arc<dyn TokenIssuer>) {
        *self.0.hooks.issuer.write().unwrap_or_else(PoisonError::into_inner) = Some(issuer);
    }

    /// From now on `reviewer` answers objects of `kind` (`SubjectAccessReview`).
    pub fn set_reviewer(&self, kind: &str, reviewer: Arc<dyn Reviewer>) {
        let mut reviewers = self.0.hooks.reviewers.write().unwrap_or_else(PoisonError::into_inner);
        reviewers.insert(kind.to_owned(), reviewer);
    }

    pub(super) fn token_issuer(&self) -> Result<Arc<dyn TokenIssuer>> {
        let held = self.0.hooks.issuer.read().unwrap_or_else(PoisonError::into_inner);
        held.clone().ok_or_else(|| nobody("makes tokens of service accounts"))
    }

    pub(super) fn reviewer(&self, kind: &str) -> Result<Arc<dyn Reviewer>> {
        let held = self.0.hooks.reviewers.read().unwrap_or_else(PoisonError::into_inner);
        held.get(kind).cloned().ok_or_else(|| nobody(&format!("answers {kind}")))
    }
}

fn nobody(does_what: &str) -> Status {
    let message = format!("nobody {does_what} on this server");
    Status::new(503, Reason::ServiceUnavailable, message)
}
