//! Servers for tests.

use std::sync::Arc;

use api::auth::Access;
use api::auth::audit::Audit;
use api::registry::{Registry, Settings};
use api::resource::Asker;
use api::serve::{Node, Server, Setup};
use api::store::{self, Store};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::Client;

/// A server without TLS, whose clients may do everything.
pub(crate) struct Rig {
    pub(crate) client: Client,
    pub(crate) server: Server,
    pub(crate) registry: Registry,
    _dir: TempDir,
}

impl Rig {
    pub(crate) async fn start() -> Rig {
        Rig::with(Access::trusting(admin()), None).await
    }

    /// With other rules, and with an audit log.
    pub(crate) async fn with(access: Access, audit: Option<Audit>) -> Rig {
        Rig::of(access, audit, None).await
    }

    /// With somebody who runs pods.
    pub(crate) async fn over(node: Arc<dyn Node>) -> Rig {
        Rig::of(Access::trusting(admin()), None, Some(node)).await
    }

    async fn of(access: Access, audit: Option<Audit>, node: Option<Arc<dyn Node>>) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), store::Options::default()).unwrap();
        let registry = Registry::new(store, api::kinds::builtin(), Vec::new(), Settings::default());
        let server = Server::start(Setup {
            registry: registry.clone(),
            access,
            authority: None,
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            listen_ahead: Vec::new(),
            node,
            audit,
        })
        .await
        .unwrap();
        let client = Client::plain(server.addresses()[0]);
        let rig = Rig { client, server, registry, _dir: dir };
        let made = rig.client.post("/api/v1/namespaces", &json!({"metadata": {"name": "default"}})).await;
        assert_eq!(made.status, 201, "{}", made.text());
        rig
    }
}

fn admin() -> Asker {
    Asker { user: "admin".to_owned(), groups: vec!["system:masters".to_owned()], ..Asker::default() }
}

pub(crate) const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

pub(crate) fn config_map(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"key": value}})
}
