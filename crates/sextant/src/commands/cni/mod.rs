//! `sextant cni`: networks and attachments by hand, through the same caller that `sextant run` uses.

mod show;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cni::caller::{Cached, Caller, Directory, cached, cached_attachments};
use cni::contract::{Attachment, NetworkList, PortMapping, ValidAttachment, hash, parse_args};
use ledger::OwnerId;
use serde_json::json;

use crate::cli::{Cni, CniAddArgs, CniAttachmentArgs, CniCommand, CniGcArgs, CniStatusArgs};
use crate::container;
use crate::failure::{Failure, Result};
use crate::instance::Instance;
use crate::output;

/// The default network's name here and with `--network`.
const DEFAULT: &str = "bridge";

/// What owners of attachments made here are called, before a hash.
const OWNER: &str = "cni-";

pub(super) fn run(instance: &Instance, args: &Cni) -> Result<ExitCode> {
    let networks = Networks::of(instance, args);
    match &args.command {
        CniCommand::Ls(ls) if ls.attachments => show::attachments(&networks, ls.output),
        CniCommand::Ls(ls) => show::networks(&networks, ls.output),
        CniCommand::Add(args) => add(&networks, args),
        CniCommand::Del(args) => del(&networks, args),
        CniCommand::Check(args) => check(&networks, args),
        CniCommand::Gc(args) => gc(&networks, args),
        CniCommand::Status(args) => return status(&networks, args),
    }
    .map(|()| ExitCode::SUCCESS)
}

/// The networks of this machine and who drives them.
struct Networks<'a> {
    instance: &'a Instance,
    caller: Caller,
    directory: Directory,
}

/// A network, or what is wrong with its file.
struct Known {
    file: Option<PathBuf>,
    list: Result<NetworkList>,
}

impl<'a> Networks<'a> {
    fn of(instance: &'a Instance, args: &Cni) -> Self {
        let cache = args.cache_dir.clone().unwrap_or_else(|| container::cni_cache(instance));
        let mut caller = Caller::new(cni::plugin::builtins(), cache);
        caller.plugin_dirs.clone_from(&args.plugin_dirs);
        Self { instance, caller, directory: Directory::new(&args.conf_dir) }
    }

    fn find(&self, name: &str) -> Result<NetworkList> {
        let default = container::default_network(self.instance)?;
        if name == DEFAULT || name == default.name {
            return Ok(default);
        }
        Ok(self.directory.find(name)?)
    }

    /// All of them, the default first; with a name that one.
    fn all(&self, name: Option<&str>) -> Result<Vec<Known>> {
        if let Some(name) = name {
            return Ok(vec![Known { file: None, list: Ok(self.find(name)?) }]);
        }
        let entries = self.directory.entries()?.into_iter();
        let known =
            entries.map(|entry| Known { file: Some(entry.path), list: entry.network.map_err(Into::into) });
        let default = Known { file: None, list: container::default_network(self.instance) };
        Ok([default].into_iter().chain(known).collect())
    }

    /// Those, and networks that are not configured any more but have attachments still.
    fn all_to_collect(&self, name: Option<&str>) -> Result<Vec<Known>> {
        let mut orphaned: Vec<NetworkList> = Vec::new();
        let mut all = match (self.all(name), name) {
            (Err(e), Some(name)) if !self.attachments().iter().any(|a| a.list.name == name) => return Err(e),
            (Err(_), Some(_)) => Vec::new(),
            (all, _) => all?,
        };
        for Cached { list, .. } in self.attachments() {
            let wanted = name.is_none_or(|name| name == list.name);
            let is_known = |known: &Known| known.list.as_ref().is_ok_and(|known| known.name == list.name);
            if wanted && !all.iter().any(is_known) && !orphaned.iter().any(|known| known.name == list.name) {
                orphaned.push(list);
            }
        }
        all.extend(orphaned.into_iter().map(|list| Known { file: None, list: Ok(list) }));
        Ok(all)
    }

