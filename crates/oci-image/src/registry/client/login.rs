//! Login: whether credentials are good, before they are kept.

use ureq::http::{Method, StatusCode};

use super::auth::Scope;
use super::call::Call;
use super::repository::Repository;
use super::{Client, Error};
use crate::reference::{DEFAULT_REGISTRY, Reference};

/// What a registry thinks of our credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// It asked for them and accepts them.
    Accepted,
    /// It does not ask for any.
    NotNeeded,
}

/// The host of what people type for a registry: `https://index.docker.io/v1/` is `docker.io`.
fn registry_host(registry: &str) -> &str {
    let rest =
        registry.strip_prefix("https://").or_else(|| registry.strip_prefix("http://")).unwrap_or(registry);
    match rest.split('/').next().unwrap_or_default() {
        "" | "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY,
        host => host,
    }
}

impl Client {
    /// Asks the registry itself (not its mirrors) whether it accepts our credentials (end-1).
    ///
    /// `registry` is a host with an optional port, or `docker.io`.
    pub fn ping_auth(&self, registry: &str) -> Result<Login, Error> {
        let host = registry_host(registry);
        let fault = |fault: String| Error::Answer { url: host.to_owned(), fault };
        // The repository is of no matter here, but a reference checks the host.
        let reference =
            Reference::parse(&format!("{host}/login")).map_err(|error| fault(error.to_string()))?;
        if host != reference.registry() {
            let text = "no image is named after this host: it needs a dot, a port, or to be localhost";
            return Err(fault(text.to_owned()));
        }
        let repository = Repository::of(self, &reference)?;
        let target = repository.itself().ok_or_else(|| fault("no endpoint is configured".to_owned()))?;
        let act = format!("log in to {host}");
        let call = Call::new(self, Method::GET, "/", act);
        self.call(&target, &Scope::none(), &call, &[StatusCode::OK])?;
        let key = self.token_key(&target, &Scope::none());
        match self.authorization(&target, &key)? {
            Some(_) => Ok(Login::Accepted),
            None => Ok(Login::NotNeeded),
        }
    }

    /// Checks a user and password with the registry and keeps them; says where.
    pub fn login(&self, registry: &str, username: &str, password: &str) -> Result<(Login, String), Error> {
        use crate::registry::credentials::Credential;
        let credential = Credential::Basic { username: username.to_owned(), password: password.to_owned() };
        let login = self.with_credential(credential).ping_auth(registry)?;
        Ok((login, self.config().credentials.store(registry_host(registry), username, password)?))
    }

    /// Forgets what is kept for a registry; false if there was nothing.
    pub fn logout(&self, registry: &str) -> Result<bool, Error> {
        Ok(self.config().credentials.erase(registry_host(registry))?)
    }
}
