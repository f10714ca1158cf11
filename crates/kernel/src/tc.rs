//! Traffic control: the queueing disciplines that bandwidth limits are made of.

use crate::Result;
use crate::netlink::uapi::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, RTM_DELQDISC, RTM_GETQDISC, RTM_NEWQDISC, TCA_KIND,
    TCA_OPTIONS, TCA_TBF_BURST, TCA_TBF_PARMS, TCA_TBF_RATE64,
};
use crate::netlink::{Attributes, Batch, Received, Socket};

const ROOT: u32 = 0xffff_ffff;
const INGRESS_PARENT: u32 = 0xffff_fff1;
const INGRESS_HANDLE: u32 = 0xffff_0000;
const TBF_HANDLE: u32 = 0x0001_0000;
/// `TC_LINKLAYER_ETHERNET`: the kernel needs no rate table then.
const ETHERNET: u8 = 1;

/// A token bucket filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenBucket {
    /// Bytes a second.
    pub rate: u64,
    /// Bytes that may leave at once.
    pub burst: u32,
    /// Bytes that may wait; what comes on top is dropped.
    pub limit: u32,
}

impl TokenBucket {
    /// `struct tc_tbf_qopt`: two rate specifications, limit, buffer, mtu.
    fn parameters(self) -> [u8; 36] {
        let mut bytes = [0; 36];
        bytes[1] = ETHERNET;
        bytes[8..12].copy_from_slice(&u32::try_from(self.rate).unwrap_or(u32::MAX).to_ne_bytes());
        bytes[24..28].copy_from_slice(&self.limit.to_ne_bytes());
        bytes
    }
}

/// A queueing discipline that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qdisc {
    /// Index of its link.
    pub link: u32,
    /// "tbf", "ingress", "noqueue", ...
    pub kind: String,
    /// Its handle.
    pub handle: u32,
}

/// `struct tcmsg`.
fn header(link: u32, handle: u32, parent: u32) -> [u8; 20] {
    let mut bytes = [0; 20];
    bytes[4..8].copy_from_slice(&link.to_ne_bytes());
    bytes[8..12].copy_from_slice(&handle.to_ne_bytes());
    bytes[12..16].copy_from_slice(&parent.to_ne_bytes());
    bytes
}

impl Batch {
    /// Limits what leaves by a link. A root discipline of somebody's making is an error (EEXIST).
    pub fn add_token_bucket(&mut self, link: u32, bucket: TokenBucket) {
        let object = format!("token bucket on link number {link}");
        let header = header(link, TBF_HANDLE, ROOT);
        let mut m = self.message(RTM_NEWQDISC, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &header, "add", object);
        m.text(TCA_KIND, "tbf").nest(TCA_OPTIONS, |options| {
            options.bytes(TCA_TBF_PARMS, &bucket.parameters()).u32(TCA_TBF_BURST, bucket.burst);
            if u32::try_from(bucket.rate).is_err() {
                options.u64(TCA_TBF_RATE64, bucket.rate);
            }
        });
    }

    /// Deletes a link's root discipline; the kernel puts its default there.
    pub fn delete_root_qdisc(&mut self, link: u32) {
        let object = format!("root queueing discipline of link number {link}");
        self.message(RTM_DELQDISC, NLM_F_ACK, &header(link, 0, ROOT), "delete", object);
    }

    /// Opens a link's ingress for filters.
    pub fn add_ingress(&mut self, link: u32) {
        let object = format!("ingress on link number {link}");
        let header = header(link, INGRESS_HANDLE, INGRESS_PARENT);
        self.message(RTM_NEWQDISC, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &header, "add", object)
            .text(TCA_KIND, "ingress");
    }

    /// Closes a link's ingress, filters and all.
    pub fn delete_ingress(&mut self, link: u32) {
        let object = format!("ingress of link number {link}");
        self.message(
            RTM_DELQDISC,
            NLM_F_ACK,
            &header(link, INGRESS_HANDLE, INGRESS_PARENT),
            "delete",
            object,
        );
    }
}

/// The queueing disciplines of a link.
pub fn qdiscs(socket: &mut Socket, link: u32) -> Result<Vec<Qdisc>> {
    let mut batch = Batch::new();
    batch.message(RTM_GETQDISC, NLM_F_DUMP, &header(link, 0, 0), "list", "queueing disciplines");
    socket.dump(&batch, |message| read(message).filter(|qdisc| qdisc.link == link))
}

fn read(message: Received<'_>) -> Option<Qdisc> {
    if message.kind != RTM_NEWQDISC {
        return None;
    }
    let number = |at: usize| Some(u32::from_ne_bytes(*message.body.get(at..)?.first_chunk()?));
    let kind = Attributes::after(message.body, 20).find(TCA_KIND)?.text();
    Some(Qdisc { link: number(4)?, kind, handle: number(8)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::{Kind, NewLink, Peer, Protocol, link_by_name};

    #[test]
    fn token_bucket_and_ingress_come_and_go() {
        crate::namespace::in_new_netns(|| {
            let mut socket = Socket::open(Protocol::Route)?;
            let mut batch = Batch::new();
            let peer = Peer { name: "b", mac: None, mtu: None, netns: None };
            batch.add_link(&NewLink::new("a", Kind::Veth { peer }));
            socket.run(&batch)?;
            let link = link_by_name(&mut socket, "a")?.unwrap().index;
            let mut batch = Batch::new();
            batch.add_token_bucket(link, TokenBucket { rate: 125_000, burst: 10_000, limit: 20_000 });
            batch.add_ingress(link);
            socket.run(&batch)?;
            let kinds: Vec<_> = qdiscs(&mut socket, link)?.into_iter().map(|q| q.kind).collect();
            assert_eq!(kinds, ["tbf", "ingress"]);
            let mut batch = Batch::new();
            batch.delete_root_qdisc(link);
            batch.delete_ingress(link);
            socket.run(&batch)?;
            assert!(qdiscs(&mut socket, link)?.iter().all(|q| q.handle == 0));
            Ok(())
        })
        .unwrap();
    }
}
