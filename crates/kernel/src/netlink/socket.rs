use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

use super::uapi::{
    NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, NLMSGERR_ATTR_MISS_TYPE,
    NLMSGERR_ATTR_MSG,
};
use super::wire::{Attributes, Batch, HEADER, Messages, Received, read_u32};
use crate::{Act, Error, Result};

/// The kernel's largest dump datagram is 32 kB; twice that is never cut short.
const RECEIVE: usize = 64 * 1024;
/// Any default send buffer takes this much at once.
const SEND: usize = 128 * 1024;
/// Requests sent before their answers are read: their acknowledgements fit any default receive buffer.
const CHUNK: usize = 64;
/// How often a dump that changed underfoot is repeated before its answer is taken as it is.
const DUMP_ATTEMPTS: usize = 8;

/// Not in libc yet.
const SO_NETNS_COOKIE: i32 = 71;

/// Which part of the kernel a socket speaks with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Links, addresses, routes, neighbours, queueing disciplines.
    Route,
    /// nf_tables and connection tracking.
    Netfilter,
}

/// A netlink socket: it belongs to the network namespace it was opened in, whatever thread uses it later.
#[derive(Debug)]
pub struct Socket {
    pub(super) fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
    netns_cookie: OnceLock<Option<u64>>,
}

impl Socket {
    /// Opens a socket in the caller's network namespace.
    pub fn open(protocol: Protocol) -> Result<Self> {
        let number = match protocol {
            Protocol::Route => None,
            Protocol::Netfilter => Some(netlink::NETFILTER),
        };
        let fd =
            rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, number)
                .act("open", || "a netlink socket")?;
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, 0)).act("bind", || "a netlink socket")?;
        // Netlink answers before `send` returns; this only keeps a kernel bug from hanging us.
        sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, Some(Duration::from_secs(30)))
            .act("set up", || "a netlink socket")?;
        // Both are kernel 4.12; without them errors are shorter.
        enable(&fd, libc::NETLINK_EXT_ACK);
        enable(&fd, libc::NETLINK_CAP_ACK);
        Ok(Self { fd, sequence: 0, buffer: Vec::new(), netns_cookie: OnceLock::new() })
    }

    /// Its port: who hears of a change (`nft::Monitor`) is told by whose socket it was made.
    pub fn port(&self) -> Result<u32> {
        let name = rustix::net::getsockname(&self.fd).act("ask", || "a netlink socket for its port")?;
        let name = SocketAddrNetlink::try_from(name).act("ask", || "a netlink socket for its port")?;
        Ok(name.pid())
    }

    /// The kernel's number for its network namespace, which no other ever has had (Linux 5.14). None before.
    pub fn netns_cookie(&self) -> Option<u64> {
        *self.netns_cookie.get_or_init(|| self.ask_netns_cookie())
    }

    fn ask_netns_cookie(&self) -> Option<u64> {
        let (mut cookie, mut length) = (0_u64, size_of::<u64>() as libc::socklen_t);
        // SAFETY: the fd is open for the call's duration, and the kernel writes at most `length` bytes into `cookie`.
        let outcome = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_SOCKET,
                SO_NETNS_COOKIE,
                (&raw mut cookie).cast(),
                &raw mut length,
            )
        };
        (outcome == 0).then_some(cookie)
    }

    /// Opens a socket inside another network namespace: a thread of its own goes there, opens it and ends.
    pub fn open_in(protocol: Protocol, netns: impl AsFd + Sync) -> Result<Self> {
        crate::namespace::in_netns(netns, || Self::open(protocol))
    }

    /// Sends all requests and waits until each is answered. The first failure is returned, with the kernel's own
    /// words where it gave any; the kernel still tried the requests after it.
    pub fn run(&mut self, batch: &Batch) -> Result<()> {
        self.each(batch, |_| {})
    }

    /// Like [`run`](Self::run), and hands over every message that is an answer.
    pub fn each(&mut self, batch: &Batch, mut answer: impl FnMut(Received<'_>)) -> Result<()> {
        let mut first = Ok(());
        for chunk in 0..batch.requests.len().div_ceil(CHUNK) {
            let from = chunk * CHUNK;
            let to = batch.requests.len().min(from + CHUNK);
            let outcome = self.exchange(batch, from, to, false, &mut answer);
            first = first.and(outcome.map(|_| ()));
        }
        first
    }

    /// Runs one dump request and collects what `read` makes of its answers; repeated while the kernel says that the
    /// list changed meanwhile.
    pub fn dump<T>(
        &mut self,
        batch: &Batch,
        mut read: impl FnMut(Received<'_>) -> Option<T>,
    ) -> Result<Vec<T>> {
        let mut found = Vec::new();
        for _ in 0..DUMP_ATTEMPTS {
            found.clear();
            let whole =
                self.exchange(batch, 0, batch.requests.len(), false, &mut |m| found.extend(read(m)))?;
            if whole {
                break;
            }
        }
        Ok(found)
    }

    /// Sends a transaction: all requests in one datagram, answered when the last one is (or the first one fails).
    pub(crate) fn transact(&mut self, batch: &Batch) -> Result<()> {
        self.exchange(batch, 0, batch.requests.len(), true, &mut |_| {}).map(|_| ())
    }

    /// Sends requests `from..to` and reads until all that announced an answer gave it. False: a dump was interrupted.
    fn exchange(
        &mut self,
        batch: &Batch,
        from: usize,
        to: usize,
        transaction: bool,
        answer: &mut dyn FnMut(Received<'_>),
    ) -> Result<bool> {
        let Some(requests) = batch.requests.get(from..to).filter(|r| !r.is_empty()) else { return Ok(true) };
        let say = || format!("a netlink request to {} {}", requests[0].verb, requests[0].object);
        if batch.overflow {
            return Err(Error::new("write", say(), Errno::MSGSIZE));
        }
        let end = batch.requests.get(to).map_or(batch.buffer.len(), |next| next.offset);
        let base = self.sequence.wrapping_add(1);
        self.send(
            &batch.buffer[requests[0].offset..end],
            requests.iter().map(|r| r.offset - requests[0].offset),
        )
        .act("send", say)?;

        let mut left = requests.iter().filter(|r| r.answered).count();
        let mut failure = None;
        let mut whole = true;
        while left > 0 {
            receive(&self.fd, &mut self.buffer).act("receive", || format!("the answer to {}", say()))?;
            for message in Messages::new(&self.buffer) {
                let index = message.sequence.wrapping_sub(base) as usize;
                let Some(request) = requests.get(index) else { continue };
                whole &= message.flags & NLM_F_DUMP_INTR == 0;
                match message.kind {
                    NLMSG_ERROR | NLMSG_DONE => {
                        let refused = refusal(&message);
                        // A transaction that cannot even begin is answered at its first request, and nowhere else.
                        let ends_all = transaction && index == 0 && refused.is_some();
                        left = if ends_all { 0 } else { left.saturating_sub(usize::from(request.answered)) };
                        if let (Some((errno, words)), None) = (refused, &failure) {
                            let object = match words {
                                Some(words) => format!("{} ({words})", request.object),
                                None => request.object.clone(),
                            };
                            failure = Some(Error::new(request.verb, object, errno));
                        }
                    }
                    _ => {
                        left = left.saturating_sub(usize::from(request.single));
                        answer(message);
                    }
                }
            }
        }
        failure.map_or(Ok(whole), Err)
    }

    /// Sends a copy with sequence numbers filled in: one number a request.
    fn send(&mut self, bytes: &[u8], offsets: impl Iterator<Item = usize>) -> std::result::Result<(), Errno> {
        let mut bytes = bytes.to_vec();
        for offset in offsets {
            self.sequence = self.sequence.wrapping_add(1);
            if let Some(field) = bytes.get_mut(offset + 8..offset + 12) {
                field.copy_from_slice(&self.sequence.to_ne_bytes());
            }
        }
        if bytes.len() > SEND {
            // Beyond wmem_max only CAP_NET_ADMIN may go; without it the send says so.
            let _ = sockopt::set_socket_send_buffer_size_force(&self.fd, bytes.len().saturating_mul(2));
        }
        rustix::io::retry_on_intr(|| rustix::net::send(&self.fd, &bytes, SendFlags::empty())).map(|_| ())
    }
}

/// One datagram, in place of what is in `buffer`. Room for the largest is there, but no more of it is touched than is filled.
fn receive(fd: &OwnedFd, buffer: &mut Vec<u8>) -> std::result::Result<(), Errno> {
    buffer.clear();
    buffer.reserve(RECEIVE);
    let (_, length) =
        rustix::io::retry_on_intr(|| rustix::net::recv(fd, spare_capacity(buffer), RecvFlags::TRUNC))?;
    if length > buffer.len() { Err(Errno::MSGSIZE) } else { Ok(()) }
}

/// The errno and the kernel's words in an acknowledgement or the end of a dump; none if it means success.
fn refusal(message: &Received<'_>) -> Option<(Errno, Option<String>)> {
    let code = read_u32(message.body, 0).map_or(0, |code| code.cast_signed());
    if code >= 0 {
        return None;
    }
    let mut words = None;
    if message.flags & NLM_F_ACK_TLVS != 0 {
        let echoed = match (message.kind, message.flags & NLM_F_CAPPED) {
            (NLMSG_DONE, _) => 0,
            (_, 0) => read_u32(message.body, 4).map_or(HEADER, |len| len as usize),
            _ => HEADER,
        };
        let attributes = Attributes::after(message.body, 4usize.saturating_add(echoed));
        words = attributes.find(NLMSGERR_ATTR_MSG).map(|a| a.text());
        if words.is_none() {
            let missing = attributes.find(NLMSGERR_ATTR_MISS_TYPE).and_then(|a| a.u32());
            words = missing.map(|kind| format!("attribute {kind} is missing"));
        }
    }
    let errno = if (-4095..0).contains(&code) { Errno::from_raw_os_error(-code) } else { Errno::PROTO };
    Some((errno, words))
}

/// Turns a SOL_NETLINK option on, where the kernel knows it.
fn enable(fd: &OwnedFd, option: i32) {
    let on: i32 = 1;
    // SAFETY: the fd is open for the call's duration, and the value is an i32 that outlives it, passed with its size.
    unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const on).cast(),
            size_of::<i32>() as libc::socklen_t,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_any_shape_do_not_panic() {
        for flags in [0, NLM_F_ACK_TLVS, NLM_F_ACK_TLVS | NLM_F_CAPPED] {
            for body in [&[][..], &[1], &[0xea, 0xff, 0xff, 0xff], &[0xff; 64], &[0, 0, 0, 0x80]] {
                for kind in [NLMSG_ERROR, NLMSG_DONE] {
                    let _ = refusal(&Received { kind, flags, sequence: 1, port: 0, body });
                }
            }
        }
    }
}
