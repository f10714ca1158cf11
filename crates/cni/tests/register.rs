//! The plugin that docs/cni.md shows is the one that is compiled, and it works.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a test")]

#[allow(dead_code, reason = "its main is not called here")]
#[path = "../examples/register.rs"]
mod example;
mod rig;

use std::sync::Arc;

use cni::caller::Caller;
use cni::contract::{Code, NetworkList, Registry, ValidAttachment};
use ledger::Transient;
use rig::{Netns, attachment, on_a_host};
use serde_json::json;

#[test]
fn the_document_shows_what_is_compiled() {
    let (document, example) = (include_str!("../../../docs/cni.md"), include_str!("../examples/register.rs"));
    assert!(document.contains(&format!("```rust\n{example}```\n")), "docs/cni.md shows another text");
}

#[test]
fn add_check_gc_and_del_of_the_example() {
    on_a_host(|host| {
        let mut plugins: Registry = cni::plugin::builtins();
        plugins.insert("register", Arc::new(example::Register));
        let caller = Caller::new(plugins, host.dir.path().join("cache"));
        let directory = host.dir.path().join("registered");
        let ipam = json!({ "type": "host-local", "dataDir": host.dir.path(), "subnet": "10.5.0.0/24" });
        let list = |register| {
            let bridge = json!({ "type": "bridge", "bridge": "br0", "isGateway": true, "ipam": ipam });
            let list = json!({ "cniVersion": "1.1.0", "name": "n", "plugins": [bridge, register] });
            NetworkList::from_value(list).unwrap()
        };
        let good = list(json!({ "type": "register", "directory": directory }));
        let netns = Netns::new();
        let refused = list(json!({ "type": "register" }));
        let error = caller.add(&refused, &attachment("a", &netns, &[]), &mut Transient::new()).unwrap_err();
        assert!(error.code == Code::InvalidConfig && error.to_string().contains("\"directory\""), "{error}");

        let file = |id: &str| directory.join(format!("n/{id}@eth0"));
        let netns = [Netns::new(), Netns::new()];
        let attachments = [attachment("a", &netns[0], &[]), attachment("b", &netns[1], &[])];
        let mut record = Transient::new();
        for attachment in &attachments {
            caller.add(&good, attachment, &mut record).unwrap();
        }
        assert!(std::fs::read_to_string(file("b")).unwrap().starts_with("10.5.0."));
        caller.check(&good, &attachments[0]).unwrap();
        std::fs::remove_file(file("a")).unwrap();
        assert!(caller.check(&good, &attachments[0]).is_err());
        let valid = ValidAttachment { container_id: "a".into(), ifname: "eth0".into() };
        std::fs::write(file("of-a-life-before"), "").unwrap();
        caller.gc(&good, &[valid], &mut record).unwrap();
        assert!(!file("b").exists() && !file("of-a-life-before").exists());
        for attachment in &attachments {
            caller.del(&good, attachment, &mut record).unwrap();
            caller.del(&good, attachment, &mut record).unwrap();
        }
        assert_eq!(std::fs::read_dir(directory.join("n")).unwrap().count(), 0);
    });
}
