//! Ports that no Service has, at addresses of load balancers that this node answers for: who comes there is told so at once, as by a
//! machine that has the address. Without it the node would have the packet go on to where nobody is.
//!
//! It is a table of its own beside that of Services, which the kernel takes away with the process: what is answered for goes with that,
//! too. Its chains come after those of Services, and see what these have sent nowhere.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use kernel::netlink::{Protocol, Socket};
use kernel::nft::{
    Base, Chain, Element, Expression, Family, Hook, Meta, Register, Set, TYPE_LOCAL, Transaction, Value,
};

use crate::table::{TCP, address_field, destination, family};

const UDP: u8 = 17;
const SCTP: u8 = 132;
/// Behind the translation of Services (-100).
const PRIORITY: i32 = -90;
/// What the kernel has refused is tried again after so long.
const AGAIN: Duration = Duration::from_secs(1);

/// The addresses, of each family.
const ADDRESSES: [(bool, &str); 2] = [(true, "addresses4"), (false, "addresses6")];

/// What has become of an address on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Now {
    /// It is answered for.
    Answered,
    /// It is not any more. The link may be gone, and with it its name.
    Left,
    /// Somebody else has it there, whether or not it was answered for.
    Contested,
}

/// Refuses until it, and what was cloned of it, is dropped.
#[derive(Debug, Clone)]
pub struct Refuser(Sender<Said>);

#[derive(Debug)]
enum Said {
    /// Of an address on a link.
    Now(IpAddr, String, Now),
    /// At these nothing is refused, and at those of before again.
    Spared(BTreeSet<IpAddr>),
}

impl Refuser {
    /// In this table (family inet) of the calling thread's network namespace, which is made once there is an address. What the kernel
    /// refuses (tables that belong to their process are there since Linux 5.12) is a warning.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(table: String) -> std::io::Result<Self> {
        let (sender, said) = channel();
        // The kernel may take its time.
        std::thread::Builder::new()
            .name("refused".into())
            .spawn(move || keep(&mut Table { name: table, made: None }, &said))?;
        Ok(Self(sender))
    }

    /// Notes what has become of an address on a link. It does not wait.
    pub fn note(&self, address: IpAddr, link: &str, now: Now) {
        // The thread listens as long as this is there.
        let _ = self.0.send(Said::Now(address, link.to_owned(), now));
    }

    /// Has nothing be refused at these addresses, of which another knows the ports, and takes back what was said so before. It does not wait.
    pub fn spare(&self, addresses: BTreeSet<IpAddr>) {
        let _ = self.0.send(Said::Spared(addresses));
    }
}

