//! VLANs of bridge ports. They mean something where the bridge filters VLANs (a kernel with BRIDGE_VLAN_FILTERING).

use std::ops::RangeInclusive;

use super::link::header;
use super::socket::Socket;
use super::uapi::{
    AF_BRIDGE, BRIDGE_VLAN_INFO_PVID, BRIDGE_VLAN_INFO_RANGE_BEGIN, BRIDGE_VLAN_INFO_RANGE_END,
    BRIDGE_VLAN_INFO_UNTAGGED, IFLA_AF_SPEC, IFLA_BRIDGE_VLAN_INFO, IFLA_EXT_MASK, NLM_F_ACK, NLM_F_DUMP,
    RTEXT_FILTER_BRVLAN, RTM_DELLINK, RTM_GETLINK, RTM_NEWLINK, RTM_SETLINK,
};
use super::wire::{Attributes, Batch, Received, read_u16, read_u32};
use crate::Result;

/// A VLAN that a bridge port (or the bridge itself) is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BridgeVlan {
    /// Index of the port.
    pub link: u32,
    /// 1 to 4094.
    pub vid: u16,
    /// Frames that come in without a tag are in it.
    pub pvid: bool,
    /// Its frames leave without a tag.
    pub untagged: bool,
}

impl Batch {
    /// Puts a bridge port into VLANs, whose frames keep their tags.
    pub fn add_bridge_vlans(&mut self, link: u32, vids: RangeInclusive<u16>) {
        self.bridge_vlans(RTM_SETLINK, "add", link, vids, 0);
    }

    /// Puts a bridge port into the VLAN of its frames without a tag.
    pub fn set_bridge_pvid(&mut self, link: u32, vid: u16) {
        let flags = BRIDGE_VLAN_INFO_PVID | BRIDGE_VLAN_INFO_UNTAGGED;
        self.bridge_vlans(RTM_SETLINK, "add", link, vid..=vid, flags);
    }

    /// Takes a bridge port out of VLANs.
    pub fn delete_bridge_vlans(&mut self, link: u32, vids: RangeInclusive<u16>) {
        self.bridge_vlans(RTM_DELLINK, "delete", link, vids, 0);
    }

    fn bridge_vlans(
        &mut self,
        kind: u16,
        verb: &'static str,
        link: u32,
        vids: RangeInclusive<u16>,
        flags: u16,
    ) {
        let (first, last) = (*vids.start(), *vids.end());
        let object = match first == last {
            true => format!("VLAN {first} of bridge port number {link}"),
            false => format!("VLANs {first} to {last} of bridge port number {link}"),
        };
        let mut m = self.message(kind, NLM_F_ACK, &header(AF_BRIDGE, link, 0, 0), verb, object);
        m.nest(IFLA_AF_SPEC, |spec| {
            let info = |flags: u16, vid: u16| [flags.to_ne_bytes(), vid.to_ne_bytes()].concat();
            if first == last {
                spec.bytes(IFLA_BRIDGE_VLAN_INFO, &info(flags, first));
            } else {
                spec.bytes(IFLA_BRIDGE_VLAN_INFO, &info(flags | BRIDGE_VLAN_INFO_RANGE_BEGIN, first));
                spec.bytes(IFLA_BRIDGE_VLAN_INFO, &info(flags | BRIDGE_VLAN_INFO_RANGE_END, last));
            }
        });
    }
}

/// The VLANs of all bridge ports, and of the bridges themselves, in the socket's namespace. None where no bridge filters.
pub fn bridge_vlans(socket: &mut Socket) -> Result<Vec<BridgeVlan>> {
    let mut batch = Batch::new();
    batch
        .message(RTM_GETLINK, NLM_F_DUMP, &header(AF_BRIDGE, 0, 0, 0), "list", "VLANs of bridge ports")
        .u32(IFLA_EXT_MASK, RTEXT_FILTER_BRVLAN);
    let found = socket.dump(&batch, |message| Some(read(message)))?;
    Ok(found.into_iter().flatten().collect())
}

fn read(message: Received<'_>) -> Vec<BridgeVlan> {
    let Some(link) = read_u32(message.body, 4).filter(|_| message.kind == RTM_NEWLINK) else {
        return Vec::new();
    };
    let Some(spec) = Attributes::after(message.body, 16).find(IFLA_AF_SPEC) else { return Vec::new() };
    spec.nested()
        .filter(|attribute| attribute.kind == IFLA_BRIDGE_VLAN_INFO)
        .filter_map(|attribute| {
            let flags = read_u16(attribute.value, 0)?;
            Some(BridgeVlan {
                link,
                vid: read_u16(attribute.value, 2)?,
                pvid: flags & BRIDGE_VLAN_INFO_PVID != 0,
                untagged: flags & BRIDGE_VLAN_INFO_UNTAGGED != 0,
            })
        })
        .collect()
}
