//! What programs of others can do, as they say themselves.

use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kernel::process::Waited;
use oci_runtime::contract::Features;
use prost::Message;
use rustix::event::{PollFd, PollFlags, poll};
use shim::protocol::task::RuntimeInfo;

use crate::contract::v1::RuntimeHandlerFeatures;

/// How long a program may take to say what it can do.
const LIMIT: Duration = Duration::from_secs(5);
/// The longest answer, bytes.
const LONGEST: usize = 1 << 20;

/// What an OCI runtime can do: `features`, since runc 1.1 and crun 1.9.
pub(super) fn of_runtime(program: &Path) -> Result<RuntimeHandlerFeatures, String> {
    let answer = ask(program, &["features"])?;
    let features: Features = serde_json::from_slice(&answer)
        .map_err(|e| format!("cannot read what {} features says: {e}", program.display()))?;
    Ok(told(&features))
}

/// What a shim can do: `-info`, since containerd 1.7. Roots with mapped ids are given to none.
pub(super) fn of_shim(program: &Path) -> Result<RuntimeHandlerFeatures, String> {
    let answer = ask(program, &["-info"])?;
    let wrong = |e: &dyn std::fmt::Display| format!("cannot read what {} -info says: {e}", program.display());
    let info = RuntimeInfo::decode(&*answer).map_err(|e| wrong(&e))?;
    let features = info.features.unwrap_or_default();
    if features.value.is_empty() {
        return Ok(RuntimeHandlerFeatures::default());
    }
    let features: Features = serde_json::from_slice(&features.value).map_err(|e| wrong(&e))?;
    Ok(RuntimeHandlerFeatures { user_namespaces: false, ..told(&features) })
}

fn told(features: &Features) -> RuntimeHandlerFeatures {
    let has = |list: &Option<Vec<String>>, word: &str| {
        list.as_ref().is_some_and(|list| list.iter().any(|entry| entry == word))
    };
    let linux = features.linux.as_ref();
    let idmap = linux.and_then(|linux| linux.mount_extensions?.idmap?.enabled).unwrap_or(false);
    RuntimeHandlerFeatures {
        recursive_read_only_mounts: has(&features.mount_options, "rro"),
        // A pod's volumes belong to the pod's users.
        user_namespaces: idmap && linux.is_some_and(|linux| has(&linux.namespaces, "user")),
    }
}

/// What a program says.
fn ask(program: &Path, words: &[&str]) -> Result<Vec<u8>, String> {
    let what = format!("{} {}", program.display(), words.join(" "));
    let cannot = |e: std::io::Error| format!("cannot run {what}: {e}");
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(cannot)?;
    let end = Instant::now() + LIMIT;
    let answer = read(&mut child, end).and_then(|bytes| ended(&child, end).map(|()| bytes));
    if answer.is_err() {
        let _ = child.kill();
    }
    let status = child.wait().map_err(cannot)?;
    match answer {
        Ok(bytes) if status.success() => Ok(bytes),
        Ok(_) => Err(format!("{what}: {status}")),
        Err(e) => Err(cannot(e)),
    }
}

/// One that has said all ends, too.
fn ended(child: &Child, end: Instant) -> std::io::Result<()> {
    let pid = i32::try_from(child.id()).map_err(std::io::Error::other)?;
    let process = kernel::process::pidfd(pid).map_err(std::io::Error::other)?;
    let left = end.saturating_duration_since(Instant::now());
    match kernel::process::await_end(process.as_fd(), Some(left), None)? {
        Waited::Ended => Ok(()),
        Waited::TimedOut | Waited::HungUp => {
            Err(std::io::Error::other(format!("it has not ended within {} s", LIMIT.as_secs())))
        }
    }
}

fn read(child: &mut Child, end: Instant) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let Some(mut stdout) = child.stdout.take() else { return Ok(bytes) };
    let mut piece = [0; 16 << 10];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let left =
            rustix::time::Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let mut fds = [PollFd::new(&stdout, PollFlags::IN)];
        if rustix::io::retry_on_intr(|| poll(&mut fds, Some(&left)))? == 0 {
            let late = format!("it has not answered within {} s", LIMIT.as_secs());
            return Err(std::io::Error::other(late));
        }
        match stdout.read(&mut piece)? {
            0 => return Ok(bytes),
            n if bytes.len() + n > LONGEST => {
                return Err(std::io::Error::other(format!("it answers more than {LONGEST} bytes")));
            }
            n => bytes.extend(&piece[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> RuntimeHandlerFeatures {
        told(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn features_are_what_the_document_says() {
        let all = r#"{"mountOptions": ["ro", "rro"], "linux": {"namespaces": ["pid", "user"],
            "mountExtensions": {"idmap": {"enabled": true}}, "somethingNew": 1}}"#;
        let some = r#"{"mountOptions": ["ro"], "linux": {"namespaces": ["user"]}}"#;
        assert_eq!(
            of(all),
            RuntimeHandlerFeatures { recursive_read_only_mounts: true, user_namespaces: true }
        );
        assert_eq!(of(some), RuntimeHandlerFeatures::default());
        assert_eq!(of("{}"), RuntimeHandlerFeatures::default());
    }

    #[test]
    fn programs_are_asked_and_not_believed() {
        assert_eq!(ask(Path::new("/bin/echo"), &["x"]).unwrap(), b"x\n");
        assert!(ask(Path::new("/bin/false"), &[]).unwrap_err().contains("/bin/false"));
        let missing = tempfile::tempdir().unwrap().path().join("runtime");
        assert!(ask(&missing, &["features"]).unwrap_err().contains("No such file"));
        assert!(ask(Path::new("/usr/bin/yes"), &[]).unwrap_err().contains("more than"));
    }
}
