//! Networks of a chosen plugin, and what became of them.

use std::io::Write;

use cni::contract::{AddResult, Attachment, Code, NetworkList};
use kernel::netlink::{self, Batch, Kind, Link, NewLink, Protocol, Socket};
use serde_json::{Value, json};

use super::{Host, Netns};

/// A network of one plugin, with addresses of both families.
pub(crate) fn network(host: &Host, plugin: &Value) -> NetworkList {
    let mut plugin = plugin.clone();
    if plugin.get("ipam").is_none() {
        plugin["ipam"] = json!({
            "type": "host-local", "dataDir": host.dir.path().join("leases"),
            "ranges": [[{ "subnet": "10.50.0.0/24" }], [{ "subnet": "fd50::/64" }]],
            "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
        });
    }
    list(&[plugin])
}

pub(crate) fn list(plugins: &[Value]) -> NetworkList {
    let list = json!({ "cniVersion": "1.1.0", "name": "links", "plugins": plugins });
    NetworkList::from_value(list).unwrap()
}

pub(crate) fn add(host: &Host, list: &NetworkList, attachment: &Attachment) -> AddResult {
    let mut owner = host.owner(&attachment.container_id);
    host.caller.add(list, attachment, &mut owner).unwrap().result
}

pub(crate) fn refused(host: &Host, list: &NetworkList, attachment: &Attachment) -> (Code, String) {
    let mut owner = host.owner(&attachment.container_id);
    let error = host.caller.add(list, attachment, &mut owner).unwrap_err();
    (error.code, error.to_string())
}

pub(crate) fn del(host: &Host, list: &NetworkList, attachment: &Attachment) {
    let mut owner = host.owner(&attachment.container_id);
    host.caller.del(list, attachment, &mut owner).unwrap();
}

pub(crate) fn link(netns: &Netns, name: &str) -> Option<Link> {
    netns.run(|| netlink::link_by_name(&mut Socket::open(Protocol::Route).unwrap(), name).unwrap())
}

pub(crate) fn has_lease(host: &Host, address: &str) -> bool {
    host.dir.path().join("leases/links").join(address).exists()
}

/// Whether the kernel has links of this kind on `uplink`; says so if not.
pub(crate) fn has_kind(kind: impl FnOnce(u32) -> Kind<'static>, test: &str) -> bool {
    let mut socket = Socket::open(Protocol::Route).unwrap();
    let parent = netlink::link_by_name(&mut socket, "uplink").unwrap().map_or(0, |uplink| uplink.index);
    let mut batch = Batch::new();
    batch.add_link(&NewLink::new("probe", kind(parent)));
    match socket.run(&batch) {
        Ok(()) => {
            netlink::delete_link("probe").unwrap();
            true
        }
        Err(e) if e.errno() == Some(rustix::io::Errno::OPNOTSUPP) => {
            // Past the capture of a test that passes.
            let _ = writeln!(std::io::stderr(), "skipped {test}: this kernel: {e}");
            false
        }
        Err(e) => panic!("{e}"),
    }
}

/// An `eth0` in the container that is nobody's.
pub(crate) fn make_eth0(netns: &Netns) {
    netns.run(|| {
        let peer = netlink::Peer { name: "far", mac: None, mtu: None, netns: None };
        let mut batch = Batch::new();
        batch.add_link(&NewLink::new("eth0", Kind::Veth { peer }));
        Socket::open(Protocol::Route).unwrap().run(&batch).unwrap();
    });
}

/// The names of the links in this thread's namespace, in order.
pub(crate) fn links_here() -> Vec<String> {
    let links = netlink::links(&mut Socket::open(Protocol::Route).unwrap()).unwrap();
    links.into_iter().map(|link| link.name).collect()
}
