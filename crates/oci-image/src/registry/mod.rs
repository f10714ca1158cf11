//! Registries: a synchronous client of the distribution API (pull and push), and a registry server.
//!
//! [`client::Client`] pulls and pushes; [`hosts`] decides which endpoints serve a registry (mirrors, CAs, plain
//! http), [`credentials`] which user we are there, [`resolver`] what its name means. [`server::Server`] is the
//! other side.

pub mod client;
pub mod credentials;
pub mod hosts;
pub mod proxy;
pub mod resolver;
pub mod server;
