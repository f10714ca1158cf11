//! Load balancers of services: network load balancers, with a target group for each port, a listener each, and rules for nodes.
//!
//! Everything is found by names that are made of the service's uid, and marked with the cluster's tag as it is made. So whoever comes
//! after a call that ended halfway finds all of it.

mod annotations;
mod listeners;
mod rules;
mod subnets;
mod targets;
mod wish;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::time::Duration;

use cpi::contract::{
    Answer, Error, LoadBalancerIngress, LoadBalancerStatus, LoadBalancers, Node, Service, load_balancer_name,
};

use self::wish::{Not, Wish};
use crate::api::{Failed, Form, Kind};
use crate::ec2::Subnet;
use crate::elb::{self, Balancer, TargetGroup};
use crate::instances::{id_of, provider_id};
use crate::provider::{Aws, CLUSTER};

/// What is being made, or is in use still, is looked at again after this.
const SOON: Duration = Duration::from_secs(5);
/// After a service has said that it was asked too often.
const LATER: Duration = Duration::from_secs(15);
/// A load balancer that was made is told of everywhere after this.
const SETTLED: Duration = Duration::from_secs(300);

/// What a failed call is for the controllers: what passes by itself is asked again soon.
fn failed(act: &str, failed: Failed) -> Error {
    let message = format!("cannot {act}: {failed}");
    match failed.kind {
        Kind::Throttled => Error::RetryAfter { message, after: LATER },
        // The last: a target group is the former load balancer's until that is gone.
        _ if failed.is(&["ResourceInUse", "DependencyViolation", "TargetGroupAssociationLimit"]) => {
            Error::RetryAfter { message, after: SOON }
        }
        _ => Error::Failed(message),
    }
}

