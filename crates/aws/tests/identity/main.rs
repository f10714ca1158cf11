//! Who the provider is, as it finds that out: by the token of a pod, roles, the agent of a container's host and the metadata service of an
//! instance, each over HTTP against a server of the test's own, which checks signatures as AWS does; and TLS to it, by an authority of its own.
#![allow(clippy::unwrap_used, reason = "tests")]

mod chain;
mod tls;
mod world;
