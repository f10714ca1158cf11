//! Any bytes as a plugin's result or error: no panic, and what is accepted reads back the same.
#![no_main]

use cni::contract::{AddResult, Error, Version};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(result) = AddResult::parse(bytes) {
        for version in Version::ALL {
            let back = AddResult::from_value(result.to_value(version));
            assert!(version < Version::LATEST || back.ok().as_ref() == Some(&result));
        }
    }
    let _ = Error::from_json(bytes);
});
