//! Login: whether credentials are good, before they are kept.

use ureq::http::{Method, StatusCode};

use super::auth::Scope;
use super::call::Call;
use super::repository::{Repository, Target};
use super::{Client, Error};
use crate::reference::Reference;
use crate::registry::hosts::Endpoint;

/// What a registry thinks of our credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// It asked for them and accepts them.
    Accepted,
    /// It does not ask for any.
    NotNeeded,
}

impl Client {
    /// Asks the registry itself (not its mirrors) whether it accepts our credentials (end-1).
    ///
    /// `registry` is a host with an optional port, or `docker.io`.
    pub fn ping_auth(&self, registry: &str) -> Result<Login, Error> {
        let act = format!("log in to {registry}");
        let fault = |error: String| Error::Answer { url: registry.to_owned(), fault: error };
        // The repository is of no matter here, but a reference checks the host.
        let reference =
            Reference::parse(&format!("{registry}/login")).map_err(|error| fault(error.to_string()))?;
        let repository = Repository::of(self, &reference)?;
        let own = |endpoint: &Endpoint| endpoint.namespace.is_none();
        let place =
            repository.places.iter().rev().find(|place| own(&place.endpoint)).or(repository.places.last());
        let place = place.ok_or_else(|| fault("no endpoint is configured".to_owned()))?;
        let target = Target {
            endpoint: &place.endpoint,
            registry: reference.registry(),
            repository: reference.repository(),
            plain: &place.plain,
        };
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
        Ok((login, self.config().credentials.store(registry, username, password)?))
    }

    /// Forgets what is kept for a registry; false if there was nothing.
    pub fn logout(&self, registry: &str) -> Result<bool, Error> {
        Ok(self.config().credentials.erase(registry)?)
    }
}
