use std::borrow::Cow;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ledger::{Effect, Record};
use rustix::buffer::spare_capacity;
use rustix::fs::{Access, AtFlags, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::kept::{Entries, Written};
use crate::contract::{AddResult, Attachment, Error, NetworkList, Versioned};

const KIND: &str = "cniCacheV1";
/// How many bytes an entry has without its configuration, mostly.
const ENTRY: usize = 1024;

/// What libcni keeps about an attachment.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    kind: String,
    container_id: String,
    config: String,
    if_name: String,
    network_name: String,
    #[serde(default)]
    netns: String,
    #[serde(default)]
    cni_args: Option<Vec<(String, String)>>,
    #[serde(default)]
    capability_args: Option<Map<String, Value>>,
    result: Value,
}

/// The same, to be written.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    kind: &'static str,
    container_id: &'a str,
    config: &'a str,
    if_name: &'a str,
    network_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    netns: Option<String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    cni_args: &'a [(String, String)],
    #[serde(skip_serializing_if = "Map::is_empty")]
    capability_args: &'a Map<String, Value>,
    result: Versioned<'a>,
}

/// An attachment as it was made.
#[derive(Debug)]
pub struct Cached {
    /// Its names, namespace and arguments.
    pub attachment: Attachment,
    /// The configuration it was made with: of one that is damaged, what can be used.
    pub list: NetworkList,
    /// What ADD answered; none if that cannot be read.
    pub result: Option<AddResult>,
    /// What is wrong with the configuration or the result, if something is.
    pub damage: Option<Error>,
}

/// A [`Cached`] whose configuration may be the one at hand.
#[derive(Debug)]
pub(super) struct Known<'a> {
    pub(super) attachment: Attachment,
    pub(super) list: Cow<'a, NetworkList>,
    pub(super) result: Option<AddResult>,
    pub(super) damage: Option<Error>,
}

impl Known<'_> {
    fn into_cached(self) -> Cached {
        let Self { attachment, list, result, damage } = self;
        Cached { attachment, list: list.into_owned(), result, damage }
    }
}

/// A cache that is held.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) path: &'a Path,
    /// The directory, open: whoever has it made anew since is served by the path.
    pub(super) dir: Option<&'a File>,
    pub(super) written: &'a Entries,
}

fn path(cache_dir: &Path, network: &str, attachment: &Attachment) -> PathBuf {
    cache_dir.join(within(network, attachment))
}

/// Where an attachment's entry is in the cache's directory.
fn within(network: &str, attachment: &Attachment) -> String {
    let Attachment { container_id, ifname, .. } = attachment;
    format!("results/{network}-{container_id}-{ifname}")
}

/// Surely nothing is known of an attachment to `network`; `dir` is the cache's directory.
pub(super) fn is_unknown(dir: &File, network: &str, attachment: &Attachment) -> bool {
    let found = rustix::fs::accessat(dir, within(network, attachment), Access::EXISTS, AtFlags::empty());
    found == Err(Errno::NOENT)
}

/// Writes an attachment down. A failed write fails the ADD: DEL would not know its configuration.
pub(super) fn store(
    place: Place<'_>,
    list: &NetworkList,
    attachment: &Attachment,
    result: &AddResult,
    record: &mut dyn Record,
) -> Result<(), Error> {
    let name = within(&list.name, attachment);
    let path = place.path.join(&name);
    let entry = Entry {
        kind: KIND,
        container_id: &attachment.container_id,
        config: list.encoded(),
        if_name: &attachment.ifname,
        network_name: &list.name,
        netns: attachment.netns.as_ref().map(|path| path.display().to_string()),
        cni_args: &attachment.args,
        capability_args: &attachment.capability_args,
        result: result.of_version(list.version),
    };
    let failed = |e| Error::because(format!("cannot write the cached result {}", path.display()), e);
    record.record(Effect::File { path: path.clone() })?;
    let mut text = Vec::with_capacity(ENTRY + entry.config.len());
    serde_json::to_writer(&mut text, &entry).map_err(|e| failed(e.into()))?;
    let write = |dir| -> std::io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let file = rustix::fs::openat(dir, name.as_str(), flags, Mode::from_raw_mode(0o666))?;
        File::from(file).write_all(&text)
    };
    match place.dir.map_or_else(|| std::fs::write(&path, &text), write) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let dir = path.parent().unwrap_or(place.path);
            std::fs::create_dir_all(dir).and_then(|()| std::fs::write(&path, &text)).map_err(failed)?;
        }
        outcome => outcome.map_err(failed)?,
    }
    // In the words of an older version it may say less than it was made of.
    if matches!(entry.result, Versioned::Latest { .. }) {
        place.written.keep(name, Written::new(text, &list.name, attachment, result));
    }
    Ok(())
}

