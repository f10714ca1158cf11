//! Which link of the host it is.

use std::path::{Path, PathBuf};

use kernel::netlink::{self, Batch, Link, Mac, SetLink, Socket};

use crate::contract::{Code, Error, Keys, Request};
use crate::plugin::interface::link_name;

const PCI: &str = "/sys/bus/pci/devices";
const AUXILIARY: &str = "/sys/bus/auxiliary/devices";

/// Drivers that hand a device to a program.
const PROGRAMS_DRIVERS: &[&str] = &["vfio-pci", "uio_pci_generic", "igb_uio"];

/// How the configuration says which.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Device {
    Name(String),
    Mac(Mac),
    /// A directory below `/sys/devices`.
    Kernel(PathBuf),
    /// An address on the PCI bus.
    Pci(String),
    /// A name on the auxiliary bus.
    Auxiliary(String),
}

impl Device {
    /// The first of `device`, `hwaddr`, `kernelpath` and `pciBusID`; a device id of the runtime stands for the last, or for a
    /// device of the auxiliary bus.
    pub(super) fn of(request: &Request<'_>) -> Result<Self, Error> {
        let keys = request.keys();
        let runtime = keys.object("runtimeConfig")?;
        let id = runtime
            .map(|keys| entry(&Keys::new(keys, "\"runtimeConfig\""), "deviceID"))
            .transpose()?
            .flatten();
        let from_runtime = id.map(by_id).transpose()?;
        if let Some(name) = link_name(&keys, "device")? {
            return Ok(Self::Name(name.to_owned()));
        }
        if let Some(mac) = keys.parse("hwaddr")? {
            return Ok(Self::Mac(mac));
        }
        if let Some(path) = keys.text("kernelpath")?.filter(|path| !path.is_empty()) {
            let plain = Path::new(path).components().all(|part| part.as_os_str() != "..");
            if !path.starts_with("/sys/devices/") || !plain {
                return Err(keys.refuse("kernelpath", "an absolute path below /sys/devices/"));
            }
            return Ok(Self::Kernel(path.into()));
        }
        if let Some(device) = from_runtime {
            return Ok(device);
        }
        entry(&keys, "pciBusID")?.map(|address| Self::Pci(address.to_owned())).ok_or_else(|| {
            Error::new(
                Code::InvalidConfig,
                r#"specify either "device", "hwaddr", "kernelpath" or "pciBusID""#,
            )
        })
    }

    /// Its driver hands it to a program: there is no link to give.
    pub(super) fn is_of_a_program(&self) -> Result<bool, Error> {
        let Self::Pci(address) = self else { return Ok(false) };
        let driver = Path::new(PCI).join(address).join("driver");
        let driver = driver.canonicalize().map_err(|e| {
            Error::because(format!("cannot find the driver of PCI device {address}"), e).code(Code::Io)
        })?;
        Ok(driver
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| PROGRAMS_DRIVERS.contains(&name)))
    }

    /// The link.
    pub(super) fn find(&self, socket: &mut Socket) -> Result<Link, Error> {
        let found = match self {
            Self::Name(name) => netlink::link_by_name(socket, name)?,
            Self::Mac(mac) => netlink::links(socket)?.into_iter().find(|link| link.mac == Some(*mac)),
            Self::Kernel(_) | Self::Pci(_) | Self::Auxiliary(_) => match self.name_in_sysfs() {
                Some(name) => netlink::link_by_name(socket, &name)?,
                None => None,
            },
        };
        found.ok_or_else(|| {
            Error::new(Code::InvalidConfig, format!("cannot find host device: {self} is not there"))
        })
    }

    /// The first link that sysfs lists for it.
    fn name_in_sysfs(&self) -> Option<String> {
        let device = match self {
            Self::Kernel(path) => path.clone(),
            Self::Pci(address) => Path::new(PCI).join(address),
            Self::Auxiliary(name) => Path::new(AUXILIARY).join(name),
            Self::Name(_) | Self::Mac(_) => return None,
        };
        let first = |dir: PathBuf| {
            let names =
                dir.read_dir().ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
            names.min()
        };
        let of_virtio = || {
            let parts = device.read_dir().ok()?.flatten();
            let mut parts = parts.filter(|part| part.file_name().as_encoded_bytes().starts_with(b"virtio"));
            parts.find_map(|part| first(part.path().join("net")))
        };
        first(device.join("net")).or_else(of_virtio)
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => write!(f, "link {name}"),
            Self::Mac(mac) => write!(f, "a link with the MAC {mac}"),
            Self::Kernel(path) => write!(f, "a network device in {}", path.display()),
            Self::Pci(address) => write!(f, "a network device of PCI device {address}"),
            Self::Auxiliary(name) => write!(f, "a network device of auxiliary device {name}"),
        }
    }
}

/// The name of a directory entry: it becomes part of a path.
fn entry<'a>(keys: &Keys<'a>, key: &str) -> Result<Option<&'a str>, Error> {
    let Some(name) = keys.text(key)?.filter(|name| !name.is_empty()) else { return Ok(None) };
    if name.contains('/') || matches!(name, "." | "..") {
        return Err(keys.refuse(key, "the name of a device"));
    }
    Ok(Some(name))
}

fn by_id(id: &str) -> Result<Device, Error> {
    if Path::new(PCI).join(id).exists() {
        return Ok(Device::Pci(id.to_owned()));
    }
    if Path::new(AUXILIARY).join(id).exists() {
        return Ok(Device::Auxiliary(id.to_owned()));
    }
    Err(Error::new(Code::InvalidConfig, format!("runtime config DeviceID {id} not found or unsupported")))
}

/// DEL after the namespace's end: the kernel has put the device back on the host under its name of the container, or a
/// number. It is called by its alias again, unless somebody else is by now.
pub(super) fn rename_fallen(request: &Request<'_>, socket: &mut Socket) -> Result<(), Error> {
    let Ok(device) = Device::of(request) else { return Ok(()) };
    let fallen = match &device {
        Device::Name(name) => {
            let of_name = |link: &Link| link.alias.as_deref() == Some(name) && link.name != *name;
            netlink::links(socket)?.into_iter().find(of_name)
        }
        _ => device.find(socket).ok(),
    };
    let Some((link, name)) = fallen.and_then(|link| link.alias.clone().map(|name| (link, name))) else {
        return Ok(());
    };
    // Another attachment may have it by now, or an operator's words may be its alias.
    let moved = link.name == request.attachment.ifname || link.name.starts_with("dev");
    if !moved || netlink::link_by_name(socket, &name)?.is_some() {
        return Ok(());
    }
    let mut batch = Batch::new();
    batch.set_link(&SetLink::index(link.index).up(false));
    batch.set_link(&SetLink::index(link.index).rename(&name).alias(""));
    Ok(socket.run(&batch)?)
}
