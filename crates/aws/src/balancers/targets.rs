//! Target groups: what listeners lead to, and where those lead.

use std::collections::{BTreeMap, BTreeSet};

use cpi::contract::{Error, Node};

use super::wish::{Port, Wish};
use super::{failed, ids};
use crate::api::{Failed, Form};
use crate::elb::{self, Check, TARGETS, TargetGroup};
use crate::provider::Aws;

fn check(form: Form, check: &Check) -> Form {
    let mut form = form
        .with("HealthCheckProtocol", &check.protocol)
        .with("HealthCheckPort", &check.port)
        .with("HealthCheckEnabled", true);
    if !check.path.is_empty() {
        form = form.with("HealthCheckPath", &check.path);
    }
    for (name, value) in [
        ("HealthCheckIntervalSeconds", check.interval),
        ("HealthCheckTimeoutSeconds", check.timeout),
        ("HealthyThresholdCount", check.healthy),
        ("UnhealthyThresholdCount", check.unhealthy),
    ] {
        if let Some(value) = value {
            form = form.with(name, value);
        }
    }
    form
}

/// Whether a target group asks as it is wanted; what is not wanted is as it is.
fn is_right(has: &Check, wanted: &Check) -> bool {
    let same = |has: Option<u16>, wanted: Option<u16>| wanted.is_none() || has == wanted;
    has.protocol == wanted.protocol
        && has.port == wanted.port
        && (wanted.path.is_empty() || has.path == wanted.path)
        && same(has.interval, wanted.interval)
        && same(has.timeout, wanted.timeout)
        && same(has.healthy, wanted.healthy)
        && same(has.unhealthy, wanted.unhealthy)
}

/// The nodes that a load balancer leads to: those with the labels that it asks for. Only these are opened for it.
pub(super) fn led(wish: &Wish, nodes: &[Node]) -> Vec<Node> {
    let has_labels = |node: &&Node| {
        wish.node_labels.iter().all(|(key, value)| {
            node.metadata.labels.as_ref().and_then(|labels| labels.get(key)) == Some(value)
        })
    };
    nodes.iter().filter(has_labels).cloned().collect()
}

/// Where a target group leads: instances of these nodes, or their addresses.
pub(super) fn wanted(wish: &Wish, led: &[Node]) -> BTreeSet<String> {
    if wish.target == "instance" {
        return ids(led).into_iter().collect();
    }
    let first = |node: &Node| {
        let all = node.status.as_ref()?.addresses.as_ref()?;
        let is_v4 = |text: &str| text.parse::<std::net::Ipv4Addr>().is_ok();
        all.iter().find(|one| one.type_ == "InternalIP" && is_v4(&one.address)).map(|one| one.address.clone())
    };
    led.iter().filter_map(first).collect()
}

impl Aws {
    /// The target group of a port, as it is wanted; it is made where there is none.
    pub(super) async fn group(
        &self,
        vpc: &str,
        wish: &Wish,
        port: &Port,
        there: &[TargetGroup],
    ) -> Result<TargetGroup, Error> {
        let name = wish.group(port);
        let act = format!("make target group {name}");
        let found = match there.iter().find(|one| one.name == name) {
            Some(one) => one.clone(),
            None => self.make_group(vpc, wish, port, &name).await.map_err(|e| failed(&act, e))?,
        };
        let act = format!("change target group {name}");
        if !is_right(&found.check, &port.check) {
            let form = check(Form::new().with("TargetGroupArn", &found.arn), &port.check);
            elb::act(&self.client, "ModifyTargetGroup", form).await.map_err(|e| failed(&act, e))?;
        }
        let about = ("TargetGroupArn", found.arn.as_str());
        let calls = ("DescribeTargetGroupAttributes", "ModifyTargetGroupAttributes");
        self.attributes(about, calls, &wish.group_attributes).await.map_err(|e| failed(&act, e))?;
        Ok(found)
    }

    async fn make_group(
        &self,
        vpc: &str,
        wish: &Wish,
        port: &Port,
        name: &str,
    ) -> Result<TargetGroup, Failed> {
        let form = Form::new()
            .with("Name", name)
            .with("Protocol", port.inner)
            .with("Port", port.node_port)
            .with("VpcId", vpc)
            .with("TargetType", wish.target);
        let form = check(form, &port.check).tags("Tags.member", &wish.tags);
        let found = match elb::call(&self.client, "CreateTargetGroup", form, elb::groups).await {
            Ok(found) => found,
            // An answer was lost, or it is not told of everywhere yet.
            Err(e) if e.is(&["DuplicateTargetGroupName"]) => {
                let form = Form::new().list("Names.member", [name]);
                elb::call(&self.client, "DescribeTargetGroups", form, elb::groups).await?
            }
            Err(e) => return Err(e),
        };
        let nothing =
            || Failed::not_understood("elasticloadbalancing:CreateTargetGroup", "it names no target group");
        found.into_iter().next().ok_or_else(nothing)
    }

