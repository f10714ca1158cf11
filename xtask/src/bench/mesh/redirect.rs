//! What leads a client's connections to a peer, as the plugins of sidecars do (istio-cni, linkerd-cni): a table of nftables in the pod's network.
//!
//! It belongs to a socket of this process, and so is there only as long as a peer is asked that way, whatever this process ends by. What is led is
//! followed and translated by the kernel as it is with ours. What goes between a peer and the backends is not followed: those plugins do not spare it
//! that, so a peer costs less here than it does with them.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use kernel::netlink::conntrack::{Flows, delete_flows_on};
use kernel::netlink::{Protocol, Socket};
use kernel::nft::{Base, Chain, Expression, Family, Header, Hook, Meta, Register, Transaction, tables};
use testkit::netns::Netns;

use super::place::BACKEND;
use crate::Result;

const FAMILY: Family = Family::Inet;
const TABLE: &str = "sextant-bench";
const LED: &str = "led";
/// The chains of what is not followed.
const SENT: &str = "sent";
const COMES: &str = "comes";
/// Before connections are followed, and where destinations are translated.
const RAW: i32 = -300;
const DSTNAT: i32 = -100;
const TCP: u8 = 6;
const NFPROTO_IPV4: u8 = 2;
/// Where the addresses of a packet of IPv4 are.
const SOURCE: u32 = 12;
const DESTINATION: u32 = 16;
const LOADED: Register = Register::FIRST;

/// Leads connections until it is dropped.
pub(super) struct Redirect {
    /// The table belongs to it.
    owner: Socket,
    service: SocketAddrV4,
}

impl Redirect {
    /// Leads what the pod's programs connect to at a Service's address to a port of the pod's loopback.
    pub(super) fn begin(pod: &Netns, service: SocketAddr, port: u16) -> Result<Self> {
        let SocketAddr::V4(service) = service else {
            return Err(format!("cannot lead {service} to a peer: no address of IPv4").into());
        };
        let backend: Ipv4Addr = BACKEND.parse()?;
        let mut change = Transaction::new();
        change.add_owned_table(FAMILY, TABLE, Some("leads a client of the bench to a peer"));
        let mut chain = |name: &str, kind: &'static str, hook: Hook, priority: i32| {
            let base = Some(Base { kind, hook, priority, accept: true });
            change.add_chain(FAMILY, TABLE, &Chain { name, base });
        };
        chain(LED, "nat", Hook::Output, DSTNAT);
        chain(SENT, "filter", Hook::Output, RAW);
        chain(COMES, "filter", Hook::Prerouting, RAW);
        let led = [
            address(DESTINATION, *service.ip()),
            vec![
                Expression::Meta { key: Meta::Protocol, to: LOADED },
                equals(vec![TCP]),
                Expression::Payload { header: Header::Transport, offset: 2, len: 2, to: LOADED },
                equals(service.port().to_be_bytes().to_vec()),
                Expression::Immediate { to: LOADED, value: port.to_be_bytes().to_vec() },
                Expression::Redirect { port: LOADED },
            ],
        ];
        change.add_rule(FAMILY, TABLE, LED, &led.concat(), Some("to a Service"));
        for (chain, offset, words) in [(SENT, DESTINATION, "to a backend"), (COMES, SOURCE, "from a backend")]
        {
            let rule = [address(offset, backend), vec![Expression::NoTrack]].concat();
            change.add_rule(FAMILY, TABLE, chain, &rule, Some(words));
        }
        let mut owner = Socket::open_in(Protocol::Netfilter, pod)?;
        forget(&mut owner, service)?;
        change.commit(&mut owner)?;
        Ok(Self { owner, service })
    }
}

impl Drop for Redirect {
    fn drop(&mut self) {
        let mut change = Transaction::new();
        change.delete_table(FAMILY, TABLE);
        // Where this is refused, the table goes with the socket.
        let ended = change.commit(&mut self.owner).and_then(|()| forget(&mut self.owner, self.service));
        if let Err(e) = ended {
            eprintln!("warning: {e}");
        }
    }
}

/// The tables that are in a pod's network: whoever is there beside them is measured with what they cost.
pub(super) fn beside(pod: &Netns) -> Result<Vec<String>> {
    Ok(tables(&mut Socket::open_in(Protocol::Netfilter, pod)?, FAMILY)?)
}

/// The kernel forgets connections to a Service. Who is led there next may have the port of one that it still leads to somebody else.
fn forget(socket: &mut Socket, service: SocketAddrV4) -> kernel::Result<()> {
    let flows = Flows::FirstSentTo {
        ipv4: true,
        address: Some((*service.ip()).into()),
        protocol: TCP,
        port: service.port(),
    };
    delete_flows_on(socket, &flows)
}

/// The packet is one of IPv4 that has this address there.
fn address(offset: u32, address: Ipv4Addr) -> Vec<Expression<'static>> {
    vec![
        Expression::Meta { key: Meta::Family, to: LOADED },
        equals(vec![NFPROTO_IPV4]),
        Expression::Payload { header: Header::Network, offset, len: 4, to: LOADED },
        equals(address.octets().to_vec()),
    ]
}

fn equals(value: Vec<u8>) -> Expression<'static> {
    Expression::Compare { register: LOADED, equal: true, value }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use kernel::netlink::Route;
    use testkit::netns::{addresses, change, index};

    use super::*;

    /// Longer than it takes to be answered, and long enough where nobody is to answer.
    const PATIENCE: Duration = Duration::from_secs(180);
    const SOON: Duration = Duration::from_millis(300);

    /// The byte that who is connected to says.
    fn said(pod: &Netns, service: SocketAddr, within: Duration) -> Option<u8> {
        pod.run(|| {
            let mut stream = TcpStream::connect_timeout(&service, within).ok()?;
            let mut said = [0];
            stream.read_exact(&mut said).ok()?;
            said.first().copied()
        })
    }

    #[test]
    fn a_service_leads_to_a_peer_as_long_as_it_is_measured() {
        let pod = Netns::new();
        let listener = pod.run(|| {
            addresses("lo", &["10.55.1.2/24"]);
            let link = Some(index("lo"));
            let everywhere = "0.0.0.0/0".parse().unwrap();
            change(|batch| batch.add_route(&Route { link, ..Route::to(everywhere) }));
            TcpListener::bind("127.0.0.1:0").unwrap()
        });
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let _gone = stream.write_all(b"p");
            }
        });
        let service: SocketAddr = "10.96.1.1:80".parse().unwrap();
        assert_eq!(said(&pod, service, SOON), None);
        for _ in 0..2 {
            let redirect = Redirect::begin(&pod, service, port).unwrap();
            assert_eq!(beside(&pod).unwrap(), [TABLE]);
            assert_eq!(said(&pod, service, PATIENCE), Some(b'p'));
            // Other ports are nobody's.
            assert_eq!(said(&pod, SocketAddr::new(service.ip(), 81), SOON), None);
            drop(redirect);
            assert_eq!(beside(&pod).unwrap(), Vec::<String>::new());
            assert_eq!(said(&pod, service, SOON), None);
        }
    }
}
