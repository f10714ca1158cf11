//! Routes to nodes' pods, in a table of the cluster's VPC.

use cpi::contract::{Answer, Error, Route, Routes};

use crate::api::Form;
use crate::ec2::{self, Table};
use crate::provider::Aws;

/// Which nodes there are is known this long after the beginning; until then an instance that is not known may be a node's under a name
/// of its own.
const SETTLED: std::time::Duration = std::time::Duration::from_secs(30);

fn failed(act: &str, why: impl std::fmt::Display) -> Error {
    Error::Failed(format!("cannot {act}: {why}"))
}

/// Where routes to `cidr` are named in calls.
fn destination(cidr: &str) -> &'static str {
    if cidr.contains(':') { "DestinationIpv6CidrBlock" } else { "DestinationCidrBlock" }
}

impl Aws {
    /// The table: the configuration's, or the only one with the cluster's tag.
    async fn table(&self, cluster: &str) -> Result<Table, Error> {
        let act = "find the cluster's route table";
        let mark = self.mark(cluster);
        let found = match &self.client.config().route_table {
            Some(id) => ec2::tables_by(&self.client, &[("route-table-id", std::slice::from_ref(id))]).await,
            None => {
                let key = [mark.clone()];
                let vpc: Vec<String> = self.known_vpc().into_iter().collect();
                let mut filters: Vec<(&str, &[String])> = vec![("tag-key", &key)];
                if !vpc.is_empty() {
                    filters.push(("vpc-id", &vpc));
                }
                ec2::tables_by(&self.client, &filters).await
            }
        };
        let mut found = found.map_err(|e| failed(act, e))?;
        if found.len() > 1 {
            let ids: Vec<&str> = found.iter().map(|one| one.id.as_str()).collect();
            let ids = ids.join(", ");
            return Err(failed(
                act,
                format!("{ids} all have tag {mark}; set RouteTableID in --cloud-config"),
            ));
        }
        found.pop().ok_or_else(|| {
            failed(act, format!("there is none; give one tag {mark}, or set RouteTableID in --cloud-config"))
        })
    }

    /// The name of the node that has an instance, as it was told, else the instance's private DNS name; and whether the instance is gone.
    async fn node_of(&self, instance: &str) -> Result<(String, bool), Error> {
        let found = self.seen.by_id(&self.client, instance).await.map_err(|e| failed("list routes", e))?;
        let told = self.seen.node_of(instance);
        let Some(found) = found.filter(|found| !found.is_gone()) else {
            return Ok((told.unwrap_or_default(), true));
        };
        match told {
            Some(node) => Ok((node, false)),
            // Nothing is wrong: an instance that is no node, as a NAT's, is never told of.
            None if self.seen.age() < SETTLED => Err(Error::RetryAfter {
                message: format!("cannot list routes: which node has instance {instance} is not known yet"),
                after: SETTLED.saturating_sub(self.seen.age()),
            }),
            None => Ok((found.private_dns.clone(), false)),
        }
    }
}

impl Routes for Aws {
    fn list_routes<'a>(&'a self, cluster: &'a str) -> Answer<'a, Vec<Route>> {
        Box::pin(async move {
            let table = self.table(cluster).await?;
            let mut routes = Vec::new();
            for entry in &table.routes {
                // Those to gateways and others' interfaces are no nodes'.
                if entry.instance.is_empty() && !(entry.is_blackhole && entry.gateway.is_empty()) {
                    continue;
                }
                // What leads to an instance that is gone leads nowhere, also where the table does not say so yet.
                let (target_node, is_gone) = match entry.instance.as_str() {
                    "" => (String::new(), true),
                    instance => self.node_of(instance).await?,
                };
                routes.push(Route {
                    name: format!("{}-{}", table.id, entry.to),
                    blackhole: entry.is_blackhole || is_gone,
                    target_node,
                    destination_cidr: entry.to.clone(),
                    ..Route::default()
                });
            }
            Ok(routes)
        })
    }

    fn create_route<'a>(&'a self, cluster: &'a str, _hint: &'a str, route: &'a Route) -> Answer<'a, ()> {
        Box::pin(async move {
            let to = &route.destination_cidr;
            let act = format!("make a route to {to} for node {}", route.target_node);
            let id = match self.seen.of_node(&route.target_node) {
                Some(id) => id,
                None => self.by_name(&route.target_node).await?,
            };
            let found = self.seen.by_id(&self.client, &id).await.map_err(|e| failed(&act, e))?;
            let instance = found.filter(|found| !found.is_gone()).ok_or(Error::InstanceNotFound)?;
            // Routes that lead to the instance are listed as the node's from now on, whatever its name is in EC2.
            self.seen.note(&route.target_node, &id);
            let table = self.table(cluster).await?;
            let first = instance.interfaces.first().map(|one| one.id.clone()).filter(|id| !id.is_empty());
            if instance.checks_addresses {
                // Else the instance's host drops packets to and from pods.
                let form = match &first {
                    Some(interface) if instance.interfaces.len() > 1 => {
                        Form::new().with("NetworkInterfaceId", interface).with("SourceDestCheck.Value", false)
                    }
                    _ => Form::new().with("InstanceId", &id).with("SourceDestCheck.Value", false),
                };
                let name = if instance.interfaces.len() > 1 {
                    "ModifyNetworkInterfaceAttribute"
                } else {
                    "ModifyInstanceAttribute"
                };
                ec2::act(&self.client, name, form).await.map_err(|e| failed(&act, e))?;
            }
            let form = Form::new().with("RouteTableId", &table.id).with(destination(to), to);
            let form = match first {
                // An instance with several is no target by itself.
                Some(interface) if instance.interfaces.len() > 1 => {
                    form.with("NetworkInterfaceId", interface)
                }
                _ => form.with("InstanceId", &id),
            };
            match ec2::act(&self.client, "CreateRoute", form).await {
                Ok(()) => Ok(()),
                Err(e) if e.is(&["RouteAlreadyExists"]) => {
                    // It may be this one, whose answer was lost.
                    let table = self.table(cluster).await?;
                    let is_it =
                        |entry: &&ec2::Entry| entry.to == *to && entry.instance == id && !entry.is_blackhole;
                    match table.routes.iter().find(is_it) {
                        Some(_) => Ok(()),
                        None => Err(Error::AlreadyExists(format!(
                            "cannot {act}: another route of {} leads to {to}",
                            table.id
                        ))),
                    }
                }
                Err(e) => Err(failed(&act, e)),
            }
        })
    }

    fn delete_route<'a>(&'a self, cluster: &'a str, route: &'a Route) -> Answer<'a, ()> {
        Box::pin(async move {
            let to = &route.destination_cidr;
            let table = self.table(cluster).await?;
            let form = Form::new().with("RouteTableId", &table.id).with(destination(to), to);
            let done = ec2::act(&self.client, "DeleteRoute", form).await;
            ec2::unless(done, &["InvalidRoute.NotFound"])
                .map_err(|e| failed(&format!("take away route {}", route.name), e))
        })
    }
}
