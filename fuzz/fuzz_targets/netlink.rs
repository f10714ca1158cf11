//! Any bytes as datagrams of the kernel: no panic, nothing read beyond the end.

use kernel::netlink::{Attributes, Change, Link, Messages};
use kernel::nft::RuleInfo;
use kernel::tc::{Qdisc, redirection};

fn walk(attributes: Attributes<'_>, depth: usize) -> usize {
    attributes
        .map(|attribute| {
            let _ = (attribute.u8(), attribute.be16(), attribute.u32(), attribute.be32());
            let _ = (attribute.be64(), attribute.text(), attribute.address());
            attribute.value.len() + if depth < 4 { walk(attribute.nested(), depth + 1) } else { 0 }
        })
        .sum()
}

pub fn run(bytes: &[u8]) {
    for message in Messages::new(bytes) {
        assert!(message.body.len() <= bytes.len());
        let _ = (Link::read(message), Qdisc::read(message), redirection(message), Change::read(message));
        let _ = RuleInfo::read(message);
        walk(Attributes::new(message.body), 0);
        walk(Attributes::after(message.body, 16), 0);
    }
}