    fn attachments(&self) -> Vec<Cached> {
        let mut all = cached_attachments(&self.caller.cache_dir);
        let key = |a: &Cached| {
            (a.list.name.clone(), a.attachment.container_id.clone(), a.attachment.ifname.clone())
        };
        all.sort_by_key(key);
        all
    }
}

/// The owner of what an attachment made here holds.
fn owner(network: &str, attachment: &Attachment) -> Result<OwnerId> {
    let name = hash(&["attachment", network, &attachment.container_id, &attachment.ifname]);
    Ok(OwnerId::new(format!("{OWNER}{name}"))?)
}

/// Whether an owner is one of an attachment made here whose namespace is still there. None if it is of another kind.
pub(crate) fn is_alive(owner_id: &OwnerId, cache_dir: &Path) -> Option<bool> {
    if !owner_id.as_str().starts_with(OWNER) {
        return None;
    }
    let is_it = |cached: &Cached| owner(&cached.list.name, &cached.attachment).is_ok_and(|o| o == *owner_id);
    Some(cached_attachments(cache_dir).iter().any(|cached| is_it(cached) && is_there(&cached.attachment)))
}

/// The namespace is still there. A pinned one that was unmounted is an ordinary file.
fn is_there(attachment: &Attachment) -> bool {
    const NSFS: u64 = 0x6e73_6673;
    attachment
        .netns
        .as_ref()
        .is_some_and(|path| rustix::fs::statfs(path).is_ok_and(|fs| fs.f_type.cast_unsigned() == NSFS))
}

fn netns_path(text: &str) -> PathBuf {
    if text.contains('/') { text.into() } else { Path::new("/run/netns").join(text) }
}

/// The attachment that the arguments name. Its namespace is left out if it is gone.
fn attachment(args: &CniAttachmentArgs) -> Result<Attachment> {
    let path = netns_path(&args.netns);
    // A path of /proc is a process's: its inode is the namespace's own name.
    let name = match std::fs::metadata(&path) {
        Ok(file) if path.starts_with("/proc") => format!("net:[{}]", file.ino()),
        _ => path.display().to_string(),
    };
    let id = args.id.clone().unwrap_or_else(|| format!("ns-{}", hash(&["netns", &name])));
    let mut attachment = Attachment::new(id, &args.interface, Some(path))?;
    attachment.args = parse_args(&args.args.join(";"))?;
    if !is_there(&attachment) {
        attachment.netns = None;
    }
    Ok(attachment)
}

fn add(networks: &Networks<'_>, args: &CniAddArgs) -> Result<()> {
    let list = networks.find(&args.attachment.network)?;
    let mut attachment = attachment(&args.attachment)?;
    if attachment.netns.is_none() {
        let path = netns_path(&args.attachment.netns);
        return Err(Failure::new(format!(
            "cannot attach {}: it is no network namespace (`ip netns add {}` makes one)",
            path.display(),
            args.attachment.netns
        )));
    }
    let mut ports = Vec::new();
    for text in &args.publish {
        ports.extend(PortMapping::parse(text)?);
    }
    if !ports.is_empty() {
        attachment.capability_args.insert("portMappings".into(), json!(ports));
    }
    for text in &args.capabilities {
        let refuse = |why: &str| Failure::new(format!("cannot use --capability {text:?}: {why}"));
        let (name, value) = text.split_once('=').ok_or_else(|| refuse("give NAME=JSON"))?;
        let value = serde_json::from_str(value).map_err(|e| refuse(&format!("the value is no JSON: {e}")))?;
        attachment.capability_args.insert(name.into(), value);
    }
    let mut owner = networks.instance.ledger.owner(&owner(&list.name, &attachment)?)?;
    let added = networks.caller.add(&list, &attachment, &mut owner)?;
    if args.output.json() {
        return Ok(output::json(&added.result.to_value(list.version))?);
    }
    show::result(&added.result)
}

