//! A synchronous client of the distribution API 1.1.
//!
//! Threads, not tasks: a pull is bound by inflating and hashing, and each layer has a thread anyway
//! (docs/adr/0003-synchronous-registry-client.md). [`Client`] is cheap to clone and shared by threads; its
//! connections and tokens are pooled.
//!
//! **What it never does**: it stores no image, follows no digest it did not verify (manifests) or leave to its caller
//! to verify (blobs), sends credentials to no host but the registry they are for and the token service it names,
//! uses no `getaddrinfo`, and never falls back to plain http except on loopback or where told to.

mod auth;
mod blob;
mod body;
mod call;
mod challenge;
mod delete;
mod error;
mod explain;
mod form;
mod login;
mod manifest;
mod push;
mod redirect;
mod referrers;
mod repository;
mod retry;
mod source;
mod tags;
mod tls;
mod transport;
mod upload;

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use blob::BlobReader;
pub use challenge::{Challenge, parse_challenges};
pub use error::{ApiError, Error};
pub use explain::{Explanation, Step};
pub use login::Login;
pub use push::{OpenAt, Pushed};
pub use source::RegistrySource;
pub use transport::TransportError;

use super::credentials::{Credential, CredentialFiles};
use super::hosts;
use super::proxy::ProxyEnv;
use super::resolver::Resolver;

/// Who is told about a registry's `Warning` headers: the endpoint's URL, then the text.
pub type WarningSink = Arc<dyn Fn(&str, &str) + Send + Sync>;

/// How a client behaves; [`Config::default`] is what the environment says.
#[derive(Clone)]
pub struct Config {
    /// Folders with hosts files, the first that knows a registry decides.
    pub hosts_dirs: Vec<PathBuf>,
    /// Talk plain http to registries that no hosts file is about.
    pub plain_http: bool,
    /// Where credentials are found and kept.
    pub credentials: CredentialFiles,
    /// Proxies.
    pub proxy: ProxyEnv,
    /// Names to addresses.
    pub resolver: Arc<Resolver>,
    /// `User-Agent`.
    pub user_agent: String,
    /// How long to wait for what.
    pub patience: Patience,
    /// Who hears warnings of registries.
    pub warnings: Option<WarningSink>,
    /// Blobs larger than this are pushed in chunks of this many bytes, and go on after a cut where the registry has
    /// them; smaller ones are sent in one piece.
    pub chunk: u64,
}

/// Limits of waiting. There is none for a whole transfer: a large image over a slow line is no error.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Looking a name up.
    pub resolve: Duration,
    /// Connecting, TLS included (`dial_timeout` of a hosts file is stronger).
    pub connect: Duration,
    /// From the request's end to the response's headers; [`Patience::stall`] limits this wait too.
    pub headers: Duration,
    /// The same for the request that commits an upload, which the registry may hash first.
    pub commit: Duration,
    /// A body may pause this long.
    pub stall: Duration,
    /// Below this rate, in bytes a second over [`Patience::stall`], a body counts as stalled.
    pub min_rate: u64,
    /// How often a request is tried, the first included.
    pub attempts: u32,
    /// For how long: what has not got an answer by then is not tried again.
    pub give_up: Duration,
    /// The first pause between two tries; it doubles.
    pub backoff: Duration,
    /// The longest `Retry-After` that is obeyed; a longer one is an error that says so.
    pub retry_after_max: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            resolve: Duration::from_secs(20),
            connect: Duration::from_secs(15),
            headers: Duration::from_secs(60),
            commit: Duration::from_secs(600),
            stall: Duration::from_secs(60),
            min_rate: 512,
            attempts: 4,
            give_up: Duration::from_secs(120),
            backoff: Duration::from_millis(500),
            retry_after_max: Duration::from_secs(60),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hosts_dirs: hosts::DEFAULT_DIRS.iter().map(PathBuf::from).collect(),
            plain_http: false,
            credentials: CredentialFiles::from_env(),
            proxy: ProxyEnv::from_env(),
            resolver: Arc::new(Resolver::system()),
            user_agent: concat!("sextant/", env!("CARGO_PKG_VERSION")).to_owned(),
            patience: Patience::default(),
            warnings: None,
            chunk: 64 << 20,
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Config");
        shown.field("hosts_dirs", &self.hosts_dirs).field("plain_http", &self.plain_http);
        shown.field("proxy", &self.proxy).field("patience", &self.patience).finish_non_exhaustive()
    }
}

/// Pulls from and pushes to any registry.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
    credential: Option<Credential>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    transport: transport::Transport,
    tokens: auth::Tokens,
    /// Hosts that turned out to speak plain http.
    plain: Mutex<HashSet<String>>,
}

impl Client {
    /// A client; nothing is read or connected before its first use.
    pub fn new(config: Config) -> Self {
        let transport = transport::Transport::new(&config);
        let shared = Shared { config, transport, tokens: auth::Tokens::default(), plain: Mutex::default() };
        Self { shared: Arc::new(shared), credential: None }
    }

    /// The same client (connections are shared) as somebody given: these credentials go to the registry itself,
    /// never to its mirrors, and files and helpers are not asked for it.
    pub fn with_credential(&self, credential: Credential) -> Self {
        Self { shared: self.shared.clone(), credential: Some(credential) }
    }

    /// How it was configured.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }
}
