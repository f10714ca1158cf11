//! How a provider's call fails.

use std::time::Duration;

/// Why a call did not do what it was asked for. Controllers know these apart; everything else is [`Error::Failed`], and tried again
/// later each time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The provider does not have this call.
    #[error("the provider does not have this call")]
    NotImplemented,
    /// Another controller does this for the object: nothing is done here, and nothing is written into its status. Only for load
    /// balancers.
    #[error("another controller does this")]
    ImplementedElsewhere,
    /// The instance is not there. What is stopped is there.
    #[error("the instance is not there")]
    InstanceNotFound,
    /// Nothing is wrong, but it takes its time: ask again after this long, and not after a back-off. For load balancers; of routes, which
    /// are asked for at each look anyway, it says that they are waited for.
    #[error("{message}")]
    RetryAfter {
        /// What is waited for, for people.
        message: String,
        /// How long.
        after: Duration,
    },
    /// Something that is there already is in the way: a route to the same destination. Creating is tried again soon.
    #[error("{0}")]
    AlreadyExists(String),
    /// Anything else: what was to be done, and why it was not.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// [`Error::Failed`], for a cause that says by itself what could not be done.
    pub fn of(cause: impl std::fmt::Display) -> Self {
        Self::Failed(cause.to_string())
    }
}
