//! What can be done to the world, written so that it can be undone by somebody who knows nothing else.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use kernel::netlink::conntrack::Flows;
use serde::{Deserialize, Serialize};

/// One effect on the machine, with all that its inverse needs.
///
/// Recorded *before* the effect happens, so an effect that was never reached is undone too: every inverse treats
/// "not there" as done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "kebab-case")]
#[allow(missing_docs, reason = "each field is named in its effect's own line")]
pub enum Effect {
    /// A network namespace pinned by a bind mount on `path`; the inverse unmounts and unlinks it.
    Netns { path: PathBuf },
    /// A mount on `path` in the host's mount namespace; the inverse detaches it and removes the (empty) mount point.
    Mount { path: PathBuf },
    /// A link (veth, bridge, ...) in the host's network namespace, named for its owner; the inverse deletes it.
    Link { name: String },
    /// An address that was given to a link of the host (`10.96.0.10/32` to `lo`); the inverse takes it away.
    Address { link: String, net: String },
    /// A route to a network by a link of the host (`10.96.0.0/16` by `lo`); the inverse takes it away.
    Route { link: String, net: String },
    /// All ways of the main routing table that carry this number as their protocol, one of ours (rtnetlink(7)); the inverse takes them away.
    Routes { protocol: u8 },
    /// A cgroup: its path below each hierarchy's root; the inverse kills what is in it and removes it and its children.
    Cgroup { path: PathBuf },
    /// An element of an nftables set or map; the inverse deletes it, if its comment still names `holder`, and the
    /// conntrack entries it made. (A record whose effect was never reached must not hit who took the key since.) `sent`
    /// tells of those if the element is gone; records of before have none.
    NftElement {
        family: String,
        table: String,
        set: String,
        key: Vec<u8>,
        holder: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sent: Option<Sent>,
    },
    /// A whole nftables table of ours; the inverse deletes it.
    NftTable { family: String, table: String },
    /// A whole nftables table of ours in another network namespace, whose file is at `netns` and has this inode; the inverse
    /// deletes it there, if the path still leads to that namespace.
    NetnsTable { netns: PathBuf, inode: u64, family: String, table: String },
    /// A rule and a route of each family in another network namespace, as [`NetnsTable`](Self::NetnsTable) names one, by which what carries this mark
    /// comes back to it ([`kernel::netlink::Returning`]); the inverse deletes them there.
    NetnsReturn { netns: PathBuf, inode: u64, mark: u32, table: u32 },
    /// A value below `/proc/sys` of another network namespace, as [`NetnsTable`](Self::NetnsTable) names one: `name` (`net/...`) was `value` before
    /// it was set; the inverse sets it to that there.
    NetnsSysctl { netns: PathBuf, inode: u64, name: String, value: String },
    /// An address lease file (host-local's format); the inverse unlinks it if it still names `holder`, under the `lock`
    /// beside it that host-local has.
    Lease { path: PathBuf, holder: String },
    /// A loop device whose `lo_file_name` is `tag`; the inverse detaches it.
    LoopDevice { tag: String },
    /// A regular file, socket or symlink; the inverse unlinks it.
    File { path: PathBuf },
    /// A directory tree of ours; the inverse removes it and all in it, never following a link or crossing a mount.
    Tree { path: PathBuf },
    /// A process we started; the inverse kills it, if `start_time` (field 22 of /proc/PID/stat) still matches.
    Process { pid: i32, start_time: u64 },
    /// Membership in a shared effect (a bridge, a base table); the inverse leaves it, and the last to leave undoes it.
    Uses { shared: String },
}

/// The flows that an element of a map to `address . port` sends there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// The number of their protocol.
    pub protocol: u8,
    /// The address that their first packets are for; any if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<IpAddr>,
    /// The port that they are for.
    pub port: u16,
    /// Where the element leads.
    pub answered_from: SocketAddr,
}

impl Sent {
    /// Their conntrack entries.
    pub fn flows(&self) -> Flows {
        let Self { protocol, to, port, answered_from } = *self;
        Flows::Sent { to, port, protocol, answered_from }
    }
}

/// Identifies a record within its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecordId(pub u64);

/// What makes a shared effect: it records in what it is given, and acts.
pub type Make<'a> =
    &'a mut dyn FnMut(&mut dyn Record) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Where effects are recorded before they happen.
///
/// Implemented by [`Owner`](crate::Owner); plugins take `&mut dyn Record`, so that they never choose who owns what.
pub trait Record {
    /// Writes `effect` down for this owner. Only then may the caller bring it about.
    fn record(&mut self, effect: Effect) -> Result<RecordId, crate::Error>;

    /// Brings about `effect`'s inverse and strikes the record. Idempotent.
    fn undo(&mut self, id: RecordId) -> Result<(), crate::Error>;

    /// Says that the inverse of `effect` has been brought about, by whoever knows a shorter way than [`undo`](Self::undo):
    /// nobody needs to do it again. What was not recorded here counts as done.
    fn undone(&mut self, effect: &Effect) -> Result<(), crate::Error>;

    /// Joins the shared effect `name` and sees that its part `part` is there: `make` makes it if nobody has yet. `make` gets
    /// the record of the shared effect, and runs under that name's lock, so that two joiners never make a part twice. All
    /// parts stay until the last user of any leaves.
    ///
    /// `make` may itself join another shared effect, which is then used for as long as this one is; that of the other may not.
    fn share_part(&mut self, name: &str, part: &str, make: Make<'_>) -> Result<(), crate::Error>;

    /// [`share_part`](Self::share_part) of a shared effect that has one part.
    fn share(&mut self, name: &str, make: Make<'_>) -> Result<(), crate::Error> {
        self.share_part(name, "", make)
    }

    /// Whether it knows who uses a shared effect. If it does, a `make` that runs finds nobody's, and may begin anew; if
    /// not, others may use what is there, and `make` must keep it.
    fn counts_users(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_read_with_and_without_its_flows() {
        let element = |sent| Effect::NftElement {
            family: "inet".into(),
            table: "t".into(),
            set: "s".into(),
            key: vec![6],
            holder: "h".into(),
            sent,
        };
        // As programs wrote it that knew nothing of flows.
        let before =
            r#"{"effect":"nft-element","family":"inet","table":"t","set":"s","key":[6],"holder":"h"}"#;
        assert_eq!(serde_json::from_str::<Effect>(before).unwrap(), element(None));
        assert_eq!(serde_json::to_string(&element(None)).unwrap(), before);
        for (to, from, words) in [
            (None, "10.0.0.2:80", r#"{"protocol":6,"port":8080,"answered_from":"10.0.0.2:80"}"#),
            (
                Some("2001:db8::1".parse().unwrap()),
                "[fd00::2]:80",
                r#"{"protocol":6,"to":"2001:db8::1","port":8080,"answered_from":"[fd00::2]:80"}"#,
            ),
        ] {
            let sent = Sent { protocol: 6, to, port: 8080, answered_from: from.parse().unwrap() };
            let text = serde_json::to_string(&element(Some(sent))).unwrap();
            assert_eq!(text, format!("{},\"sent\":{words}}}", before.trim_end_matches('}')));
            assert_eq!(serde_json::from_str::<Effect>(&text).unwrap(), element(Some(sent)));
        }
    }
}
