//! Routes to the pods of nodes, which each node keeps in its own kernel: here they are known by what nodes say of them.
//!
//! A node's condition `NetworkUnavailable` is written by the process that keeps its routes to all others. While that has said nothing yet,
//! or says that it fails, the node has none, and the controller of routes says so in its place: nothing is scheduled there.

use std::sync::Arc;
use std::time::Duration;

use cpi::contract::{Answer, Error, Node, Route, Routes};

use crate::Metal;

/// The condition, and what it says of a node that has its routes: as Kubernetes' controller of routes has it.
const UNAVAILABLE: &str = "NetworkUnavailable";
const MADE: (&str, &str) = ("False", "RouteCreated");
/// A node that has said nothing is asked about again after this long.
const PAUSE: Duration = Duration::from_secs(10);

/// Whether a node says that it has its routes.
fn has_routes(node: &Node) -> bool {
    let mut conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|one| {
        one.type_ == UNAVAILABLE && (one.status.as_str(), one.reason.as_deref()) == (MADE.0, Some(MADE.1))
    })
}

fn routes(node: &Arc<Node>) -> Vec<Route> {
    let ranges = node.spec.as_ref().and_then(|spec| spec.pod_cidrs.as_deref()).unwrap_or_default();
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let route = |range: &String| Route {
        name: format!("{name} {range}"),
        target_node: name.into(),
        destination_cidr: range.clone(),
        ..Route::default()
    };
    ranges.iter().filter(|_| has_routes(node)).map(route).collect()
}

impl Routes for Metal {
    fn list_routes<'a>(&'a self, _: &'a str) -> Answer<'a, Vec<Route>> {
        Box::pin(async move {
            let Some(shown) = self.balancers.shown() else {
                return Err(Error::Failed(
                    "cannot tell which nodes have routes: the provider is not shown nodes; run it within the controllers \
                     (--cloud-provider metal), not behind a socket"
                        .into(),
                ));
            };
            Ok(shown.nodes().iter().flat_map(routes).collect())
        })
    }

    fn create_route<'a>(&'a self, _: &'a str, _: &'a str, route: &'a Route) -> Answer<'a, ()> {
        Box::pin(async move {
            let node = &route.target_node;
            Err(Error::RetryAfter {
                message: format!(
                    "node {node} does not say that it has routes to the pods of other nodes; they are made there by `sextant \
                     services --announce FILE` or `sextant announce FILE`, with this provider's file"
                ),
                after: PAUSE,
            })
        })
    }

    /// Nothing: each node follows the others by itself, and what a node says goes with it.
    fn delete_route<'a>(&'a self, _: &'a str, _: &'a Route) -> Answer<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}

#[cfg(test)]
mod tests {
    use cpi::contract::{CloudProvider as _, Service, Services};
    use serde_json::{Value, json};

    use super::*;

    struct Cluster(Vec<Arc<Node>>);

    impl Services for Cluster {
        fn nodes(&self) -> Vec<Arc<Node>> {
            self.0.clone()
        }

        fn all(&self) -> Vec<Arc<Service>> {
            Vec::new()
        }
    }

    fn node(name: &str, conditions: Value) -> Arc<Node> {
        let node = json!({"metadata": {"name": name}, "status": {"conditions": conditions},
            "spec": {"podCIDRs": [format!("10.64.{}.0/24", name.len()), "fd64::/64"]}});
        Arc::new(serde_json::from_value(node).unwrap())
    }

    fn said(status: &str, reason: &str) -> Value {
        json!([{"type": "Ready", "status": "True"}, {"type": UNAVAILABLE, "status": status, "reason": reason}])
    }

    #[tokio::test]
    async fn nodes_have_routes_that_say_so() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("metal.yaml");
        let cluster = || {
            let nodes = [
                node("a", said("False", "RouteCreated")),
                node("bb", said("True", "NoRouteCreated")),
                node("ccc", said("False", "CalicoIsUp")),
                node("dddd", json!([])),
            ];
            Arc::new(Cluster(nodes.into()))
        };
        // Who does not ask for routes has none, and who is shown no nodes cannot tell.
        std::fs::write(&file, "{}").unwrap();
        let metal = Metal::open(Some(&file)).unwrap();
        metal.see_services(cluster());
        assert!(metal.routes().is_none());
        std::fs::write(&file, "nodeRoutes: true").unwrap();
        let metal = Metal::open(Some(&file)).unwrap();
        assert!(metal.routes().is_none() && metal.list_routes("c").await.is_err());
        metal.see_services(cluster());
        let routes = metal.routes().unwrap();
        let listed = routes.list_routes("c").await.unwrap();
        let listed: Vec<_> =
            listed.iter().map(|one| (one.target_node.as_str(), one.destination_cidr.as_str())).collect();
        assert_eq!(listed, [("a", "10.64.1.0/24"), ("a", "fd64::/64")]);
        let wanted = Route { target_node: "dddd".into(), ..Route::default() };
        let refused = routes.create_route("c", "uid", &wanted).await.unwrap_err();
        assert!(
            matches!(&refused, Error::RetryAfter { message, .. } if message.contains("node dddd")),
            "{refused}"
        );
        routes.delete_route("c", &wanted).await.unwrap();
    }
}