/// By what the cache knows: the network's own configuration need not be there any more.
fn del(networks: &Networks<'_>, args: &CniAttachmentArgs) -> Result<()> {
    let attachment = attachment(args)?;
    let list = match networks.find(&args.network) {
        Ok(list) => list,
        Err(e) => match cached(&networks.caller.cache_dir, &args.network, &attachment) {
            Some(cached) => cached.list,
            None => return Err(e),
        },
    };
    let mut owner = networks.instance.ledger.owner(&owner(&list.name, &attachment)?)?;
    let detached = networks.caller.del(&list, &attachment, &mut owner);
    // Whatever a plugin said: the ledger knows what it had made.
    let left = owner.undo_all();
    let errors = detached.err().map(|e| e.to_string()).into_iter();
    let errors: Vec<_> = errors.chain(left.iter().map(ToString::to_string)).collect();
    if errors.is_empty() { Ok(()) } else { Err(Failure::new(errors.join("; "))) }
}

fn check(networks: &Networks<'_>, args: &CniAttachmentArgs) -> Result<()> {
    Ok(networks.caller.check(&networks.find(&args.network)?, &attachment(args)?)?)
}

/// Whose namespace is there stays, and whom the caller names.
fn gc(networks: &Networks<'_>, args: &CniGcArgs) -> Result<()> {
    let mut valid: Vec<ValidAttachment> = Vec::new();
    for text in &args.keep {
        let Some((id, ifname)) = text.split_once('/') else {
            return Err(Failure::new(format!(
                "cannot use --keep {text:?}: give ID/INTERFACE, such as web/eth0"
            )));
        };
        valid.push(ValidAttachment { container_id: id.into(), ifname: ifname.into() });
    }
    let mut failed = Vec::new();
    for known in networks.all_to_collect(args.network.as_deref())? {
        let list = match known.list {
            Ok(list) => list,
            Err(e) => {
                failed.push(e.to_string());
                continue;
            }
        };
        let (alive, gone): (Vec<_>, Vec<_>) = networks
            .attachments()
            .into_iter()
            .filter(|a| a.list.name == list.name)
            .partition(|a| is_there(&a.attachment));
        let valid: Vec<_> = alive
            .iter()
            .map(|a| ValidAttachment {
                container_id: a.attachment.container_id.clone(),
                ifname: a.attachment.ifname.clone(),
            })
            .chain(valid.iter().cloned())
            .collect();
        let mut record = ledger::Transient::new();
        failed.extend(networks.caller.gc(&list, &valid, &mut record).err().map(|e| e.to_string()));
        for cached in gone
            .iter()
            .map(|a| &a.attachment)
            .filter(|a| !valid.iter().any(|v| v.container_id == a.container_id && v.ifname == a.ifname))
        {
            let owner = networks.instance.ledger.owner(&owner(&list.name, cached)?)?;
            failed.extend(owner.undo_all().iter().map(ToString::to_string));
            println!("{}: freed {} {}", list.name, cached.container_id, cached.ifname);
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(Failure::new(failed.join("; "))) }
}

fn status(networks: &Networks<'_>, args: &CniStatusArgs) -> Result<ExitCode> {
    let mut all = Vec::new();
    for known in networks.all(args.network.as_deref())? {
        let state = known.list.as_ref().map_err(ToString::to_string).and_then(|list| {
            networks.caller.validate(list).map_err(|e| e.to_string())?;
            networks.caller.status(list).map_err(|e| e.to_string())
        });
        let name = known.list.map_or_else(
            |_| known.file.map(|f| f.display().to_string()).unwrap_or_default(),
            |list| list.name,
        );
        all.push((name, state));
    }
    show::status(&all, args.output)?;
    let ready = all.iter().all(|(_, state)| state.is_ok());
    Ok(if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
