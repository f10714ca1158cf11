//! Which endpoints serve a registry, and how to talk to each: containerd's `hosts.toml`, Docker's certificate folders.
//!
//! For registry `R` the first of the configured folders that has `R_port_/`, `R:port/` or `_default/` decides.
//! Its `hosts.toml` lists mirrors in order, the registry itself comes last; a folder without one may hold Docker's
//! `*.crt` (CAs) and `*.cert` with `*.key` (client certificates). `docs/adr/0003` compares with containerd.

mod certs;
mod parse;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use parse::parse;

use crate::reference::DEFAULT_REGISTRY;

/// Where hosts folders are looked for, in order.
pub const DEFAULT_DIRS: [&str; 3] =
    ["/etc/sextant/certs.d", "/etc/containerd/certs.d", "/etc/docker/certs.d"];
/// Where Docker Hub's API really is.
const DOCKER_HUB: &str = "registry-1.docker.io";
const API_ROOT: &str = "/v2";

/// `http` or `https`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Not encrypted.
    Http,
    /// TLS.
    Https,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
        })
    }
}

/// What an endpoint may be asked for (`capabilities`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Content by digest.
    pub pull: bool,
    /// Tags to digests.
    pub resolve: bool,
    /// Uploads.
    pub push: bool,
}

impl Capabilities {
    /// What an endpoint without `capabilities` may do.
    pub const ALL: Self = Self { pull: true, resolve: true, push: true };
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [(self.pull, "pull"), (self.resolve, "resolve"), (self.push, "push")];
        let words: Vec<_> = all.into_iter().filter(|(may, _)| *may).map(|(_, word)| word).collect();
        f.write_str(&words.join(","))
    }
}

/// How TLS to an endpoint is done, beyond the system's CAs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct TlsFiles {
    /// CAs trusted besides the system's.
    pub ca: Vec<PathBuf>,
    /// Certificates to show: certificate and key; one file may hold both.
    pub client: Vec<(PathBuf, Option<PathBuf>)>,
    /// Any certificate is accepted.
    pub skip_verify: bool,
}

/// One place that serves a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `http` or `https`.
    pub scheme: Scheme,
    /// Host and optional port.
    pub authority: String,
    /// Root of the API, `/v2` unless `override_path` says otherwise.
    pub path: String,
    /// What it may be asked for.
    pub capabilities: Capabilities,
    /// CAs and client certificates.
    pub tls: TlsFiles,
    /// Headers added to each request to it (`header`).
    pub headers: Vec<(String, String)>,
    /// How long connecting may take.
    pub dial_timeout: Option<Duration>,
    /// It stands in for the registry: credentials for the registry are not for it.
    pub mirror: bool,
    /// The registry's name, sent as `?ns=` to whoever has another name.
    pub namespace: Option<String>,
    /// Plain http may be tried when TLS fails: a loopback registry nobody configured.
    pub http_fallback: bool,
    /// The file that says so; `None` for the default.
    pub origin: Option<PathBuf>,
}

impl Endpoint {
    /// `https://host:port/v2`.
    pub fn url(&self) -> String {
        format!("{}://{}{}", self.scheme, self.authority, self.path)
    }

    /// The registry itself, as it is without configuration.
    pub fn default_for(registry: &str, plain_http: bool) -> Self {
        let authority = if registry == DEFAULT_REGISTRY { DOCKER_HUB } else { registry };
        // 443 is TLS's, whoever answers there; a file or --plain-http says otherwise.
        let http_fallback = !plain_http && is_loopback(registry) && !registry.ends_with(":443");
        Self {
            scheme: if plain_http { Scheme::Http } else { Scheme::Https },
            authority: authority.to_owned(),
            path: API_ROOT.to_owned(),
            capabilities: Capabilities::ALL,
            tls: TlsFiles::default(),
            headers: Vec::new(),
            dial_timeout: None,
            mirror: false,
            namespace: None,
            http_fallback,
            origin: None,
        }
    }

