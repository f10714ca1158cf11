//! Leaves nothing when this process is cut: a shell that does at the end what this would have done.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::super::Meter;
use crate::Result;

/// It reads from a pipe that ends with who holds its other end, whoever ends that. A terminal's interrupt is for all, and not for it.
const PROGRAM: &str = r#"
trap '' INT TERM HUP
cat > /dev/null
folder=$1
shift
for round in 1 2 3 4 5 6 7 8 9 10; do
    left=$(cat "$1/cgroup.procs" 2> /dev/null)
    [ -n "$left" ] || break
    kill -9 $left 2> /dev/null
    sleep 0.2
done
for pin in "$folder"/*.netns; do
    umount -l "$pin" 2> /dev/null
done
rm -rf --one-file-system "$folder"
for place in "$@"; do
    rmdir "$place" 2> /dev/null
done
exit 0
"#;

/// The shell. It has nothing to do if everything is gone when this is dropped.
pub(super) struct Guard(Child);

impl Guard {
    /// Looks after what is started in the meter's cgroup, and after a folder.
    pub(super) fn start(meter: &Meter, folder: &Path) -> Result<Self> {
        let mut shell = Command::new("sh");
        shell.args(["-c", PROGRAM, "sh"]).arg(folder).args(meter.places());
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(shell.spawn().map_err(|e| format!("cannot run sh: {e}"))?))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_when_a_process_is_cut_is_taken_away() {
        let place = tempfile::tempdir().unwrap();
        let (folder, cgroup) = (place.path().join("folder"), place.path().join("cgroup"));
        for path in [&folder, &cgroup] {
            std::fs::create_dir(path).unwrap();
        }
        let mut left = Command::new("sleep").arg("1000").spawn().unwrap();
        // The kernel would take it out of there: this file is not that of a cgroup.
        std::fs::write(cgroup.join("cgroup.procs"), left.id().to_string()).unwrap();
        std::fs::write(folder.join("log"), "words").unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", PROGRAM, "sh"]).arg(&folder).arg(&cgroup).stdin(Stdio::piped());
        drop(Guard(shell.spawn().unwrap()));
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&left.wait().unwrap()), Some(9));
        assert!(!folder.exists());
    }
}
