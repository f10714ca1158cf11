//! The proxy between clients and backends of this test, over loopback.

mod backend;
mod harness;
mod models;

mod bodies;
mod connections;
mod endpoints;
mod routes;
