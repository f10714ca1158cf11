//! Which addresses a service gets: a function of the pools, of what others have, and of what it asks for.

use std::collections::BTreeSet;
use std::net::IpAddr;

use cpi::contract::{Node, Service};

use super::Refused;
use super::held::Held;
use super::service::{self, Use, family};
use crate::config::{Config, Pool};

/// What an allocation depends on.
pub(crate) struct Given<'a> {
    pub(crate) config: &'a Config,
    pub(crate) held: &'a Held,
    /// Those that the service was promised, or else has.
    pub(crate) own: &'a [IpAddr],
    /// The nodes that load balancers are led to.
    pub(crate) nodes: &'a [Node],
    /// What no load balancer of a pool may have: the addresses of all nodes.
    pub(crate) of_nodes: &'a BTreeSet<IpAddr>,
    /// Whether the service was given the nodes' addresses though there are pools.
    pub(crate) follows_nodes: bool,
}

/// Whether a service asks for nothing, and no pool is for it.
pub(crate) fn has_no_pool(config: &Config, service: &Service) -> bool {
    service::pool(service).is_none()
        && service::requested(service).is_ok_and(|requested| requested.is_empty())
        && !config.pools.iter().any(|pool| pool.auto_assign && allowed(pool, service).is_ok())
}

/// Whether a service stays with the nodes' addresses, which it had before there were pools: clients know them, and nothing else is for
/// it. Those of nodes that are gone may be among them. What is in a pool was given by that, whichever node has taken it since.
pub(crate) fn stays_with_nodes(given: &Given<'_>, service: &Service) -> bool {
    let is_of_pool = |address: &IpAddr| given.config.pool_of(*address).is_some();
    has_no_pool(given.config, service)
        && !given.own.iter().any(is_of_pool)
        && (given.follows_nodes || given.own.iter().any(|address| given.of_nodes.contains(address)))
}

/// Whether a pool is for a service; else why not.
fn allowed(pool: &Pool, service: &Service) -> Result<(), String> {
    let metadata = &service.metadata;
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    if !pool.namespaces.is_empty() && !pool.namespaces.iter().any(|one| one == namespace) {
        return Err(format!(
            "pool {} is not for services in namespace {namespace:?}; ask for another, or add it to the pool's namespaces",
            pool.name
        ));
    }
    let labels = metadata.labels.as_ref();
    let has = |key: &String, value: &String| labels.and_then(|labels| labels.get(key)) == Some(value);
    match pool.labels.iter().find(|(key, value)| !has(key, value)) {
        Some((key, value)) => Err(format!(
            "pool {} is for services with label {key}={value}; give it that, or ask for another pool",
            pool.name
        )),
        None => Ok(()),
    }
}

/// The service's addresses, in the order of its families. What it has it keeps, as long as it may.
pub(crate) fn allocate(given: &Given<'_>, service: &Service) -> Result<Vec<IpAddr>, Refused> {
    if given.config.pools.is_empty() || stays_with_nodes(given, service) {
        return of_nodes(given, service);
    }
    let requested = service::requested(service)?;
    let asked = Asked { given, service, its: Use::of(service), of_nodes: given.of_nodes };
    let wanted = asked.wanted()?;
    let (mut addresses, mut refused) = (Vec::new(), Vec::new());
    for is_v6 in service::families(service) {
        let got = match requested.get(&is_v6) {
            Some(address) => Ok(asked.requested(*address)?),
            None => match asked.kept(is_v6)? {
                Some(address) => Ok(address),
                None => asked.pools(wanted).and_then(|pools| asked.any(is_v6, &pools)),
            },
        };
        match got {
            Ok(address) => addresses.push(address),
            Err(why) => refused.push(why),
        }
    }
    match refused.into_iter().next() {
        Some(why) if addresses.is_empty() || !service::is_content_with_one(service) => Err(why),
        _ => Ok(addresses),
    }
}

struct Asked<'a> {
    given: &'a Given<'a>,
    service: &'a Service,
    its: Use,
    of_nodes: &'a BTreeSet<IpAddr>,
}