    fn is_named(&self, registry: &str) -> bool {
        self.authority == registry || (registry == DEFAULT_REGISTRY && self.authority == DOCKER_HUB)
    }
}

/// A hosts file or folder that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HostsError {
    /// The file or folder cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file's text is no TOML.
    #[error("cannot parse {} line {line}: {message}", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What the parser expected.
        message: String,
    },
    /// A key has a value that means nothing.
    #[error("cannot use {} line {line}: {key} = {value}: {message}", path.display())]
    Value {
        /// Which file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// The key, with its tables.
        key: String,
        /// The value as written.
        value: String,
        /// What would be right.
        message: String,
    },
    /// Docker's folder has half of a pair.
    #[error("cannot use client certificate {}: there is no {} beside it", path.display(), missing.display())]
    Pair {
        /// The file that is there.
        path: PathBuf,
        /// The one that is not.
        missing: PathBuf,
    },
}

/// The endpoints of `registry` (as a reference has it, `docker.io` for Docker Hub), in the order to try them.
pub fn endpoints(dirs: &[PathBuf], registry: &str, plain_http: bool) -> Result<Vec<Endpoint>, HostsError> {
    let base = Endpoint::default_for(registry, plain_http);
    for root in dirs {
        for name in folder_names(registry) {
            let folder = root.join(name);
            if folder.is_dir() {
                return from_folder(&folder, registry, base);
            }
        }
    }
    Ok(vec![base])
}

/// containerd's order: `host_port_` (for file systems without colons), `host:port`, `_default`.
fn folder_names(registry: &str) -> Vec<String> {
    let port = registry.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    let escaped = port.map(|(host, port)| format!("{host}_{port}_"));
    escaped.into_iter().chain([registry.to_owned(), "_default".to_owned()]).collect()
}

fn from_folder(folder: &Path, registry: &str, base: Endpoint) -> Result<Vec<Endpoint>, HostsError> {
    let file = folder.join("hosts.toml");
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let tls = certs::from_folder(folder)?;
            let configured = tls != TlsFiles::default();
            let http_fallback = base.http_fallback && !configured;
            return Ok(vec![Endpoint {
                tls,
                http_fallback,
                origin: configured.then(|| folder.into()),
                ..base
            }]);
        }
        Err(source) => return Err(HostsError::Read { path: file, source }),
    };
    let mut endpoints = parse(&text, &file, base)?;
    for endpoint in &mut endpoints {
        match endpoint.is_named(registry) {
            true => endpoint.mirror = false,
            false => endpoint.namespace = Some(registry.to_owned()),
        }
    }
    drop_repeated(&mut endpoints);
    Ok(endpoints)
}

/// Leaves out what would be asked a second time in the same way: often the mirror is what `server` says too.
fn drop_repeated(endpoints: &mut Vec<Endpoint>) {
    let mut kept: Vec<Endpoint> = Vec::with_capacity(endpoints.len());
    for mut endpoint in endpoints.drain(..) {
        let key = |e: &Endpoint| (e.url(), e.tls.clone(), e.headers.clone());
        let own = key(&endpoint);
        for asked in kept.iter().filter(|other| key(other) == own).map(|other| other.capabilities) {
            endpoint.capabilities.pull &= !asked.pull;
            endpoint.capabilities.resolve &= !asked.resolve;
            endpoint.capabilities.push &= !asked.push;
        }
        let Capabilities { pull, resolve, push } = endpoint.capabilities;
        if pull || resolve || push {
            kept.push(endpoint);
        }
    }
    *endpoints = kept;
}

/// `localhost`, 127/8 or ::1, with or without a port.
pub fn is_loopback(registry: &str) -> bool {
    if let Some(rest) = registry.strip_prefix('[') {
        let address = rest.split(']').next().unwrap_or_default();
        return address.parse::<std::net::Ipv6Addr>().is_ok_and(|address| address.is_loopback());
    }
    let host = registry.split(':').next().unwrap_or_default();
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}
