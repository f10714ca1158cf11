//! How a program finds its API server.

use std::path::Path;

use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::causes;

/// The server that `said` names (a kubeconfig), or else KUBECONFIG, or the pod's service account, or `own`, the kubeconfig that `sextant
/// api` of the same instance writes.
///
/// # Errors
/// A text for people: none of these is there, or the first that is cannot be used.
pub async fn find(said: Option<&Path>, own: &Path) -> Result<Config, String> {
    if let Some(path) = said {
        return read(path).await;
    }
    let failed = |error: &dyn std::error::Error| format!("cannot use KUBECONFIG: {}", causes(error));
    if let Some(kubeconfig) = Kubeconfig::from_env().map_err(|e| failed(&e))? {
        let options = KubeConfigOptions::default();
        return Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|e| failed(&e));
    }
    if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        return Config::incluster()
            .map_err(|error| format!("cannot use the pod's service account: {}", causes(&error)));
    }
    if !own.exists() {
        return Err(format!(
            "cannot find an API server: this is no pod, and {} is not there; name a kubeconfig by --kubeconfig or KUBECONFIG, or \
             start `sextant api` with the same --data-dir first",
            own.display()
        ));
    }
    read(own).await
}

/// What this file says.
///
/// # Errors
/// A text for people: it cannot be read, or says nothing that can be used.
pub async fn read(path: &Path) -> Result<Config, String> {
    let failed = |error: &dyn std::error::Error| {
        format!("cannot use the kubeconfig {}: {}", path.display(), causes(error))
    };
    let kubeconfig = Kubeconfig::read_from(path).map_err(|e| failed(&e))?;
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(|e| failed(&e))
}
