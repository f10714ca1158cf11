//! What EC2 tells of instances, networks and security groups. What it leaves out is empty.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{Client, Element, Failed, Form};
use crate::config::Service;

/// How many values a filter may have.
pub(crate) const FILTERED: usize = 200;
/// How many entries a page is asked to have.
const PAGE: usize = 1000;

/// A machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Instance {
    pub(crate) id: String,
    /// `pending`, `running`, `stopping`, `stopped`, `shutting-down` or `terminated`.
    pub(crate) state: String,
    pub(crate) kind: String,
    pub(crate) zone: String,
    pub(crate) zone_id: String,
    pub(crate) private_dns: String,
    pub(crate) public_dns: String,
    pub(crate) private_ip: String,
    pub(crate) public_ip: String,
    pub(crate) vpc: String,
    pub(crate) subnet: String,
    /// Whether packets of others' addresses are dropped.
    pub(crate) checks_addresses: bool,
    pub(crate) groups: Vec<String>,
    /// Those in use, the first first.
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) tags: BTreeMap<String, String>,
}

impl Instance {
    /// Whether it is gone for good.
    pub(crate) fn is_gone(&self) -> bool {
        self.state == "terminated"
    }
}

/// One of its network interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) id: String,
    /// Its number on its card, and the card's.
    pub(crate) index: (u32, u32),
    pub(crate) private_ip: String,
    pub(crate) public_ips: Vec<String>,
    pub(crate) v6: Vec<String>,
}

/// A subnet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subnet {
    pub(crate) id: String,
    pub(crate) vpc: String,
    pub(crate) zone: String,
    /// Its addresses of IPv4, and of IPv6.
    pub(crate) ranges: Vec<String>,
    pub(crate) tags: BTreeMap<String, String>,
}

/// A rule by which packets come in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Rule {
    /// `tcp` or `udp`, or another.
    pub(crate) protocol: String,
    pub(crate) ports: (u16, u16),
    /// A range of addresses.
    pub(crate) from: String,
}

/// A security group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) id: String,
    /// Rules with ranges of addresses, and how each is described.
    pub(crate) rules: Vec<(Rule, String)>,
    pub(crate) tags: BTreeMap<String, String>,
}

/// Routes of subnets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) id: String,
    pub(crate) vpc: String,
    pub(crate) is_main: bool,
    /// Subnets that are tied to it.
    pub(crate) subnets: BTreeSet<String>,
    pub(crate) routes: Vec<Entry>,
    pub(crate) tags: BTreeMap<String, String>,
}

/// One of a table's routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) to: String,
    pub(crate) instance: String,
    pub(crate) interface: String,
    pub(crate) gateway: String,
    pub(crate) is_blackhole: bool,
}

fn tags(of: Element<'_>) -> BTreeMap<String, String> {
    of.list("tagSet").map(|tag| (tag.text("key"), tag.text("value"))).collect()
}

fn texts(of: Element<'_>, list: &str, name: &str) -> Vec<String> {
    of.list(list).map(|one| one.text(name)).filter(|text| !text.is_empty()).collect()
}

fn interface(of: Element<'_>) -> Interface {
    let attachment = of.child("attachment");
    let mut public_ips = texts_below(of, "privateIpAddressesSet", "association", "publicIp");
    let own = of.child("association").text("publicIp");
    if !own.is_empty() && !public_ips.contains(&own) {
        public_ips.insert(0, own);
    }
    Interface {
        id: of.text("networkInterfaceId"),
        index: (
            attachment.number("networkCardIndex").unwrap_or_default(),
            attachment.number("deviceIndex").unwrap_or_default(),
        ),
        private_ip: of.text("privateIpAddress"),
        public_ips,
        v6: texts(of, "ipv6AddressesSet", "ipv6Address"),
    }
}

fn texts_below(of: Element<'_>, list: &str, child: &str, name: &str) -> Vec<String> {
    of.list(list).map(|one| one.child(child).text(name)).filter(|text| !text.is_empty()).collect()
}

fn instance(of: Element<'_>) -> Instance {
    let in_use = |one: &Element<'_>| matches!(one.child("status").value(), "in-use" | "");
    let mut interfaces: Vec<Interface> =
        of.list("networkInterfaceSet").filter(in_use).map(interface).collect();
    interfaces.sort_by_key(|one| one.index);
    let placement = of.child("placement");
    Instance {
        id: of.text("instanceId"),
        state: of.child("instanceState").text("name"),
        kind: of.text("instanceType"),
        zone: placement.text("availabilityZone"),
        zone_id: placement.text("availabilityZoneId"),
        private_dns: of.text("privateDnsName"),
        public_dns: of.text("dnsName"),
        private_ip: of.text("privateIpAddress"),
        public_ip: of.text("ipAddress"),
        vpc: of.text("vpcId"),
        subnet: of.text("subnetId"),
        checks_addresses: of.child("sourceDestCheck").value() == "true",
        groups: texts(of, "groupSet", "groupId"),
        interfaces,
        tags: tags(of),
    }
}

