//! `sextant reset`: nothing is left of what `sextant up` has made.

use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::programs::Places;
use super::supervisor::say;
use super::{down, member, places};
use crate::cli::ResetArgs;
use crate::commands::volumes::Volumes;
use crate::container::Record;
use crate::failure::{Context, Failure, Result};
use crate::instance::Instance;

/// What goes, in the data directory: the name, and what it is for people.
const KEPT: [(&str, &str); 6] = [
    ("api", "objects of the API, and its authority"),
    ("agent", "what pods were given"),
    ("cri", "records of pods"),
    ("csi", "volumes, with all that is in them"),
    ("log", "logs of programs and pods"),
    ("kubeconfig", "the administrator's kubeconfig"),
];
const IMAGES: (&str, &str) = ("images", "images");
/// Programs that hold a folder of the data directory locked while they live, whoever has started them.
const HOLDERS: [(&str, &str); 2] = [("api", "api/store"), ("agent", "agent")];
/// Who starts a program holds its locks for a moment.
const MOMENT: Duration = Duration::from_millis(20);
const MOMENTS: usize = 100;

/// Says what goes, asks, and removes it.
pub(crate) fn run(instance: &Instance, args: &ResetArgs) -> Result<ExitCode> {
    let kept = there(&instance.data, args.images);
    alone(&places(instance)?)?;
    if args.images
        && let Some(user) = Record::all(instance)?.first()
    {
        return Err(Failure::new(format!(
            "cannot remove images: container {0} of `sextant run` is made of one (`sextant rm -f {0}`, or leave --images out)",
            user.name
        )));
    }
    if !args.yes {
        if !io::stdin().is_terminal() {
            return Err(Failure::new(
                "cannot ask whether all of it may go: standard input is no terminal (give --yes)",
            ));
        }
        if !agreed(&instance.data, &kept)? {
            return Err(Failure::new("nothing is removed"));
        }
    }
    let left = remove(instance, &args.node_config, args.images);
    if left.is_empty() {
        say("nothing of it is left");
        return Ok(ExitCode::SUCCESS);
    }
    let texts: Vec<String> = left.iter().map(ToString::to_string).collect();
    Err(Failure::new(texts.join("; ")))
}

/// Refuses where a program runs in the data directory that `sextant up` did not start, and that would lose what it serves.
fn alone(places: &Places) -> Result<()> {
    for (name, folder) in HOLDERS {
        if member::living(&places.member(name)).is_none() {
            hold(&places.data.join(folder), name)?;
        }
    }
    Ok(())
}

/// The folder of a program, locked; `None` where there is none.
///
/// # Errors
/// Somebody has it locked, which only that program does.
fn hold(path: &Path, name: &str) -> Result<Option<File>> {
    let folder = match File::open(path) {
        Ok(folder) => folder,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context(|| format!("open {}", path.display())),
    };
    let mut tries = MOMENTS;
    loop {
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(folder)),
            Err(Errno::WOULDBLOCK) if tries == 0 => {
                return Err(Failure::new(format!(
                    "cannot remove {}: a `sextant {name}` that `sextant up` has not started uses it (end it first)",
                    path.display()
                )));
            }
            Err(Errno::WOULDBLOCK) => {
                tries -= 1;
                std::thread::sleep(MOMENT);
            }
            Err(errno) => return Err(errno).context(|| format!("lock {}", path.display())),
        }
    }
}

/// What of it is there.
fn there(data: &Path, images: bool) -> Vec<(&'static str, &'static str)> {
    let wanted = KEPT.into_iter().chain(images.then_some(IMAGES));
    wanted.filter(|(name, _)| data.join(name).exists()).collect()
}

fn agreed(data: &Path, kept: &[(&str, &str)]) -> Result<bool> {
    let lines: Vec<String> =
        kept.iter().map(|(name, what)| format!("{} ({what})", data.join(name).display())).collect();
    let pods = fs::read_dir(data.join("cri/pods")).map_or(0, Iterator::count);
    eprint!(
        "This ends the programs of `sextant up`, takes {pods} pods down, and removes:\n  - {}\nGo on? [y/N] ",
        lines.join("\n  - ")
    );
    io::stderr().flush()?;
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Removes it; what could not be. What is not there is as good as removed.
pub(crate) fn remove(instance: &Instance, node_config: &Path, images: bool) -> Vec<Failure> {
    let places = match places(instance) {
        Ok(places) => places,
        Err(failure) => return vec![failure],
    };
    down::end_all(&places, &|_| {});
    // Until all is gone nobody begins with half of it.
    let mut held = Vec::new();
    for (name, folder) in HOLDERS {
        match hold(&instance.data.join(folder), name) {
            Ok(folder) => held.extend(folder),
            Err(failure) => return vec![failure],
        }
    }
    let mut left = down::take_down(instance, node_config).err().unwrap_or_default();
    let others = fs::read_dir(instance.data.join("cri/pods")).map_or(0, Iterator::count);
    if left.is_empty() && others > 0 {
        return vec![Failure::new(format!(
            "cannot remove the records of pods: {others} on this node are not the agent's (a kubelet's?): have them removed first"
        ))];
    }
    left.extend(down::clear(instance).into_iter().map(Failure::new));
    // Volumes are more than folders: their driver takes them away.
    if left.is_empty() && instance.data.join("csi").exists() {
        let driver = Volumes::start(&instance.data, &instance.run);
        left.extend(driver.and_then(Volumes::end).err());
    }
    // A later try needs what tells of pods and volumes.
    if !left.is_empty() {
        return left;
    }
    for (name, _) in there(&instance.data, images) {
        let path = instance.data.join(name);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        left.extend(removed.context(|| format!("remove {}", path.display())).err());
    }
    left.extend(
        fs::remove_dir_all(instance.run.join("up")).context(|| "remove what tells of programs".into()).err(),
    );
    drop(held);
    left
}
