//! What the controllers ask.

use std::sync::{Arc, Mutex, PoisonError};

use cpi::contract::{Answer, CloudProvider, Instances, LoadBalancers, Routes};

use crate::api::Client;
use crate::config::{Config, Environment};
use crate::instances::Seen;
use crate::{Error, ec2};

/// What clusters' tags begin with: `kubernetes.io/cluster/NAME`, with `owned` or `shared` for a value.
pub(crate) const CLUSTER: &str = "kubernetes.io/cluster/";

/// EC2 as a cloud provider.
#[derive(Debug)]
pub struct Aws {
    pub(crate) client: Client,
    pub(crate) seen: Seen,
    /// The network that the cluster is in, once it is known.
    pub(crate) vpc: Mutex<Option<String>>,
    /// Load balancers that were made a moment ago, which may not be told yet: names and ARNs.
    pub(crate) made: Mutex<Vec<(String, String, tokio::time::Instant)>>,
    /// Whose turn it is to change rules.
    pub(crate) rules: tokio::sync::Mutex<()>,
}

impl Aws {
    /// Over a configuration and an environment. Nothing is asked before [`initialize`](CloudProvider::initialize).
    ///
    /// # Errors
    /// Something in them cannot be used.
    pub fn new(config: Config, environment: Environment) -> Result<Self, Error> {
        let vpc = Mutex::new(config.vpc.clone());
        let client = Client::new(Arc::new(config), Arc::new(environment)).map_err(Error::Environment)?;
        Ok(Self {
            client,
            seen: Seen::default(),
            vpc,
            made: Mutex::default(),
            rules: tokio::sync::Mutex::default(),
        })
    }

    /// What the cluster is called in tags.
    pub(crate) fn cluster<'a>(&'a self, cluster: &'a str) -> &'a str {
        self.client.config().cluster.as_deref().unwrap_or(cluster)
    }

    /// The key of the tag that the cluster's things have.
    pub(crate) fn mark(&self, cluster: &str) -> String {
        format!("{CLUSTER}{}", self.cluster(cluster))
    }

    /// The network that is known to be the cluster's.
    pub(crate) fn known_vpc(&self) -> Option<String> {
        self.vpc.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes the cluster's network, where it is not known.
    pub(crate) fn note_vpc(&self, vpc: &str) {
        if !vpc.is_empty() {
            self.vpc.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| vpc.into());
        }
    }

    /// The cluster's network: the configuration's, that of its instances, or that of the instance that this runs on.
    ///
    /// # Errors
    /// Nobody says which: a text for people.
    pub(crate) async fn find_vpc(&self, cluster: &str) -> Result<String, cpi::contract::Error> {
        if let Some(vpc) = self.known_vpc() {
            return Ok(vpc);
        }
        let found = ec2::instances_by(&self.client, &[("tag-key", &[self.mark(cluster)])]).await;
        let found =
            found.map_err(|e| cpi::contract::Error::Failed(format!("cannot find the cluster's VPC: {e}")))?;
        let mut vpcs: Vec<&str> =
            found.iter().map(|one| one.vpc.as_str()).filter(|vpc| !vpc.is_empty()).collect();
        vpcs.sort_unstable();
        vpcs.dedup();
        if let [vpc] = vpcs[..] {
            self.note_vpc(vpc);
            return Ok(vpc.into());
        }
        let own = async {
            let mac = self.client.own("mac").await?;
            self.client.own(&format!("network/interfaces/macs/{mac}/vpc-id")).await
        };
        match own.await {
            Ok(vpc) if vpc.starts_with("vpc-") => {
                self.note_vpc(&vpc);
                Ok(vpc)
            }
            other => {
                let tag = self.mark(cluster);
                let why = other.err().unwrap_or_else(|| "it tells none".into());
                Err(cpi::contract::Error::Failed(format!(
                    "cannot find the cluster's VPC: instances with tag {tag} are in {} VPCs, and this machine does not tell ({why}); \
                     set VPC in --cloud-config",
                    vpcs.len()
                )))
            }
        }
    }
}

impl CloudProvider for Aws {
    fn name(&self) -> &str {
        crate::NAME
    }

    fn initialize<'a>(&'a self, cluster: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let mark = self.mark(cluster);
            // Who asks, where, and whether that is allowed is known after this, and not when the first node waits for it.
            let found = self.seen.begin(&self.client, &mark).await;
            found.map_err(|e| {
                cpi::contract::Error::Failed(format!("cannot list the cluster's instances: {e}"))
            })
        })
    }

    fn instances(&self) -> Option<&dyn Instances> {
        Some(self)
    }

    fn load_balancers(&self) -> Option<&dyn LoadBalancers> {
        Some(self)
    }

    fn routes(&self) -> Option<&dyn Routes> {
        Some(self)
    }
}