/// What is known of an attachment to `network`. A file that cannot be read is as good as none.
pub fn cached(cache_dir: &Path, network: &str, attachment: &Attachment) -> Option<Cached> {
    read(&path(cache_dir, network, attachment)).map(Known::into_cached)
}

/// The same, for who has the list at hand with which the attachment was made, most likely: if so, it is not read again.
pub(super) fn cached_with<'a>(
    place: Place<'_>,
    list: &'a NetworkList,
    attachment: &Attachment,
) -> Option<Known<'a>> {
    let name = within(&list.name, attachment);
    let at_path = || std::fs::read(place.path.join(&name)).ok();
    let text = place.dir.and_then(|dir| text(dir, &name).ok()).or_else(at_path)?;
    match place.written.take(&name, &text, list) {
        Some(Written { attachment, result, .. }) => {
            Some(Known { attachment, list: Cow::Borrowed(list), result: Some(result), damage: None })
        }
        None => known(&text, &place.path.join(&name), Some(list)),
    }
}

/// An entry's text, in one piece nearly always.
fn text(dir: &File, name: &str) -> std::io::Result<Vec<u8>> {
    let file = rustix::fs::openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = Vec::with_capacity(4 * ENTRY);
    let length = rustix::io::retry_on_intr(|| rustix::io::read(&file, spare_capacity(&mut text)))?;
    // A file gives less than was asked for at its end alone.
    if length == text.capacity() {
        File::from(file).read_to_end(&mut text)?;
    }
    Ok(text)
}

/// The bare result that runtimes kept before libcni had a format for it: no configuration is with it.
pub(super) fn bare_result(cache_dir: &Path, network: &str, attachment: &Attachment) -> Option<AddResult> {
    let value: Value =
        serde_json::from_slice(&std::fs::read(path(cache_dir, network, attachment)).ok()?).ok()?;
    if value.get("kind").is_some() {
        return None;
    }
    AddResult::from_value(value).ok()
}

/// All attachments that are known.
pub fn cached_attachments(cache_dir: &Path) -> Vec<Cached> {
    let entries = std::fs::read_dir(cache_dir.join("results")).into_iter().flatten().flatten();
    entries.filter_map(|entry| read(&entry.path())).map(Known::into_cached).collect()
}

fn read(path: &Path) -> Option<Known<'static>> {
    known(&std::fs::read(path).ok()?, path, None)
}

/// What the entry `text` says, which is at `path`.
fn known<'a>(text: &[u8], path: &Path, list: Option<&'a NetworkList>) -> Option<Known<'a>> {
    let wire: Wire = serde_json::from_slice(text).ok()?;
    // The name becomes part of paths.
    (wire.kind == KIND && NetworkList::is_name(&wire.network_name)).then_some(())?;
    let netns = Some(wire.netns).filter(|netns| !netns.is_empty()).map(PathBuf::from);
    let attachment = Attachment {
        args: wire.cni_args.unwrap_or_default(),
        capability_args: wire.capability_args.unwrap_or_default(),
        ..Attachment::new(wire.container_id, wire.if_name, netns).ok()?
    };
    let same = |list: &&NetworkList| list.name == wire.network_name && list.encoded() == wire.config;
    let (list, damage) = match list.filter(same) {
        Some(list) => (Cow::Borrowed(list), None),
        None => {
            let bytes = STANDARD.decode(wire.config).unwrap_or_default();
            let (list, damage) = NetworkList::salvage(&bytes, &wire.network_name);
            (Cow::Owned(list), damage)
        }
    };
    let (result, damage) = match AddResult::from_value(wire.result) {
        Ok(result) => (Some(result), damage),
        Err(e) => (None, damage.or(Some(e))),
    };
    let damage = damage.map(|e| {
        let Attachment { container_id, ifname, .. } = &attachment;
        let what =
            format!("cannot read with what {container_id} {ifname} was attached to network {:?}", list.name);
        Error::because(format!("{what} ({})", path.display()), e)
    });
    Some(Known { attachment, list, result, damage })
}

/// Forgets an attachment.
pub(super) fn remove(
    place: Place<'_>,
    network: &str,
    attachment: &Attachment,
    record: &mut dyn Record,
) -> Result<(), Error> {
    let path = path(place.path, network, attachment);
    let name = path.strip_prefix(place.path).unwrap_or(&path);
    let removed = place.dir.is_some_and(|dir| rustix::fs::unlinkat(dir, name, AtFlags::empty()).is_ok());
    match if removed { Ok(()) } else { std::fs::remove_file(&path) } {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::because(format!("cannot remove the cached result {}", path.display()), e))
        }
        _ => Ok(record.undone(&Effect::File { path })?),
    }
}