/// Reads the answer to DescribeInstances.
pub(crate) fn instances(root: Element<'_>) -> Vec<Instance> {
    let all = root.list("reservationSet").flat_map(|reservation| reservation.list("instancesSet"));
    all.map(instance).filter(|one| !one.id.is_empty()).collect()
}

/// Reads the answer to DescribeSubnets.
pub(crate) fn subnets(root: Element<'_>) -> Vec<Subnet> {
    let read = |of: Element<'_>| {
        let v6 = of.list("ipv6CidrBlockAssociationSet");
        let v6 = v6.filter(|one| one.child("ipv6CidrBlockState").child("state").value() != "disassociated");
        let mut ranges = vec![of.text("cidrBlock")];
        ranges.extend(v6.map(|one| one.text("ipv6CidrBlock")));
        ranges.retain(|range| !range.is_empty());
        Subnet {
            id: of.text("subnetId"),
            vpc: of.text("vpcId"),
            zone: of.text("availabilityZone"),
            ranges,
            tags: tags(of),
        }
    };
    root.list("subnetSet").map(read).filter(|one| !one.id.is_empty()).collect()
}

/// Reads the answer to DescribeSecurityGroups.
pub(crate) fn groups(root: Element<'_>) -> Vec<Group> {
    let read = |of: Element<'_>| {
        let mut rules = Vec::new();
        for permission in of.list("ipPermissions") {
            let ports = (
                permission.number("fromPort").unwrap_or_default(),
                permission.number("toPort").unwrap_or_default(),
            );
            for (list, name) in [("ipRanges", "cidrIp"), ("ipv6Ranges", "cidrIpv6")] {
                for range in permission.list(list) {
                    let rule =
                        Rule { protocol: permission.text("ipProtocol"), ports, from: range.text(name) };
                    rules.push((rule, range.text("description")));
                }
            }
        }
        Group { id: of.text("groupId"), rules, tags: tags(of) }
    };
    root.list("securityGroupInfo").map(read).filter(|one| !one.id.is_empty()).collect()
}

/// Reads the answer to DescribeRouteTables.
pub(crate) fn tables(root: Element<'_>) -> Vec<Table> {
    let entry = |of: Element<'_>| {
        let v4 = of.text("destinationCidrBlock");
        Entry {
            to: if v4.is_empty() { of.text("destinationIpv6CidrBlock") } else { v4 },
            instance: of.text("instanceId"),
            interface: of.text("networkInterfaceId"),
            gateway: of.text("gatewayId"),
            is_blackhole: of.child("state").value() == "blackhole",
        }
    };
    let read = |of: Element<'_>| Table {
        id: of.text("routeTableId"),
        vpc: of.text("vpcId"),
        is_main: of.list("associationSet").any(|one| one.child("main").value() == "true"),
        subnets: texts(of, "associationSet", "subnetId").into_iter().collect(),
        routes: of.list("routeSet").map(entry).filter(|one| !one.to.is_empty()).collect(),
        tags: tags(of),
    };
    root.list("routeTableSet").map(read).filter(|one| !one.id.is_empty()).collect()
}

