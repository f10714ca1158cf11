//! `sextant prune`: removes what nobody uses, and says how much room that makes.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use ledger::OwnerId;
use oci_image::store::{Image, Store};
use serde_json::json;

use super::images;
use crate::cli::PruneArgs;
use crate::container::{self, Record, State};
use crate::failure::{Context, Failure, Result};
use crate::instance::Instance;
use crate::output;

/// What was removed.
#[derive(Debug, Default)]
struct Pruned {
    containers: Vec<Record>,
    /// Names, or manifests' digests.
    images: Vec<String>,
    volumes: Vec<String>,
    partials: u64,
    freed: u64,
    failures: Vec<Failure>,
}

pub(crate) fn run(instance: &Instance, args: &PruneArgs) -> Result<()> {
    if !args.force && io::stdin().is_terminal() && io::stderr().is_terminal() && !agreed(args)? {
        return Err(Failure::new("nothing is removed"));
    }
    let mut pruned = Pruned::default();
    pruned.containers(instance)?;
    if args.volumes {
        pruned.volumes(instance)?;
    }
    pruned.images(instance, args.all)?;
    match args.output.json() {
        true => pruned.print_json()?,
        false => pruned.print(),
    }
    let failures: Vec<String> = pruned.failures.iter().map(Failure::to_string).collect();
    match failures.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(failures.join("\nsextant: "))),
    }
}

fn agreed(args: &PruneArgs) -> Result<bool> {
    let mut parts = vec!["all containers that have ended"];
    parts.push(if args.all { "all images that no container uses" } else { "all images without a name" });
    if args.volumes {
        parts.push("all volumes that no container uses");
    }
    parts.push("all unfinished downloads");
    eprint!("This removes:\n  - {}\nGo on? [y/N] ", parts.join("\n  - "));
    io::stderr().flush()?;
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

impl Pruned {
    fn containers(&mut self, instance: &Instance) -> Result<()> {
        for record in Record::all(instance)? {
            if !is_over(instance, &record)? {
                continue;
            }
            let size = disk_usage(&instance.state_dir(&record.id));
            match container::remove(instance, &record, false) {
                Ok(()) => {
                    self.freed += size;
                    self.containers.push(record);
                }
                Err(failure) => self.failures.push(failure),
            }
        }
        Ok(())
    }

    /// Volumes that no container's record names.
    fn volumes(&mut self, instance: &Instance) -> Result<()> {
        let used: BTreeSet<String> = Record::all(instance)?.into_iter().flat_map(|r| r.volumes).collect();
        let dir = instance.data.join("volumes");
        let entries = match fs::read_dir(&dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.context(|| format!("list {}", dir.display()))?,
        };
        for entry in entries {
            let entry = entry.context(|| format!("list {}", dir.display()))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if used.contains(&name) {
                continue;
            }
            let size = disk_usage(&entry.path());
            match fs::remove_dir_all(entry.path()).context(|| format!("remove the volume {name}")) {
                Ok(()) => {
                    self.freed += size;
                    self.volumes.push(name);
                }
                Err(failure) => self.failures.push(failure),
            }
        }
        Ok(())
    }

    /// Images, then everything in the store that is left without an owner.
    fn images(&mut self, instance: &Instance, all: bool) -> Result<()> {
        let store = instance.store()?;
        let used: BTreeSet<String> = Record::all(instance)?.into_iter().map(|r| r.image_id).collect();
        let images = store.images()?;
        let unwanted = |i: &Image| !i.pinned && (all || i.name.is_none());
        for image in &images {
            // A record without a name goes with all others of its image.
            let stays = |i: &Image| i.manifest.digest == image.manifest.digest && !unwanted(i);
            let whole = image.name.is_some() || !images.iter().any(stays);
            if unwanted(image) && whole && !is_used(&store, image, &used) {
                self.image(&store, image);
            }
        }
        let collected = images::collect(instance, &store, Duration::ZERO)?;
        self.partials = collected.partials;
        self.freed += collected.bytes;
        Ok(())
    }

    fn image(&mut self, store: &Store, image: &Image) {
        let removed = match &image.name {
            Some(name) => store.untag(name).map(|_| vec![name.clone()]),
            None => store.remove(image),
        };
        match removed {
            Ok(names) if names.is_empty() => self.images.push(image.manifest.digest.to_string()),
            Ok(names) => self.images.extend(names),
            Err(error) => self.failures.push(error.into()),
        }
    }

    fn print(&self) {
        self.containers.iter().for_each(|c| println!("container {} ({})", c.name, output::short(&c.id)));
        self.images.iter().for_each(|i| println!("image {i}"));
        self.volumes.iter().for_each(|v| println!("volume {v}"));
        if self.partials > 0 {
            println!("unfinished downloads: {}", self.partials);
        }
        println!("freed {}", output::bytes(self.freed));
    }

    fn print_json(&self) -> Result<()> {
        let containers: Vec<_> =
            self.containers.iter().map(|c| json!({ "id": c.id, "name": c.name })).collect();
        Ok(output::json(&json!({
            "containers": containers,
            "images": self.images,
            "volumes": self.volumes,
            "partialDownloads": self.partials,
            "freed": self.freed,
        }))?)
    }
}

/// Whether a container has ended. One that never ran counts if nobody is just making or starting it.
fn is_over(instance: &Instance, record: &Record) -> Result<bool> {
    Ok(match container::state_of(instance, record) {
        State::Exited(_) | State::Created => {
            instance.ledger.try_owner(&OwnerId::new(record.id.clone())?)?.is_some()
        }
        State::Running { .. } | State::Starting => false,
    })
}

/// An image whose documents cannot be read is nobody's: containers have their layers without it.
fn is_used(store: &Store, image: &Image, used: &BTreeSet<String>) -> bool {
    store.details(image).is_ok_and(|d| used.contains(&d.id.to_string()))
}

/// Bytes on disk below `path`, links not followed; what cannot be looked at does not count.
fn disk_usage(path: &Path) -> u64 {
    let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
    let below = match metadata.is_dir() {
        true => fs::read_dir(path).into_iter().flatten().flatten().map(|e| disk_usage(&e.path())).sum(),
        false => 0,
    };
    metadata.blocks() * 512 + below
}
