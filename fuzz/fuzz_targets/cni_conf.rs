//! Any bytes as a CNI configuration: no panic, and what is accepted is accepted again as it was kept.

use cni::contract::{NetworkList, PortMapping, parse_args};

pub fn run(bytes: &[u8]) {
    if let Ok(list) = NetworkList::parse(bytes) {
        assert!(!list.plugins.is_empty());
        assert!(list.plugins.iter().all(|plugin| !plugin.kind.contains('/')));
        let _ = list.plugins.iter().map(|plugin| plugin.ipam_type()).count();
        assert_eq!(NetworkList::from_value(list.source.clone()).ok(), Some(list));
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = PortMapping::parse(text);
        let _ = parse_args(text);
    }
}