fn keep(table: &mut Table, said: &Receiver<Said>) {
    let (mut held, mut told) = (Held::default(), String::new());
    loop {
        let next = match told.is_empty() {
            true => said.recv().map_err(|_| RecvTimeoutError::Disconnected),
            false => said.recv_timeout(AGAIN),
        };
        match next {
            Ok(first) => held.note(first),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        // Many come together.
        said.try_iter().for_each(|said| held.note(said));
        match table.want(&held.addresses()) {
            Ok(()) => told.clear(),
            Err(error) => {
                let text = error.to_string();
                if text != told {
                    eprintln!("sextant services: warning: ports that no Service has are not refused: {text}");
                    told = text;
                }
            }
        }
    }
}

/// What is answered for, and on which links.
#[derive(Debug, Default)]
struct Held {
    links: BTreeMap<IpAddr, BTreeSet<String>>,
    /// Where nothing is refused nevertheless.
    spared: BTreeSet<IpAddr>,
}

impl Held {
    fn note(&mut self, said: Said) {
        let (address, link, now) = match said {
            Said::Now(address, link, now) => (address, link, now),
            Said::Spared(addresses) => {
                self.spared = addresses;
                return;
            }
        };
        if now == Now::Answered {
            self.links.entry(address).or_default().insert(link);
            return;
        }
        let Some(links) = self.links.get_mut(&address) else { return };
        let was_there = links.remove(&link);
        // By a name that is not known one has left that is: rather nothing is refused than for ever.
        if links.is_empty() || !was_there && now == Now::Left {
            self.links.remove(&address);
        }
    }

    fn addresses(&self) -> BTreeSet<IpAddr> {
        self.links.keys().filter(|address| !self.spared.contains(address)).copied().collect()
    }
}

/// The table, where it is made.
#[derive(Debug)]
struct Table {
    name: String,
    made: Option<Made>,
}

#[derive(Debug)]
struct Made {
    /// The table is there as long as this.
    socket: Socket,
    there: BTreeSet<IpAddr>,
}

impl Table {
    /// Has these addresses, and no others, be in it. After an error there is no table: the next call makes it anew.
    fn want(&mut self, addresses: &BTreeSet<IpAddr>) -> kernel::Result<()> {
        let mut change = Transaction::new();
        let mut made = match self.made.take() {
            Some(made) if made.there == *addresses => {
                self.made = Some(made);
                return Ok(());
            }
            Some(made) => made,
            None if addresses.is_empty() => return Ok(()),
            None => {
                make(&mut change, &self.name);
                Made { socket: Socket::open(Protocol::Netfilter)?, there: BTreeSet::new() }
            }
        };
        for (ipv4, set) in ADDRESSES {
            let of = |all: &BTreeSet<IpAddr>, but: &BTreeSet<IpAddr>| -> Vec<Element> {
                all.difference(but).filter(|address| address.is_ipv4() == ipv4).map(element).collect()
            };
            change.delete_elements(Family::Inet, &self.name, set, &of(&made.there, addresses));
            change.add_elements(Family::Inet, &self.name, set, &of(addresses, &made.there), true);
        }
        change.commit(&mut made.socket)?;
        made.there.clone_from(addresses);
        self.made = Some(made);
        Ok(())
    }
}

fn element(address: &IpAddr) -> Element {
    Element { key: Value::new().address(*address).into_bytes(), ..Element::default() }
}

/// Makes the table with all in it but addresses.
fn make(change: &mut Transaction, table: &str) {
    let family = Family::Inet;
    change.add_owned_table(family, table, Some("sextant services: ports that no Service has"));
    for (ipv4, name) in ADDRESSES {
        let key = [address_field(ipv4)];
        change.add_set(family, table, &Set { name, key: &key, target: None, interval: false });
    }
    for (name, hook) in [("prerouting", Hook::Prerouting), ("output", Hook::Output)] {
        // Of a flow the first packet alone is seen: what is no flow any more is not torn down.
        let base = Some(Base { kind: "nat", hook, priority: PRIORITY, accept: true });
        change.add_chain(family, table, &Chain { name, base });
        for (ipv4, set) in ADDRESSES {
            for protocol in [TCP, UDP, SCTP] {
                change.add_rule(family, table, name, &refuse(ipv4, set, protocol), None);
            }
        }
    }
}

/// What comes to one of the addresses by a protocol with ports is refused. What a link of this node has is its kernel's affair, and
/// neighbours ask for the addresses by a protocol without.
fn refuse(ipv4: bool, set: &'static str, protocol: u8) -> Vec<Expression<'static>> {
    let register = Register(0);
    let is = |equal, value: Vec<u8>| Expression::Compare { register, equal, value };
    let mut rule = family(ipv4);
    rule.extend([
        Expression::Meta { key: Meta::Protocol, to: register },
        is(true, vec![protocol]),
        destination(ipv4, register),
        Expression::Lookup { set, register, to: None, invert: false },
        Expression::AddressType { to: register },
        is(false, TYPE_LOCAL.to_ne_bytes().to_vec()),
        Expression::Reject { reset: protocol == TCP },
    ]);
    rule
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use kernel::namespace::in_new_netns;
    use kernel::nft::{elements, tables};

    use super::*;

    fn ips(all: &[&str]) -> BTreeSet<IpAddr> {
        all.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn an_address_is_answered_for_as_long_as_it_is_on_some_link() {
        let mut held = Held::default();
        let mut note = |address: &str, link: &str, now: Now| {
            held.note(Said::Now(address.parse().unwrap(), link.to_owned(), now));
            held.addresses()
        };
        let (answered, left, contested) = (Now::Answered, Now::Left, Now::Contested);
        assert_eq!(note("192.0.2.7", "e0", answered), ips(&["192.0.2.7"]));
        assert_eq!(note("192.0.2.7", "e1", answered), ips(&["192.0.2.7"]));
        assert_eq!(note("2001:db8::7", "e0", answered), ips(&["192.0.2.7", "2001:db8::7"]));
        assert_eq!(note("192.0.2.7", "e0", left), ips(&["192.0.2.7", "2001:db8::7"]), "on e1 still");
        assert_eq!(note("192.0.2.7", "e1", left), ips(&["2001:db8::7"]));
        assert_eq!(note("192.0.2.8", "e0", left), ips(&["2001:db8::7"]), "it was never there");
        assert_eq!(note("2001:db8::7", "e9", contested), ips(&["2001:db8::7"]), "it was not asked for there");
        assert_eq!(note("192.0.2.9", "e0", answered).len(), 2);
        assert_eq!(note("192.0.2.9", "e0", contested), ips(&["2001:db8::7"]), "it is somebody else's");
        assert_eq!(note("2001:db8::7", "number 7", left), ips(&[]), "its link has gone with its name");
    }

    #[test]
    fn nothing_is_refused_where_another_knows_the_ports() {
        let mut held = Held::default();
        held.note(Said::Spared(ips(&["192.0.2.7", "192.0.2.9"])));
        for address in ips(&["192.0.2.7", "192.0.2.8"]) {
            held.note(Said::Now(address, "e0".to_owned(), Now::Answered));
        }
        assert_eq!(held.addresses(), ips(&["192.0.2.8"]));
        held.note(Said::Spared(ips(&["192.0.2.8"])));
        assert_eq!(held.addresses(), ips(&["192.0.2.7"]), "the others no longer");
    }

    /// Root.
    #[test]
    fn the_table_has_what_is_wanted_and_goes_with_its_process() {
        in_new_netns(|| {
            let mut other = Socket::open(Protocol::Netfilter)?;
            let mut table = Table { name: "test-refused".into(), made: None };
            table.want(&ips(&[]))?;
            assert_eq!(tables(&mut other, Family::Inet)?, [""; 0], "nothing is made for nothing");
            let mut there = |table: &mut Table, all: &[&str]| -> kernel::Result<[usize; 2]> {
                table.want(&ips(all))?;
                let mut count = |set: &str| -> kernel::Result<usize> {
                    Ok(elements(&mut other, Family::Inet, "test-refused", set)?.len())
                };
                Ok([count("addresses4")?, count("addresses6")?])
            };
            assert_eq!(there(&mut table, &["192.0.2.7", "192.0.2.8", "2001:db8::7"])?, [2, 1]);
            assert_eq!(there(&mut table, &["192.0.2.7", "192.0.2.8", "2001:db8::7"])?, [2, 1]);
            assert_eq!(there(&mut table, &["192.0.2.8", "2001:db8::8", "2001:db8::9"])?, [1, 2]);
            assert_eq!(there(&mut table, &[])?, [0, 0]);
            // Somebody else has made one of that name: that is an error, and another try once it is gone.
            let mut second = Table { name: "test-refused".into(), made: None };
            assert!(second.want(&ips(&["192.0.2.7"])).is_err());
            drop(table);
            second.want(&ips(&["192.0.2.7"]))?;
            drop(second);
            assert_eq!(tables(&mut other, Family::Inet)?, [""; 0]);
            Ok(())
        })
        .unwrap();
    }

    /// Root.
    #[test]
    fn what_the_kernel_has_refused_is_tried_again() {
        in_new_netns(|| {
            let mut other = Socket::open(Protocol::Netfilter)?;
            let mut first = Table { name: "test-refused".into(), made: None };
            first.want(&ips(&["192.0.2.1"]))?;
            let refuser = Refuser::start("test-refused".into()).unwrap();
            for address in ips(&["192.0.2.7", "192.0.2.8"]) {
                refuser.note(address, "e0", Now::Answered);
            }
            // Somebody else has one of that name as long as that.
            std::thread::sleep(AGAIN / 2);
            drop(first);
            let begun = Instant::now();
            while !elements(&mut other, Family::Inet, "test-refused", "addresses4")
                .is_ok_and(|all| all.len() == 2)
            {
                assert!(begun.elapsed() < Duration::from_secs(180));
                std::thread::sleep(Duration::from_millis(10));
            }
            Ok(())
        })
        .unwrap();
    }
}
