//! Leaves nothing when this process is cut: a shell that does at the end what this would have done.
//!
//! It looks after cgroups, a folder that it makes itself, and folders that it is told of. Whatever ends this process, it takes away, and nothing else: the
//! processes in the cgroups, what is mounted below the folders, loop devices of files there, the folders, the cgroups. Network namespaces, tables of nftables
//! and what is mounted elsewhere go with the processes: a contest has a network and mounts of its own ([`alone`](super::alone)). What a command has to take
//! back is left to it ([`undone_by`]).

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::disk::detach_below;
use crate::Result;

/// It reads from a pipe that ends with who holds its other end, whoever ends that; lines are folders. Its arguments are the cgroups. A command that has
/// to take something back does so before processes are killed, as it finds them in order, and after, when nobody makes more of it.
const PROGRAM: &str = r#"
trap '' HUP INT QUIT TERM PIPE
[ "$#" -gt 0 ] || exit 1
folder=$(mktemp -d /var/tmp/sextant-bench-XXXXXX) || exit 1
echo "$folder"
exec > /dev/null
cat > "$folder/more"
# Where that could not be written, the end of the pipe is waited for all the same.
cat

undo() {
    for one in "$folder"/*/undo; do
        if [ -f "$one" ]; then timeout -k 5 180 sh "$one"; fi
    done
}
# 0 is a process of another namespace, and for kill all of this one's group.
inside() {
    find "$@" -name cgroup.procs -exec cat {} + | sort -u | grep -vx -e 0 -e "$PPID"
}
take() {
    cut -d ' ' -f 5 /proc/self/mountinfo | sort -r | while IFS= read -r place; do
        case $place in "$1"/*) umount -l "$place" ;; esac
    done
    for file in /sys/block/loop*/loop/backing_file; do
        device=${file#/sys/block/}
        case $(cat "$file") in "$1"/*) /usr/sbin/losetup -d "/dev/${device%%/*}" ;; esac
    done
    rm -rf --one-file-system "$1"
}

undo
for round in 1 2 3 4 5 6 7 8 9 10; do
    left=$(inside "$@")
    [ -n "$left" ] || break
    kill -9 $left
    sleep 0.2
done
undo
while IFS= read -r one; do
    case $one in /*/?*) take "$one" ;; esac
done < "$folder/more"
take "$folder"
# The kernel needs a moment after the last process.
for round in 1 2 3 4 5 6 7 8 9 10; do
    find "$@" -depth -type d -exec rmdir {} ';'
    [ -n "$(find "$@" -maxdepth 0)" ] || break
    sleep 0.2
done
exit 0
"#;
/// What is to be run is written there, in a folder below the guard's.
const UNDO: &str = "undo";

/// The shell. It has nothing to do if everything is gone when this is dropped.
pub(super) struct Guard {
    shell: Child,
    folder: PathBuf,
}

impl Guard {
    /// Looks after cgroups from now on, which need not be there yet, and after a new folder below /var/tmp.
    pub(super) fn start(cgroups: &[PathBuf]) -> Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", PROGRAM, "sh"]).args(cgroups);
        // Whoever ends all of a terminal's or a job's processes at once does not mean who cleans up after them.
        command.process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut shell = command.spawn().map_err(|e| format!("cannot run sh: {e}"))?;
        let mut said = String::new();
        if let Some(out) = shell.stdout.take() {
            BufReader::new(out).read_line(&mut said)?;
        }
        match said.trim_end() {
            "" => Err("cannot make a folder below /var/tmp".into()),
            folder => Ok(Self { folder: folder.into(), shell }),
        }
    }

    /// The folder, for what is on a disk.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Looks after a folder elsewhere as well: an absolute path, not of a file system's root.
    pub(super) fn takes(&self, folder: &Path) -> Result<()> {
        let told = self.shell.stdin.as_ref().map(|mut pipe| {
            // At once: a line is whole or not there.
            pipe.write_all(&[folder.as_os_str().as_bytes(), b"\n"].concat())
        });
        Ok(told.transpose().map_err(|e| format!("cannot tell sh of {}: {e}", folder.display())).map(drop)?)
    }

    /// Takes away what is left, and ends. Done once.
    pub(super) fn end(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
        // Somebody may have ended the shell alone.
        if self.folder.is_dir() {
            detach_below(&self.folder);
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.end();
    }
}

/// Has a command run where this process is cut: it takes back what is about to be made in `folder`, which is one of the guard's. Nothing runs if the folder is
/// gone by then.
pub(super) fn undone_by(command: &Command, folder: &Path) -> Result<()> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let quoted = words.map(|word| quote(word.as_bytes()));
    let file = folder.join(UNDO);
    let written = std::fs::write(&file, quoted.collect::<Vec<_>>().join(&b' '));
    Ok(written.map_err(|e| format!("cannot write {}: {e}", file.display()))?)
}

