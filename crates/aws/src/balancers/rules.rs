//! Rules of nodes' security groups, by which clients and health checks come in. Each is described by what it is for, and found by that.

use std::collections::{BTreeMap, BTreeSet};

use cpi::contract::{Error, Node};

use super::wish::{KUBELET, Wish};
use super::{SOON, failed, ids};
use crate::api::sign::hash;
use crate::api::{Failed, Form};
use crate::ec2::{self, Group, Instance, Rule, Subnet};
use crate::elb::{self, TargetGroup};
use crate::provider::Aws;

/// Descriptions are those of AWS' provider, so that either finds what the other has made.
const CLIENT: &str = "kubernetes.io/rule/nlb/client=";
const HEALTH: &str = "kubernetes.io/rule/nlb/health=";
/// Begins that of a port that several services of a cluster may ask for health: it is nobody's own, and goes with the last of them. No
/// load balancer is called so.
const SHARED: &str = "kubernetes.io/rule/nlb/health=shared:";
/// The longest description.
const LONGEST: usize = 255;
/// So many rules are made or taken back in a call.
const SOME: usize = 50;
/// There is such a rule, or none any more.
const DONE: &[&str] = &["InvalidPermission.Duplicate", "InvalidPermission.NotFound", "InvalidGroup.NotFound"];
/// There is no such rule.
const ABSENT: &[&str] = &["InvalidPermission.NotFound"];

/// What was listed, and is not there any more.
const GONE: &[&str] = &["TargetGroupNotFound"];
/// So often is listed what goes meanwhile.
const LISTS: u32 = 3;

/// Why groups are not as they are to be: where target groups come and go all the time, they are looked at again soon.
fn not_brought(act: &str, why: Failed) -> Error {
    if why.is(GONE) {
        Error::RetryAfter { message: format!("cannot {act}: {why}"), after: SOON }
    } else {
        failed(act, why)
    }
}

/// How rules are told apart that a load balancer has to do with.
struct Names<'a> {
    balancer: &'a str,
    /// What the names of its target groups begin with.
    prefix: &'a str,
    /// The description of the cluster's rules that are shared.
    shared: &'a str,
}

/// The description of a cluster's rules that are shared: with its name, or where that has what no description has, with a hash of it.
fn shared(cluster: &str) -> String {
    let may = |c: char| c.is_ascii_alphanumeric() || "._-:/()#,@[]+=&;{}!$*".contains(c);
    if cluster.chars().all(may) && SHARED.len() + cluster.len() <= LONGEST {
        format!("{SHARED}{cluster}")
    } else {
        format!("{SHARED}#{}", hash(cluster.as_bytes()))
    }
}

/// The rules of a load balancer, each with its description.
fn wanted(wish: &Wish, subnets: &[Subnet], shared: &str) -> BTreeMap<Rule, String> {
    let mut all = BTreeMap::new();
    let near = || subnets.iter().flat_map(|subnet| &subnet.ranges);
    for port in &wish.ports {
        let protocols: &[&str] = match port.inner {
            "UDP" => &["udp"],
            "TCP_UDP" => &["tcp", "udp"],
            _ => &["tcp"],
        };
        let ports = (port.node_port, port.node_port);
        for protocol in protocols {
            let rule = |from: String| Rule { protocol: (*protocol).into(), ports, from };
            for from in &wish.sources {
                all.insert(rule(from.to_string()), format!("{CLIENT}{}", wish.name));
            }
            let is_hidden = wish.group_attributes.get("preserve_client_ip.enabled");
            if wish.target == "ip"
                || wish.addresses == "dualstack"
                || is_hidden.is_some_and(|value| value == "false")
            {
                // Then it is the load balancer that nodes see.
                for from in near() {
                    all.entry(rule(from.clone())).or_insert_with(|| format!("{CLIENT}{}", wish.name));
                }
            }
        }
    }
    for port in &wish.ports {
        let asked = match port.check.port.as_str() {
            "traffic-port" => Some(port.node_port),
            other => other.parse().ok(),
        };
        // Nobody has asked for the kubelet's port to be opened.
        let Some(asked) = asked.filter(|asked| *asked != KUBELET) else { continue };
        for from in near() {
            let rule = Rule { protocol: "tcp".into(), ports: (asked, asked), from: from.clone() };
            let what = || if wish.owns(asked) { format!("{HEALTH}{}", wish.name) } else { shared.to_owned() };
            all.entry(rule).or_insert_with(what);
        }
    }
    all
}

