//! Which subnets a load balancer is put into: one of each zone.

use std::collections::{BTreeMap, BTreeSet};

use cpi::contract::Error;

use super::wish::Wish;
use crate::ec2::{self, Subnet};
use crate::provider::{Aws, CLUSTER};

/// A subnet with this tag is for load balancers that are reached from outside.
const PUBLIC: &str = "kubernetes.io/role/elb";
/// A subnet with this tag is for those that are not.
const INTERNAL: &str = "kubernetes.io/role/internal-elb";

/// The subnets of a VPC, and which of them a load balancer is to be in.
#[derive(Debug)]
pub(super) struct Subnets {
    /// One of each zone, in the order in which they are named, else of their zones.
    pub(super) chosen: Vec<Subnet>,
    all: Vec<Subnet>,
}

impl Subnets {
    /// Those that a load balancer is in, by what is told of its zones; those that it is to be in, where nothing is told. One of a zone
    /// stays that it is in already, also if another would be chosen today.
    pub(super) fn of(&self, zones: &BTreeMap<String, String>) -> Vec<Subnet> {
        let is_in = |subnet: &&Subnet| zones.values().any(|id| *id == subnet.id);
        let found: Vec<Subnet> = self.all.iter().filter(is_in).cloned().collect();
        if found.is_empty() { self.chosen.clone() } else { found }
    }
}

impl Aws {
    /// The subnets of a load balancer.
    pub(super) async fn subnets(&self, cluster: &str, vpc: &str, wish: &Wish) -> Result<Subnets, Error> {
        let failed = |why: String| {
            Error::Failed(format!("cannot find subnets for load balancer {}: {why}", wish.name))
        };
        let all = ec2::subnets_by(&self.client, &[("vpc-id", &[vpc.to_owned()])]).await;
        let all =
            all.map_err(|e| super::failed(&format!("find subnets for load balancer {}", wish.name), e))?;
        let named = match &self.client.config().subnet {
            Some(id) if wish.subnets.is_empty() => std::slice::from_ref(id),
            _ => &wish.subnets[..],
        };
        if !named.is_empty() {
            let chosen = named_ones(&all, named).map_err(|why| failed(format!("{why} in {vpc}")))?;
            return Ok(Subnets { chosen, all });
        }
        let mark = self.mark(cluster);
        let is_public = wish.scheme != "internal";
        let role = if is_public { PUBLIC } else { INTERNAL };
        let mut ways_out = None;
        if is_public && all.iter().any(|one| has_role(one, role).is_none()) {
            let tables = ec2::tables_by(&self.client, &[("vpc-id", &[vpc.to_owned()])]).await;
            let tables = tables.map_err(|e| super::failed("find subnets with a way out", e))?;
            ways_out = Some(ways_out_of(&all, &tables));
        }
        let found = chosen(&all, &mark, role, ways_out.as_ref());
        if found.is_empty() {
            return Err(failed(format!(
                "{vpc} has none with tag {role}, and none with tag {mark} that has a route to an internet gateway, if it needs one; \
                 tag one in each zone, or name them in annotation service.beta.kubernetes.io/aws-load-balancer-subnets"
            )));
        }
        Ok(Subnets { chosen: found, all })
    }
}

/// Those that are named by id or by name, each in a zone of its own, in their order.
fn named_ones(all: &[Subnet], named: &[String]) -> Result<Vec<Subnet>, String> {
    let mut found: Vec<Subnet> = Vec::new();
    for name in named {
        let is_it = |one: &&Subnet| one.id == *name || one.tags.get("Name") == Some(name);
        let one = all.iter().find(is_it).ok_or_else(|| format!("there is no subnet {name:?}"))?;
        match found.iter().find(|other| other.zone == one.zone) {
            None => found.push(one.clone()),
            Some(other) if other.id == one.id => {}
            Some(other) => {
                return Err(format!(
                    "{} and {} are both in zone {}; name one of each zone",
                    other.id, one.id, one.zone
                ));
            }
        }
    }
    Ok(found)
}

/// Whether a subnet has a role: `Some(false)` where it is said not to have it.
fn has_role(subnet: &Subnet, role: &str) -> Option<bool> {
    subnet.tags.get(role).map(|value| matches!(value.as_str(), "" | "1" | "true"))
}

/// Subnets with a route to an internet gateway.
fn ways_out_of(all: &[Subnet], tables: &[ec2::Table]) -> BTreeSet<String> {
    let leads_out = |table: &&ec2::Table| table.routes.iter().any(|route| route.gateway.starts_with("igw-"));
    let has_way = |subnet: &&Subnet| {
        let own = tables.iter().find(|table| table.subnets.contains(&subnet.id));
        own.or_else(|| tables.iter().find(|table| table.is_main)).filter(leads_out).is_some()
    };
    all.iter().filter(has_way).map(|subnet| subnet.id.clone()).collect()
}

