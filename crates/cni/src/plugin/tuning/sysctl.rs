use std::fs::File;
use std::path::Path;

use kernel::namespace::in_netns;
use kernel::netlink::sysctl;
use regex_lite::Regex;
use serde_json::Value;

use crate::contract::{Code, Error};
use crate::plugin::interface::broken;

/// Which sysctls an administrator allows: a regular expression a line. Without the file all of the network's are.
const ALLOWLIST: &str = "/etc/cni/tuning/allowlist.conf";

/// A value below `/proc/sys/net`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sysctl {
    /// As the configuration has it.
    key: String,
    /// Below `/proc/sys`, with the interface's name filled in.
    path: String,
    value: String,
}

impl Sysctl {
    /// Reads an entry of `sysctl`. `IFNAME` in its key stands for the container's interface.
    pub(super) fn read(key: &str, value: &Value, ifname: &str) -> Result<Self, Error> {
        let refuse = |why: &str| {
            Error::new(Code::InvalidConfig, format!("cannot use {key:?} of \"sysctl\" of tuning: {why}"))
        };
        let value = value.as_str().ok_or_else(|| refuse("its value is not text"))?;
        let path = key.replace('.', "/");
        let path = path.trim_start_matches('/').replacen("IFNAME", ifname, 1);
        let inside = path.starts_with("net/") && !path.split('/').any(str::is_empty);
        if !inside {
            return Err(refuse(
                "it is no sysctl of the network (net.*), which are all that a container has of its own",
            ));
        }
        Ok(Self { key: key.to_owned(), path, value: value.to_owned() })
    }

    fn failed(&self, act: &str, source: kernel::Error) -> Error {
        Error::because(format!("cannot {act} {:?} of \"sysctl\" of tuning", self.key), source)
    }
}

/// Refuses those that the administrator does not allow.
pub(super) fn refuse_unless_allowed(sysctls: &[Sysctl]) -> Result<(), Error> {
    match std::fs::read_to_string(ALLOWLIST) {
        Ok(text) => allowed_by(&text, sysctls),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !Path::new(ALLOWLIST).is_symlink() => Ok(()),
        Err(e) => Err(Error::because(format!("cannot read {ALLOWLIST}"), e).code(Code::Io)),
    }
}

fn allowed_by(list: &str, sysctls: &[Sysctl]) -> Result<(), Error> {
    let lines: Vec<&str> = list.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let compile = |line: &&str| {
        Regex::new(line).map_err(|e| {
            Error::because(format!("cannot read {ALLOWLIST}: {line:?} is no regular expression"), e)
                .code(Code::InvalidConfig)
        })
    };
    let allowed: Vec<Regex> = lines.iter().map(compile).collect::<Result<_, _>>()?;
    match sysctls.iter().find(|sysctl| !allowed.iter().any(|regex| regex.is_match(&sysctl.key))) {
        Some(Sysctl { key, .. }) => {
            let text = format!("cannot use {key:?} of \"sysctl\" of tuning: {ALLOWLIST} does not allow it");
            Err(Error::new(Code::InvalidConfig, text).hint(format!("it allows {}", lines.join(", "))))
        }
        None => Ok(()),
    }
}

/// Sets all of them in the container.
pub(super) fn write(netns: &File, sysctls: &[Sysctl]) -> Result<(), Error> {
    let write_one = |one: &Sysctl| sysctl::write(&one.path, &one.value).map_err(|e| one.failed("set", e));
    in_netns(netns, || Ok(sysctls.iter().try_for_each(write_one)))?
}

/// CHECK: all of them are as they were set. The kernel writes lists with tabs.
pub(super) fn check(netns: &File, sysctls: &[Sysctl]) -> Result<(), Error> {
    let check_one = |one: &Sysctl| {
        let there = sysctl::read(&one.path).map_err(|e| one.failed("read", e))?;
        if there.split_whitespace().eq(one.value.split_whitespace()) {
            return Ok(());
        }
        Err(broken(format!("sysctl {} is {there:?}, not {:?}", one.key, one.value)))
    };
    in_netns(netns, || Ok(sysctls.iter().try_for_each(check_one)))?
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sysctl(key: &str) -> Result<Sysctl, Error> {
        Sysctl::read(key, &json!("1"), "eth0.7")
    }

    #[test]
    fn keys_stay_in_the_network() {
        for (key, path) in [
            ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
            ("/net/ipv4/ip_forward", "net/ipv4/ip_forward"),
            ("net/ipv6/conf/IFNAME/accept_ra", "net/ipv6/conf/eth0.7/accept_ra"),
            ("net.ipv4.conf.IFNAME.arp_filter", "net/ipv4/conf/eth0.7/arp_filter"),
        ] {
            assert_eq!(sysctl(key).unwrap().path, path);
        }
        for key in [
            "",
            "kernel.pid_max",
            "net",
            "netfoo.a",
            "net/../kernel/pid_max",
            "net/./../kernel",
            "../../etc/passwd",
            "net..ipv4",
            "net.",
            "net///ipv4",
            "net/ipv4/..",
        ] {
            let error = sysctl(key).unwrap_err();
            assert_eq!(error.code, Code::InvalidConfig, "{key}");
            assert!(error.to_string().contains(&format!("{key:?}")), "{error}");
        }
        assert!(Sysctl::read("net.a", &json!(1), "eth0").unwrap_err().to_string().contains("not text"));
    }

    #[test]
    fn an_allowlist_is_read_as_regular_expressions() {
        let list = "\n  ^net\\.ipv4\\.conf\\.[a-zA-Z]+\\.arp_filter$ \n^net.core.somaxconn$\n";
        let all = |keys: &[&str]| keys.iter().map(|key| sysctl(key).unwrap()).collect::<Vec<_>>();
        allowed_by(list, &all(&["net.ipv4.conf.IFNAME.arp_filter", "net.core.somaxconn"])).unwrap();
        let error = allowed_by(list, &all(&["net.core.somaxconn", "net.ipv4.ip_forward"])).unwrap_err();
        assert!(error.to_string().contains("\"net.ipv4.ip_forward\""), "{error}");
        assert!(allowed_by("", &all(&["net.core.somaxconn"])).is_err());
        assert!(allowed_by("", &[]).is_ok());
        assert!(allowed_by("(", &[]).unwrap_err().to_string().contains("allowlist.conf"));
    }
}