impl<'a> Asked<'a> {
    /// The pool that the service asks for.
    fn wanted(&self) -> Result<Option<&'a Pool>, Refused> {
        let all = &self.given.config.pools;
        let Some(name) = service::pool(self.service) else { return Ok(None) };
        let found = all.iter().find(|pool| pool.name == name);
        found.map(Some).ok_or_else(|| {
            let shown = name.get(..name.floor_char_boundary(64)).unwrap_or_default();
            Refused::Failed(format!(
                "annotation {}: there is no pool {shown:?}; those that there are: {}",
                service::POOL,
                names(all)
            ))
        })
    }

    /// The pools that the service gets a new address of, in the order in which they are tried.
    fn pools(&self, wanted: Option<&'a Pool>) -> Result<Vec<&'a Pool>, Refused> {
        let all = &self.given.config.pools;
        if let Some(pool) = wanted {
            allowed(pool, self.service).map_err(Refused::Failed)?;
            return Ok(vec![pool]);
        }
        let mut pools: Vec<&Pool> =
            all.iter().filter(|pool| pool.auto_assign && allowed(pool, self.service).is_ok()).collect();
        pools.sort_by_key(|pool| pool.priority.unwrap_or(u32::MAX));
        Ok(pools)
    }

    /// An address that the service asks for.
    fn requested(&self, address: IpAddr) -> Result<IpAddr, Refused> {
        let Some(pool) = self.given.config.pool_of(address) else {
            return Err(Refused::Failed(format!(
                "cannot give the service {address}: it is of no pool; ask for one of {}",
                ranges(&self.given.config.pools)
            )));
        };
        if let Some(name) = service::pool(self.service).filter(|name| *name != pool.name) {
            return Err(Refused::Failed(format!(
                "cannot give the service {address}: it is of pool {}, and annotation {} asks for {name}; ask for one of both",
                pool.name,
                service::POOL
            )));
        }
        // One that it has was given to it when the pool was for it.
        if !self.given.own.contains(&address) {
            allowed(pool, self.service)
                .map_err(|why| Refused::Failed(format!("cannot give the service {address}: {why}")))?;
        }
        if self.of_nodes.contains(&address) {
            return Err(Refused::Failed(format!(
                "cannot give the service {address}: a node has it; ask for another"
            )));
        }
        match self.given.held.conflict(address, &self.its) {
            Some((holder, why)) => Err(Refused::Waits(format!(
                "cannot give the service {address}: service {} has it; {why}, or ask for another",
                holder.name
            ))),
            None => Ok(address),
        }
    }

    /// The address that it has, if it may go on having it.
    fn kept(&self, is_v6: bool) -> Result<Option<IpAddr>, Refused> {
        let own = || self.given.own.iter().copied().filter(|address| address.is_ipv6() == is_v6);
        let wanted = service::pool(self.service);
        // Who has it as well, without that both may, has been given it by others than this: whoever is looked at moves.
        let may = |address: &IpAddr, pool: &Pool| {
            wanted.is_none_or(|wanted| wanted == pool.name)
                && !self.of_nodes.contains(address)
                && self.given.held.lasting_conflict(*address, &self.its).is_none()
        };
        let kept =
            own().find(|address| self.given.config.pool_of(*address).is_some_and(|pool| may(address, pool)));
        if kept.is_some() || wanted.is_some() {
            return Ok(kept);
        }
        // Clients may know it: it is not taken away because somebody has changed a file, or is not told of another cloud's.
        let is_foreign = |address: &IpAddr| {
            self.given.config.pool_of(*address).is_none() && !self.of_nodes.contains(address)
        };
        match own().find(is_foreign) {
            Some(address) => Err(Refused::Failed(format!(
                "the service has {address}, which is of no pool: add it to one, or have it given another address by annotation {}",
                service::POOL
            ))),
            None => Ok(None),
        }
    }

    /// The first address of these pools that the service can have.
    fn any(&self, is_v6: bool, pools: &[&Pool]) -> Result<IpAddr, Refused> {
        if let Some(address) = pools.iter().find_map(|pool| self.shared(is_v6, pool)) {
            return Ok(address);
        }
        if let Some(address) = pools.iter().find_map(|pool| self.free(is_v6, pool)) {
            return Ok(address);
        }
        let family = family(is_v6);
        let full: Vec<String> = pools.iter().filter_map(|pool| self.full(is_v6, pool)).collect();
        Err(match (pools, full.is_empty()) {
            ([], _) => Refused::Failed(format!(
                "cannot give the service an address of {family}: no pool is for it; make it one of {} by annotation {} or by what the pool asks for",
                names(&self.given.config.pools),
                service::POOL
            )),
            (_, true) => Refused::Failed(format!(
                "cannot give the service an address of {family}: the pools that are for it have none ({}); add a range of {family} to one",
                names(pools.iter().copied())
            )),
            (_, false) => Refused::Waits(format!(
                "cannot give the service an address of {family}: {}; add addresses to a pool, or delete a service that has one",
                full.join(", and ")
            )),
        })
    }

    /// An address that others have and share with this service.
    fn shared(&self, is_v6: bool, pool: &Pool) -> Option<IpAddr> {
        if !self.its.is_shared() {
            return None;
        }
        let all = pool.ranges(is_v6).flat_map(|range| self.given.held.within(range.first(), range.last()));
        all.into_iter().find(|address| self.can_have(*address, pool))
    }

    fn can_have(&self, address: IpAddr, pool: &Pool) -> bool {
        !pool.avoids(address)
            && !self.of_nodes.contains(&address)
            && self.given.held.conflict(address, &self.its).is_none()
    }

    /// The first that nobody has. As many steps as addresses are given out, whatever the size of the pool.
    fn free(&self, is_v6: bool, pool: &Pool) -> Option<IpAddr> {
        pool.ranges(is_v6).find_map(|range| {
            let mut at = Some(range.first());
            while let Some(address) = at {
                if self.can_have(address, pool) && self.given.held.holders(address).is_empty() {
                    return Some(address);
                }
                at = range.after(address);
            }
            None
        })
    }

    /// How full a pool is that is full; `None` where it has nothing of the family.
    fn full(&self, is_v6: bool, pool: &Pool) -> Option<String> {
        let ranges = || pool.ranges(is_v6);
        ranges().next()?;
        let size = ranges().map(|range| range.size()).fold(0u128, u128::saturating_add);
        let given =
            ranges().map(|range| self.given.held.within(range.first(), range.last()).count()).sum::<usize>();
        Some(format!("pool {} has {size} of them, and {given} are given out", pool.name))
    }
}

