//! What a daemon keeps of a lease in a file, so that the next one goes on with it.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kernel::netlink::Mac;
use serde::{Deserialize, Serialize};

use super::super::client::Lease;
use super::super::message::Message;
use super::super::rpc::{Call, Method};
use crate::contract::{Request, ValidAttachment, hash};

/// Longer than any that is written here.
const LONGEST: u64 = 1 << 20;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    /// The times are of this boot.
    boot: String,
    network: String,
    container_id: String,
    ifname: String,
    netns: String,
    /// Device and inode of the namespace.
    namespace: (u64, u64),
    args: String,
    conf: String,
    /// The server's answer.
    ack: String,
    neighbour: String,
    renewal_ms: u64,
    rebinding_ms: u64,
    expiry_ms: u64,
}

/// A lease and whose it is.
#[derive(Debug, PartialEq)]
pub(super) struct Kept {
    pub(super) network: String,
    pub(super) call: Call,
    pub(super) namespace: (u64, u64),
    pub(super) lease: Lease,
}

/// The directory of a daemon's leases, beside its socket.
pub(super) fn dir(socket: &Path) -> PathBuf {
    let mut name = socket.as_os_str().to_owned();
    name.push(".leases");
    name.into()
}

fn path(dir: &Path, network: &str, container_id: &str, ifname: &str) -> PathBuf {
    dir.join(format!("{}.json", hash(&["dhcp", network, container_id, ifname])))
}

/// What tells a namespace from others.
pub(super) fn namespace(file: &File) -> std::io::Result<(u64, u64)> {
    let found = file.metadata()?;
    Ok((found.dev(), found.ino()))
}

fn boot() -> Option<String> {
    Some(fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned())
}

impl Kept {
    pub(super) fn save(&self, dir: &Path) -> std::io::Result<()> {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let call = &self.call;
        let wire = Wire {
            boot: boot().unwrap_or_default(),
            network: self.network.clone(),
            container_id: call.container_id.clone(),
            ifname: call.ifname.clone(),
            netns: call.netns.clone(),
            namespace: self.namespace,
            args: call.args.clone(),
            conf: String::from_utf8_lossy(&call.conf).into_owned(),
            ack: STANDARD.encode(self.lease.ack.to_bytes()),
            neighbour: self.lease.neighbour.to_string(),
            renewal_ms: ms(self.lease.renewal),
            rebinding_ms: ms(self.lease.rebinding),
            expiry_ms: ms(self.lease.expiry),
        };
        match fs::DirBuilder::new().mode(0o700).create(dir) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        let path = path(dir, &self.network, &call.container_id, &call.ifname);
        let new = path.with_extension("new");
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(&wire)?)?;
        fs::rename(&new, &path)
    }

    fn load(path: &Path) -> Option<Self> {
        if fs::metadata(path).ok()?.len() > LONGEST {
            return None;
        }
        Self::parse(&fs::read(path).ok()?, &boot()?)
    }

    /// None if it is of another boot: its container is gone.
    pub(super) fn parse(bytes: &[u8], boot: &str) -> Option<Self> {
        let wire: Wire = serde_json::from_slice(bytes).ok().filter(|wire: &Wire| wire.boot == boot)?;
        let neighbour: Mac = wire.neighbour.parse().ok()?;
        let lease = Lease {
            ack: Message::parse(&STANDARD.decode(wire.ack).ok()?)?,
            neighbour,
            renewal: Duration::from_millis(wire.renewal_ms),
            rebinding: Duration::from_millis(wire.rebinding_ms),
            expiry: Duration::from_millis(wire.expiry_ms),
        };
        let call = Call {
            method: Method::Allocate,
            container_id: wire.container_id,
            netns: wire.netns,
            ifname: wire.ifname,
            args: wire.args,
            conf: wire.conf.into_bytes(),
        };
        Some(Self { network: wire.network, call, namespace: wire.namespace, lease })
    }
}

/// All leases that are kept in a directory. What cannot be read is nobody's.
pub(super) fn all(dir: &Path) -> Vec<Kept> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let paths =
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "json"));
    paths.filter_map(|path| Kept::load(&path)).collect()
}

/// The lease is not kept any more.
pub(super) fn remove(dir: &Path, network: &str, container_id: &str, ifname: &str) -> std::io::Result<()> {
    match fs::remove_file(path(dir, network, container_id, ifname)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// GC: the leases of the request's network whose attachments are not valid any more, with their configurations.
pub(super) fn stale(
    dir: &Path,
    request: &Request<'_>,
    valid: &[ValidAttachment],
) -> Vec<(ValidAttachment, Vec<u8>)> {
    let kept = all(dir).into_iter().filter(|kept| kept.network == request.network);
    let whose = kept.map(|kept| {
        let Call { container_id, ifname, conf, .. } = kept.call;
        (ValidAttachment { container_id, ifname }, conf)
    });
    whose.filter(|(attachment, _)| !valid.contains(attachment)).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::super::message::{Kind, Options};
    use super::*;

    #[test]
    fn a_lease_is_kept_and_found_in_its_boot_alone() {
        let none = Ipv4Addr::UNSPECIFIED;
        let ack = Message {
            kind: Kind::Ack,
            reply: true,
            xid: 1,
            seconds: 0,
            broadcast: false,
            client: none,
            yours: [10, 0, 0, 5].into(),
            relay: none,
            mac: Mac([2; 6]),
            options: Options::from([(1, vec![255, 0, 0, 0])]),
        };
        let seconds = Duration::from_secs;
        let (renewal, rebinding, expiry) = (seconds(1), seconds(2), seconds(3));
        let kept = Kept {
            network: "n".into(),
            call: Call {
                method: Method::Allocate,
                container_id: "c".into(),
                netns: "/x".into(),
                ifname: "eth0".into(),
                args: "A=1".into(),
                conf: b"{}".to_vec(),
            },
            namespace: (3, 4),
            lease: Lease { ack, neighbour: Mac([4; 6]), renewal, rebinding, expiry },
        };
        let temporary = tempfile::tempdir().unwrap();
        let dir = dir(&temporary.path().join("sock"));
        kept.save(&dir).unwrap();
        let file = path(&dir, "n", "c", "eth0");
        let bytes = fs::read(&file).unwrap();
        assert_eq!(all(&dir), [kept]);
        assert_eq!(Kept::parse(&bytes, "another"), None);
        fs::write(&file, &bytes[..40]).unwrap();
        assert_eq!(all(&dir), []);
        remove(&dir, "n", "c", "eth0").unwrap();
        remove(&dir, "n", "c", "eth0").unwrap();
        assert!(!file.exists());
    }
}