/// A word as a shell reads it, between single quotes.
fn quote(word: &[u8]) -> Vec<u8> {
    let mut quoted = vec![b'\''];
    for byte in word {
        match byte {
            b'\'' => quoted.extend_from_slice(br"'\''"),
            byte => quoted.push(*byte),
        }
    }
    quoted.push(b'\'');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process, a directory that stands for its cgroup (the kernel would take the process out of a real one), and a folder elsewhere.
    struct Left {
        place: tempfile::TempDir,
        process: Child,
    }

    impl Left {
        fn new() -> Self {
            let place = tempfile::tempdir().unwrap();
            for path in ["cgroup/below", "elsewhere/more"] {
                std::fs::create_dir_all(place.path().join(path)).unwrap();
            }
            let process = Command::new("sleep").arg("1000").spawn().unwrap();
            // Neither all of a group nor who has begun it is meant.
            let listed = format!("0\n{}\n{}\n", std::process::id(), process.id());
            std::fs::write(place.path().join("cgroup/below/cgroup.procs"), listed).unwrap();
            Self { place, process }
        }

        fn cgroups(&self) -> [PathBuf; 2] {
            ["cgroup", "nowhere"].map(|name| self.place.path().join(name))
        }

        /// Has a mark made by what takes back what a folder is for.
        fn marks(&self, folder: &Path) {
            let at = folder.join("instance");
            std::fs::create_dir(&at).unwrap();
            let mark = self.place.path().join("it's undone");
            undone_by(Command::new("touch").arg(mark), &at).unwrap();
        }

        fn is_gone(&mut self, folder: &Path) {
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&self.process.wait().unwrap()), Some(9));
            assert!(!folder.exists());
            assert!(self.place.path().join("it's undone").exists());
        }
    }

    impl Drop for Left {
        fn drop(&mut self) {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }

    #[test]
    fn what_is_left_is_taken_away() {
        let mut left = Left::new();
        let guard = Guard::start(&left.cgroups()).unwrap();
        let folder = guard.folder().to_owned();
        assert!(folder.is_dir() && folder.starts_with("/var/tmp"), "{folder:?}");
        left.marks(&folder);
        let elsewhere = left.place.path().join("elsewhere");
        guard.takes(&elsewhere).unwrap();
        drop(guard);
        assert!(!elsewhere.exists());
        left.is_gone(&folder);
    }

    #[test]
    fn a_kill_of_who_holds_the_pipe_is_enough() {
        let mut left = Left::new();
        let mut holder = Command::new("sleep").arg("1000").stdout(Stdio::piped()).spawn().unwrap();
        let pipe = holder.stdout.take().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", PROGRAM, "sh"]).args(left.cgroups());
        command.stdin(Stdio::from(pipe)).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut shell = command.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let folder = PathBuf::from(said.trim_end());
        left.marks(&folder);
        assert!(shell.try_wait().unwrap().is_none());
        holder.kill().unwrap();
        holder.wait().unwrap();
        assert!(shell.wait().unwrap().success());
        left.is_gone(&folder);
    }

    #[test]
    fn a_folder_goes_where_the_shell_was_killed_alone() {
        let left = Left::new();
        let mut guard = Guard::start(&left.cgroups()).unwrap();
        let folder = guard.folder().to_owned();
        guard.shell.kill().unwrap();
        guard.shell.wait().unwrap();
        drop(guard);
        assert!(!folder.exists());
    }
}
