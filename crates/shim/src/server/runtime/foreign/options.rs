//! What a shim of others is configured with, in the messages that each knows.

use std::path::Path;

use prost::Message;

use crate::protocol::OtherRuntime;
use crate::protocol::task::{Any, RuncOptions, ShimOptions};

/// The options of a container: the runc shim's own for that, a file for others, or nothing.
pub(super) fn of(other: &OtherRuntime, directory: &Path, systemd_cgroup: bool) -> Option<Any> {
    let program = Path::new(&other.program).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if program.starts_with("containerd-shim-runc-v") {
        let options = RuncOptions {
            binary_name: String::new(),
            // With the pod it goes, whatever becomes of the shim.
            root: directory.join("runc").display().to_string(),
            systemd_cgroup,
        };
        return Some(any("containerd.runc.v1.Options", &options));
    }
    if other.options_file.is_empty() && other.options_type.is_empty() {
        return None;
    }
    let options =
        ShimOptions { type_url: other.options_type.clone(), config_path: other.options_file.clone() };
    Some(any("runtimeoptions.v1.Options", &options))
}

fn any(kind: &str, message: &impl Message) -> Any {
    Any { type_url: kind.to_owned(), value: message.encode_to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shim_is_told_in_its_own_words() {
        let of = |program: &str, file: &str| {
            let (program, options_file) = (program.to_owned(), file.to_owned());
            let other = OtherRuntime { program, options_file, ..OtherRuntime::default() };
            of(&other, Path::new("/run/p/runtime"), true)
        };
        let runc = of("/usr/bin/containerd-shim-runc-v2", "").unwrap();
        assert_eq!(runc.type_url, "containerd.runc.v1.Options");
        let runc = RuncOptions::decode(&*runc.value).unwrap();
        assert_eq!((runc.root.as_str(), runc.systemd_cgroup), ("/run/p/runtime/runc", true));
        assert_eq!(of("/opt/containerd-shim-kata-v2", ""), None);
        let kata = of("/opt/containerd-shim-kata-v2", "/etc/kata.toml").unwrap();
        assert_eq!(kata.type_url, "runtimeoptions.v1.Options");
        assert_eq!(ShimOptions::decode(&*kata.value).unwrap().config_path, "/etc/kata.toml");
    }
}
