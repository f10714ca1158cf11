use std::path::Path;

use rustix::io::Errno;

use super::uapi::{
    AF_INET, AF_INET6, FR_ACT_TO_TBL, FRA_FWMARK, FRA_PRIORITY, FRA_TABLE, NLM_F_ACK, NLM_F_CREATE,
    NLM_F_EXCL, RT_SCOPE_HOST, RT_SCOPE_UNIVERSE, RTA_OIF, RTA_TABLE, RTM_DELROUTE, RTM_DELRULE,
    RTM_NEWROUTE, RTM_NEWRULE, RTN_LOCAL, RTPROT_BOOT, RTPROT_UNSPEC,
};
use super::{Batch, Protocol, Socket, sysctl};
use crate::namespace::{in_netns, open_pinned};
use crate::{Error, Result};

/// The loopback is the first link of each network namespace.
const LOOPBACK: u32 = 1;
/// Before the main table, and behind the local one.
const PRIORITY: u32 = 100;
/// What a mark passes on to (ip-sysctl): connections that programs accept carry that of what asked for them, IPv6 included; and so do the refusals that
/// the kernel answers with itself.
const PASSED_ON: [&str; 3] =
    ["net/ipv4/tcp_fwmark_accept", "net/ipv4/fwmark_reflect", "net/ipv6/fwmark_reflect"];

/// What carries a mark is for the machine itself, whatever address it goes to: for who connects to its programs from addresses of others
/// (`IP_TRANSPARENT`, ip(7)), and has to see their answers. A rule and a route of each family, and that what answers carries the mark of what was
/// asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Returning {
    /// The mark, all bits of it.
    pub mark: u32,
    /// The routing table that is for nothing else.
    pub table: u32,
}

impl Returning {
    /// Makes it so in the network namespace of the calling thread. What is there already counts as done, and so does a family that is not
    /// there.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add(self) -> Result<()> {
        let mut socket = Socket::open(Protocol::Route)?;
        for family in [AF_INET, AF_INET6] {
            let (flags, object) = (NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, self.words());
            let mut rule = Batch::new();
            rule.message(RTM_NEWRULE, flags, &rule_header(family), "add", format!("rule for {object}"))
                .u32(FRA_FWMARK, self.mark)
                .u32(FRA_TABLE, self.table)
                .u32(FRA_PRIORITY, PRIORITY);
            let mut route = Batch::new();
            let header = route_header(family, RTPROT_BOOT);
            route
                .message(RTM_NEWROUTE, flags, &header, "add", format!("route for {object}"))
                .u32(RTA_OIF, LOOPBACK)
                .u32(RTA_TABLE, self.table);
            let added = there_is_done(socket.run(&route)).and_then(|()| there_is_done(socket.run(&rule)));
            match added {
                Err(error) if family == AF_INET6 && has_no_family(&error) => {}
                added => added?,
            }
        }
        pass_on("1")
    }

    /// Takes it away in the network namespace of the calling thread. What is not there counts as done.
    ///
    /// # Errors
    /// The kernel's; the rest is taken away all the same.
    pub fn delete(self) -> Result<()> {
        let mut socket = Socket::open(Protocol::Route)?;
        let mut done = Ok(());
        for family in [AF_INET, AF_INET6] {
            let object = self.words();
            let mut rule = Batch::new();
            rule.message(
                RTM_DELRULE,
                NLM_F_ACK,
                &rule_header(family),
                "delete",
                format!("rule for {object}"),
            )
            .u32(FRA_FWMARK, self.mark)
            .u32(FRA_TABLE, self.table)
            .u32(FRA_PRIORITY, PRIORITY);
            let mut route = Batch::new();
            let header = route_header(family, RTPROT_UNSPEC);
            route
                .message(RTM_DELROUTE, NLM_F_ACK, &header, "delete", format!("route for {object}"))
                .u32(RTA_OIF, LOOPBACK)
                .u32(RTA_TABLE, self.table);
            for batch in [rule, route] {
                done = done.and(absent_is_done(socket.run(&batch)));
            }
        }
        done.and(pass_on("0"))
    }

    /// [`Returning::delete`] in another network namespace: the one that is pinned at `netns`, if that still is the one whose file has this
    /// inode. A namespace that is gone counts as done.
    ///
    /// # Errors
    /// The kernel's.
    pub fn delete_in(self, netns: &Path, inode: u64) -> Result<()> {
        open_pinned(netns, inode)?.map_or(Ok(()), |file| in_netns(&file, || self.delete()))
    }

    fn words(self) -> String {
        format!("what carries mark {:#x} by table {}", self.mark, self.table)
    }
}

