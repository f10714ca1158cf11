//! A cloud provider: nodes, load balancers and routes of a cluster in Amazon's EC2 (docs/aws.md).
//!
//! [`provider`] makes one of the file of `--cloud-config`; what it is asked is [`cpi::contract::CloudProvider`]. It speaks AWS' query
//! protocol by itself: `api` signs and sends, `credentials` finds out as whom, `ec2` and `elb` read answers; `instances`, `balancers`
//! and `routes` are what is asked.
//!
//! **What it never does**: it never shows a secret, in an error, a log or `Debug`; it never says that an instance is gone which EC2 may
//! merely not know yet; it never touches a load balancer, a target group or a rule that does not bear the cluster's or the service's
//! mark (a rule that services share has the cluster's name in its description); it never relies on its memory to find what it has made.

mod api;
mod balancers;
mod config;
mod credentials;
mod ec2;
mod elb;
pub mod fuzz;
mod instances;
mod provider;
mod routes;

use std::path::{Path, PathBuf};

pub use config::{Config, Environment};
pub use provider::Aws;

/// What the provider is called, and the scheme of its instances' ids.
pub const NAME: &str = "aws";

/// Why there is no provider.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file of `--cloud-config` cannot be used.
    #[error("cannot use {} of --cloud-config: {cause}", path.display())]
    Config {
        /// Which.
        path: PathBuf,
        /// What is wrong in it, with its line.
        cause: String,
    },
    /// The environment, or a file that it names, cannot be used.
    #[error("cannot use AWS: {0}")]
    Environment(String),
}

/// The provider, by a file of `--cloud-config` if there is one, and by the environment of the process. Nothing is asked before
/// `initialize`.
///
/// # Errors
/// What is configured is wrong.
pub fn provider(config: Option<&Path>) -> Result<Aws, Error> {
    let config = config.map_or_else(|| Ok(Config::default()), Config::load)?;
    Aws::new(config, Environment::of_process())
}
