//! The machine that this process runs on.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};

/// What its maker has written down.
const DMI: &str = "/sys/class/dmi/id";
/// Of this start of the kernel: nodes have it in their status.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";
/// What makers write who have nothing to say.
const NOTHING: [&str; 7] = [
    "to be filled by o.e.m.",
    "default string",
    "system product name",
    "system manufacturer",
    "not specified",
    "none",
    "unknown",
];

/// Where things are to be read of the machine.
#[derive(Debug)]
pub(crate) struct Machine {
    dmi: PathBuf,
    boot: String,
}

impl Machine {
    pub(crate) fn this() -> Self {
        let boot = fs::read_to_string(BOOT).unwrap_or_default();
        Self { dmi: DMI.into(), boot: boot.trim().to_owned() }
    }

    #[cfg(test)]
    pub(crate) fn of(dmi: &Path, boot: &str) -> Self {
        Self { dmi: dmi.into(), boot: boot.into() }
    }

    /// Whether a node with this boot id is on the machine.
    pub(crate) fn has_booted(&self, boot: &str) -> bool {
        !self.boot.is_empty() && self.boot == boot
    }

    /// Maker and kind, as a label can have it; nothing where neither is written down.
    pub(crate) fn kind(&self) -> String {
        let read =
            |name: &str| label(&fs::read_to_string(Path::new(&self.dmi).join(name)).unwrap_or_default());
        let words: Vec<String> =
            ["sys_vendor", "product_name"].map(read).into_iter().filter(|word| !word.is_empty()).collect();
        label(&words.join("-"))
    }
}

/// As much of a text as a label's value can have; nothing, where that says nothing.
fn label(text: &str) -> String {
    if NOTHING.contains(&text.trim().to_lowercase().as_str()) {
        return String::new();
    }
    let mut label = String::new();
    for c in text.chars() {
        match c {
            c if c.is_ascii_alphanumeric() || matches!(c, '.' | '_') => label.push(c),
            _ if !label.is_empty() && !label.ends_with('-') => label.push('-'),
            _ => {}
        }
    }
    label.truncate(63);
    label.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

/// The addresses that this machine's default routes begin at. Nothing is sent for that.
pub(crate) fn own_addresses() -> Vec<IpAddr> {
    let anywhere: [(IpAddr, IpAddr); 2] = [
        (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into()),
        (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()),
    ];
    let own = |(from, to): (IpAddr, IpAddr)| {
        let socket = UdpSocket::bind(SocketAddr::new(from, 0)).ok()?;
        socket.connect(SocketAddr::new(to, 9)).ok()?;
        socket.local_addr().ok().map(|address| address.ip())
    };
    anywhere
        .into_iter()
        .filter_map(own)
        .filter(|address| !address.is_loopback() && !address.is_unspecified())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makers_words_become_a_label() {
        for (text, same) in [
            ("QEMU\n", "QEMU"),
            ("Standard PC (i440FX + PIIX, 1996)", "Standard-PC-i440FX-PIIX-1996"),
            ("To Be Filled By O.E.M.", ""),
            ("  -- ", ""),
            ("Größe", "Gr-e"),
        ] {
            assert_eq!(label(text), same, "{text}");
        }
        assert_eq!(label(&"a ".repeat(60)).len(), 63);
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine::of(dir.path(), "b");
        assert_eq!(machine.kind(), "");
        fs::write(dir.path().join("sys_vendor"), "Dell Inc.\n").unwrap();
        fs::write(dir.path().join("product_name"), "PowerEdge R640\n").unwrap();
        assert_eq!(machine.kind(), "Dell-Inc-PowerEdge-R640");
        assert!(
            machine.has_booted("b") && !machine.has_booted("") && !Machine::of(dir.path(), "").has_booted("")
        );
    }
}
