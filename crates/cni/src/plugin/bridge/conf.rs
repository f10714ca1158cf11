use std::ops::RangeInclusive;

use kernel::netlink::Mac;
use serde_json::Value;

use crate::contract::{Dns, Error, Keys, Request};
use crate::plugin::interface::{chosen_dns, chosen_mac, link_name, only_nftables};
use crate::plugin::ipam::Ipam;
use crate::plugin::table::Table;

/// What the plugin `bridge` is told.
#[derive(Debug)]
pub(super) struct Conf {
    pub(super) bridge: String,
    pub(super) is_gateway: bool,
    pub(super) is_default_gateway: bool,
    pub(super) force_address: bool,
    pub(super) ip_masq: bool,
    pub(super) hairpin: bool,
    pub(super) promisc: bool,
    pub(super) isolated: bool,
    /// The VLAN of the container's frames, which have no tag.
    pub(super) vlan: Option<u16>,
    /// VLANs of frames that the container tags itself: in order, apart.
    pub(super) trunk: Vec<RangeInclusive<u16>>,
    /// The port stays in the VLAN that the bridge gives to every port.
    pub(super) preserve_default_vlan: bool,
    pub(super) spoof_check: bool,
    /// IPv6 addresses are probed before they are used.
    pub(super) dad: bool,
    /// The container's interface stays down.
    pub(super) disabled: bool,
    pub(super) dns: Option<Dns>,
    pub(super) mtu: Option<u32>,
    /// The MAC of the container's interface, if somebody chose one.
    pub(super) mac: Option<Mac>,
    pub(super) ipam: Ipam,
    pub(super) table: Table,
}

/// What can be on a port of its own: 0 and 4095 are the standard's (IEEE 802.1Q, 9.6).
const VLANS: RangeInclusive<u16> = 1..=4094;

impl Conf {
    pub(super) fn of(request: &Request<'_>) -> Result<Self, Error> {
        let keys = request.keys();
        let bridge = link_name(&keys, "bridge")?.unwrap_or("cni0");
        let hairpin = keys.boolean("hairpinMode")?;
        let promisc = keys.boolean("promiscMode")?;
        if hairpin && promisc {
            return Err(
                keys.refuse("promiscMode", "false (\"hairpinMode\" is on, and the two exclude each other)")
            );
        }
        only_nftables(&keys)?;
        let ipam = Ipam::of(request)?;
        let disabled = keys.boolean("disableContainerInterface")?;
        if disabled && ipam.is_asked() {
            return Err(
                keys.refuse("disableContainerInterface", "false (\"ipam\" needs an interface that is up)")
            );
        }
        let vlan = keys.number("vlan")?.filter(|vlan| *vlan != 0);
        let vlan = vlan.map(|vlan| u16::try_from(vlan).ok().filter(|vlan| VLANS.contains(vlan)));
        let vlan = match vlan {
            Some(None) => return Err(keys.refuse("vlan", "a VLAN id from 0 (none) to 4094")),
            Some(vlan) => vlan,
            None => None,
        };
        let is_default_gateway = keys.boolean("isDefaultGateway")?;
        Ok(Self {
            bridge: bridge.to_owned(),
            is_gateway: keys.boolean("isGateway")? || is_default_gateway,
            is_default_gateway,
            force_address: keys.boolean("forceAddress")?,
            ip_masq: keys.boolean("ipMasq")?,
            hairpin,
            promisc,
            isolated: keys.boolean("portIsolation")?,
            vlan,
            trunk: trunk(&keys)?,
            preserve_default_vlan: keys.boolean("preserveDefaultVlan")?,
            spoof_check: keys.boolean("macspoofchk")?,
            dad: keys.boolean("enabledad")?,
            disabled,
            dns: chosen_dns(&keys)?,
            mtu: keys.number("mtu")?.filter(|mtu| *mtu != 0),
            mac: chosen_mac(request)?,
            ipam,
            table: Table::of(&keys)?,
        })
    }
    /// The host's link that the containers' packets come in by.
    pub(super) fn gateway_name(&self) -> String {
        self.vlan.map_or_else(|| self.bridge.clone(), |vlan| format!("{}.{vlan}", self.bridge))
    }

