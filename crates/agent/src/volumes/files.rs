//! Files that every pod has: its hosts, and where a container writes its last words.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use serde::Serialize;

use crate::agent::Agent;
use crate::names::Key;
use crate::pod::sandbox::{domain, hostname};
use crate::pod::spec::is_on_host;

/// Where the pod's /etc/hosts is, written anew.
pub(crate) fn hosts(agent: &Agent, pod: &Pod, addresses: &[String]) -> io::Result<PathBuf> {
    let path = super::folder(&agent.setup.folder, &Key::of(pod).uid).join("etc-hosts");
    let mut text = match is_on_host(pod) {
        true => format!(
            "# Kubernetes-managed hosts file (host network).\n{}",
            fs::read_to_string("/etc/hosts").unwrap_or_default()
        ),
        false => String::from(
            "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
             fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
        ),
    };
    if !is_on_host(pod) {
        let name = hostname(&agent.setup, pod);
        for address in addresses {
            let line = match domain(&agent.setup, pod) {
                Some(domain) => {
                    format!("{address}\t{}.{domain}\t{name}\n", name.trim_end_matches(&format!(".{domain}")))
                }
                None => format!("{address}\t{name}\n"),
            };
            text.push_str(&line);
        }
    }
    let aliases = pod.spec.as_ref().and_then(|spec| spec.host_aliases.as_ref());
    if aliases.is_some_and(|all| !all.is_empty()) {
        text.push_str("\n# Entries added by HostAliases.\n");
    }
    for alias in aliases.into_iter().flatten() {
        let names = alias.hostnames.clone().unwrap_or_default().join("\t");
        text.push_str(&format!("{}\t{names}\n", alias.ip));
    }
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o750).create(parent)?;
    }
    // The file itself stays: it is mounted in containers.
    fs::write(&path, text)?;
    fs::set_permissions(&path, Permissions::from_mode(0o644))?;
    Ok(path)
}

/// An empty file for the last words of a container's next run.
pub(crate) fn last_words(agent: &Agent, uid: &str, container: &str) -> io::Result<PathBuf> {
    let dir = super::folder(&agent.setup.folder, uid).join("containers").join(container);
    DirBuilder::new().recursive(true).mode(0o750).create(&dir)?;
    let path = dir.join(format!("{:x}", Timestamp::now().as_nanosecond()));
    let file = File::create_new(&path)?;
    // Whoever the container runs as.
    file.set_permissions(Permissions::from_mode(0o666))?;
    Ok(path)
}

/// Writes a record into a place, which is made, by these names: what it is called once it is whole, and before. One that is cut off by the
/// end of the machine is told by nothing: mounts and programs have gone, too.
///
/// # Errors
/// It cannot be written.
pub(crate) fn write_record(
    place: &Path,
    [name, fresh]: [&str; 2],
    record: &impl Serialize,
) -> Result<(), String> {
    let (path, fresh) = (place.join(name), place.join(fresh));
    let written = || -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o750).create(place)?;
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(&serde_json::to_vec(record)?)?;
        fs::rename(&fresh, &path)
    };
    written().map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// Opens a file that pods may have put something else in the place of: a pipe would be waited for, a device woken.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    kernel::path::open_regular(File::open("/")?, path).map_err(io::Error::other)
}

/// The beginning of a file, so much at most.
pub(crate) fn beginning(path: &str, most: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    open(Path::new(path))?.take(most).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn last_words_are_of_a_file_and_of_nothing_that_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        fs::write(at("words"), "bye, and more").unwrap();
        assert_eq!(beginning(&at("words"), 3).unwrap(), "bye");
        mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        let (sender, receiver) = mpsc::channel();
        let pipe = at("pipe");
        std::thread::spawn(move || sender.send(beginning(&pipe, 3)));
        let read = receiver.recv_timeout(Duration::from_secs(180)).expect("nobody waits for a pipe");
        assert!(read.unwrap_err().to_string().contains("it is no file"));
        assert!(beginning(&at(""), 3).is_err(), "a directory");
    }
}
