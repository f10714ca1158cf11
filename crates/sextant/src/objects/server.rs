use std::net::ToSocketAddrs as _;
use std::path::Path;
use std::sync::Arc;

use kube::client::ConfigExt as _;
use kube::config::AuthInfo;
use kube::{Client, Config};
use streaming::client::Target;
use tokio::runtime::Runtime;

use super::call::{Call, Refused};
use super::named::checked;
use super::{JSON, Kinds};
use crate::cli::ServerArgs;
use crate::failure::{Context, Failure, Result};

/// How long one answer may take; API servers themselves end what is no watch after a minute.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// An API server, and the way to it.
pub(crate) struct Server {
    runtime: Runtime,
    client: Client,
    config: Config,
    /// That of objects whose namespace nobody names.
    pub(crate) namespace: String,
}

impl Server {
    /// The server that was named, or that of this instance. It is not asked anything yet.
    pub(crate) fn find(data_dir: &Path, args: &ServerArgs, namespace: Option<&str>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context(|| "start".into())?;
        let own = own_kubeconfig(data_dir);
        let found = runtime.block_on(client::kubeconfig::find(args.kubeconfig.as_deref(), &own));
        let config = found.map_err(Failure::new)?;
        if let Some(namespace) = namespace {
            checked(namespace)?;
        }
        let client = {
            // The client starts a task of its own.
            let _within = runtime.enter();
            Client::try_from(config.clone()).map_err(|error| Failure::new(client::causes(&error)))?
        };
        let namespace = namespace.unwrap_or(&config.default_namespace).to_owned();
        Ok(Self { runtime, client, config, namespace })
    }

    /// This instance's own server, whatever the environment names, if it has one.
    pub(crate) fn own(data_dir: &Path) -> Option<Self> {
        let kubeconfig = own_kubeconfig(data_dir);
        let args = ServerArgs { kubeconfig: Some(kubeconfig.clone()) };
        kubeconfig.exists().then(|| Self::find(data_dir, &args, None).ok()).flatten()
    }

    /// Waits for calls.
    pub(crate) fn wait<T>(&self, call: impl Future<Output = T>) -> T {
        self.runtime.block_on(call)
    }

    /// The answer to one call.
    pub(crate) fn ask(&self, call: Call<'_>) -> Result<serde_json::Value, Refused> {
        self.ask_with_code(call).map(|(_, answer)| answer)
    }

    /// The same, with its code: 201 is of what was not there before.
    pub(crate) fn ask_with_code(&self, call: Call<'_>) -> Result<(u16, serde_json::Value), Refused> {
        let late = || Refused::local(format!("the API server at {} does not answer", self.address()));
        self.wait(async { tokio::time::timeout(PATIENCE, call.ask(self)).await.map_err(|_| late())? })
    }

    /// What is at this path.
    pub(crate) fn get(&self, path: &str) -> Result<serde_json::Value, Refused> {
        self.ask(Call::get(path, JSON))
    }

    /// The same; nothing where there is none.
    pub(crate) fn find_at(&self, path: &str) -> Result<Option<serde_json::Value>, Refused> {
        match self.get(path) {
            Err(refused) if refused.code == 404 => Ok(None),
            other => other.map(Some),
        }
    }

    /// Which kinds it has.
    pub(crate) fn kinds(&self) -> Result<Kinds, Refused> {
        Kinds::ask(self)
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Where it is, for messages.
    pub(super) fn address(&self) -> String {
        self.config.cluster_url.to_string()
    }

    /// The way to streams at this path, which has a query.
    pub(crate) fn target(&self, path: &str) -> Result<Target> {
        let base = self.config.cluster_url.to_string();
        let url = format!("{}{path}", base.trim_end_matches('/'));
        let host = self.config.cluster_url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let is_tls = self.config.cluster_url.scheme_str() == Some("https");
        let port = self.config.cluster_url.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let mut addresses =
            (host.as_str(), port).to_socket_addrs().context(|| format!("find the address of {host}"))?;
        let address =
            addresses.next().ok_or_else(|| Failure::new(format!("cannot find the address of {host}")))?;
        let mut target = Target::at(&url, address)?;
        if is_tls {
            let config = self.config.rustls_client_config();
            target = target.with_tls(Arc::new(config.map_err(|error| Failure::new(client::causes(&error)))?));
        }
        if let Some(token) = token(&self.config.auth_info)? {
            let value = format!("Bearer {token}");
            let mut value: http::HeaderValue =
                value.parse().map_err(|_| Failure::new("cannot use the kubeconfig's token"))?;
            value.set_sensitive(true);
            target = target.with_header(http::header::AUTHORIZATION, value);
        }
        Ok(target)
    }
}

/// The token that shows who asks: the one that stands there itself, or else that of a file, which a pod has.
fn token(user: &AuthInfo) -> Result<Option<String>> {
    // It is shown to nobody but who writes a kubeconfig.
    let shown = serde_json::to_value(user).unwrap_or_default();
    if let Some(token) = shown.get("token").and_then(serde_json::Value::as_str) {
        return Ok(Some(token.to_owned()));
    }
    let Some(file) = &user.token_file else { return Ok(None) };
    let token = std::fs::read_to_string(file).context(|| format!("read the token in {file}"))?;
    Ok(Some(token.trim().to_owned()))
}

/// `sextant up` writes it there, `sextant api` alone within its own folder.
fn own_kubeconfig(data_dir: &Path) -> std::path::PathBuf {
    let of_up = data_dir.join("kubeconfig");
    if of_up.exists() { of_up } else { data_dir.join("api/kubeconfig") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_in_its_file_too() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "of the file\n").unwrap();
        let path = file.path().display().to_string();
        let of_file = AuthInfo { token_file: Some(path.clone()), ..AuthInfo::default() };
        assert_eq!(token(&of_file).unwrap().as_deref(), Some("of the file"));
        let both = AuthInfo { token: Some("its own".to_owned().into()), ..of_file.clone() };
        assert_eq!(token(&both).unwrap().as_deref(), Some("its own"));
        assert_eq!(token(&AuthInfo::default()).unwrap(), None);
        drop(file);
        assert!(token(&of_file).unwrap_err().to_string().contains(&path));
    }
}
