//! What a namespace holds of groups that services serve ([`crate::aggregation`]): these delete it, and say what is left.

use crate::aggregation::{Asked, Backend, Connector, Entry, Found, Place};
use crate::auth::MASTERS;
use crate::contract::Object;
use crate::registry::Registry;
use crate::resource::Asker;
use http::Method;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a service may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came of it.
#[derive(Default)]
pub(super) struct Others {
    /// By resource, as namespaces tell it: what stays for now.
    pub(super) left: BTreeMap<String, Vec<Object>>,
    /// What was refused, or not answered.
    pub(super) refused: BTreeSet<String>,
    /// Group versions that cannot be asked: nobody knows what they hold.
    pub(super) unknown: BTreeSet<String>,
}

/// A service that is asked.
struct Service<'a> {
    connector: &'a Connector,
    place: &'a Place,
    found: Found,
    asker: Asker,
}

/// Has every service delete what it keeps in a namespace.
pub(super) async fn empty(registry: &Registry, namespace: &str) -> Others {
    let mut others = Others::default();
    for entry in registry.aggregation().entries().iter() {
        let Backend::Service(place) = &entry.backend else { continue };
        let connector = registry.aggregation().connector().filter(|_| entry.available);
        let (Some(connector), Ok(found)) = (connector, place.find(registry)) else {
            others.unknown.insert(format!("{}/{}", entry.group, entry.version));
            continue;
        };
        let asker = Asker {
            user: "system:serviceaccount:kube-system:namespace-controller".to_owned(),
            groups: vec![MASTERS.to_owned()],
            ..Asker::default()
        };
        let service = Service { connector, place, found, asker };
        for resource in entry.resources.iter().filter(|resource| is_emptied(resource)) {
            let name = resource["name"].as_str().unwrap_or_default();
            match service.empty(entry, namespace, name, &verbs(resource)).await {
                Ok(left) if left.is_empty() => {}
                Ok(left) => drop(others.left.insert(format!("{name}.{}", entry.group), left)),
                Err(cause) => drop(others.refused.insert(cause)),
            }
        }
    }
    others
}

fn verbs(resource: &Value) -> Vec<&str> {
    resource["verbs"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Whether objects of a resource lie in namespaces, and can be listed and deleted.
fn is_emptied(resource: &Value) -> bool {
    let verbs = verbs(resource);
    resource["namespaced"] == true
        && resource["name"].as_str().is_some_and(|name| !name.contains('/'))
        && verbs.contains(&"list")
        && (verbs.contains(&"delete") || verbs.contains(&"deletecollection"))
}

impl Service<'_> {
    async fn empty(
        &self,
        entry: &Entry,
        namespace: &str,
        name: &str,
        verbs: &[&str],
    ) -> Result<Vec<Object>, String> {
        let path = format!("/apis/{}/{}/namespaces/{namespace}/{name}", entry.group, entry.version);
        if verbs.contains(&"deletecollection") {
            self.ask(Method::DELETE, &path).await?;
        } else {
            for object in self.list(&path).await?.iter().filter(|object| !object.is_terminating()) {
                self.ask(Method::DELETE, &format!("{path}/{}", object.name())).await?;
            }
        }
        self.list(&path).await
    }

    async fn list(&self, path: &str) -> Result<Vec<Object>, String> {
        let mut list = self.ask(Method::GET, path).await?;
        // What it answers need not be an object.
        match list.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => Ok(items.into_iter().filter_map(Object::from_value).collect()),
            _ => Ok(Vec::new()),
        }
    }

    /// The JSON of an answer; of what is gone already, nothing.
    async fn ask(&self, method: Method, path: &str) -> Result<Value, String> {
        let asker = Asked(&self.asker);
        let asked = self.connector.ask(self.place, &self.found, method, path, &asker);
        let (status, body) = tokio::time::timeout(PATIENCE, asked)
            .await
            .map_err(|_| format!("{path}: context deadline exceeded"))?
            .map_err(|cause| format!("{path}: {cause}"))?;
        let value: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status.is_success() || status == http::StatusCode::NOT_FOUND {
            return Ok(value);
        }
        let told = value["message"].as_str().unwrap_or(status.as_str());
        Err(format!("{path}: {told}"))
    }
}
