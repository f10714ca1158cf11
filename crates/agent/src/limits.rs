//! What of the machine pods may fill before something of theirs goes.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Limits of a node's housekeeping: a kubelet's, where nothing else is said.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How large a container's log may be, in bytes, before it is rotated.
    pub log_size: u64,
    /// How many files a container's log has at most, the one that is written among them: at least two.
    pub log_files: usize,
    /// Images that nobody uses go once so many percent of their disk are taken: none where it is 100 ...
    pub images_high: u8,
    /// ... until no more than so many are.
    pub images_low: u8,
    /// An image that is on the machine for less time stays.
    pub image_age: Duration,
    /// What has to be left of the machine: with less, pods go.
    pub eviction: Vec<Threshold>,
    /// How long the machine is told to be short of something after it was.
    pub pressure: Duration,
    /// How often it is looked.
    pub look: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        use Signal::*;
        let of = |signal, least| Threshold { signal, least };
        Self {
            log_size: 10 << 20,
            log_files: 5,
            images_high: 85,
            images_low: 80,
            image_age: Duration::from_secs(120),
            eviction: vec![
                of(Memory, Amount::Bytes(100 << 20)),
                of(Disk, Amount::Percent(10)),
                of(DiskInodes, Amount::Percent(5)),
                of(ImageDisk, Amount::Percent(15)),
                of(ImageDiskInodes, Amount::Percent(5)),
            ],
            pressure: Duration::from_secs(300),
            look: Duration::from_secs(10),
        }
    }
}

/// What the machine may be short of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// `memory.available`
    Memory,
    /// `nodefs.available`: the disk with volumes and logs.
    Disk,
    /// `nodefs.inodesFree`
    DiskInodes,
    /// `imagefs.available`: the disk with images and what containers write.
    ImageDisk,
    /// `imagefs.inodesFree`
    ImageDiskInodes,
    /// `pid.available`
    Pids,
}

impl Signal {
    const ALL: [(&str, Self); 6] = [
        ("memory.available", Self::Memory),
        ("nodefs.available", Self::Disk),
        ("nodefs.inodesFree", Self::DiskInodes),
        ("imagefs.available", Self::ImageDisk),
        ("imagefs.inodesFree", Self::ImageDiskInodes),
        ("pid.available", Self::Pids),
    ];

    /// The resource, as messages name it.
    #[must_use]
    pub fn resource(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk | Self::ImageDisk => "ephemeral-storage",
            Self::DiskInodes | Self::ImageDiskInodes => "inodes",
            Self::Pids => "pids",
        }
    }
}

/// So much has to be left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// Of what there is.
    Percent(u8),
    /// Bytes, files, process ids.
    Bytes(u64),
}

impl Amount {
    /// How much that is of so much.
    #[must_use]
    pub fn of(self, whole: u64) -> u64 {
        match self {
            Self::Percent(percent) => {
                u64::try_from(u128::from(whole) * u128::from(percent) / 100).unwrap_or(u64::MAX)
            }
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// `memory.available<100Mi`: with less, pods go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// What is looked at.
    pub signal: Signal,
    /// What has to be left of it.
    pub least: Amount,
}

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Signal::ALL.map(|(name, _)| name).join(", ");
        let (name, least) = text.split_once('<').ok_or_else(|| format!("{text:?}: give SIGNAL<AMOUNT"))?;
        let signal = Signal::ALL.iter().find(|(known, _)| *known == name.trim());
        let (_, signal) = signal.ok_or_else(|| format!("{name:?} is no signal: give one of {}", names()))?;
        let least = least.trim();
        let least = match least.strip_suffix('%') {
            Some(percent) => {
                let percent = percent.parse().ok().filter(|percent| *percent <= 100);
                Amount::Percent(percent.ok_or_else(|| format!("{least:?} is no share: give 0% to 100%"))?)
            }
            None => Amount::Bytes(bytes(least)?),
        };
        Ok(Self { signal: *signal, least })
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Signal::ALL.iter().find(|(_, signal)| *signal == self.signal).map_or("", |(name, _)| name);
        match self.least {
            Amount::Percent(percent) => write!(f, "{name}<{percent}%"),
            Amount::Bytes(bytes) => {
                write!(f, "{name}<{}", client::quantity::of(i64::try_from(bytes).unwrap_or(i64::MAX)).0)
            }
        }
    }
}

/// So many bytes: `10Mi`, as Kubernetes writes it.
///
/// # Errors
/// It is no such amount.
pub fn bytes(text: &str) -> Result<u64, String> {
    let quantity = k8s_openapi::apimachinery::pkg::api::resource::Quantity(text.into());
    let bytes = client::quantity::bytes(&quantity).and_then(|bytes| u64::try_from(bytes).ok());
    bytes.ok_or_else(|| format!("{text:?} is no amount: give bytes, such as 100Mi"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_read_as_they_are_written() {
        for text in ["memory.available<100Mi", "nodefs.inodesFree<5%", "pid.available<1k"] {
            let read: Threshold = text.parse().unwrap();
            assert_eq!(read.to_string().parse::<Threshold>().unwrap(), read, "{text}");
        }
        let read: Threshold = "imagefs.available< 15%".parse().unwrap();
        assert_eq!((read.signal, read.least.of(200)), (Signal::ImageDisk, 30));
        for text in ["memory<1", "memory.available", "nodefs.available<101%", "memory.available<x"] {
            assert!(text.parse::<Threshold>().is_err(), "{text}");
        }
    }
}
