//! Whether the services that serve groups can be asked, and what they serve.

use crate::aggregation::{Backend, Connector, Entry, Found, Place, Unavailable};
use crate::contract::Result;
use crate::registry::client::Client;
use crate::registry::{Registry, set_condition};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// How long a service may take to say what it serves.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a service says of itself: its resources, and where its OpenAPI v3 is.
type Said = (Vec<Value>, Option<String>);

/// Asks all of them at once; false where one cannot be asked.
pub(super) async fn ask_all(client: &Client) -> bool {
    let registry = client.registry();
    let mut asked = JoinSet::new();
    for entry in registry.aggregation().entries().iter() {
        if let Backend::Service(place) = &entry.backend {
            let (registry, entry, place) = (registry.clone(), Arc::clone(entry), place.clone());
            asked.spawn(async move {
                let said = ask(&registry, &entry, &place).await;
                (entry, said)
            });
        }
    }
    let mut good = true;
    while let Some(answered) = asked.join_next().await {
        let Ok((entry, said)) = answered else { continue };
        let condition = condition(&said);
        good &= said.is_ok();
        registry.aggregation().learn(&entry, said.ok());
        if let Err(status) = tell(client, &entry, condition).await
            && status.code != 404
        {
            eprintln!("sextant: cannot say whether {} is available: {status}", entry.name());
            good = false;
        }
    }
    good
}

async fn ask(registry: &Registry, entry: &Entry, place: &Place) -> std::result::Result<Said, Unavailable> {
    let found = place.find(registry)?;
    let path = format!("/apis/{}/{}", entry.group, entry.version);
    let url = format!("https://{}:{}{path}", found.host, found.port);
    let failed = |cause: String| Unavailable {
        status: "False",
        reason: "FailedDiscoveryCheck",
        message: format!("failing or missing response from {url}: {cause}"),
    };
    let connector = registry.aggregation().connector();
    let connector =
        connector.ok_or_else(|| failed("this server has no certificate of a front proxy".to_owned()))?;
    let asked = tokio::time::timeout(PATIENCE, connector.get(place, &found, &path)).await;
    let (status, body) = match asked {
        Err(_) => return Err(failed(format!("Get \"{url}\": context deadline exceeded"))),
        Ok(Err(cause)) => return Err(failed(format!("Get \"{url}\": {cause}"))),
        Ok(Ok(answer)) => answer,
    };
    if !status.is_success() {
        return Err(failed(format!("bad status from {url}: {}", status.as_u16())));
    }
    let mut list: Value = serde_json::from_slice(&body).unwrap_or_default();
    // What it answers need not be an object.
    let resources = match list.get_mut("resources").map(Value::take) {
        Some(Value::Array(resources)) => resources,
        _ => Vec::new(),
    };
    Ok((resources, openapi(connector, place, &found, entry).await))
}

/// Where its index says that the document of the group version is. Not every service has one.
async fn openapi(connector: &Connector, place: &Place, found: &Found, entry: &Entry) -> Option<String> {
    let asked = tokio::time::timeout(PATIENCE, connector.get(place, found, "/openapi/v3")).await;
    let (status, body) = asked.ok()?.ok()?;
    let index: Value = serde_json::from_slice(&body).ok().filter(|_| status.is_success())?;
    let at = format!("apis/{}/{}", entry.group, entry.version);
    let url = index["paths"][&at]["serverRelativeURL"].as_str()?;
    url.strip_prefix(&format!("/openapi/v3/{at}"))
        .filter(|rest| rest.is_empty() || rest.starts_with('?'))
        .map(|_| url.to_owned())
}

fn condition(said: &std::result::Result<Said, Unavailable>) -> Value {
    let (status, reason, message) = match said {
        Ok(_) => ("True", "Passed", "all checks passed"),
        Err(why) => (why.status, why.reason, why.message.as_str()),
    };
    json!({"type": "Available", "status": status, "reason": reason, "message": message})
}

async fn tell(client: &Client, entry: &Entry, condition: Value) -> Result<()> {
    let target = client.target("apiregistration.k8s.io/v1", "APIService", "", &entry.name())?;
    let make = |live: &crate::contract::Object| {
        let mut changed = live.clone();
        set_condition(&mut changed, condition.clone());
        Ok(changed)
    };
    client.change(&target, make).await.map(drop)
}
