//! What controllers are told of an instance.

use std::collections::BTreeMap;

use cpi::contract::{InstanceMetadata, NodeAddress};

use crate::config::Family;
use crate::ec2::Instance;

/// Where the physical zone is told, which is the same in all accounts.
const ZONE_ID: &str = "topology.k8s.aws/zone-id";

fn add(all: &mut Vec<NodeAddress>, kind: &str, address: &str) {
    let new = NodeAddress { type_: kind.into(), address: address.into() };
    if !address.is_empty() && !all.contains(&new) {
        all.push(new);
    }
}

/// Addresses of a family: of each interface its first, as further ones may be pods'.
fn of_family(instance: &Instance, family: Family, all: &mut Vec<NodeAddress>) {
    match family {
        Family::V4 => {
            for interface in &instance.interfaces {
                add(all, "InternalIP", &interface.private_ip);
            }
            add(all, "InternalIP", &instance.private_ip);
            for address in instance.interfaces.iter().flat_map(|interface| &interface.public_ips) {
                add(all, "ExternalIP", address);
            }
            add(all, "ExternalIP", &instance.public_ip);
        }
        Family::V6 => {
            for interface in &instance.interfaces {
                add(all, "InternalIP", interface.v6.first().map_or("", String::as_str));
            }
        }
    }
}

/// What is told; `id` is the provider id that the node has already, which never changes.
pub(super) fn of(
    instance: &Instance,
    id: Option<&str>,
    region: &str,
    families: &[Family],
) -> InstanceMetadata {
    let families = if families.is_empty() { &[Family::V4, Family::V6] } else { families };
    let mut node_addresses = Vec::new();
    for family in families {
        of_family(instance, *family, &mut node_addresses);
    }
    add(&mut node_addresses, "InternalDNS", &instance.private_dns);
    add(&mut node_addresses, "Hostname", &instance.private_dns);
    add(&mut node_addresses, "ExternalDNS", &instance.public_dns);
    let zone_id = Some(&instance.zone_id).filter(|id| !id.is_empty());
    InstanceMetadata {
        provider_id: id.map_or_else(|| format!("aws:///{}/{}", instance.zone, instance.id), str::to_owned),
        instance_type: instance.kind.clone(),
        node_addresses,
        zone: instance.zone.clone(),
        region: region.into(),
        additional_labels: zone_id
            .map(|id| (ZONE_ID.into(), id.clone()))
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ec2::Interface;

    #[test]
    fn addresses_of_both_families() {
        let interface = |ip: &str, public: &[&str], v6: &[&str]| Interface {
            private_ip: ip.into(),
            public_ips: public.iter().map(|ip| (*ip).into()).collect(),
            v6: v6.iter().map(|ip| (*ip).into()).collect(),
            ..Interface::default()
        };
        let instance = Instance {
            id: "i-1".into(),
            zone: "eu-1a".into(),
            zone_id: "euc1-az2".into(),
            private_ip: "10.0.0.1".into(),
            public_ip: "198.51.100.1".into(),
            private_dns: "ip-10-0-0-1.internal".into(),
            public_dns: "ec2.example".into(),
            interfaces: vec![
                interface("10.0.0.1", &["198.51.100.1"], &["2001:db8::1", "2001:db8::2"]),
                interface("10.0.1.1", &[], &[]),
            ],
            ..Instance::default()
        };
        let told = |families: &[Family]| {
            let found = of(&instance, None, "eu-1", families);
            found
                .node_addresses
                .iter()
                .map(|one| format!("{} {}", one.type_, one.address))
                .collect::<Vec<_>>()
        };
        let names =
            ["InternalDNS ip-10-0-0-1.internal", "Hostname ip-10-0-0-1.internal", "ExternalDNS ec2.example"];
        let v4 = ["InternalIP 10.0.0.1", "InternalIP 10.0.1.1", "ExternalIP 198.51.100.1"];
        let v6 = ["InternalIP 2001:db8::1"];
        assert_eq!(told(&[]), [&v4[..], &v6, &names].concat());
        assert_eq!(told(&[Family::V4]), [&v4[..], &names].concat());
        assert_eq!(told(&[Family::V6, Family::V4]), [&v6[..], &v4, &names].concat());
        let found = of(&instance, None, "eu-1", &[]);
        assert_eq!((found.provider_id.as_str(), found.region.as_str()), ("aws:///eu-1a/i-1", "eu-1"));
        assert_eq!(found.additional_labels[ZONE_ID], "euc1-az2");
        assert_eq!(of(&instance, Some("aws:///i-1"), "eu-1", &[]).provider_id, "aws:///i-1");
    }
}
