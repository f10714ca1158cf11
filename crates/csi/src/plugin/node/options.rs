//! Options of mount: some are a mount's attributes, the rest is the file system's.

use kernel::mount::Attributes;

/// What options come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) attributes: Attributes,
    /// `KEY` or `KEY=VALUE` of the file system.
    pub(super) rest: Vec<(String, Option<String>)>,
}

/// Reads options as mount(8) takes them, the last of those that contradict each other winning.
pub(super) fn read(flags: &[String]) -> Options {
    let mut options = Options::default();
    for flag in flags.iter().flat_map(|flag| flag.split(',')).filter(|flag| !flag.is_empty()) {
        if !attribute(&mut options.attributes, flag) {
            let (key, value) = match flag.split_once('=') {
                Some((key, value)) => (key, Some(value.to_owned())),
                None => (flag, None),
            };
            options.rest.push((key.to_owned(), value));
        }
    }
    options
}

/// Applies an option that is a mount's; whether it is one.
fn attribute(attributes: &mut Attributes, flag: &str) -> bool {
    let (bits, on) = match flag {
        "ro" => (Attributes::RDONLY, true),
        "rw" => (Attributes::RDONLY, false),
        "nosuid" => (Attributes::NOSUID, true),
        "suid" => (Attributes::NOSUID, false),
        "nodev" => (Attributes::NODEV, true),
        "dev" => (Attributes::NODEV, false),
        "noexec" => (Attributes::NOEXEC, true),
        "exec" => (Attributes::NOEXEC, false),
        "nodiratime" => (Attributes::NODIRATIME, true),
        "diratime" => (Attributes::NODIRATIME, false),
        "nosymfollow" => (Attributes::NOSYMFOLLOW, true),
        "symfollow" => (Attributes::NOSYMFOLLOW, false),
        // A field of its own, whose zero is relatime.
        "noatime" | "strictatime" | "relatime" | "atime" => {
            attributes.set &= !Attributes::ATIME;
            attributes.clear |= Attributes::ATIME;
            attributes.set |= match flag {
                "noatime" => Attributes::NOATIME,
                "strictatime" => Attributes::STRICTATIME,
                _ => 0,
            };
            return true;
        }
        // They say nothing to the kernel.
        "defaults" | "bind" | "rbind" | "_netdev" | "auto" | "noauto" | "nofail" => return true,
        _ => return false,
    };
    if on {
        attributes.set |= bits;
        attributes.clear &= !bits;
    } else {
        attributes.set &= !bits;
        attributes.clear |= bits;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_told_from_options_of_the_file_system() {
        let read = |flags: &[&str]| read(&flags.iter().map(|flag| (*flag).to_owned()).collect::<Vec<_>>());
        let options = read(&["noatime", "nosuid,discard", "data=journal", "ro", "rw", "defaults"]);
        assert_eq!(options.attributes.set, Attributes::NOATIME | Attributes::NOSUID);
        assert_eq!(options.attributes.clear, Attributes::ATIME | Attributes::RDONLY);
        let rest = [("discard".to_owned(), None), ("data".to_owned(), Some("journal".to_owned()))];
        assert_eq!(options.rest, rest);
        assert_eq!(read(&["noatime", "relatime"]).attributes.set, 0);
    }
}
