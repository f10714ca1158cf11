//! Traffic control: the queueing disciplines and filters that bandwidth limits are made of.

mod redirect;
mod token_bucket;

pub use redirect::{redirection, redirections};
pub use token_bucket::TokenBucket;

use crate::Result;
use crate::netlink::uapi::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, RTM_DELQDISC, RTM_GETQDISC, RTM_NEWQDISC, TCA_KIND,
    TCA_OPTIONS,
};
use crate::netlink::{Attributes, Batch, Received, Socket};

const ROOT: u32 = 0xffff_ffff;
const INGRESS_PARENT: u32 = 0xffff_fff1;
const INGRESS_HANDLE: u32 = 0xffff_0000;

/// A queueing discipline that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qdisc {
    /// Index of its link.
    pub link: u32,
    /// "tbf", "ingress", "noqueue", ...
    pub kind: String,
    /// Its handle.
    pub handle: u32,
    /// What a "tbf" lets through.
    pub bucket: Option<TokenBucket>,
}

/// `struct tcmsg`.
fn header(link: u32, handle: u32, parent: u32, info: u32) -> [u8; 20] {
    let mut bytes = [0; 20];
    bytes[4..8].copy_from_slice(&link.to_ne_bytes());
    bytes[8..12].copy_from_slice(&handle.to_ne_bytes());
    bytes[12..16].copy_from_slice(&parent.to_ne_bytes());
    bytes[16..20].copy_from_slice(&info.to_ne_bytes());
    bytes
}

impl Batch {
    /// Deletes a link's root discipline; the kernel puts its default there.
    pub fn delete_root_qdisc(&mut self, link: u32) {
        let object = format!("root queueing discipline of link number {link}");
        self.message(RTM_DELQDISC, NLM_F_ACK, &header(link, 0, ROOT, 0), "delete", object);
    }

    /// Opens a link's ingress for filters.
    pub fn add_ingress(&mut self, link: u32) {
        let object = format!("ingress on link number {link}");
        let header = header(link, INGRESS_HANDLE, INGRESS_PARENT, 0);
        self.message(RTM_NEWQDISC, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &header, "add", object)
            .text(TCA_KIND, "ingress");
    }

    /// Closes a link's ingress, filters and all.
    pub fn delete_ingress(&mut self, link: u32) {
        let object = format!("ingress of link number {link}");
        let header = header(link, INGRESS_HANDLE, INGRESS_PARENT, 0);
        self.message(RTM_DELQDISC, NLM_F_ACK, &header, "delete", object);
    }
}

/// The queueing disciplines of a link.
pub fn qdiscs(socket: &mut Socket, link: u32) -> Result<Vec<Qdisc>> {
    let mut batch = Batch::new();
    batch.message(RTM_GETQDISC, NLM_F_DUMP, &header(link, 0, 0, 0), "list", "queueing disciplines");
    socket.dump(&batch, |message| Qdisc::read(message).filter(|qdisc| qdisc.link == link))
}

