//! What Elastic Load Balancing tells of load balancers, target groups, listeners and targets.

use std::collections::BTreeMap;

use crate::api::{Client, Element, Failed, Form};
use crate::config::Service;

/// Tags are told of so many at once.
const TAGGED: usize = 20;
/// Targets are told apart by the hundred in calls.
pub(crate) const TARGETS: usize = 100;

/// A load balancer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Balancer {
    pub(crate) arn: String,
    pub(crate) name: String,
    pub(crate) dns: String,
    /// `internet-facing` or `internal`.
    pub(crate) scheme: String,
    /// `network`, or another.
    pub(crate) kind: String,
    /// `provisioning`, `active`, `active_impaired` or `failed`.
    pub(crate) state: String,
    pub(crate) reason: String,
    pub(crate) vpc: String,
    /// `ipv4` or `dualstack`.
    pub(crate) addresses: String,
    /// Zones, each with its subnet.
    pub(crate) zones: BTreeMap<String, String>,
}

/// How targets are asked for their health.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Check {
    /// `TCP`, `HTTP` or `HTTPS`.
    pub(crate) protocol: String,
    /// A port, or `traffic-port`.
    pub(crate) port: String,
    /// Of HTTP alone.
    pub(crate) path: String,
    /// In seconds.
    pub(crate) interval: Option<u16>,
    /// In seconds.
    pub(crate) timeout: Option<u16>,
    pub(crate) healthy: Option<u16>,
    pub(crate) unhealthy: Option<u16>,
}

/// What a listener leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TargetGroup {
    pub(crate) arn: String,
    pub(crate) name: String,
    pub(crate) protocol: String,
    pub(crate) vpc: String,
    /// Of targets that name none.
    pub(crate) port: Option<u16>,
    pub(crate) check: Check,
    /// Load balancers that lead to it.
    pub(crate) balancers: Vec<String>,
}

impl TargetGroup {
    /// The port at which targets are asked for their health.
    pub(crate) fn asked(&self) -> Option<u16> {
        if self.check.port == "traffic-port" { self.port } else { self.check.port.parse().ok() }
    }
}

/// A port of a load balancer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listener {
    pub(crate) arn: String,
    pub(crate) port: u16,
    pub(crate) protocol: String,
    pub(crate) group: String,
    pub(crate) certificate: String,
    pub(crate) policy: String,
}

/// What a target group leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    /// An instance's id, or an address.
    pub(crate) id: String,
    pub(crate) port: u16,
    /// `draining` is one that was taken away.
    pub(crate) state: String,
}

/// Reads a list of load balancers: the answer's result.
pub(crate) fn balancers(result: Element<'_>) -> Vec<Balancer> {
    let read = |of: Element<'_>| Balancer {
        arn: of.text("LoadBalancerArn"),
        name: of.text("LoadBalancerName"),
        dns: of.text("DNSName"),
        scheme: of.text("Scheme"),
        kind: of.text("Type"),
        state: of.child("State").text("Code"),
        reason: of.child("State").text("Reason"),
        vpc: of.text("VpcId"),
        addresses: of.text("IpAddressType"),
        zones: of
            .list("AvailabilityZones")
            .map(|zone| (zone.text("ZoneName"), zone.text("SubnetId")))
            .collect(),
    };
    result.list("LoadBalancers").map(read).filter(|one| !one.arn.is_empty()).collect()
}

/// Reads a list of target groups.
pub(crate) fn groups(result: Element<'_>) -> Vec<TargetGroup> {
    let read = |of: Element<'_>| TargetGroup {
        arn: of.text("TargetGroupArn"),
        name: of.text("TargetGroupName"),
        protocol: of.text("Protocol"),
        vpc: of.text("VpcId"),
        port: of.number("Port"),
        check: Check {
            protocol: of.text("HealthCheckProtocol"),
            port: of.text("HealthCheckPort"),
            path: of.text("HealthCheckPath"),
            interval: of.number("HealthCheckIntervalSeconds"),
            timeout: of.number("HealthCheckTimeoutSeconds"),
            healthy: of.number("HealthyThresholdCount"),
            unhealthy: of.number("UnhealthyThresholdCount"),
        },
        balancers: of.list("LoadBalancerArns").map(|one| one.value().to_owned()).collect(),
    };
    result.list("TargetGroups").map(read).filter(|one| !one.arn.is_empty()).collect()
}

/// Reads a list of listeners.
pub(crate) fn listeners(result: Element<'_>) -> Vec<Listener> {
    let read = |of: Element<'_>| Listener {
        arn: of.text("ListenerArn"),
        port: of.number("Port").unwrap_or_default(),
        protocol: of.text("Protocol"),
        group: of
            .list("DefaultActions")
            .next()
            .map(|action| action.text("TargetGroupArn"))
            .unwrap_or_default(),
        certificate: of.list("Certificates").next().map(|one| one.text("CertificateArn")).unwrap_or_default(),
        policy: of.text("SslPolicy"),
    };
    result.list("Listeners").map(read).filter(|one| !one.arn.is_empty()).collect()
}

/// Reads the health of targets.
pub(crate) fn targets(result: Element<'_>) -> Vec<Target> {
    let read = |of: Element<'_>| Target {
        id: of.child("Target").text("Id"),
        port: of.child("Target").number("Port").unwrap_or_default(),
        state: of.child("TargetHealth").text("State"),
    };
    result.list("TargetHealthDescriptions").map(read).filter(|one| !one.id.is_empty()).collect()
}

