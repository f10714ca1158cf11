//! The proxy between clients and backends of this test, over loopback.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod backend;
mod harness;
mod http2_peer;
mod models;

mod bodies;
mod connections;
mod counts;
mod endpoints;
mod http2;
mod http2_changes;
mod http2_retries;
mod leaving;
mod mirrors;
mod routes;