/// `struct fib_rule_hdr`.
fn rule_header(family: u8) -> [u8; 12] {
    [family, 0, 0, 0, 0, 0, 0, FR_ACT_TO_TBL, 0, 0, 0, 0]
}

/// `struct rtmsg`: everything, to the machine itself.
fn route_header(family: u8, protocol: u8) -> [u8; 12] {
    let scope = if family == AF_INET { RT_SCOPE_HOST } else { RT_SCOPE_UNIVERSE };
    [family, 0, 0, 0, 0, protocol, scope, RTN_LOCAL, 0, 0, 0, 0]
}

/// Says whether marks pass on. A family that is not there has no such value.
fn pass_on(value: &str) -> Result<()> {
    PASSED_ON.iter().try_for_each(|key| absent_is_done(sysctl::write(key, value)))
}

fn there_is_done(done: Result<()>) -> Result<()> {
    match done {
        Err(error) if error.errno() == Some(Errno::EXIST) => Ok(()),
        done => done,
    }
}

fn absent_is_done(done: Result<()>) -> Result<()> {
    // The last where the kernel was started without IPv6.
    let absent = [Errno::NOENT, Errno::SRCH, Errno::AFNOSUPPORT, Errno::NODEV, Errno::OPNOTSUPP];
    match done {
        Err(error) if error.errno().is_some_and(|errno| absent.contains(&errno)) => Ok(()),
        done => done,
    }
}

/// IPv6 is switched off there.
fn has_no_family(error: &Error) -> bool {
    let none = [Errno::AFNOSUPPORT, Errno::NODEV, Errno::ACCESS, Errno::OPNOTSUPP, Errno::INVAL];
    error.errno().is_some_and(|errno| none.contains(&errno))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};

    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

    use super::*;
    use crate::namespace::in_new_netns;
    use crate::netlink::{SetLink, rules};
    use crate::socket::{be_transparent, set_mark};

    const RETURNING: Returning = Returning { mark: 0x5e87_0001, table: 0x5e87_0001 };

    #[test]
    fn who_connects_from_an_address_of_others_has_answers() {
        in_new_netns(|| {
            let mut batch = Batch::new();
            batch.set_link(&SetLink::named("lo").up(true));
            Socket::open(Protocol::Route)?.run(&batch)?;
            RETURNING.add()?;
            // Again is no error.
            RETURNING.add()?;
            // Addresses for documentation: nobody has them, and there is no way to them.
            let v4: SocketAddr = (Ipv4Addr::new(192, 0, 2, 1), 0).into();
            let v6: SocketAddr = (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 0).into();
            for (local, from) in [("127.0.0.1:0", v4), ("[::1]:0", v6)] {
                let listener = TcpListener::bind(local).unwrap();
                let at = listener.local_addr().unwrap();
                let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
                let client = socket(family, SocketType::STREAM, None).unwrap();
                be_transparent(&client).unwrap();
                set_mark(&client, RETURNING.mark).unwrap();
                bind(&client, &from).unwrap();
                connect(&client, &at).unwrap();
                let (mut accepted, peer) = listener.accept().unwrap();
                assert_eq!(peer.ip(), from.ip());
                accepted.write_all(b"answer").unwrap();
                drop(accepted);
                let mut answer = String::new();
                TcpStream::from(client).read_to_string(&mut answer).unwrap();
                assert_eq!(answer, "answer");
                // Where nobody listens, that is told as well. A child that another test has forked does until it executes its program.
                drop(listener);
                let end = std::time::Instant::now() + std::time::Duration::from_secs(180);
                loop {
                    let client = socket(family, SocketType::STREAM, None).unwrap();
                    be_transparent(&client).unwrap();
                    set_mark(&client, RETURNING.mark).unwrap();
                    bind(&client, &from).unwrap();
                    match connect(&client, &at) {
                        Err(Errno::CONNREFUSED) => break,
                        Ok(()) if std::time::Instant::now() < end => {}
                        told => panic!("{told:?}"),
                    }
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
            }
            let there = || -> Result<bool> {
                let all = rules(&mut Socket::open(Protocol::Route)?)?;
                Ok(all.iter().any(|rule| rule.table == RETURNING.table))
            };
            assert!(there()?);
            RETURNING.delete()?;
            RETURNING.delete()?;
            assert!(!there()?);
            for key in PASSED_ON {
                assert_eq!(sysctl::read(key)?, "0", "{key}");
            }
            Ok(())
        })
        .unwrap();
    }
}
