//! Mounts whose ids are mapped by a user namespace.

use std::os::fd::OwnedFd;

use kernel::Act;
use kernel::mount::{Attributes, set_attributes};
use rustix::fs::{Mode, OFlags};

use super::Source;
use crate::contract::{self, Linux, Mount, NamespaceType};
use crate::{Error, Result, outside};

/// Which user namespace maps the ids, and whether those of all mounts below too.
#[derive(Debug)]
pub(crate) enum Idmap {
    /// One that is there.
    By(OwnedFd, bool),
    /// The container's, which is still to be made.
    Container(bool),
}

/// Plans the id mapping of `mount`; `asked` is what its options say: with all below, or not.
pub(super) fn plan(mount: &Mount, asked: Option<bool>, linux: &Linux) -> Result<Option<Idmap>> {
    let given = !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty();
    if !given && asked.is_none() {
        return Ok(None);
    }
    let all = asked.unwrap_or(false);
    let field = |name: &str| format!("mounts[{}].{name}", mount.destination);
    if !mount.is_bind() {
        let (name, value) = if given {
            ("uidMappings", "mappings")
        } else {
            ("options", if all { "ridmap" } else { "idmap" })
        };
        return Err(Error::Unsupported {
            field: field(name),
            value: value.into(),
            hint: "the ids of bind mounts alone are mapped; bind the filesystem, or leave it out",
        });
    }
    let namespace = linux.namespace(NamespaceType::User);
    if given {
        let same = mount.uid_mappings == linux.uid_mappings && mount.gid_mappings == linux.gid_mappings;
        if same && namespace.is_some_and(|n| n.path.is_empty()) {
            return Ok(Some(Idmap::Container(all)));
        }
        let text = outside::map_text;
        let user = kernel::namespace::user(&text(&mount.uid_mappings), &text(&mount.gid_mappings))?;
        return Ok(Some(Idmap::By(user, all)));
    }
    match namespace {
        Some(user) if user.path.is_empty() => Ok(Some(Idmap::Container(all))),
        Some(user) => {
            let file = rustix::fs::open(&user.path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .act("open", || format!("user namespace {}", user.path))?;
            Ok(Some(Idmap::By(file, all)))
        }
        None => Err(Error::Config(contract::Error::Invalid {
            field: field("options"),
            value: format!("{:?}", mount.options),
            rule:
                "idmap without uidMappings takes the container's, which has no user namespace; give mappings"
                    .into(),
        })),
    }
}

/// Maps the ids of a tree that nobody uses yet. What has to wait for the container's user namespace is returned.
pub(super) fn apply(idmap: Option<Idmap>, source: &Source, mount: &Mount) -> Result<Option<bool>> {
    match (idmap, source) {
        (Some(Idmap::By(user, all)), Source::Tree { tree, .. }) => {
            map(tree, &user, all).act("map the ids of", || describe(&mount.source, &mount.destination))?;
            Ok(None)
        }
        (Some(Idmap::Container(all)), _) => Ok(Some(all)),
        _ => Ok(None),
    }
}

/// The object of an error, with what to look at.
pub(crate) fn describe(source: &str, target: &str) -> String {
    format!("{source} on {target} (its filesystem must be one that allows it, and not be mapped already)")
}

/// Maps the ids of a mount that is attached nowhere.
pub(crate) fn map(tree: &OwnedFd, user: &OwnedFd, all: bool) -> rustix::io::Result<()> {
    let attributes = Attributes { set: Attributes::IDMAP, ..Attributes::default() };
    set_attributes(tree, attributes, all, Some(user))
}
