//! A pool of dm-thin on a device: its metadata and its data as parts of the device, and the pool on both.

use std::path::Path;

use grpc::{Code, Failure};
use kernel::dm::{self, SECTOR, Target};

use super::label::{Disk, Label, METADATA_AT, Own};
use crate::plugin::backend::failed;
use crate::plugin::pool::all_places;

/// What the names of all devices of ours begin with.
pub(super) const PREFIX: &str = "sextant-csi-";
/// The label in the pool's directory.
const OWN: &str = "lvm-thin.json";
/// Of so much metadata in a hundred nothing is made any more: where none is left dm-thin stops all writing.
const METADATA_FULL: u64 = 90;

/// A pool that is active.
pub(super) struct ThinPool {
    pub(super) label: Label,
    /// Bytes of data.
    pub(super) bytes: u64,
    _own: Own,
}

impl ThinPool {
    /// Makes a blank device a pool's, and brings the pool up.
    ///
    /// # Errors
    /// `FailedPrecondition` where the device is somebody else's, or the kernel has no device mapper.
    pub(super) fn open(directory: &Path, device: &Path) -> Result<ThinPool, Failure> {
        dm::version().map_err(|e| {
            let hint =
                "load the modules dm-mod and dm-thin-pool (CONFIG_BLK_DEV_DM, CONFIG_DM_THIN_PROVISIONING)";
            Failure::precondition(format!("lvm-thin needs device mapper: {e}; {hint}"))
        })?;
        let mut own = Own::open(&directory.join(OWN))?;
        let disk = Disk::open(device)?;
        let is_empty = all_places(directory)?.is_empty();
        let label = label(directory, device, &mut own, &disk, is_empty)?;
        let bytes = label.data(disk.bytes);
        let pool = ThinPool { label, bytes, _own: own };
        pool.leave_another(device, &disk)?;
        pool.activate(&disk)?;
        Ok(pool)
    }

    /// What a device of this pool is called.
    pub(super) fn name(&self, what: impl std::fmt::Display) -> String {
        format!("{PREFIX}{}-{what}", self.label.uuid)
    }

    fn parts(&self) -> [String; 3] {
        ["pool", "data", "metadata"].map(|part| self.name(part))
    }

    /// Refuses a pool in use that is active on something else than its device as it is now, and takes one down that nobody uses. A
    /// disk that was taken away and has come back is another one to the kernel, as is a copy of it.
    fn leave_another(&self, device: &Path, disk: &Disk) -> Result<(), Failure> {
        let [_, data, metadata] = self.parts();
        for (name, bytes) in [(data, self.bytes), (metadata, self.label.metadata)] {
            let table = if dm::info(&name)?.is_some() { dm::table(&name)? } else { Vec::new() };
            let is_elsewhere =
                |target: &Target| target.parameters.split(' ').next() != Some(disk.number.as_str());
            let is_larger = |target: &Target| target.length > bytes / SECTOR;
            let is_another = |target: &Target| is_elsewhere(target) || is_larger(target);
            if table.iter().any(is_another) && !self.take_down()? {
                let hint = "unpublish and unstage its volumes, and start the driver again";
                let device = device.display();
                return Err(Failure::precondition(format!(
                    "the pool is in use on another device than {device} is now, or on more of it ({name}): {hint}"
                )));
            }
        }
        Ok(())
    }

    /// Takes the pool down, unless a volume has a device. Whether it did.
    fn take_down(&self) -> Result<bool, Failure> {
        let parts = self.parts();
        if dm::list(&self.name(""))?.iter().any(|name| !parts.contains(name)) {
            return Ok(false);
        }
        for part in &parts {
            super::devices::patiently(|| dm::remove(part, false))?;
        }
        Ok(true)
    }

    fn activate(&self, disk: &Disk) -> Result<(), Failure> {
        let [pool, data, metadata] = self.parts();
        let part = |at: u64, bytes: u64| Target {
            start: 0,
            length: bytes / SECTOR,
            kind: "linear".into(),
            parameters: format!("{} {}", disk.number, at / SECTOR),
        };
        let metadata = ensure(&metadata, part(METADATA_AT, self.label.metadata))?;
        let data = ensure(&data, part(self.label.data_at(), self.bytes))?;
        let block = self.label.block / SECTOR;
        // Who writes where no block is left is told at once.
        let parameters = format!("{} {} {block} 0 1 error_if_no_space", metadata.name(), data.name());
        let target = Target { start: 0, length: self.bytes / SECTOR, kind: "thin-pool".into(), parameters };
        let active = ensure(&pool, target).map(drop);
        active.map_err(|error| Failure {
            message: format!("{}; the kernel's log says why", error.message),
            ..error
        })
    }

    /// Tells the pool something; when it has answered that is on the disk.
    pub(super) fn message(&self, text: &str) -> Result<(), kernel::Error> {
        dm::message(&self.name("pool"), text)
    }

    /// How the pool is.
    pub(super) fn health(&self) -> Result<Health, Failure> {
        let status = dm::status(&self.name("pool"))?;
        Ok(Health::parse(status.first().map_or("", |target| &target.parameters)))
    }

    /// Refuses to make more where the pool may not be written, or has hardly any metadata left.
    pub(super) fn is_well(&self) -> Result<(), Failure> {
        let health = self.health()?;
        match health.ailment() {
            Some(ailment) if health.is_full() => Err(Failure::new(Code::ResourceExhausted, ailment)),
            Some(ailment) => Err(Failure::precondition(ailment)),
            None => Ok(()),
        }
    }
}