/// Whether a rule is of this load balancer.
fn is_of(description: &str, balancer: &str) -> bool {
    [CLIENT, HEALTH].iter().any(|begin| description.strip_prefix(begin) == Some(balancer))
}

/// Rules that a group has, and that this load balancer does not want, or not any more: those of its own, and those that are shared.
fn unwanted<'g>(
    group: &'g Group,
    names: &Names<'_>,
    wanted: &BTreeMap<Rule, String>,
) -> impl Iterator<Item = &'g (Rule, String)> {
    let is = |(rule, what): &&(Rule, String)| {
        (is_of(what, names.balancer) || what == names.shared) && !wanted.contains_key(rule)
    };
    group.rules.iter().filter(is)
}

/// What is to be done with a group, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    missing: Vec<(Rule, String)>,
    /// Rules of its own by which health checks of others come in, too: they stay, and are described as those that are shared.
    /// Taken back and made again they would be lost where the second call is refused.
    handed: Vec<(Rule, String)>,
    left: Vec<Rule>,
}

/// How a group is brought to what is wanted; `asked` are the ports that others ask for health.
fn changes(
    group: &Group,
    names: &Names<'_>,
    wanted: &BTreeMap<Rule, String>,
    asked: &BTreeSet<u16>,
) -> Changes {
    let has: BTreeSet<&Rule> = group.rules.iter().map(|(rule, _)| rule).collect();
    let missing = wanted.iter().filter(|(rule, _)| !has.contains(rule));
    let missing = missing.map(|(rule, what)| (rule.clone(), what.clone())).collect();
    let (mut left, mut handed) = (Vec::new(), Vec::new());
    for (rule, what) in unwanted(group, names, wanted) {
        let is_asked = asked.contains(&rule.ports.0) && what.starts_with(HEALTH);
        match is_asked {
            false => left.push(rule.clone()),
            true if what == names.shared => {}
            true => handed.push((rule.clone(), names.shared.to_owned())),
        }
    }
    Changes { missing, handed, left }
}

/// The group of an instance that rules are made in: its only one, or the only one with the cluster's tag.
fn group_of(instance: &Instance, groups: &[Group], mark: &str) -> Result<Option<String>, String> {
    let [first, _, ..] = &instance.groups[..] else { return Ok(instance.groups.first().cloned()) };
    let is_tagged =
        |id: &&String| groups.iter().any(|group| group.id == **id && group.tags.contains_key(mark));
    let tagged: Vec<&String> = instance.groups.iter().filter(is_tagged).collect();
    match tagged[..] {
        [one] => Ok(Some(one.clone())),
        [] => Err(format!(
            "instance {} has several security groups ({first} and others), and none of them has tag {mark}; tag the one that rules \
             are to be made in, or set DisableSecurityGroupIngress in --cloud-config",
            instance.id
        )),
        _ => Err(format!(
            "instance {} has several security groups with tag {mark}; leave the tag on the one that rules are to be made in",
            instance.id
        )),
    }
}

fn form(group: &str, rules: &[(Rule, String)]) -> Form {
    let mut form = Form::new().with("GroupId", group);
    for (at, (rule, what)) in rules.iter().enumerate() {
        let prefix = format!("IpPermissions.{}", at + 1);
        let (list, name) =
            if rule.from.contains(':') { ("Ipv6Ranges", "CidrIpv6") } else { ("IpRanges", "CidrIp") };
        form = form
            .with(format!("{prefix}.IpProtocol"), &rule.protocol)
            .with(format!("{prefix}.FromPort"), rule.ports.0)
            .with(format!("{prefix}.ToPort"), rule.ports.1)
            .with(format!("{prefix}.{list}.1.{name}"), &rule.from);
        if !what.is_empty() {
            form = form.with(format!("{prefix}.{list}.1.Description"), what);
        }
    }
    form
}

