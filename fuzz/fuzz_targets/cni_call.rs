//! Any environment and any standard input as a call of a plugin's program: no panic; what is refused has the
//! specification's code, and what is accepted is whole.
//!
//! The first line is the plugin's name, then a variable a line, an empty line, and what is on standard input.

use cni::contract::Error;
use cni::plugin::program::{Call, Verb};

/// Of the specification, and 8 of the reference library: the container's namespace is the plugin's own.
const CODES: &[u64] = &[1, 2, 4, 6, 7, 8];

fn refused(error: &Error) {
    let object = error.to_json("1.1.0");
    let code = object["code"].as_u64().expect("a code");
    assert!(CODES.contains(&code), "{object}");
    assert!(object["msg"].as_str().is_some_and(|msg| !msg.is_empty()), "{object}");
}

pub fn run(bytes: &[u8]) {
    let Some(end) = bytes.windows(2).position(|two| two == b"\n\n") else { return };
    let (head, input) = bytes.split_at(end);
    let Ok(head) = std::str::from_utf8(head) else { return };
    let (kind, variables) = head.split_once('\n').unwrap_or((head, ""));
    let variable = |name: &str| {
        let mut pairs = variables.lines().filter_map(|line| line.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value.into())
    };
    let mut call = match Call::from_environment(variable) {
        Ok(Some(call)) => call,
        Ok(None) => return assert_eq!(variable("CNI_COMMAND").unwrap_or_default(), ""),
        Err(error) => return refused(&error),
    };
    if let Err(error) = call.read(kind, &input[2..]) {
        return refused(&error);
    }
    if call.verb != Verb::Version {
        assert!(!call.network.is_empty() && !call.network.contains('/'));
        assert!(!call.attachment.container_id.contains('/') && call.attachment.ifname.len() <= 15);
        assert!(!call.conf.keys.contains_key("prevResult"));
        let _ = call.conf.ipam_type();
    }
}
