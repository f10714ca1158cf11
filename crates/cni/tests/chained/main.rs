//! The plugins that come after others in a chain, on a host of the test's own.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a test")]

mod bandwidth;
mod firewall;
mod mesh;
mod portmap;
#[path = "../rig/mod.rs"]
mod rig;
mod tuning;

use std::sync::Arc;

use cni::caller::Caller;
use cni::contract::{
    AddResult, Attachment, Error, NetworkList, Plugin, PluginConf, Request, VALID_ATTACHMENTS, Version,
};
use kernel::netlink::{self, Link, Protocol, Socket};
use ledger::Transient;
use rig::{Host, Netns};
use serde_json::{Value, json};

/// A network with the bridge br0 and `chained` after it: 10.5.0.0/24 and fd05::/64.
fn network(host: &Host, name: &str, chained: &[Value]) -> NetworkList {
    network_behind(host, name, "br0", 5, chained)
}

/// A network with a bridge of its own: 10.`number`.0.0/24 and fd0`number`::/64.
fn network_behind(host: &Host, name: &str, bridge: &str, number: u8, chained: &[Value]) -> NetworkList {
    let ranges =
        json!([[{ "subnet": format!("10.{number}.0.0/24") }], [{ "subnet": format!("fd0{number}::/64") }]]);
    let ipam = json!({ "type": "host-local", "dataDir": host.dir.path(), "ranges": ranges });
    let mut plugins =
        vec![json!({ "type": "bridge", "bridge": bridge, "isDefaultGateway": true, "ipam": ipam })];
    plugins.extend_from_slice(chained);
    NetworkList::from_value(json!({ "cniVersion": "1.1.0", "name": name, "plugins": plugins })).unwrap()
}

/// A container on a network, and one of our plugins called for it directly: as a runtime of others does with the program,
/// so nothing is on record.
struct Called<'a> {
    plugin: Arc<dyn Plugin>,
    caller: &'a Caller,
    attachment: Attachment,
    conf: PluginConf,
    previous: Option<AddResult>,
    netns: Netns,
}

impl<'a> Called<'a> {
    fn new(host: &'a Host, id: &str, conf: Value) -> Self {
        let netns = Netns::new();
        let attachment = rig::attachment(id, &netns, &[]);
        let list = network(host, "n", &[]);
        let added = host.caller.add(&list, &attachment, &mut host.owner(id)).unwrap();
        let conf = PluginConf::from_value(&conf).unwrap();
        let plugin = cni::plugin::builtins().remove(conf.kind.as_str()).unwrap();
        Self { plugin, caller: &host.caller, attachment, conf, previous: Some(added.result), netns }
    }

    fn request(&self) -> Request<'_> {
        Request {
            attachment: &self.attachment,
            network: "n",
            version: Version::LATEST,
            conf: &self.conf,
            previous: self.previous.as_ref(),
            delegate: self.caller,
        }
    }

    fn add(&self) -> Result<AddResult, Error> {
        let mut record = Transient::new();
        self.plugin.add(&self.request(), &mut record).inspect_err(|_| {
            let left: Vec<_> = record.undo_all().iter().map(ToString::to_string).collect();
            assert!(left.is_empty(), "{left:?}");
        })
    }

    fn check(&self) -> Result<(), Error> {
        self.plugin.check(&self.request())
    }

    fn del(&self) {
        self.plugin.del(&self.request(), &mut Transient::new()).unwrap();
    }

    /// As after a crash of the runtime: namespace and results are gone.
    fn del_with_nothing_known(&self) {
        let bare = Attachment { netns: None, ..self.attachment.clone() };
        let request = Request { attachment: &bare, previous: None, ..self.request() };
        for _ in 0..2 {
            self.plugin.del(&request, &mut Transient::new()).unwrap();
        }
    }

    /// GC with `valid` containers left.
    fn gc(&self, valid: &[&str]) {
        let mut conf = self.conf.clone();
        let valid: Vec<_> = valid.iter().map(|id| json!({ "containerID": id, "ifname": "eth0" })).collect();
        conf.keys.insert(VALID_ATTACHMENTS.into(), valid.into());
        let request = Request { conf: &conf, previous: None, ..self.request() };
        self.plugin.gc(&request, &mut Transient::new()).unwrap();
    }

    /// The container's interface as it is now.
    fn eth0(&self) -> Link {
        self.netns.run(|| link("eth0").unwrap())
    }
}

fn link(name: &str) -> Option<Link> {
    netlink::link_by_name(&mut Socket::open(Protocol::Route).unwrap(), name).unwrap()
}