    /// Has attributes be as they are wanted; others are left as they are.
    pub(super) async fn attributes(
        &self,
        about: (&str, &str),
        (describe, modify): (&str, &str),
        wanted: &BTreeMap<String, String>,
    ) -> Result<(), Failed> {
        let form = Form::new().with(about.0, about.1);
        let has = elb::call(&self.client, describe, form.clone(), elb::attributes).await?;
        // What is not told is off, or empty.
        let is_wrong = |(key, value): &(&String, &String)| match has.get(*key) {
            Some(has) => has != *value,
            None => !matches!(value.as_str(), "" | "false"),
        };
        let wrong: Vec<(&String, &String)> = wanted.iter().filter(is_wrong).collect();
        if wrong.is_empty() {
            return Ok(());
        }
        elb::act(&self.client, modify, form.tags("Attributes.member", wrong)).await
    }

    /// Has a target group lead to these targets and no others.
    pub(super) async fn lead(
        &self,
        group: &TargetGroup,
        port: u16,
        wanted: &BTreeSet<String>,
    ) -> Result<(), Error> {
        let act = format!("lead target group {} to its nodes", group.name);
        let form = Form::new().with("TargetGroupArn", &group.arn);
        let has = elb::call(&self.client, "DescribeTargetHealth", form.clone(), elb::targets).await;
        let has = has.map_err(|e| failed(&act, e))?;
        let is_there =
            |id: &str| has.iter().any(|one| one.id == id && one.port == port && one.state != "draining");
        let missing: Vec<(String, u16)> =
            wanted.iter().filter(|id| !is_there(id)).map(|id| (id.clone(), port)).collect();
        let is_left =
            |one: &&elb::Target| one.state != "draining" && !(wanted.contains(&one.id) && one.port == port);
        let left: Vec<(String, u16)> =
            has.iter().filter(is_left).map(|one| (one.id.clone(), one.port)).collect();
        for (name, all) in [("RegisterTargets", &missing), ("DeregisterTargets", &left)] {
            for some in all.chunks(TARGETS) {
                let mut form = form.clone();
                for (at, (id, port)) in some.iter().enumerate() {
                    let prefix = format!("Targets.member.{}", at + 1);
                    form = form.with(format!("{prefix}.Id"), id).with(format!("{prefix}.Port"), port);
                }
                let done = elb::act(&self.client, name, form).await;
                match done {
                    // An instance that is gone, or not running, is no target: the health of the others does not wait for it.
                    Err(e) if e.is(&["InvalidTarget"]) && some.len() > 1 => {
                        self.one_by_one(group, name, some).await.map_err(|e| failed(&act, e))?;
                    }
                    Err(e) if e.is(&["InvalidTarget"]) => {}
                    done => done.map_err(|e| failed(&act, e))?,
                }
            }
        }
        Ok(())
    }

    async fn one_by_one(&self, group: &TargetGroup, name: &str, all: &[(String, u16)]) -> Result<(), Failed> {
        for (id, port) in all {
            let form = Form::new()
                .with("TargetGroupArn", &group.arn)
                .with("Targets.member.1.Id", id)
                .with("Targets.member.1.Port", port);
            match elb::act(&self.client, name, form).await {
                Err(e) if e.is(&["InvalidTarget"]) => {}
                done => done?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Who is not led to is not opened either: both are told by the same list.
    #[test]
    fn only_nodes_with_the_labels_are_led_to() {
        let node = |number: u8, role: &str| -> Node {
            serde_json::from_value(
                json!({"metadata": {"name": format!("n{number}"), "labels": {"role": role}},
                "spec": {"providerID": format!("aws:///a/i-0000000{number}")},
                "status": {"addresses": [{"type": "InternalIP", "address": format!("10.0.0.{number}")}]}}),
            )
            .unwrap()
        };
        let nodes = [node(1, "edge"), node(2, "inner"), node(3, "edge")];
        let wish = |target: &str, labels: &str| {
            let key = |name: &str| format!("service.beta.kubernetes.io/aws-load-balancer-{name}");
            let service = json!({"metadata": {"name": "web", "uid": "u", "annotations": {
                key("nlb-target-type"): target, key("target-node-labels"): labels}},
                "spec": {"ports": [{"port": 80, "nodePort": 30080}]}});
            let service = serde_json::from_value(service).unwrap();
            crate::balancers::wish::wish("c", "mark", &service, None).unwrap()
        };
        for (target, labels, targets) in [
            ("instance", "role=edge", vec!["i-00000001", "i-00000003"]),
            ("ip", "role=edge", vec!["10.0.0.1", "10.0.0.3"]),
            ("instance", "role=none", vec![]),
        ] {
            let wish = wish(target, labels);
            let chosen = led(&wish, &nodes);
            let names: Vec<&str> = chosen.iter().filter_map(|one| one.metadata.name.as_deref()).collect();
            assert_eq!(names.len(), targets.len(), "{labels}");
            assert!(!names.contains(&"n2"), "{labels}: {names:?}");
            assert!(wanted(&wish, &chosen).iter().eq(&targets), "{target} {labels}");
        }
        assert_eq!(led(&wish("instance", ""), &nodes).len(), 3);
    }

    #[test]
    fn what_is_not_wanted_of_a_check_is_as_it_is() {
        let has = Check {
            protocol: "TCP".into(),
            port: "traffic-port".into(),
            interval: Some(30),
            timeout: Some(10),
            ..Check::default()
        };
        let mut wanted = Check { timeout: None, ..has.clone() };
        assert!(is_right(&has, &wanted));
        wanted.interval = Some(10);
        assert!(!is_right(&has, &wanted));
    }
}
