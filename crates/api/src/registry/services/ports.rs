//! The ports of services on nodes.

use super::taken::Taken;
use super::{kind, refused};
use crate::contract::field::{FieldError, Path};
use crate::contract::{Object, Result, Status};
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;

/// The first port that a dry run shows.
const SHOWN: u16 = 32769;

fn list(service: &Object) -> impl Iterator<Item = &Map<String, Value>> {
    service
        .at(&["spec", "ports"])
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
}

fn node_port(port: &Map<String, Value>) -> u64 {
    port.get("nodePort").and_then(Value::as_u64).unwrap_or(0)
}

fn named(port: &Map<String, Value>) -> String {
    port.get("name").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// What an update that leaves out ports means by that: those that it had under the same names.
pub(super) fn keep(service: &mut Object, old: &Object) {
    let with_ports = |service: &Object| matches!(kind(service), "NodePort" | "LoadBalancer");
    if with_ports(old) && kind(service) == "ClusterIP" {
        // An old client that sends back what it got does not mean to keep them.
        let had: HashSet<u64> = list(old).map(node_port).collect();
        each(service, |port| {
            if had.contains(&node_port(port)) {
                port.remove("nodePort");
            }
        });
        return;
    }
    if !with_ports(old) || !with_ports(service) {
        return;
    }
    let is: HashSet<u64> = list(service).map(node_port).collect();
    let by_name: HashMap<String, u64> = list(old).map(|port| (named(port), node_port(port))).collect();
    each(service, |port| {
        if node_port(port) == 0
            && let Some(had) = by_name.get(&named(port)).filter(|had| **had != 0 && !is.contains(had))
        {
            port.insert("nodePort".to_owned(), (*had).into());
        }
    });
    let had = old.at(&["spec", "healthCheckNodePort"]).and_then(Value::as_u64).unwrap_or(0);
    if had != 0 && needs_health(service) && service.at(&["spec", "healthCheckNodePort"]).is_none() {
        service.make(&["spec"]).insert("healthCheckNodePort".to_owned(), had.into());
    }
}

/// Gives ports to those that have none.
pub(super) fn give(
    service: &mut Object,
    taken: &mut Taken,
    range: &RangeInclusive<u16>,
    dry_run: bool,
) -> Result<()> {
    let wanted = kind(service) == "NodePort"
        || service.at(&["spec", "allocateLoadBalancerNodePorts"]).and_then(Value::as_bool) != Some(false);
    let asked: Vec<(u64, u64)> = list(service).map(|port| (number(port), node_port(port))).collect();
    let mut by_number: HashMap<u64, u64> = HashMap::new();
    let mut given = Vec::with_capacity(asked.len());
    for (index, (port, own)) in asked.iter().enumerate() {
        if *own == 0 && !wanted {
            given.push(0);
            continue;
        }
        let shared = by_number.get(port).copied();
        let asked_for = if *own != 0 {
            Some(*own)
        } else {
            asked.iter().find(|(other, node)| other == port && *node != 0).map(|(_, node)| *node)
        };
        let got = match (shared, asked_for) {
            (Some(shared), None) => shared,
            (Some(shared), Some(own)) if shared == own => shared,
            (_, Some(own)) => {
                take(service, taken, range, dry_run, index, own)?;
                own
            }
            (None, None) => u64::from(next(taken, range, dry_run, given.len())?),
        };
        by_number.entry(*port).or_insert(got);
        given.push(got);
    }
    let mut given = given.into_iter();
    each(service, |port| {
        if let Some(got) = given.next().filter(|got| *got != 0) {
            port.insert("nodePort".to_owned(), got.into());
        }
    });
    health(service, taken, range, dry_run)
}

fn take(
    service: &Object,
    taken: &mut Taken,
    range: &RangeInclusive<u16>,
    dry_run: bool,
    index: usize,
    asked: u64,
) -> Result<()> {
    // What is no port is told by the rules of the kind.
    let Ok(port) = u16::try_from(asked) else { return Ok(()) };
    if taken.keeps_port(port) {
        return Ok(());
    }
    taken.take_port(port, range, dry_run).map_err(|cause| {
        let path = Path::new("spec").child("ports").index(index).child("nodePort");
        refused(service, vec![FieldError::invalid(&path, asked, cause)])
    })
}

fn next(taken: &mut Taken, range: &RangeInclusive<u16>, dry_run: bool, before: usize) -> Result<u16> {
    if dry_run {
        return Ok(SHOWN.saturating_add(u16::try_from(before).unwrap_or(0)));
    }
    taken.next_port(range).ok_or_else(|| Status::internal("failed to allocate a nodePort: range is full"))
}

/// The port on which nodes say whether they have an endpoint of the service.
fn health(service: &mut Object, taken: &mut Taken, range: &RangeInclusive<u16>, dry_run: bool) -> Result<()> {
    if !needs_health(service) {
        return Ok(());
    }
    let asked = service.at(&["spec", "healthCheckNodePort"]).and_then(Value::as_i64).unwrap_or(0);
    // What is no port is told by the rules of the kind.
    if asked != 0 && u16::try_from(asked).is_err() {
        return Ok(());
    }
    if let Ok(asked @ 1..) = u16::try_from(asked) {
        if taken.keeps_port(asked) {
            return Ok(());
        }
        return taken.take_port(asked, range, dry_run).map_err(|cause| {
            Status::internal(format!("failed to allocate requested HealthCheck NodePort {asked}: {cause}"))
        });
    }
    let port = next(taken, range, dry_run, list(service).count())?;
    service.make(&["spec"]).insert("healthCheckNodePort".to_owned(), port.into());
    Ok(())
}

fn needs_health(service: &Object) -> bool {
    kind(service) == "LoadBalancer" && service.text(&["spec", "externalTrafficPolicy"]) == "Local"
}

fn number(port: &Map<String, Value>) -> u64 {
    port.get("port").and_then(Value::as_u64).unwrap_or(0)
}

fn each(service: &mut Object, mut change: impl FnMut(&mut Map<String, Value>)) {
    let ports = service.make(&["spec"]).get_mut("ports").and_then(Value::as_array_mut);
    ports.into_iter().flatten().filter_map(Value::as_object_mut).for_each(&mut change);
}
