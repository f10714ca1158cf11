//! Who we are at a registry: Docker's `config.json` and podman's `auth.json`, with credential helpers.
//!
//! Files are read in this order, and the first that knows the registry decides: `$REGISTRY_AUTH_FILE`,
//! `$DOCKER_CONFIG/config.json` (else `~/.docker/config.json`), `$XDG_RUNTIME_DIR/containers/auth.json` (else
//! `/run/containers/UID/auth.json`), `~/.config/containers/auth.json`. Helpers are the only programs this crate
//! starts: they are external by Docker's contract.

mod config_file;
mod helper;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use config_file::ConfigFile;
use helper::Helpers;

use crate::reference::DEFAULT_REGISTRY;

/// What Docker files Docker Hub's credentials under.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";
/// A helper's user name for "the secret is an identity token".
const TOKEN_USER: &str = "<token>";

/// Proof of identity. `Debug` does not show the secret.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// User and password.
    Basic {
        /// User name.
        username: String,
        /// Password or access token.
        password: String,
    },
    /// An OAuth2 refresh token, to be exchanged for access tokens.
    Identity(String),
    /// A bearer token, to be sent as it is.
    Bearer(String),
}

impl Credential {
    /// What an `auth` field says: base64 of `user:password`.
    pub fn from_auth(auth: &str) -> Option<Self> {
        let decoded = String::from_utf8(STANDARD.decode(auth.trim()).ok()?).ok()?;
        let (username, password) = decoded.split_once(':')?;
        // Some tools pad it.
        let password = password.trim_matches('\0').to_owned();
        Some(Self::Basic { username: username.to_owned(), password })
    }
}

/// The registry that a server's address, as credentials are filed under, is about: `https://index.docker.io/v1/` is
/// `docker.io`.
pub fn registry_of(address: &str) -> &str {
    normal_key(address).split('/').next().unwrap_or_default()
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { username, .. } => write!(f, "Basic({username})"),
            Self::Identity(_) => f.write_str("Identity"),
            Self::Bearer(_) => f.write_str("Bearer"),
        }
    }
}

/// Why credentials cannot be read or written; never contains a secret.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// A file cannot be read or written.
    #[error("cannot {act} credentials file {}: {source}", path.display())]
    File {
        /// `read`, `write`, ...
        act: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file's content is not what Docker writes.
    #[error("cannot use credentials file {}: {fault}", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// Which field, and what is wrong with it.
        fault: String,
    },
    /// A helper failed.
    #[error("cannot {act} credentials with docker-credential-{name}: {cause}")]
    Helper {
        /// `get`, `store` or `erase`.
        act: &'static str,
        /// Its name in `credsStore` or `credHelpers`.
        name: String,
        /// What it said.
        cause: String,
    },
    /// There is nowhere to write to.
    #[error("cannot find a place for credentials: set HOME, DOCKER_CONFIG or REGISTRY_AUTH_FILE")]
    NoPlace,
}

/// The credential files of one user.
#[derive(Debug, Clone, Default)]
pub struct CredentialFiles {
    read: Vec<PathBuf>,
    write: Option<PathBuf>,
    helpers: Helpers,
}

impl CredentialFiles {
    /// The files that the environment names.
    pub fn from_env() -> Self {
        let uid = rustix::process::getuid().as_raw();
        Self::from_variables(
            |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from),
            uid,
        )
    }

    fn from_variables(variable: impl Fn(&str) -> Option<PathBuf>, uid: u32) -> Self {
        let home = variable("HOME");
        let named = variable("REGISTRY_AUTH_FILE");
        let docker = variable("DOCKER_CONFIG").or_else(|| home.as_ref().map(|home| home.join(".docker")));
        let docker = docker.map(|folder| folder.join("config.json"));
        let run = variable("XDG_RUNTIME_DIR").unwrap_or_else(|| format!("/run/containers/{uid}").into());
        let run = match run.starts_with("/run/containers") {
            true => run.join("auth.json"),
            false => run.join("containers/auth.json"),
        };
        let kept = home.map(|home| home.join(".config/containers/auth.json"));
        let write = named.clone().or_else(|| docker.clone());
        Self {
            read: named.into_iter().chain(docker).chain([run]).chain(kept).collect(),
            write,
            ..Self::default()
        }
    }

    /// One file for reading and writing.
    pub fn at(path: &Path) -> Self {
        Self { read: vec![path.to_owned()], write: Some(path.to_owned()), ..Self::default() }
    }

    /// Looks for helpers in these folders (as `PATH` has them) instead of the process's own `PATH`.
    pub fn with_helper_path(self, path: OsString) -> Self {
        Self { helpers: Helpers { path: Some(path) }, ..self }
    }

    /// What the files, or their helpers, know for a repository; an entry for a part of its path beats the registry's.
    pub fn find(&self, registry: &str, repository: &str) -> Result<Option<Credential>, CredentialError> {
        for path in &self.read {
            if let Some(file) = ConfigFile::read(path)?
                && let Some(credential) = file.find(&self.helpers, registry, repository)?
            {
                return Ok(Some(credential));
            }
        }
        Ok(None)
    }

    /// Keeps a credential for a registry: with the file's helper if it names one, else in the file (0600, replaced
    /// in one step). Returns where it went.
    pub fn store(&self, registry: &str, username: &str, password: &str) -> Result<String, CredentialError> {
        let path = self.write.as_deref().ok_or(CredentialError::NoPlace)?;
        let lock = config_file::lock(path)?;
        let mut file = ConfigFile::read(path)?.unwrap_or_else(|| ConfigFile::empty(path));
        let key = server_key(registry);
        if let Some(name) = file.helper(registry)? {
            self.helpers.store(&name, &key, username, password)?;
            return Ok(format!("docker-credential-{name}"));
        }
        file.set(&key, username, password)?;
        file.write()?;
        drop(lock);
        Ok(path.display().to_string())
    }

    /// Forgets a registry's credentials; false if there were none.
    pub fn erase(&self, registry: &str) -> Result<bool, CredentialError> {
        let path = self.write.as_deref().ok_or(CredentialError::NoPlace)?;
        if !path.exists() {
            return Ok(false);
        }
        let lock = config_file::lock(path)?;
        let Some(mut file) = ConfigFile::read(path)? else { return Ok(false) };
        let mut known = false;
        if let Some(name) = file.helper(registry)? {
            known = self.helpers.get(&name, &server_key(registry))?.is_some();
            self.helpers.erase(&name, &server_key(registry))?;
        }
        if file.remove(registry) {
            known = true;
            file.write()?;
        }
        drop(lock);
        Ok(known)
    }
}

/// The name a registry's credentials are filed under.
fn server_key(registry: &str) -> String {
    match registry {
        DEFAULT_REGISTRY => DOCKER_HUB_KEY.to_owned(),
        other => other.to_owned(),
    }
}

/// A key of `auths` without scheme; with one, without path too (`https://index.docker.io/v1/`).
fn normal_key(key: &str) -> &str {
    let bare = match key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")) {
        Some(rest) => rest.split('/').next().unwrap_or_default(),
        None => key.trim_end_matches('/'),
    };
    match bare {
        "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY,
        other => other,
    }
}
