//! The sign of life that a node sends over a link: that it is there, and by which address of the link.
//!
//! `sextant`, a version, flags, the cluster, when the sender was started, a count, its MAC, and its name to the end.

use kernel::netlink::Mac;

use super::bytes;

const MAGIC: [u8; 8] = *b"sextant\x01";
const LEAVES: u8 = 1;
const FIXED: usize = 8 + 1 + 16 + 8 + 8 + 6;
/// The longest name of a Kubernetes object.
const NAME: usize = 253;

/// A sign of life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// The cluster that the node is of: others on the same link do not count.
    pub cluster: [u8; 16],
    /// When the sender was started, as it counts: what it has sent before that is old.
    pub started: u64,
    /// How many it had sent before: an older one that comes later says nothing.
    pub count: u64,
    /// Its address on this link.
    pub mac: Mac,
    /// The node's name.
    pub node: String,
    /// It is about to end: others need not wait for its silence.
    pub leaves: bool,
}

impl Heartbeat {
    /// Reads one; none if it is something else.
    #[must_use]
    pub fn read(datagram: &[u8]) -> Option<Self> {
        if bytes(datagram, 0)? != MAGIC {
            return None;
        }
        let name = datagram.get(FIXED..).filter(|name| (1..=NAME).contains(&name.len()))?;
        let is_name = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(byte);
        if !name.iter().all(is_name) {
            return None;
        }
        Some(Self {
            leaves: datagram.get(8)? & LEAVES != 0,
            cluster: bytes(datagram, 9)?,
            started: u64::from_be_bytes(bytes(datagram, 25)?),
            count: u64::from_be_bytes(bytes(datagram, 33)?),
            mac: Mac(bytes(datagram, 41)?),
            node: String::from_utf8(name.to_vec()).ok()?,
        })
    }

    /// The datagram.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut datagram = MAGIC.to_vec();
        datagram.push(if self.leaves { LEAVES } else { 0 });
        datagram.extend(self.cluster);
        datagram.extend(self.started.to_be_bytes());
        datagram.extend(self.count.to_be_bytes());
        datagram.extend(self.mac.0);
        datagram.extend(self.node.as_bytes());
        datagram
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let one = Heartbeat {
            cluster: [7; 16],
            started: 1 << 40,
            count: 9,
            mac: Mac([2, 0, 0, 0, 0, 1]),
            node: "node-1.example".into(),
            leaves: true,
        };
        let datagram = one.write();
        assert_eq!(Heartbeat::read(&datagram), Some(one.clone()));
        assert!((0..=FIXED).all(|length| Heartbeat::read(&datagram[..length]).is_none()));
        for name in ["", "Node", "a/b", "a\0", &"a".repeat(254)] {
            assert_eq!(
                Heartbeat::read(&Heartbeat { node: name.into(), ..one.clone() }.write()),
                None,
                "{name}"
            );
        }
        assert!(Heartbeat::read(&Heartbeat { node: "a".repeat(253), ..one }.write()).is_some());
    }
}
