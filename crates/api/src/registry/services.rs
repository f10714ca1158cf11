//! The addresses and ports of services.
//!
//! Nothing is kept beside the services themselves: what is taken is what they say, and what was given to those that are yet
//! to be kept. Who gives holds a lock, and nobody holds it while others (webhooks) have their say.

mod families;
mod ports;
mod taken;

use super::{Context, Registry, Target};
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::names::{Cidr, parse_cidr, parse_ip};
use crate::contract::{Object, Result, Status};
use crate::kinds::core::service::address_errors;
use crate::resource::Part;
use serde_json::Value;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use taken::{Given, Taken};

/// Where services get addresses and ports.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Ranges of addresses: one, or one of each family; the first is the default.
    pub ranges: Vec<Cidr>,
    /// Ports on nodes.
    pub ports: RangeInclusive<u16>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { ranges: parse_cidr("10.96.0.0/16").into_iter().collect(), ports: 30000..=32767 }
    }
}

/// Gives addresses and ports.
pub(super) struct Services {
    settings: Settings,
    /// What was given to services that are not kept yet.
    promised: Promised,
}

type Promised = Arc<Mutex<Given>>;

/// What was given to a service: nobody else gets it until it is kept, or is not to be.
pub(super) struct Promise {
    promised: Promised,
    given: Given,
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.promised.lock().unwrap_or_else(PoisonError::into_inner).without(&self.given);
    }
}

impl Services {
    pub(super) fn new(settings: Settings) -> Services {
        Services { settings, promised: Promised::default() }
    }

    /// The first address of the first range.
    pub(super) fn first_address(&self) -> Option<std::net::IpAddr> {
        let range = self.settings.ranges.first()?;
        Some(taken::at(range.network(), 1))
    }

    /// The ranges of addresses.
    pub(super) fn ranges(&self) -> &[Cidr] {
        &self.settings.ranges
    }

    /// Gives a new service what it needs and does not have.
    pub(super) fn create(
        &self,
        registry: &Registry,
        context: &Context,
        target: &Target,
        service: &mut Object,
    ) -> Result<Option<Promise>> {
        if target.resource.stored_as != "services" {
            return Ok(None);
        }
        let single = service.text(&["spec", "clusterIP"]).to_owned();
        if !single.is_empty() && texts(service, "clusterIPs").is_empty() {
            service.make(&["spec"]).insert("clusterIPs".to_owned(), vec![single].into());
        }
        self.give(registry, context, service, None).map(Some)
    }

    /// The same for an update.
    pub(super) fn update(
        &self,
        registry: &Registry,
        context: &Context,
        target: &Target,
        part: Part,
        service: &mut Object,
        old: &Object,
    ) -> Result<Option<Promise>> {
        if target.resource.stored_as != "services" || part != Part::Main {
            return Ok(None);
        }
        families::keep(service, old);
        ports::keep(service, old);
        self.give(registry, context, service, Some(old)).map(Some)
    }

    fn give(
        &self,
        registry: &Registry,
        context: &Context,
        service: &mut Object,
        old: Option<&Object>,
    ) -> Result<Promise> {
        let promise = |given| Promise { promised: Arc::clone(&self.promised), given };
        let kind = kind(service);
        let errors = address_errors(service, old);
        if !errors.is_empty() {
            return Err(refused(service, errors));
        }
        if !matches!(kind, "ClusterIP" | "NodePort" | "LoadBalancer") {
            return Ok(promise(Given::default()));
        }
        families::choose(service, old, &self.settings.ranges)?;
        // Held while the services are read: what is promised is kept first, and no promise any more then.
        let mut promised = self.promised.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = Taken::of(registry, service, old, &promised)?;
        self.addresses(service, &mut taken, context.dry_run)?;
        if kind != "ClusterIP" {
            ports::give(service, &mut taken, &self.settings.ports, context.dry_run)?;
        }
        let given = if context.dry_run { Given::default() } else { taken.given() };
        promised.with(&given);
        Ok(promise(given))
    }

    /// An address of each family.
    fn addresses(&self, service: &mut Object, taken: &mut Taken, dry_run: bool) -> Result<()> {
        let mut given = texts(service, "clusterIPs");
        if given.first().is_some_and(|first| first == "None") {
            return Ok(());
        }
        let asked: Value = given.clone().into();
        let families = texts(service, "ipFamilies");
        for (index, family) in families.iter().enumerate() {
            let Some(range) =
                self.settings.ranges.iter().find(|range| families::name(range.address) == *family)
            else {
                continue;
            };
            let refuse = |cause: String| {
                let path = Path::new("spec").child("clusterIPs");
                let detail = format!("failed to allocate IP{cause}");
                refused(service, vec![FieldError::invalid(&path, asked.clone(), detail)])
            };
            match given.get(index).and_then(|text| parse_ip(text)) {
                Some(address) if taken.keeps(address) => {}
                Some(address) => {
                    taken.take(address, *range).map_err(|cause| refuse(format!(" {address}: {cause}")))?;
                }
                None => {
                    let address = if dry_run { Some(range.network()) } else { taken.next(*range) };
                    let Some(address) = address else {
                        return Err(Status::internal(format!(
                            "failed to allocate a serviceIP for Service {:?}: range is full",
                            service.name()
                        )));
                    };
                    given.truncate(index);
                    given.push(address.to_string());
                }
            }
        }
        if let Some(first) = given.first() {
            let spec = service.make(&["spec"]);
            spec.insert("clusterIP".to_owned(), first.as_str().into());
            spec.insert("clusterIPs".to_owned(), given.into());
        }
        Ok(())
    }
}

/// 422 of a service.
fn refused(service: &Object, errors: FieldErrors) -> Status {
    Status::invalid("", "Service", service.name(), &errors)
}

fn kind(service: &Object) -> &'static str {
    match service.text(&["spec", "type"]) {
        "" | "ClusterIP" => "ClusterIP",
        "NodePort" => "NodePort",
        "LoadBalancer" => "LoadBalancer",
        "ExternalName" => "ExternalName",
        _ => "",
    }
}

/// A list of strings below `spec`.
fn texts(service: &Object, field: &str) -> Vec<String> {
    service
        .at(&["spec", field])
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}
