//! Any text as a CSI driver's configuration: no panic; what is taken has pools that can be had.

use csi::plugin::Config;

pub fn run(text: &str) {
    if let Ok(config) = Config::parse(text) {
        assert!(!config.pools.is_empty());
        for pool in &config.pools {
            assert!(
                pool.path.is_absolute() && pool.overcommit >= 1.0 && !pool.name.contains('/'),
                "{pool:?}"
            );
        }
    }
}