impl Qdisc {
    /// Reads an `RTM_NEWQDISC` message; none for any other.
    pub fn read(message: Received<'_>) -> Option<Self> {
        if message.kind != RTM_NEWQDISC {
            return None;
        }
        let number = |at: usize| Some(u32::from_ne_bytes(*message.body.get(at..)?.first_chunk()?));
        let attributes = Attributes::after(message.body, 20);
        let kind = attributes.find(TCA_KIND)?.text();
        let options = attributes.find(TCA_OPTIONS).filter(|_| kind == "tbf");
        let bucket = options.and_then(|options| TokenBucket::read(options.nested()));
        Some(Self { link: number(4)?, kind, handle: number(8)?, bucket })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::{Kind, NewLink, Peer, Protocol, link_by_name};

    fn veth(socket: &mut Socket) -> Result<u32> {
        let mut batch = Batch::new();
        let peer = Peer { name: "b", mac: None, mtu: None, netns: None };
        batch.add_link(&NewLink::new("a", Kind::Veth { peer }));
        socket.run(&batch)?;
        Ok(link_by_name(socket, "a")?.unwrap().index)
    }

    #[test]
    fn token_bucket_and_ingress_come_and_go() {
        crate::namespace::in_new_netns(|| {
            let mut socket = Socket::open(Protocol::Route)?;
            let link = veth(&mut socket)?;
            let bucket = TokenBucket { rate: 125_000, burst: 10_000, limit: 20_000 };
            let mut batch = Batch::new();
            batch.add_token_bucket(link, bucket);
            batch.add_ingress(link);
            socket.run(&batch)?;
            let there = qdiscs(&mut socket, link)?;
            let kinds: Vec<_> = there.iter().map(|q| q.kind.as_str()).collect();
            assert_eq!(kinds, ["tbf", "ingress"]);
            assert_eq!(there[0].bucket, Some(bucket));
            let mut batch = Batch::new();
            batch.delete_root_qdisc(link);
            batch.delete_ingress(link);
            socket.run(&batch)?;
            assert!(qdiscs(&mut socket, link)?.iter().all(|q| q.handle == 0));
            Ok(())
        })
        .unwrap();
    }

    /// From a byte a second to more than 32 bits of rate, what the kernel tells is what it was told.
    #[test]
    fn token_buckets_of_all_sizes_read_back() {
        crate::namespace::in_new_netns(|| {
            let mut socket = Socket::open(Protocol::Route)?;
            let link = veth(&mut socket)?;
            for bucket in [
                TokenBucket { rate: 1, burst: 1, limit: 1 },
                TokenBucket { rate: 12_345_678, burst: 1_500, limit: 310_141 },
                TokenBucket { rate: 1_250_000_000, burst: 2_000, limit: 31_252_000 },
                TokenBucket { rate: 12_500_000_000, burst: u32::MAX, limit: u32::MAX },
                TokenBucket { rate: 1_000, burst: u32::MAX, limit: u32::MAX },
            ] {
                let mut batch = Batch::new();
                batch.add_token_bucket(link, bucket);
                socket.run(&batch)?;
                let there = qdiscs(&mut socket, link)?.remove(0).bucket.unwrap();
                assert!(bucket.fits(there), "{bucket:?} {there:?}");
                let other = TokenBucket { burst: bucket.burst / 2 + 100, ..bucket };
                assert!(bucket.rate == 1_000 || !other.fits(there), "{other:?} {there:?}");
                assert!(!TokenBucket { limit: 7, ..bucket }.fits(there));
                let mut batch = Batch::new();
                batch.delete_root_qdisc(link);
                socket.run(&batch)?;
            }
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn ingress_is_redirected_to_an_ifb() {
        crate::namespace::in_new_netns(|| {
            let mut socket = Socket::open(Protocol::Route)?;
            let link = veth(&mut socket)?;
            let mut batch = Batch::new();
            let ifb = NewLink::new("ifb", Kind::Ifb);
            batch.add_link(&NewLink { tx_queue_len: Some(0), mtu: Some(1400), up: true, ..ifb });
            socket.run(&batch)?;
            let ifb = link_by_name(&mut socket, "ifb")?.unwrap();
            assert_eq!((ifb.kind.as_str(), ifb.tx_queue_len, ifb.mtu), ("ifb", 0, 1400));
            assert!(ifb.is_up());
            let mut batch = Batch::new();
            batch.add_ingress(link);
            socket.run(&batch)?;
            assert_eq!(redirections(&mut socket, link)?, []);
            let mut batch = Batch::new();
            batch.redirect_ingress(link, ifb.index);
            socket.run(&batch)?;
            assert_eq!(redirections(&mut socket, link)?, [ifb.index]);
            assert_eq!(redirections(&mut socket, ifb.index)?, []);
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn malformed_answers_do_not_panic() {
        for body in
            [&[][..], &[0; 20], &[&[0; 20][..], &[8, 0, 1, 0, b't', b'b', b'f', 0, 4, 0, 2, 0]].concat()]
        {
            let message = Received { kind: RTM_NEWQDISC, flags: 0, sequence: 0, port: 0, body };
            assert!(Qdisc::read(message).is_none_or(|qdisc| qdisc.bucket.is_none()));
        }
    }
}