    /// The bridge tells VLANs apart.
    pub(super) fn has_vlans(&self) -> bool {
        self.vlan.is_some() || !self.trunk.is_empty()
    }
}

/// `vlanTrunk`: ranges in order, without those that meet others.
fn trunk(keys: &Keys<'_>) -> Result<Vec<RangeInclusive<u16>>, Error> {
    let mut ranges = Vec::new();
    for entry in keys.list("vlanTrunk")? {
        let Some(object) = entry.as_object() else {
            return Err(keys.refuse("vlanTrunk", "a list of objects with \"minID\" and \"maxID\", or \"id\""));
        };
        let entry = Keys::new(object, "\"vlanTrunk\"");
        let vid = |key: &str| match entry.get(key).map(Value::as_u64) {
            None => Ok(None),
            Some(number) => {
                let vid = number.and_then(|number| u16::try_from(number).ok());
                let vid = vid.filter(|vid| VLANS.contains(vid));
                vid.map(Some).ok_or_else(|| entry.refuse(key, "a VLAN id from 1 to 4094"))
            }
        };
        match (vid("minID")?, vid("maxID")?) {
            (Some(first), Some(last)) if first > last => {
                return Err(entry.refuse("minID", format!("{last} (\"maxID\") or less")));
            }
            (Some(first), Some(last)) => ranges.push(first..=last),
            (Some(_), None) => return Err(entry.refuse("maxID", "the last VLAN id from \"minID\" on")),
            (None, Some(_)) => return Err(entry.refuse("minID", "the first VLAN id up to \"maxID\"")),
            (None, None) => {}
        }
        ranges.extend(vid("id")?.map(|vid| vid..=vid));
    }
    ranges.sort_by_key(|range| *range.start());
    let mut apart: Vec<RangeInclusive<u16>> = Vec::new();
    for range in ranges {
        match apart.last_mut() {
            Some(last) if *range.start() <= last.end().saturating_add(1) => {
                *last = *last.start()..=(*last.end()).max(*range.end());
            }
            _ => apart.push(range),
        }
    }
    Ok(apart)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(trunk: Value) -> Result<Vec<RangeInclusive<u16>>, String> {
        let conf = json!({ "vlanTrunk": trunk });
        super::trunk(&Keys::new(conf.as_object().unwrap(), "bridge")).map_err(|e| e.to_string())
    }

    #[test]
    fn trunks_are_sorted_and_apart() {
        let trunk = json!([{ "id": 42 }, { "minID": 1000, "maxID": 1010 }, { "minID": 10, "maxID": 12, "id": 13 },
            { "minID": 1005, "maxID": 1020 }, { "id": 4094 }]);
        assert_eq!(read(trunk).unwrap(), [10..=13, 42..=42, 1000..=1020, 4094..=4094]);
        assert_eq!(read(json!(null)).unwrap(), []);
        assert_eq!(read(json!([{}])).unwrap(), []);
    }

    #[test]
    fn bad_trunks_name_the_key() {
        for (trunk, words) in [
            (json!([7]), "\"vlanTrunk\""),
            (json!({}), "\"vlanTrunk\""),
            (json!([{ "id": 0 }]), "\"id\" of \"vlanTrunk\""),
            (json!([{ "id": 4095 }]), "\"id\""),
            (json!([{ "id": "x" }]), "\"id\""),
            (json!([{ "minID": 5 }]), "\"maxID\""),
            (json!([{ "maxID": 5 }]), "\"minID\""),
            (json!([{ "minID": 5, "maxID": 4 }]), "\"minID\""),
            (json!([{ "minID": 5, "maxID": 5000 }]), "\"maxID\""),
        ] {
            let error = read(trunk.clone()).unwrap_err();
            assert!(error.contains(words), "{trunk}: {error}");
        }
    }
}
