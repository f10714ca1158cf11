//! `static`: the addresses that the configuration, or whoever attaches, says. Nothing is kept, so nothing can be freed.

use std::net::IpAddr;

use kernel::netlink::IpNet;
use ledger::Record;

use super::interface::broken;
use super::ipam::{no_ipam, one_per_family};
use crate::contract::{AddResult, Code, Dns, Error, Ip, Keys, Plugin, Request, Route};

/// The plugin `static`.
#[derive(Debug)]
pub(super) struct Static;

impl Plugin for Static {
    fn add(&self, request: &Request<'_>, _record: &mut dyn Record) -> Result<AddResult, Error> {
        let conf = Conf::of(request)?;
        Ok(AddResult { ips: conf.ips, routes: conf.routes, dns: conf.dns, ..AddResult::default() })
    }

    fn del(&self, _request: &Request<'_>, _record: &mut dyn Record) -> Result<(), Error> {
        Ok(())
    }

    fn check(&self, request: &Request<'_>) -> Result<(), Error> {
        let conf = Conf::of(request)?;
        let previous =
            request.previous.ok_or_else(|| Error::new(Code::InvalidConfig, "Required prevResult missing"))?;
        let other = |ip: &&Ip| {
            let mut same = previous.ips.iter().filter(|p| p.address.address() == ip.address.address());
            ip.gateway.is_some() && same.any(|p| p.gateway != ip.gateway)
        };
        match conf.ips.iter().find(other) {
            Some(ip) => Err(broken(format!(
                "{} of {} does not have the gateway {} of the configuration",
                ip.address,
                request.attachment.ifname,
                ip.gateway.map(|gateway| gateway.to_string()).unwrap_or_default(),
            ))),
            None => Ok(()),
        }
    }

    fn status(&self, request: &Request<'_>) -> Result<(), Error> {
        Conf::of(request).map(|_| ())
    }
}

/// What the plugin `static` is told.
#[derive(Debug)]
struct Conf {
    ips: Vec<Ip>,
    routes: Vec<Route>,
    dns: Dns,
}

impl Conf {
    fn of(request: &Request<'_>) -> Result<Self, Error> {
        let keys = request.keys();
        let ipam = Keys::new(keys.object("ipam")?.ok_or_else(no_ipam)?, "\"ipam\"");
        let mut ips = configured(&ipam)?;
        of_environment(request, &mut ips)?;
        // The capability beats the argument, and both beat what is configured.
        let args = keys.object("args")?;
        let cni = args.map(|args| Keys::new(args, "\"args\"").object("cni")).transpose()?.flatten();
        for (object, of) in [(cni, "\"args.cni\""), (keys.object("runtimeConfig")?, "\"runtimeConfig\"")] {
            let Some(object) = object else { continue };
            let texts: Vec<String> = Keys::new(object, of).decode("ips")?.unwrap_or_default();
            if !texts.is_empty() {
                ips = texts.iter().map(|text| of_ips(text)).collect::<Result<_, _>>()?;
            }
        }
        one_per_family(request, ips.iter().map(|ip| ip.address))?;
        let routes = ipam.decode("routes")?.unwrap_or_default();
        Ok(Self { ips, routes, dns: ipam.decode("dns")?.unwrap_or_default() })
    }
}

fn ip(address: IpNet, gateway: Option<IpAddr>) -> Ip {
    Ip { address, gateway, interface: None }
}

/// `addresses` of the configuration.
fn configured(ipam: &Keys<'_>) -> Result<Vec<Ip>, Error> {
    let entry = |value: &serde_json::Value| {
        let object = value.as_object().ok_or_else(|| ipam.refuse("addresses", "a list of objects"))?;
        let keys = Keys::new(object, "\"addresses\"");
        let text = keys.text("address")?.unwrap_or_default();
        let address = text.parse().map_err(|_| {
            let error = format!("the 'address' field is expected to be in CIDR notation, got: '{text}'");
            Error::new(Code::InvalidConfig, error)
        })?;
        Ok(ip(address, keys.parse("gateway")?))
    };
    ipam.list("addresses")?.iter().map(entry).collect()
}

/// `IP` of CNI_ARGS adds addresses; `GATEWAY` is the gateway of those in whose network it lies.
fn of_environment(request: &Request<'_>, ips: &mut Vec<Ip>) -> Result<(), Error> {
    let list = |key: &str| {
        let text = request.attachment.arg(key).unwrap_or_default();
        text.split(',').map(str::trim).filter(|_| !text.is_empty())
    };
    for text in list("IP") {
        let address = text.parse().map_err(|_| {
            let error = format!("the 'ip' field is expected to be in CIDR notation, got: '{text}'");
            Error::new(Code::InvalidEnvironment, error)
        })?;
        ips.push(ip(address, None));
    }
    for text in list("GATEWAY") {
        let gateway: IpAddr = text
            .parse()
            .map_err(|_| Error::new(Code::InvalidEnvironment, format!("invalid gateway address: {text}")))?;
        for ip in ips.iter_mut().filter(|ip| ip.address.contains(gateway)) {
            ip.gateway = Some(gateway);
        }
    }
    Ok(())
}

fn of_ips(text: &str) -> Result<Ip, Error> {
    let address = text.parse().map_err(|_| {
        let error = format!("an entry in the 'ips' field is NOT in CIDR notation, got: '{text}'");
        Error::new(Code::InvalidConfig, error)
    })?;
    Ok(ip(address, None))
}