/// One of each zone: rather one with the role, then one with the cluster's tag, then the first by id. `ways_out` are those that lead
/// outside, if that matters.
fn chosen(all: &[Subnet], mark: &str, role: &str, ways_out: Option<&BTreeSet<String>>) -> Vec<Subnet> {
    let mut best: BTreeMap<&str, (u8, &str, &Subnet)> = BTreeMap::new();
    for one in all {
        let is_ours = one.tags.contains_key(mark);
        let is_others = !is_ours && one.tags.keys().any(|key| key.starts_with(CLUSTER));
        let has_way = || ways_out.is_none_or(|ways| ways.contains(&one.id));
        let rank = match has_role(one, role) {
            Some(false) => continue,
            _ if is_others => continue,
            Some(true) => u8::from(!is_ours),
            None if is_ours && has_way() => 2,
            None => continue,
        };
        let new = (rank, one.id.as_str(), one);
        let held = best.entry(&one.zone).or_insert(new);
        if (new.0, new.1) < (held.0, held.1) {
            *held = new;
        }
    }
    best.into_values().map(|(_, _, one)| one.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ec2::{Entry, Table};

    const MARK: &str = "kubernetes.io/cluster/c";

    fn subnet(id: &str, zone: &str, tags: &[(&str, &str)]) -> Subnet {
        let tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Subnet { id: id.into(), zone: zone.into(), tags, ..Subnet::default() }
    }

    #[test]
    fn one_of_each_zone_by_its_tags() {
        let all = [
            subnet("1", "a", &[(MARK, "shared")]),
            subnet("2", "a", &[(PUBLIC, "1")]),
            subnet("3", "a", &[(PUBLIC, "1"), (MARK, "owned")]),
            subnet("4", "b", &[(MARK, "owned")]),
            subnet("5", "b", &[(MARK, "owned")]),
            subnet("6", "c", &[(PUBLIC, ""), ("kubernetes.io/cluster/other", "owned")]),
            subnet("7", "d", &[]),
            subnet("8", "e", &[(MARK, "owned"), (PUBLIC, "0")]),
        ];
        let ids = |ways: Option<&BTreeSet<String>>| {
            chosen(&all, MARK, PUBLIC, ways).into_iter().map(|one| one.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(None), ["3", "4"]);
        assert_eq!(ids(Some(&["5".to_owned()].into())), ["3", "5"]);
        assert_eq!(ids(Some(&BTreeSet::new())), ["3"]);
    }

    #[test]
    fn subnets_that_lead_outside() {
        let out = Entry { to: "0.0.0.0/0".into(), gateway: "igw-1".into(), ..Entry::default() };
        let main = Table { is_main: true, routes: vec![out], ..Table::default() };
        let own = Table { subnets: ["2".to_owned()].into(), ..Table::default() };
        let all = [subnet("1", "a", &[]), subnet("2", "b", &[])];
        assert_eq!(ways_out_of(&all, &[main, own]), ["1".to_owned()].into());
    }

    #[test]
    fn a_subnet_that_the_load_balancer_is_in_is_its_own() {
        let all = vec![subnet("1", "a", &[]), subnet("2", "a", &[]), subnet("3", "b", &[])];
        let subnets = Subnets { chosen: vec![all[1].clone(), all[2].clone()], all };
        let of = |zones: &[(&str, &str)]| {
            let zones = zones.iter().map(|(zone, id)| ((*zone).to_owned(), (*id).to_owned())).collect();
            subnets.of(&zones).into_iter().map(|one| one.id).collect::<Vec<_>>()
        };
        assert_eq!(of(&[("a", "1"), ("b", "3")]), ["1", "3"], "not the one that would be chosen today");
        assert_eq!(of(&[]), ["2", "3"]);
    }

    #[test]
    fn those_that_are_named() {
        let all = [subnet("1", "a", &[("Name", "x")]), subnet("2", "a", &[]), subnet("3", "b", &[])];
        let named = |names: &[&str]| {
            named_ones(&all, &names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
                .map(|found| found.into_iter().map(|one| one.id).collect::<Vec<_>>())
        };
        assert_eq!(named(&["x", "3"]).unwrap(), ["1", "3"]);
        assert_eq!(named(&["3", "x"]).unwrap(), ["3", "1"], "in their order, as addresses of one's own are");
        assert_eq!(named(&["1", "x"]).unwrap(), ["1"]);
        assert_eq!(named(&["9"]).unwrap_err(), "there is no subnet \"9\"");
        assert!(named(&["1", "2"]).unwrap_err().contains("both in zone a"));
    }
}
