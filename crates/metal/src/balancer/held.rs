//! Who has which address.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use cpi::contract::Service;

use super::service::{self, Use};

/// Addresses that services were promised, by the services' uids, and that may not be in their status yet.
pub(crate) type Promised = BTreeMap<String, Vec<IpAddr>>;

/// A service that has an address.
#[derive(Debug)]
pub(crate) struct Holder {
    pub(crate) name: String,
    pub(crate) its: Use,
    /// It was promised another since, and has it until that is written.
    pub(crate) is_leaving: bool,
}

/// All addresses that others than one service have.
#[derive(Debug, Default)]
pub(crate) struct Held(BTreeMap<IpAddr, Vec<Holder>>);

/// Drops promises that are kept, and those to services that are gone; `own` is there, as it is asked about.
pub(crate) fn forget_kept(promised: &mut Promised, services: &[Arc<Service>], own: &str) {
    if promised.is_empty() {
        return;
    }
    let told: BTreeMap<&str, Vec<IpAddr>> =
        services.iter().map(|one| (service::uid(one), service::told(one))).collect();
    promised.retain(|uid, addresses| match told.get(uid.as_str()) {
        Some(told) => !is_same(told, addresses),
        None => uid == own,
    });
}

fn is_same(told: &[IpAddr], promised: &[IpAddr]) -> bool {
    told.len() == promised.len() && promised.iter().all(|address| told.contains(address))
}

impl Held {
    /// By what services have in their status or were promised, all but `own`.
    pub(crate) fn of(services: &[Arc<Service>], promised: &Promised, own: &Service) -> Self {
        let mut held: BTreeMap<IpAddr, Vec<Holder>> = BTreeMap::new();
        for one in services.iter().filter(|one| service::uid(one) != service::uid(own)) {
            let told = service::told(one);
            let promised = promised.get(service::uid(one));
            if told.is_empty() && promised.is_none() {
                continue;
            }
            let its = Use::of(one);
            let mut note = |address: IpAddr, is_leaving: bool| {
                let holder = Holder { name: service::named(one), its: its.clone(), is_leaving };
                held.entry(address).or_default().push(holder);
            };
            for address in told.iter().filter(|address| promised.is_none_or(|all| !all.contains(address))) {
                note(*address, promised.is_some());
            }
            promised.into_iter().flatten().for_each(|address| note(*address, false));
        }
        Self(held)
    }

    /// Those who have an address.
    pub(crate) fn holders(&self, address: IpAddr) -> &[Holder] {
        self.0.get(&address).map_or(&[], Vec::as_slice)
    }

    /// Who keeps a service from having an address as well, and why.
    pub(crate) fn conflict(&self, address: IpAddr, its: &Use) -> Option<(&Holder, String)> {
        self.holders(address).iter().find_map(|holder| Some((holder, its.conflict(&holder.its)?)))
    }

    /// The same, of those who will go on having it.
    pub(crate) fn lasting_conflict(&self, address: IpAddr, its: &Use) -> Option<&Holder> {
        let mut lasting = self.holders(address).iter().filter(|holder| !holder.is_leaving);
        lasting.find(|holder| its.conflict(&holder.its).is_some())
    }

    /// The addresses that are given out, in their order, from one to another.
    pub(crate) fn within(&self, first: IpAddr, last: IpAddr) -> impl Iterator<Item = IpAddr> {
        self.0.range(first..=last).map(|(address, _)| *address)
    }
}