impl Aws {
    /// Has the groups of the nodes that are led to let in whom the service wants, and no other group anybody for it.
    pub(super) async fn open(
        &self,
        cluster: &str,
        vpc: &str,
        wish: &Wish,
        subnets: &[Subnet],
        led: &[Node],
    ) -> Result<(), Error> {
        if self.client.config().no_rules {
            return Ok(());
        }
        let act = format!("let clients of load balancer {} in", wish.name);
        let instances = self.seen.all(&self.client, &ids(led)).await.map_err(|e| failed(&act, e))?;
        // One at a time: what one takes back as the last that asks for it, another may be about to find there.
        let _turn = self.rules.lock().await;
        let groups = self.all_groups(Some(vpc)).await.map_err(|e| failed(&act, e))?;
        let mark = self.mark(cluster);
        let mut open = BTreeSet::new();
        for instance in &instances {
            let group = group_of(instance, &groups, &mark);
            open.extend(group.map_err(|why| Error::Failed(format!("cannot {act}: {why}")))?);
        }
        let shared = shared(self.cluster(cluster));
        let names = Names { balancer: &wish.name, prefix: &wish.prefix, shared: &shared };
        let (rules, none) = (wanted(wish, subnets, &shared), BTreeMap::new());
        let wanted = |group: &Group| if open.contains(&group.id) { &rules } else { &none };
        self.bring_all(&groups, &names, wanted, (&mark, Some(vpc))).await.map_err(|e| not_brought(&act, e))
    }

    /// Has no group of the VPC, or of all where it is not known, let in anybody for this load balancer.
    /// `prefix` is what its target groups' names begin with.
    pub(super) async fn close(
        &self,
        cluster: &str,
        vpc: Option<&str>,
        balancer: &str,
        prefix: &str,
    ) -> Result<(), Error> {
        let act = format!("take back the rules of load balancer {balancer}");
        let _turn = self.rules.lock().await;
        let groups = self.all_groups(vpc).await.map_err(|e| failed(&act, e))?;
        let shared = shared(self.cluster(cluster));
        let names = Names { balancer, prefix, shared: &shared };
        let (mark, none) = (self.mark(cluster), BTreeMap::new());
        self.bring_all(&groups, &names, |_| &none, (&mark, vpc)).await.map_err(|e| not_brought(&act, e))
    }