/// A pool that nobody uses goes with its driver; one in use stays, and the next driver finds it.
impl Drop for ThinPool {
    fn drop(&mut self) {
        if let Err(error) = self.take_down() {
            eprintln!("sextant csi: {error}");
        }
    }
}

/// The label that the device and the pool's directory agree on.
fn label(
    directory: &Path,
    device: &Path,
    own: &mut Own,
    disk: &Disk,
    is_empty: bool,
) -> Result<Label, Failure> {
    let refused = |what: &str| {
        Failure::precondition(format!(
            "{} {what} {}: nothing was changed",
            device.display(),
            directory.display()
        ))
    };
    match (own.label.clone(), disk.label().map_err(|e| failed("read the label of", device, &e))?) {
        (Some(own), Some(there)) if own == there => Ok(own),
        (_, Some(_)) => Err(refused("is the device of a pool in another directory than")),
        (Some(_), None) if !is_empty => Err(refused("is not the device that has the volumes of")),
        // A driver that was killed has left the directory's alone.
        (Some(own), None) => disk.take(device, &own).map(|()| own),
        (None, None) => {
            let label = Label::new(disk.bytes)?;
            own.write(directory, label.clone())?;
            disk.take(device, &label).map(|()| label)
        }
    }
}

/// A device with this table: made, or, where it is there with another length, changed.
pub(super) fn ensure(name: &str, target: Target) -> Result<dm::Info, Failure> {
    if let Some(info) = dm::info(name)? {
        if info.active {
            let length = dm::table(name)?.first().map(|target| target.length);
            if length == Some(target.length) {
                return Ok(if info.suspended { dm::resume(name)? } else { info });
            }
            dm::load(name, &[target], info.read_only)?;
            if !info.suspended {
                dm::suspend(name, false)?;
            }
            return Ok(dm::resume(name)?);
        }
        dm::remove(name, false)?;
    }
    Ok(dm::create(name, &[target], false)?)
}

/// What a pool says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Health {
    /// Blocks of metadata that are used, and all.
    metadata: (u64, u64),
    /// The same of data.
    data: (u64, u64),
    /// `rw`, `ro`, `out_of_data_space`; empty where the pool has failed.
    mode: String,
    needs_check: bool,
    /// Whether the device below is told what is discarded.
    pub(super) passes_discards: bool,
}

impl Health {
    /// The words of a thin-pool's status: the transaction, metadata and data as USED/ALL, a root, the mode, and more.
    fn parse(text: &str) -> Health {
        let words: Vec<&str> = text.split_whitespace().collect();
        let part = |at: usize| {
            let (used, all) = words.get(at)?.split_once('/')?;
            Some((used.parse().ok()?, all.parse().ok()?))
        };
        match (part(1), part(2), words.get(4)) {
            (Some(metadata), Some(data), Some(mode)) => Health {
                metadata,
                data,
                mode: (*mode).to_owned(),
                needs_check: words.contains(&"needs_check"),
                passes_discards: words.contains(&"discard_passdown"),
            },
            _ => Health::default(),
        }
    }

    fn is_full(&self) -> bool {
        self.mode == "out_of_data_space"
            || !self.mode.is_empty() && self.metadata.0 * 100 >= self.metadata.1 * METADATA_FULL
    }

    /// What is wrong, for people.
    pub(super) fn ailment(&self) -> Option<String> {
        let blocks = |(used, all): (u64, u64)| format!("{used} of {all} blocks");
        if self.mode.is_empty() {
            return Some(
                "its pool has failed: the kernel's log says why; thin_check(8) looks at its metadata".into(),
            );
        }
        if self.needs_check {
            return Some("its pool's metadata has to be checked: run thin_check(8) on it".into());
        }
        match self.mode.as_str() {
            "ro" => Some("its pool cannot be written any more: the kernel's log says why".into()),
            "out_of_data_space" => {
                let hint = "delete volumes or snapshots, or make its device larger";
                Some(format!("its pool is full, {}: {hint}", blocks(self.data)))
            }
            _ if self.is_full() => {
                let hint = "delete volumes or snapshots";
                Some(format!("its pool has hardly any metadata left, {}: {hint}", blocks(self.metadata)))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_says_how_it_is() {
        let well = "1 11/4096 20/16000 - rw discard_passdown error_if_no_space - 1024";
        assert_eq!(Health::parse(well).ailment(), None);
        assert!(Health::parse(well).passes_discards);
        assert!(!Health::parse(&well.replace("discard_passdown", "no_discard_passdown")).passes_discards);
        for (text, ailment, full) in [
            ("Fail", "has failed", false),
            ("", "has failed", false),
            (&well.replace(" rw", " ro"), "cannot be written", false),
            (&well.replace(" rw", " out_of_data_space"), "is full, 20 of 16000", true),
            (&well.replace("11/", "3700/"), "metadata left, 3700 of 4096", true),
            (&well.replace(" - 1024", " needs_check 1024"), "checked", false),
        ] {
            let health = Health::parse(text);
            assert!(health.ailment().unwrap().contains(ailment), "{text}");
            assert_eq!(health.is_full(), full, "{text}");
        }
    }
}
