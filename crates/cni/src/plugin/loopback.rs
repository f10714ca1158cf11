//! `loopback`: brings `lo` up.

use ledger::Record;

use super::inside::Inside;
use crate::contract::{AddResult, Code, Error, Interface, Ip, Plugin, Request};

/// The plugin `loopback`.
#[derive(Debug)]
pub(super) struct Loopback;

impl Plugin for Loopback {
    fn add(&self, request: &Request<'_>, _record: &mut dyn Record) -> Result<AddResult, Error> {
        // No record: it goes with the namespace.
        let netns = request.attachment.netns()?;
        Inside::open(netns)?.set_loopback(true)?;
        if let Some(previous) = request.previous {
            return Ok(previous.clone());
        }
        let sandbox = netns.display().to_string();
        let interface =
            Interface { name: "lo".into(), mac: "00:00:00:00:00:00".into(), sandbox, ..Interface::default() };
        let ips = ["127.0.0.1/8", "::1/128"].iter().filter_map(|text| text.parse().ok());
        let ips = ips.map(|address| Ip { address, gateway: None, interface: Some(0) }).collect();
        Ok(AddResult { interfaces: vec![interface], ips, ..AddResult::default() })
    }

    fn del(&self, request: &Request<'_>, _record: &mut dyn Record) -> Result<(), Error> {
        let Some(netns) = &request.attachment.netns else { return Ok(()) };
        match Inside::open(netns) {
            Ok(mut inside) => inside.set_loopback(false),
            Err(e) if e.code == Code::UnknownContainer => Ok(()),
            Err(e) => Err(e),
        }
    }

    fn check(&self, request: &Request<'_>) -> Result<(), Error> {
        let up = Inside::open(request.attachment.netns()?)?.link("lo")?.is_some_and(|lo| lo.is_up());
        if up { Ok(()) } else { Err(Error::new(Code::Other(100), "loopback interface lo is down")) }
    }
}
