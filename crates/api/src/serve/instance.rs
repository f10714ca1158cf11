//! A whole API server: a folder, who may, and where it listens.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::hooks::Node;
use super::server::{Server, Setup, StartError};
use crate::aggregation::Connector;
use crate::auth::audit::Audit;
use crate::auth::rbac::{aggregate, bootstrap};
use crate::auth::{
    self, Access, Authority, Escalation, FrontProxy, MASTERS, Rbac, Reviews, Tokens, kubeconfig,
};
use crate::contract::Status;
use crate::controllers::{self, Controllers};
use crate::kubelet::Kubelets;
use crate::registry::{Registry, Settings};
use crate::store::{self, Store};
use crate::{admission, kinds};

/// Who signs tokens: an address that only names this server.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// What an API server is told.
pub struct Options {
    /// Its folder: objects, certificates, keys.
    pub folder: PathBuf,
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// Where it listens, too, although the machine may not have the address yet.
    pub listen_ahead: Vec<SocketAddr>,
    /// Names under which it is reached beside its addresses, for its certificate.
    pub names: Vec<String>,
    /// Where the administrator's kubeconfig is written, beside `kubeconfig` in the folder.
    pub kubeconfig: Option<PathBuf>,
    /// Where it writes down who did what: the file, the bytes after which a new one is begun, how many old ones stay.
    pub audit: Option<(PathBuf, u64, u32)>,
    /// Who runs pods; without one the kubelets of the nodes are asked.
    pub node: Option<Arc<dyn Node>>,
}

/// Why an API server does not start.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// Its objects.
    #[error(transparent)]
    Store(#[from] Box<store::Error>),
    /// Its certificates and keys.
    #[error(transparent)]
    Auth(#[from] auth::Error),
    /// Its addresses.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Its audit log.
    #[error("cannot open the audit log {}: {source}", path.display())]
    Audit {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// What every cluster has could not be made.
    #[error("cannot make {what}: {cause}")]
    Bootstrap {
        /// What.
        what: &'static str,
        /// The cause.
        cause: Status,
    },
}

/// How long the store may take to be let go and closed at the end.
const CLOSING: Duration = Duration::from_secs(5);

/// A whole API server. Dropped, it ends at once.
pub struct Instance {
    server: Server,
    registry: Registry,
    kubeconfig: PathBuf,
    rbac: Arc<Rbac>,
    controllers: (Controllers, JoinSet<()>),
}

impl Instance {
    /// Opens the folder (or makes it), makes what every cluster has, and listens.
    ///
    /// # Errors
    /// See [`InstanceError`].
    pub async fn start(options: Options) -> Result<Instance, InstanceError> {
        let keys = options.folder.join("pki");
        let listens = || options.listen.iter().chain(&options.listen_ahead).map(SocketAddr::ip);
        let addresses: Vec<IpAddr> = listens().collect();
        let authority = Arc::new(Authority::open(&keys, &addresses, &options.names)?);
        let store =
            Store::open(&options.folder.join("store"), store::Options::default()).map_err(Box::new)?;
        let rbac = Arc::new(Rbac::start(&store)?);
        let authorizer = Arc::clone(&rbac) as Arc<dyn auth::Authorizer>;
        let mut admissions = admission::builtin(Some(&authorizer));
        admissions.push(Arc::new(Escalation::new(Arc::clone(&rbac))));
        let registry = Registry::new(store, kinds::builtin(), admissions, Settings::default());
        let tokens = Arc::new(Tokens::open(&keys, ISSUER, registry.store().clone())?);
        registry.set_token_issuer(Arc::clone(&tokens) as Arc<dyn crate::registry::TokenIssuer>);
        Reviews::serve(&registry, Arc::clone(&rbac), Arc::clone(&tokens));
        bootstrap::reconcile(&registry).await.map_err(|cause| InstanceError::Bootstrap {
            what: "the roles and bindings of every cluster",
            cause,
        })?;
        aggregate::settle(&registry)
            .await
            .map_err(|cause| InstanceError::Bootstrap { what: "the aggregated roles", cause })?;
        let proxy = FrontProxy::open(&keys.join("front-proxy"))?;
        let settings = controllers::Settings {
            authority: Some(authority.certificate().to_owned()),
            front_proxy: Some(proxy.certificate().to_owned()),
            address: listens().find(|address| !address.is_loopback()),
            port: options.listen.first().map_or(0, SocketAddr::port),
        };
        registry.aggregation().connect_by(Connector::new(proxy));
        let mut order = Controllers::start(&registry, settings)
            .await
            .map_err(|cause| InstanceError::Bootstrap { what: "the namespaces of every cluster", cause })?;
        let mut tasks = JoinSet::new();
        tasks.spawn(aggregate::run(registry.clone(), Arc::clone(&rbac)));
        let trusted = authority.certificate().to_owned();
        tasks.spawn(auth::secrets::run(registry.clone(), Arc::clone(&tokens), trusted));
        let audit = options.audit.map(|(path, most, files)| {
            Audit::open(&path, most, files).map_err(|source| InstanceError::Audit { path, source })
        });
        let mut health =
            vec![rbac.check("informer-sync"), rbac.check("poststarthook/generic-apiserver-start-informers")];
        health.extend(order.take_checks());
        let access = Access {
            authorizer: Arc::clone(&rbac) as Arc<dyn auth::Authorizer>,
            tokens: Some(tokens),
            trusted: None,
            health,
        };
        let kubelets =
            || -> Arc<dyn Node> { Arc::new(Kubelets::new(registry.clone(), Arc::clone(&authority))) };
        let node = options.node.unwrap_or_else(kubelets);
        let server = Server::start(Setup {
            registry: registry.clone(),
            access,
            authority: Some(Arc::clone(&authority)),
            listen: options.listen,
            listen_ahead: options.listen_ahead,
            node: Some(node),
            audit: audit.transpose()?,
        })
        .await?;
        let kubeconfig = options.folder.join("kubeconfig");
        let admin = authority.issue_client("kubernetes-admin", &[MASTERS])?;
        let url = format!("https://{}", reached(server.addresses()));
        for path in [Some(&kubeconfig), options.kubeconfig.as_ref()].into_iter().flatten() {
            kubeconfig::write(path, &url, authority.certificate(), &admin)?;
        }
        Ok(Instance { server, registry, kubeconfig, rbac, controllers: (order, tasks) })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        self.server.addresses()
    }

    /// Its objects, for what runs in the same process.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The administrator's kubeconfig in its folder.
    #[must_use]
    pub fn kubeconfig(&self) -> &std::path::Path {
        &self.kubeconfig
    }

    /// Ends, after `grace` at the latest. Its folder can be opened again then.
    pub async fn stop(self, grace: Duration) {
        let closed = self.registry.store().closed();
        let (controllers, mut tasks) = self.controllers;
        self.server.stop(grace).await;
        tasks.shutdown().await;
        controllers.stop().await;
        self.rbac.stop().await;
        drop((self.rbac, self.registry));
        // What still answers somebody has a moment.
        let _ = tokio::time::timeout(grace.max(CLOSING), closed).await;
    }
}

/// How this machine reaches the first address.
fn reached(addresses: &[SocketAddr]) -> SocketAddr {
    let mut address = addresses.first().copied().unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 6443)));
    if address.ip().is_unspecified() {
        let loopback = if address.is_ipv4() {
            IpAddr::from([127, 0, 0, 1])
        } else {
            IpAddr::from(std::net::Ipv6Addr::LOCALHOST)
        };
        address.set_ip(loopback);
    }
    address
}
