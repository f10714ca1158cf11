//! `sextant reset`: nothing is left of what `sextant up` has made.

use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use super::down;
use super::places;
use super::supervisor::say;
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

/// Says what goes, asks, and removes it.
pub(crate) fn run(instance: &Instance, args: &ResetArgs) -> Result<ExitCode> {
    let kept = there(&instance.data, args.images);
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
    left
}