    /// Brings each group to what is wanted of it.
    async fn bring_all<'w>(
        &self,
        groups: &[Group],
        names: &Names<'_>,
        wanted: impl Fn(&Group) -> &'w BTreeMap<Rule, String>,
        (mark, vpc): (&str, Option<&str>),
    ) -> Result<(), Failed> {
        let going = groups.iter().flat_map(|group| unwanted(group, names, wanted(group)));
        let ports =
            going.filter(|(_, what)| what.starts_with(HEALTH)).map(|(rule, _)| rule.ports.0).collect();
        let asked = self.asked_by_others(&ports, names.prefix, (mark, vpc)).await?;
        for group in groups {
            self.bring(group, changes(group, names, wanted(group), &asked)).await?;
        }
        Ok(())
    }

    /// Those of these ports that target groups of the cluster's other load balancers ask for health, in this VPC, or in all where it is
    /// not known.
    async fn asked_by_others(
        &self,
        ports: &BTreeSet<u16>,
        prefix: &str,
        (mark, vpc): (&str, Option<&str>),
    ) -> Result<BTreeSet<u16>, Failed> {
        if ports.is_empty() {
            return Ok(BTreeSet::new());
        }
        let is_of_other = |one: &TargetGroup| {
            !one.name.starts_with(prefix)
                && vpc.is_none_or(|vpc| one.vpc == vpc)
                && one.asked().is_some_and(|port| ports.contains(&port))
        };
        let mut left = LISTS;
        loop {
            let mut others = elb::groups_of(&self.client, "").await?;
            others.retain(is_of_other);
            let arns: Vec<String> = others.iter().map(|one| one.arn.clone()).collect();
            left -= 1;
            match elb::tags_of(&self.client, &arns).await {
                // One of them was deleted since, and nothing is told of any: others' services go as well.
                Err(e) if e.is(GONE) && left > 0 => {}
                tags => {
                    let tags = tags?;
                    others.retain(|one| tags.get(&one.arn).is_some_and(|tags| tags.contains_key(mark)));
                    return Ok(others.iter().filter_map(TargetGroup::asked).collect());
                }
            }
        }
    }

    async fn all_groups(&self, vpc: Option<&str>) -> Result<Vec<Group>, Failed> {
        let vpc: Vec<String> = vpc.map(str::to_owned).into_iter().collect();
        let filters: &[(&str, &[String])] = if vpc.is_empty() { &[] } else { &[("vpc-id", &vpc)] };
        ec2::groups_by(&self.client, filters).await
    }

    async fn bring(&self, group: &Group, changes: Changes) -> Result<(), Failed> {
        let Changes { missing, handed, left } = changes;
        let left = left.into_iter().map(|rule| (rule, String::new())).collect();
        let (make, take) = ("AuthorizeSecurityGroupIngress", "RevokeSecurityGroupIngress");
        let hand = "UpdateSecurityGroupRuleDescriptionsIngress";
        for (name, rules) in [(make, missing), (hand, handed), (take, left)] {
            for some in rules.chunks(SOME) {
                match ec2::act(&self.client, name, form(&group.id, some)).await {
                    // One of them is done, by a call whose answer was lost or by somebody else: the others are still to do.
                    Err(e) if e.is(DONE) => {
                        for one in some {
                            let alone = || form(&group.id, std::slice::from_ref(one));
                            let done = match ec2::act(&self.client, name, alone()).await {
                                // Somebody took it back since it was listed: who asks for it is let in all the same.
                                Err(e) if name == hand && e.is(ABSENT) => {
                                    ec2::act(&self.client, make, alone()).await
                                }
                                done => done,
                            };
                            ec2::unless(done, DONE)?;
                        }
                    }
                    done => done?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: Names<'_> =
        Names { balancer: "a", prefix: "ka-", shared: "kubernetes.io/rule/nlb/health=shared:c" };

    fn rule(port: u16, from: &str) -> Rule {
        Rule { protocol: "tcp".into(), ports: (port, port), from: from.into() }
    }

    #[test]
    fn only_rules_of_the_load_balancer_are_taken_back() {
        let what = |name: &str| format!("{CLIENT}{name}");
        let group = Group {
            id: "sg-1".into(),
            rules: vec![
                (rule(1, "0.0.0.0/0"), what("a")),
                (rule(2, "0.0.0.0/0"), what("a")),
                (rule(3, "0.0.0.0/0"), what("ab")),
                (rule(4, "0.0.0.0/0"), "ssh".into()),
                (rule(5, "10.0.0.0/8"), format!("{HEALTH}a")),
            ],
            ..Group::default()
        };
        let wanted = BTreeMap::from([
            (rule(2, "0.0.0.0/0"), what("a")),
            (rule(4, "0.0.0.0/0"), what("a")),
            (rule(6, "::/0"), what("a")),
        ]);
        let changes = changes(&group, &NAMES, &wanted, &BTreeSet::new());
        assert_eq!(changes.missing, [(rule(6, "::/0"), what("a"))]);
        assert_eq!(changes.left, [rule(1, "0.0.0.0/0"), rule(5, "10.0.0.0/8")]);
        assert_eq!(changes.handed, []);
    }

    #[test]
    fn a_port_that_others_ask_for_health_stays_open() {
        let theirs = shared("other");
        let rules = vec![
            (rule(8080, "10.0.1.0/24"), NAMES.shared.to_owned()),
            (rule(8081, "10.0.1.0/24"), theirs),
            (rule(8082, "0.0.0.0/0"), format!("{CLIENT}a")),
        ];
        let group = Group { rules, ..Group::default() };
        let left = |asked: &[u16], wanted: &BTreeMap<Rule, String>| {
            let changes = changes(&group, &NAMES, wanted, &asked.iter().copied().collect());
            assert_eq!(changes.handed, [], "clients' ports are open to nobody's health checks");
            changes.left.iter().map(|rule| rule.ports.0).collect::<Vec<_>>()
        };
        let own = BTreeMap::from([(rule(8080, "10.0.1.0/24"), NAMES.shared.to_owned())]);
        assert_eq!((left(&[], &own), left(&[8080, 8082, 9], &BTreeMap::new())), (vec![8082], vec![8082]));
        assert_eq!(left(&[9], &BTreeMap::new()), [8080, 8082], "another cluster's stays");
    }

    #[test]
    fn a_port_of_its_own_that_others_ask_for_health_is_handed_on() {
        let (own, near) = (format!("{HEALTH}a"), rule(32000, "10.0.1.0/24"));
        let group = Group { rules: vec![(near.clone(), own)], ..Group::default() };
        let changes = |asked: u16| changes(&group, &NAMES, &BTreeMap::new(), &BTreeSet::from([asked]));
        // It is never taken back in between.
        let handed = vec![(near.clone(), NAMES.shared.to_owned())];
        assert_eq!(changes(32000), Changes { handed, ..Changes::default() });
        assert_eq!(changes(32001), Changes { left: vec![near.clone()], ..Changes::default() });
    }

    #[test]
    fn rules_that_are_shared_bear_the_clusters_name() {
        assert_eq!(shared("shop"), format!("{SHARED}shop"));
        assert_ne!(shared("shop one"), shared("shop two"));
        for odd in ["shop one", "l\u{e4}den", &"s".repeat(LONGEST)] {
            let text = shared(odd);
            assert!(text.len() <= LONGEST && text.is_ascii() && !text.contains(' '), "{text}");
        }
    }

    #[test]
    fn each_port_that_is_asked_for_health_is_opened_but_the_kubelets() {
        let service = |annotations: serde_json::Value, protocol: &str| {
            let spec = serde_json::json!({"ports": [{"port": 80, "nodePort": 30080, "protocol": protocol}]});
            let whole = serde_json::json!({"metadata": {"name": "web", "uid": "u", "annotations": annotations}, "spec": spec});
            let service = serde_json::from_value(whole).unwrap();
            crate::balancers::wish::wish("c", "mark", &service, None).unwrap()
        };
        let near = [Subnet { ranges: vec!["10.0.1.0/24".into()], ..Subnet::default() }];
        let asked = |wish: &Wish| {
            let all =
                wanted(wish, &near, NAMES.shared).into_iter().filter(|(_, what)| what.starts_with(HEALTH));
            all.map(|(rule, what)| (rule.ports.0, what == NAMES.shared)).collect::<Vec<_>>()
        };
        let port = |port: &str| serde_json::json!({"service.beta.kubernetes.io/aws-load-balancer-healthcheck-port": port});
        assert_eq!(asked(&service(serde_json::json!({}), "TCP")), [(30080, false)]);
        assert_eq!(asked(&service(port("8080"), "TCP")), [(8080, true)]);
        assert_eq!(asked(&service(port("32000"), "TCP")), [(32000, true)], "it may be another's, too");
        assert_eq!(asked(&service(port("30080"), "TCP")), [(30080, false)]);
        let mut local = service(serde_json::json!({}), "TCP");
        local.ports[0].check.port = "32000".into();
        local.health_port = Some(32000);
        assert_eq!(asked(&local), [(32000, false)], "Kubernetes gave it out once");
        assert_eq!(asked(&service(serde_json::json!({}), "UDP")), [], "the kubelet is asked");
    }

    #[test]
    fn the_group_of_an_instance() {
        let mark = "kubernetes.io/cluster/c";
        let tagged = |id: &str| Group {
            id: id.into(),
            tags: BTreeMap::from([(mark.into(), "owned".into())]),
            ..Group::default()
        };
        let groups = [tagged("sg-1"), tagged("sg-2"), Group { id: "sg-3".into(), ..Group::default() }];
        let of = |ids: &[&str]| {
            let groups_of = ids.iter().map(|id| (*id).into()).collect();
            group_of(&Instance { groups: groups_of, ..Instance::default() }, &groups, mark)
        };
        assert_eq!(of(&["sg-3"]), Ok(Some("sg-3".into())));
        assert_eq!(of(&["sg-3", "sg-1"]), Ok(Some("sg-1".into())));
        assert_eq!(of(&[]), Ok(None));
        assert!(of(&["sg-1", "sg-2"]).unwrap_err().contains("several security groups with tag"));
        assert!(of(&["sg-3", "sg-4"]).unwrap_err().contains("none of them has tag"));
    }
}