fn names<'a>(pools: impl IntoIterator<Item = &'a Pool>) -> String {
    pools.into_iter().map(|pool| pool.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// Some of the addresses that there are, for people.
fn ranges(pools: &[Pool]) -> String {
    let all: Vec<String> = pools.iter().flat_map(|pool| &pool.addresses).map(ToString::to_string).collect();
    let more = if all.len() > 5 { format!(" and {} more ranges", all.len() - 5) } else { String::new() };
    format!("{}{more}", all[..all.len().min(5)].join(", "))
}

/// Without pools, or without one that is for it: the addresses of the nodes, which all such services have, each its ports.
fn of_nodes(given: &Given<'_>, service: &Service) -> Result<Vec<IpAddr>, Refused> {
    if given.nodes.is_empty() {
        // The controller has told that there are none.
        return Ok(Vec::new());
    }
    if let Some(name) = service::pool(service) {
        return Err(Refused::Failed(format!(
            "annotation {}: there is no pool {name:?}, and no other; name pools in the file of --cloud-config",
            service::POOL
        )));
    }
    let (requested, its, families) =
        (service::requested(service)?, Use::of(service), service::families(service));
    if let Some(port) = its.of_machine() {
        return Err(Refused::Failed(format!(
            "cannot give the service the nodes' addresses: by {port} the nodes themselves are reached; give the service another port, or an address of its own by pools (--cloud-config)"
        )));
    }
    let mut addresses = Vec::new();
    for is_v6 in &families {
        let all = service::of_nodes(given.nodes, *is_v6);
        if all.is_empty() && families.len() > 1 && !service::is_content_with_one(service) {
            return Err(Refused::Failed(format!(
                "cannot give the service an address of {}: no node has one, and spec.ipFamilyPolicy RequireDualStack wants both families; \
                 make it PreferDualStack, or name pools of both in the file of --cloud-config",
                family(*is_v6)
            )));
        }
        match requested.get(is_v6) {
            Some(address) if !all.contains(address) => {
                return Err(Refused::Failed(format!(
                    "cannot give the service {address}: no node has it, and there are no pools; name some in the file of --cloud-config"
                )));
            }
            Some(address) => addresses.push(*address),
            None => addresses.extend(all),
        }
    }
    if addresses.is_empty() {
        let families: Vec<&str> = families.iter().map(|is_v6| family(*is_v6)).collect();
        return Err(Refused::Failed(format!(
            "cannot give the service an address: no node has one of {}; see the nodes' status.addresses",
            families.join(" or ")
        )));
    }
    for address in &addresses {
        let taken = given.held.holders(*address).iter();
        let taken = taken.filter_map(|holder| Some((holder, its.common_port(&holder.its)?)));
        if let Some((holder, port)) = taken.into_iter().next() {
            return Err(Refused::Waits(format!(
                "cannot give the service the nodes' addresses: {port} of {address} is that of service {}; give it another port, or each an address of its own by pools (--cloud-config)",
                holder.name
            )));
        }
    }
    Ok(addresses)
}