/// Instances of nodes that have been told theirs.
fn ids(nodes: &[Node]) -> Vec<String> {
    let mut ids: Vec<String> =
        nodes.iter().filter_map(provider_id).filter_map(|text| id_of(text).ok().flatten()).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn wrong(service: &Service, not: Not) -> Error {
    match not {
        Not::Elsewhere => Error::ImplementedElsewhere,
        Not::Wrong(why) => {
            let of = |text: &Option<String>| text.clone().unwrap_or_default();
            let (namespace, name) = (of(&service.metadata.namespace), of(&service.metadata.name));
            let text = format!("cannot make a load balancer for service {namespace}/{name}: {why}");
            Error::Failed(text.chars().take(1024).collect())
        }
    }
}

fn status(balancer: &Balancer) -> LoadBalancerStatus {
    let ingress =
        LoadBalancerIngress { hostname: Some(balancer.dns.clone()), ..LoadBalancerIngress::default() };
    LoadBalancerStatus { ingress: Some(vec![ingress]) }
}

impl Aws {
    fn wish(&self, cluster: &str, service: &Service) -> Result<Wish, Error> {
        let shared = self.client.config().shared_probe.as_ref();
        let made = wish::wish(self.cluster(cluster), &self.mark(cluster), service, shared);
        made.map_err(|not| wrong(service, not))
    }

    /// The service's load balancer, if there is one, and it is the cluster's.
    async fn balancer(&self, cluster: &str, name: &str) -> Result<Option<Balancer>, Error> {
        let act = format!("find load balancer {name}");
        let Some(found) = elb::balancer(&self.client, name).await.map_err(|e| failed(&act, e))? else {
            return Ok(None);
        };
        self.must_be_ours(cluster, &found.arn, &act).await?;
        Ok(Some(found))
    }

    async fn must_be_ours(&self, cluster: &str, arn: &str, act: &str) -> Result<(), Error> {
        let tags = elb::tags_of(&self.client, &[arn.to_owned()]).await.map_err(|e| failed(act, e))?;
        let mark = self.mark(cluster);
        if tags.get(arn).is_some_and(|tags| tags.contains_key(&mark)) {
            return Ok(());
        }
        Err(Error::Failed(format!(
            "cannot {act}: {arn} has not tag {mark}, so it is not this cluster's; rename or remove it"
        )))
    }

    fn note_made(&self, name: &str, arn: &str) {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.retain(|(other, _, at)| other != name && at.elapsed() < SETTLED);
        made.push((name.into(), arn.into(), tokio::time::Instant::now()));
    }

    /// A load balancer that was made by this process a moment ago.
    fn just_made(&self, name: &str) -> Option<String> {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.iter()
            .find(|(other, _, at)| other == name && at.elapsed() < SETTLED)
            .map(|(_, arn, _)| arn.clone())
    }

    async fn ensure(
        &self,
        cluster: &str,
        service: &Service,
        nodes: &[Node],
    ) -> Result<LoadBalancerStatus, Error> {
        let wish = self.wish(cluster, service)?;
        let vpc = self.vpc_of(cluster, nodes).await?;
        let mut there = self.balancer(cluster, &wish.name).await?;
        if let Some(one) = &there
            && (one.scheme != wish.scheme || one.kind != "network")
        {
            return self.remake(one, &wish).await;
        }
        let act = format!("list target groups of load balancer {}", wish.name);
        let groups = elb::groups_of(&self.client, &wish.prefix).await.map_err(|e| failed(&act, e))?;
        if there.is_none() {
            there = self.not_told_of(cluster, &wish.name, &groups).await?;
        }
        let subnets = self.subnets(cluster, &vpc, &wish).await?;
        let mut led = Vec::new();
        for port in &wish.ports {
            led.push((port.clone(), self.group(&vpc, &wish, port, &groups).await?));
        }
        let balancer = match there.take() {
            Some(one) => one,
            None => self.make(cluster, &wish, &subnets.chosen).await?,
        };
        let zones = self.shape(&balancer, &wish, &subnets.chosen).await?;
        let mut marked = vec![balancer.arn.clone()];
        marked.extend(led.iter().map(|(_, group)| group.arn.clone()));
        self.tag(&marked, &wish).await?;
        let chosen = targets::led(&wish, nodes);
        let targets = targets::wanted(&wish, &chosen);
        for (port, group) in &led {
            self.lead(group, port.node_port, &targets).await?;
        }
        self.listen(&balancer, &wish, &led).await?;
        self.open(cluster, &vpc, &wish, &subnets.of(&zones), &chosen).await?;
        self.drop_groups(groups.iter().filter(|one| led.iter().all(|(_, kept)| kept.arn != one.arn))).await?;
        match balancer.state.as_str() {
            "provisioning" => Err(Error::RetryAfter {
                message: format!("load balancer {} is being provisioned", wish.name),
                after: SOON,
            }),
            "failed" => Err(Error::Failed(format!(
                "cannot make load balancer {}: it has failed: {}",
                wish.name, balancer.reason
            ))),
            _ => Ok(status(&balancer)),
        }
    }

    /// A load balancer that is not found by its name yet, but was just made, or is what leads to our target groups.
    async fn not_told_of(
        &self,
        cluster: &str,
        name: &str,
        groups: &[TargetGroup],
    ) -> Result<Option<Balancer>, Error> {
        let act = format!("find load balancer {name}");
        let led = groups.iter().flat_map(|group| group.balancers.iter().cloned());
        let arns: BTreeSet<String> = self.just_made(name).into_iter().chain(led).collect();
        for arn in &arns {
            let found = elb::balancer_of(&self.client, arn).await.map_err(|e| failed(&act, e))?;
            if let Some(found) = found.filter(|one| one.name == name) {
                self.must_be_ours(cluster, arn, &act).await?;
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The VPC of the nodes, or of the cluster.
    async fn vpc_of(&self, cluster: &str, nodes: &[Node]) -> Result<String, Error> {
        if self.known_vpc().is_none() {
            let found = self
                .seen
                .all(&self.client, &ids(nodes))
                .await
                .map_err(|e| failed("find the nodes' VPC", e))?;
            if let Some(one) = found.first() {
                self.note_vpc(&one.vpc);
            }
        }
        self.find_vpc(cluster).await
    }

    /// What cannot be changed is made anew, under the same name: it goes first.
    async fn remake(&self, one: &Balancer, wish: &Wish) -> Result<LoadBalancerStatus, Error> {
        let act = format!("take away load balancer {}, which is to be {}", wish.name, wish.scheme);
        self.delete_balancer(&one.arn).await.map_err(|e| failed(&act, e))?;
        let message = format!("load balancer {} is made anew, as it is to be {}", wish.name, wish.scheme);
        Err(Error::RetryAfter { message, after: SOON })
    }

    async fn make(&self, cluster: &str, wish: &Wish, subnets: &[Subnet]) -> Result<Balancer, Error> {
        let act = format!("make load balancer {}", wish.name);
        let mut form = Form::new()
            .with("Name", &wish.name)
            .with("Type", "network")
            .with("Scheme", wish.scheme)
            .with("IpAddressType", wish.addresses)
            .tags("Tags.member", &wish.tags)
            .once();
        if wish.allocations.is_empty() {
            form = form.list("Subnets.member", subnets.iter().map(|subnet| &subnet.id));
        } else if wish.allocations.len() == subnets.len() {
            for (at, (subnet, allocation)) in subnets.iter().zip(&wish.allocations).enumerate() {
                let prefix = format!("SubnetMappings.member.{}", at + 1);
                form = form
                    .with(format!("{prefix}.SubnetId"), &subnet.id)
                    .with(format!("{prefix}.AllocationId"), allocation);
            }
        } else {
            return Err(Error::Failed(format!(
                "cannot {act}: annotation service.beta.kubernetes.io/aws-load-balancer-eip-allocations names {}, but there are {} subnets",
                wish.allocations.len(),
                subnets.len()
            )));
        }
        match elb::call(&self.client, "CreateLoadBalancer", form, elb::balancers).await {
            Ok(found) => {
                let made = found.into_iter().next();
                let made =
                    made.ok_or_else(|| Error::Failed(format!("cannot {act}: the answer names none")))?;
                self.note_made(&wish.name, &made.arn);
                Ok(made)
            }
            // It is not told of everywhere yet, or was made and nobody heard of that.
            Err(e) if e.is(&["DuplicateLoadBalancerName"]) || e.kind == Kind::Lost => {
                match self.balancer(cluster, &wish.name).await? {
                    Some(one) => Ok(one),
                    None if e.kind == Kind::Lost => Err(failed(&act, e)),
                    None => Err(Error::RetryAfter {
                        message: format!("load balancer {} is there, but is not told of yet", wish.name),
                        after: SOON,
                    }),
                }
            }
            Err(e) => Err(failed(&act, e)),
        }
    }

    /// Has the load balancer itself be as it is wanted; its zones, each with its subnet, as they are then.
    async fn shape(
        &self,
        balancer: &Balancer,
        wish: &Wish,
        subnets: &[Subnet],
    ) -> Result<BTreeMap<String, String>, Error> {
        let act = format!("change load balancer {}", wish.name);
        let about = ("LoadBalancerArn", balancer.arn.as_str());
        if !balancer.addresses.is_empty() && balancer.addresses != wish.addresses {
            let form = Form::new().with(about.0, about.1).with("IpAddressType", wish.addresses);
            elb::act(&self.client, "SetIpAddressType", form).await.map_err(|e| failed(&act, e))?;
        }
        let calls = ("DescribeLoadBalancerAttributes", "ModifyLoadBalancerAttributes");
        self.attributes(about, calls, &wish.attributes).await.map_err(|e| failed(&act, e))?;
        // Of zones that it is in the subnet stays, unless somebody has named others.
        let mut zones = balancer.zones.clone();
        if zones.is_empty() || !wish.allocations.is_empty() {
            return Ok(zones);
        }
        let named = !wish.subnets.is_empty();
        if named {
            zones.clear();
        }
        for subnet in subnets {
            zones.entry(subnet.zone.clone()).or_insert_with(|| subnet.id.clone());
        }
        if zones != balancer.zones {
            let form = Form::new().with(about.0, about.1).list("Subnets.member", zones.values());
            elb::act(&self.client, "SetSubnets", form).await.map_err(|e| failed(&act, e))?;
        }
        Ok(zones)
    }

    /// Has all things of a service have its tags; others' tags stay.
    async fn tag(&self, arns: &[String], wish: &Wish) -> Result<(), Error> {
        let act = format!("tag load balancer {}", wish.name);
        let has = elb::tags_of(&self.client, arns).await.map_err(|e| failed(&act, e))?;
        for arn in arns {
            let none = BTreeMap::new();
            let has = has.get(arn).unwrap_or(&none);
            let missing: Vec<_> =
                wish.tags.iter().filter(|(key, value)| has.get(*key) != Some(*value)).collect();
            if !missing.is_empty() {
                let form = Form::new().list("ResourceArns.member", [arn]).tags("Tags.member", missing);
                elb::act(&self.client, "AddTags", form).await.map_err(|e| failed(&act, e))?;
            }
        }
        Ok(())
    }

    async fn delete_balancer(&self, arn: &str) -> Result<(), Failed> {
        match elb::act(&self.client, "DeleteLoadBalancer", Form::new().with("LoadBalancerArn", arn)).await {
            Err(e) if e.is(&["LoadBalancerNotFound"]) => Ok(()),
            done => done,
        }
    }

    async fn drop_groups(&self, groups: impl Iterator<Item = &TargetGroup>) -> Result<(), Error> {
        for group in groups {
            let form = Form::new().with("TargetGroupArn", &group.arn);
            match elb::act(&self.client, "DeleteTargetGroup", form).await {
                Err(e) if e.is(&["TargetGroupNotFound"]) => {}
                done => done.map_err(|e| failed(&format!("take away target group {}", group.name), e))?,
            }
        }
        Ok(())
    }

    async fn update(&self, cluster: &str, service: &Service, nodes: &[Node]) -> Result<(), Error> {
        let wish = self.wish(cluster, service)?;
        let act = format!("list target groups of load balancer {}", wish.name);
        let groups = elb::groups_of(&self.client, &wish.prefix).await.map_err(|e| failed(&act, e))?;
        let chosen = targets::led(&wish, nodes);
        let targets = targets::wanted(&wish, &chosen);
        for port in &wish.ports {
            let name = wish.group(port);
            let group = groups.iter().find(|one| one.name == name);
            let group = group
                .ok_or_else(|| Error::Failed(format!("cannot lead target group {name}: it is not there")))?;
            self.lead(group, port.node_port, &targets).await?;
        }
        if self.client.config().no_rules {
            return Ok(());
        }
        let vpc = self.vpc_of(cluster, nodes).await?;
        let subnets = self.subnets(cluster, &vpc, &wish).await?;
        let act = format!("find load balancer {}", wish.name);
        let there = elb::balancer(&self.client, &wish.name).await.map_err(|e| failed(&act, e))?;
        let zones = there.map(|one| one.zones).unwrap_or_default();
        self.open(cluster, &vpc, &wish, &subnets.of(&zones), &chosen).await
    }

    async fn delete(&self, cluster: &str, service: &Service) -> Result<(), Error> {
        let name = load_balancer_name(service);
        let act = format!("take away load balancer {name}");
        let mut found = self.balancer(cluster, &name).await?;
        let prefix = wish::prefix(self.cluster(cluster), service);
        let groups = elb::groups_of(&self.client, &prefix).await.map_err(|e| failed(&act, e))?;
        // One that was just made may not be told of by its name, but by what leads to it; somebody else's may lead to it, too.
        if found.is_none() {
            found = self.not_told_of(cluster, &name, &groups).await?;
        }
        let mut arns: Vec<String> = found.iter().map(|one| one.arn.clone()).collect();
        arns.extend(self.just_made(&name));
        arns.sort_unstable();
        arns.dedup();
        for arn in &arns {
            self.delete_balancer(arn).await.map_err(|e| failed(&act, e))?;
        }
        self.drop_groups(groups.iter()).await?;
        if !self.client.config().no_rules {
            let of = found.map(|one| one.vpc).or_else(|| groups.first().map(|one| one.vpc.clone()));
            let vpc = self.known_vpc().or(of).filter(|vpc| !vpc.is_empty());
            self.close(cluster, vpc.as_deref(), &name, &prefix).await?;
        }
        self.made.lock().unwrap_or_else(PoisonError::into_inner).retain(|(other, _, _)| *other != name);
        Ok(())
    }
}

/// What is wrong with a service.
pub(crate) fn fuzz(service: &Service) -> Option<String> {
    let read = wish::wish("c", &format!("{CLUSTER}c"), service, None);
    if let Ok(wish) = &read {
        assert!(wish.ports.iter().all(|port| wish.group(port).len() == 32 && port.port > 0));
    }
    read.err().map(|not| wrong(service, not).to_string())
}

impl LoadBalancers for Aws {
    fn get_load_balancer<'a>(
        &'a self,
        cluster: &'a str,
        service: &'a Service,
    ) -> Answer<'a, Option<LoadBalancerStatus>> {
        Box::pin(async move {
            let found = self.balancer(cluster, &load_balancer_name(service)).await?;
            Ok(found.as_ref().map(status))
        })
    }

    fn ensure_load_balancer<'a>(
        &'a self,
        cluster: &'a str,
        service: &'a Service,
        nodes: &'a [Node],
    ) -> Answer<'a, LoadBalancerStatus> {
        Box::pin(self.ensure(cluster, service, nodes))
    }

    fn update_load_balancer<'a>(
        &'a self,
        cluster: &'a str,
        service: &'a Service,
        nodes: &'a [Node],
    ) -> Answer<'a, ()> {
        Box::pin(self.update(cluster, service, nodes))
    }

    fn ensure_load_balancer_deleted<'a>(&'a self, cluster: &'a str, service: &'a Service) -> Answer<'a, ()> {
        Box::pin(self.delete(cluster, service))
    }
}
