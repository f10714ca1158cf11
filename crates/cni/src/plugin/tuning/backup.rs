//! The attributes that a link had before: a file a link, in the form of the reference plugin, so that either can restore
//! what the other has changed.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use kernel::netlink::Mac;
use ledger::{Effect, Record};
use serde::{Deserialize, Serialize};

use super::conf::Settings;
use crate::contract::{Code, Error, Holders, Request};

#[derive(Debug, Default, Serialize, Deserialize)]
struct File {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mac: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    promisc: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    allmulti: Option<bool>,
    #[serde(default, rename = "txQLen", skip_serializing_if = "Option::is_none")]
    tx_queue_len: Option<u32>,
    /// Whose link it was; GC goes by it. The reference plugin has no such key and reads over it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    holder: Option<String>,
}

impl File {
    fn settings(&self) -> Settings {
        Settings {
            mac: self.mac.as_deref().and_then(|text| text.parse::<Mac>().ok()),
            promisc: self.promisc,
            mtu: self.mtu.filter(|mtu| *mtu != 0),
            allmulti: self.allmulti,
            tx_queue_len: self.tx_queue_len,
        }
    }
}

/// Where a link's attributes are kept.
pub(super) fn path(dir: &Path, request: &Request<'_>) -> PathBuf {
    let attachment = request.attachment;
    dir.join(format!("{}_{}.json", attachment.container_id, attachment.ifname))
}

/// What is kept; none if nothing is, or nothing that can be read (whoever wrote it had changed nothing yet).
pub(super) fn read(path: &Path) -> Result<Option<Settings>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice::<File>(&bytes).ok().map(|file| file.settings())),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("read", path, e)),
    }
}

/// Keeps `settings`. What is kept already is older, so it stays: two of these plugins may be in one chain.
pub(super) fn keep(
    dir: &Path,
    request: &Request<'_>,
    settings: Settings,
    record: &mut dyn Record,
) -> Result<(), Error> {
    let path = path(dir, request);
    let settings = read(&path)?.unwrap_or_default().or(settings);
    let file = File {
        mac: settings.mac.map(|mac| mac.to_string()),
        promisc: settings.promisc,
        mtu: settings.mtu,
        allmulti: settings.allmulti,
        tx_queue_len: settings.tx_queue_len,
        holder: Some(request.holder()),
    };
    record.record(Effect::File { path: path.clone() })?;
    let written = DirBuilder::new().recursive(true).mode(0o700).create(dir).and_then(|()| {
        let mut options = OpenOptions::new();
        let mut out = options.write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        out.write_all(serde_json::to_string_pretty(&file)?.as_bytes())
    });
    written.map_err(|e| failed("write", &path, e))
}

/// Keeps nothing any more. Not there counts as done.
pub(super) fn forget(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(failed("remove", path, e)),
        _ => Ok(()),
    }
}

/// Forgets what is kept for holders that are gone. Goes on past errors and returns the first.
pub(super) fn forget_stale(dir: &Path, holders: &Holders) -> Result<(), Error> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|e| failed("list", dir, e))?,
    };
    let stale = |path: &PathBuf| {
        let file = fs::read(path).ok().and_then(|bytes| serde_json::from_slice::<File>(&bytes).ok());
        file.and_then(|file| file.holder).is_some_and(|holder| holders.is_stale(&holder))
    };
    let paths = entries.flatten().map(|entry| entry.path());
    let mut outcome = Ok(());
    for path in paths.filter(stale) {
        outcome = outcome.and(forget(&path));
    }
    outcome
}

fn failed(act: &str, path: &Path, source: std::io::Error) -> Error {
    Error::because(format!("cannot {act} {}, where tuning keeps what it changes", path.display()), source)
        .code(Code::Io)
}
