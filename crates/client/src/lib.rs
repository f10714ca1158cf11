//! What programs need that work with a Kubernetes API server, ours or any other.
//!
//! A controller, of a cluster or of a node, is level-triggered: it holds a [`cache`] of the objects it reads, a [`queue`] of the names of
//! those it has to look at, and one function that looks at one object and does the next thing. [`events`] tell people of it, a
//! [`leader`] is elected where several processes could do the same, [`kubeconfig`] finds the server. A program that serves an API behind the server
//! has [`aggregation`].
//!
//! It never: decides anything about an object, or writes one but events, leases, and where an API is served.

pub mod aggregation;
pub mod cache;
pub mod events;
pub mod kubeconfig;
pub mod leader;
pub mod quantity;
pub mod query;
pub mod queue;

/// An error with what is below it, where it does not say that itself: kube's often do not.
#[must_use]
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(cause) = below {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        below = cause.source();
    }
    text
}
