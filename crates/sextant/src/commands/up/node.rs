//! Where the node is: the address that pods and other machines know it by, and that its agent listens at.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};

use crate::cli::UpArgs;
use crate::commands::agent;

/// The agent's port, as a kubelet's.
const PORT: u16 = 10250;

/// The node's address: the one by which this machine reaches others, or its own bridge's, which is reached by pods.
pub(super) fn address(args: &UpArgs, gateway: IpAddr) -> IpAddr {
    args.node_ip.unwrap_or_else(|| choose(agent::address_of_route().ok(), gateway))
}

fn choose(of_route: Option<IpAddr>, gateway: IpAddr) -> IpAddr {
    of_route.filter(|address| !address.is_loopback() && !address.is_unspecified()).unwrap_or(gateway)
}

/// What the agent is told of it, and where it listens.
pub(super) fn agent_args(args: &UpArgs, gateway: IpAddr) -> (Vec<OsString>, SocketAddr) {
    let listen = args.agent_listen.unwrap_or_else(|| SocketAddr::new(address(args, gateway), PORT));
    let mut words: Vec<OsString> = vec!["--listen".into(), listen.to_string().into()];
    // Else it is known by where it listens.
    if args.node_ip.is_some() || listen.ip().is_unspecified() {
        words.extend(["--node-ip".into(), address(args, gateway).to_string().into()]);
    }
    (words, listen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_others_is_known_by_its_bridge() {
        let [gateway, own, loopback, none]: [IpAddr; 4] =
            ["10.64.0.1", "192.0.2.7", "127.0.0.1", "0.0.0.0"].map(|text| text.parse().unwrap());
        assert_eq!(choose(Some(own), gateway), own);
        for other in [None, Some(loopback), Some(none)] {
            assert_eq!(choose(other, gateway), gateway);
        }
    }
}