/// Reads tags of several things, by what they are tags of.
pub(crate) fn tags(result: Element<'_>) -> Vec<(String, BTreeMap<String, String>)> {
    let read = |of: Element<'_>| {
        let tags = of.list("Tags").map(|tag| (tag.text("Key"), tag.text("Value"))).collect();
        (of.text("ResourceArn"), tags)
    };
    result.list("TagDescriptions").map(read).collect()
}

/// Reads attributes.
pub(crate) fn attributes(result: Element<'_>) -> BTreeMap<String, String> {
    result.list("Attributes").map(|one| (one.text("Key"), one.text("Value"))).collect()
}

/// A call, of whose result something is read.
pub(crate) async fn call<T>(
    client: &Client,
    action: &str,
    form: Form,
    read: impl FnOnce(Element<'_>) -> T,
) -> Result<T, Failed> {
    let result = format!("{action}Result");
    client.call(Service::Elb, action, form, |root| read(root.child(&result))).await
}

/// A call of whose answer nothing is needed.
pub(crate) async fn act(client: &Client, action: &str, form: Form) -> Result<(), Failed> {
    call(client, action, form, |_| ()).await
}

async fn pages<T>(
    client: &Client,
    action: &str,
    form: Form,
    read: fn(Element<'_>) -> Vec<T>,
) -> Result<Vec<T>, Failed> {
    let result = format!("{action}Result");
    let page = |root: Element<'_>| {
        let result = root.child(&result);
        (read(result), result.text("NextMarker"))
    };
    client.pages(Service::Elb, action, form, "Marker", page).await
}

/// The load balancer of this name.
pub(crate) async fn balancer(client: &Client, name: &str) -> Result<Option<Balancer>, Failed> {
    let form = Form::new().list("Names.member", [name]);
    match call(client, "DescribeLoadBalancers", form, balancers).await {
        Ok(found) => Ok(found.into_iter().find(|one| one.name == name)),
        Err(failed) if failed.is(&["LoadBalancerNotFound"]) => Ok(None),
        Err(failed) => Err(failed),
    }
}

/// The load balancer with this ARN.
pub(crate) async fn balancer_of(client: &Client, arn: &str) -> Result<Option<Balancer>, Failed> {
    let form = Form::new().list("LoadBalancerArns.member", [arn]);
    match call(client, "DescribeLoadBalancers", form, balancers).await {
        Ok(found) => Ok(found.into_iter().find(|one| one.arn == arn)),
        Err(failed) if failed.is(&["LoadBalancerNotFound"]) => Ok(None),
        Err(failed) => Err(failed),
    }
}

/// All target groups whose names begin so.
pub(crate) async fn groups_of(client: &Client, prefix: &str) -> Result<Vec<TargetGroup>, Failed> {
    let form = Form::new().with("PageSize", 400);
    let all = pages(client, "DescribeTargetGroups", form, groups).await?;
    Ok(all.into_iter().filter(|one| one.name.starts_with(prefix)).collect())
}

/// The listeners of a load balancer.
pub(crate) async fn listeners_of(client: &Client, balancer: &str) -> Result<Vec<Listener>, Failed> {
    pages(client, "DescribeListeners", Form::new().with("LoadBalancerArn", balancer), listeners).await
}

/// Tags of each of these.
pub(crate) async fn tags_of(
    client: &Client,
    arns: &[String],
) -> Result<BTreeMap<String, BTreeMap<String, String>>, Failed> {
    let mut all = BTreeMap::new();
    for some in arns.chunks(TAGGED) {
        let form = Form::new().list("ResourceArns.member", some);
        all.extend(call(client, "DescribeTags", form, tags).await?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::xml;

    #[test]
    fn answers_are_read() {
        let text = "<R><LoadBalancers><member><LoadBalancerArn>arn:1</LoadBalancerArn><State><Code>provisioning</Code></State>\
            <AvailabilityZones><member><SubnetId>subnet-1</SubnetId><ZoneName>eu-1a</ZoneName></member></AvailabilityZones>\
            </member><member/></LoadBalancers><TargetGroups><member><TargetGroupArn>arn:2</TargetGroupArn><Port>30080</Port><HealthCheckPort>30000</HealthCheckPort>\
            <HealthyThresholdCount>3</HealthyThresholdCount><LoadBalancerArns><member>arn:1</member></LoadBalancerArns></member></TargetGroups>\
            <Listeners><member><ListenerArn>arn:3</ListenerArn><Port>80</Port><DefaultActions><member><Type>forward</Type><TargetGroupArn>arn:2</TargetGroupArn></member>\
            </DefaultActions></member></Listeners><TargetHealthDescriptions><member><Target><Id>i-1</Id><Port>30080</Port></Target><TargetHealth>\
            <State>draining</State></TargetHealth></member></TargetHealthDescriptions><TagDescriptions><member><ResourceArn>arn:1</ResourceArn><Tags>\
            <member><Key>a</Key><Value>b</Value></member></Tags></member></TagDescriptions></R>";
        xml::read(text, |root| {
            let found = balancers(root);
            assert_eq!(
                (found.len(), found[0].state.as_str(), found[0].zones["eu-1a"].as_str()),
                (1, "provisioning", "subnet-1")
            );
            assert_eq!((groups(root)[0].check.healthy, groups(root)[0].balancers.len()), (Some(3), 1));
            let mut group = groups(root).remove(0);
            assert_eq!(group.asked(), Some(30000));
            group.check.port = "traffic-port".into();
            assert_eq!(group.asked(), Some(30080));
            assert_eq!((listeners(root)[0].port, listeners(root)[0].group.as_str()), (80, "arn:2"));
            assert_eq!((targets(root)[0].port, targets(root)[0].state.as_str()), (30080, "draining"));
            assert_eq!(tags(root)[0].1["a"], "b");
        })
        .unwrap();
    }
}
