//! Any text as the configuration of provider `metal`: no panic; what is taken has pools with addresses, each of one pool.

use metal::{Config, NodeRoutes};

pub fn run(text: &str) {
    let Ok(config) = Config::parse(text) else { return };
    for pool in &config.pools {
        assert!(!pool.addresses.is_empty(), "{pool:?}");
        for range in &pool.addresses {
            assert!(range.size() > 0 && range.contains(range.first()) && range.contains(range.last()), "{range:?}");
            assert_eq!(range.to_string().parse(), Ok(*range));
            let networks = range.networks();
            let ends = (networks.first().map(|one| one.first()), networks.last().map(|one| one.last()));
            assert_eq!(ends, (Some(range.first()), Some(range.last())));
            let having = config.pools.iter().filter(|pool| pool.addresses.iter().any(|one| one.overlaps(range)));
            assert_eq!(having.count(), 1, "{range:?}");
        }
    }
    if let NodeRoutes::Within(networks) = &config.node_routes {
        assert!(!networks.is_empty() && networks.iter().all(|network| config.node_routes.admit(network)));
    }
    assert!(config.instances.is_none_or(|all| !all.is_empty()));
}