/// All pages of a list.
async fn pages<T>(
    client: &Client,
    action: &str,
    form: Form,
    read: fn(Element<'_>) -> Vec<T>,
) -> Result<Vec<T>, Failed> {
    let page = |root: Element<'_>| (read(root), root.text("nextToken"));
    client.pages(Service::Ec2, action, form, "NextToken", page).await
}

/// Instances that a filter lets through.
pub(crate) async fn instances_by(
    client: &Client,
    filters: &[(&str, &[String])],
) -> Result<Vec<Instance>, Failed> {
    pages(client, "DescribeInstances", filtered(filters).with("MaxResults", PAGE), instances).await
}

/// Instances of these ids, each of which EC2 must know.
pub(crate) async fn instances_of(client: &Client, ids: &[String]) -> Result<Vec<Instance>, Failed> {
    pages(client, "DescribeInstances", Form::new().list("InstanceId", ids), instances).await
}

/// Subnets that a filter lets through.
pub(crate) async fn subnets_by(
    client: &Client,
    filters: &[(&str, &[String])],
) -> Result<Vec<Subnet>, Failed> {
    pages(client, "DescribeSubnets", filtered(filters), subnets).await
}

/// Security groups that a filter lets through.
pub(crate) async fn groups_by(client: &Client, filters: &[(&str, &[String])]) -> Result<Vec<Group>, Failed> {
    pages(client, "DescribeSecurityGroups", filtered(filters), groups).await
}

/// Tables of routes that a filter lets through.
pub(crate) async fn tables_by(client: &Client, filters: &[(&str, &[String])]) -> Result<Vec<Table>, Failed> {
    pages(client, "DescribeRouteTables", filtered(filters), tables).await
}

fn filtered(filters: &[(&str, &[String])]) -> Form {
    filters
        .iter()
        .enumerate()
        .fold(Form::new(), |form, (at, (name, values))| form.filter(at + 1, name, *values))
}

/// A call whose answer says nothing.
pub(crate) async fn act(client: &Client, action: &str, form: Form) -> Result<(), Failed> {
    client.call(Service::Ec2, action, form, |_| ()).await
}

/// Does not count a failure of one of these codes: what was to be done is done.
pub(crate) fn unless(done: Result<(), Failed>, codes: &[&str]) -> Result<(), Failed> {
    match done {
        Err(failed) if failed.is(codes) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::xml;

    #[test]
    fn an_instance_with_two_interfaces() {
        let text = "<DescribeInstancesResponse><reservationSet><item><instancesSet><item><instanceId>i-1</instanceId>\
            <instanceState><code>16</code><name>running</name></instanceState><instanceType>m5.large</instanceType>\
            <placement><availabilityZone>eu-1a</availabilityZone></placement><sourceDestCheck>true</sourceDestCheck>\
            <groupSet><item><groupId>sg-1</groupId></item></groupSet><networkInterfaceSet>\
            <item><networkInterfaceId>eni-2</networkInterfaceId><status>in-use</status><attachment><deviceIndex>1</deviceIndex></attachment>\
            <privateIpAddress>10.0.0.2</privateIpAddress></item>\
            <item><networkInterfaceId>eni-1</networkInterfaceId><attachment><deviceIndex>0</deviceIndex></attachment>\
            <privateIpAddress>10.0.0.1</privateIpAddress><privateIpAddressesSet><item><privateIpAddress>10.0.0.1</privateIpAddress>\
            <association><publicIp>198.51.100.1</publicIp></association></item></privateIpAddressesSet>\
            <ipv6AddressesSet><item><ipv6Address>2001:db8::1</ipv6Address></item></ipv6AddressesSet></item>\
            <item><networkInterfaceId>eni-3</networkInterfaceId><status>detaching</status></item></networkInterfaceSet>\
            <tagSet><item><key>Name</key><value>a</value></item></tagSet></item></instancesSet></item></reservationSet>\
            </DescribeInstancesResponse>";
        let found = xml::read(text, instances).unwrap();
        let [one] = &found[..] else { panic!("{found:?}") };
        assert_eq!((one.state.as_str(), one.zone.as_str(), one.checks_addresses), ("running", "eu-1a", true));
        let ids: Vec<&str> = one.interfaces.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(ids, ["eni-1", "eni-2"]);
        assert_eq!(one.interfaces[0].public_ips, ["198.51.100.1"]);
        assert_eq!(one.interfaces[0].v6, ["2001:db8::1"]);
        assert_eq!(one.tags["Name"], "a");
    }

    #[test]
    fn groups_and_tables() {
        let text = "<R><securityGroupInfo><item><groupId>sg-1</groupId><ipPermissions><item><ipProtocol>tcp</ipProtocol>\
            <fromPort>30080</fromPort><toPort>30080</toPort><ipRanges><item><cidrIp>0.0.0.0/0</cidrIp><description>d</description></item>\
            </ipRanges><ipv6Ranges><item><cidrIpv6>::/0</cidrIpv6></item></ipv6Ranges></item></ipPermissions></item></securityGroupInfo></R>";
        let found = xml::read(text, groups).unwrap();
        let rule = |from: &str| Rule { protocol: "tcp".into(), ports: (30080, 30080), from: from.into() };
        assert_eq!(found[0].rules, [(rule("0.0.0.0/0"), "d".into()), (rule("::/0"), String::new())]);
        let text = "<R><routeTableSet><item><routeTableId>rtb-1</routeTableId><routeSet><item><destinationCidrBlock>10.1.0.0/24</destinationCidrBlock>\
            <instanceId>i-1</instanceId><state>blackhole</state></item><item><destinationPrefixListId>pl-1</destinationPrefixListId></item></routeSet>\
            <associationSet><item><main>true</main></item><item><subnetId>subnet-1</subnetId><main>false</main></item></associationSet></item></routeTableSet></R>";
        let found = xml::read(text, tables).unwrap();
        assert!(found[0].is_main && found[0].subnets.contains("subnet-1"));
        let [entry] = &found[0].routes[..] else { panic!("{found:?}") };
        assert!(entry.is_blackhole && entry.instance == "i-1" && entry.to == "10.1.0.0/24");
    }
}
