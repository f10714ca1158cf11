//! Any bytes as a plugin's result or error: no panic, and what is accepted reads back the same.

use cni::contract::{AddResult, Error, Version};

pub fn run(bytes: &[u8]) {
    if let Ok(result) = AddResult::parse(bytes) {
        for version in Version::ALL {
            let value = result.to_value(version);
            let back = AddResult::from_value(value.clone()).expect("what was written can be read");
            assert!(version < Version::LATEST || back == result);
            // What an old version cannot say is gone the first time.
            let again = AddResult::from_value(back.to_value(version)).expect("and again");
            assert_eq!(again.to_value(version), back.to_value(version), "{version}: {value}");
        }
    }
    let _ = Error::from_json(bytes);
}
