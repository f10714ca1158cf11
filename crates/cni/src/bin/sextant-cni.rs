//! All of Sextant's CNI plugins in one small program: what it is called says which one it is. Called by its own name it
//! puts links to itself where runtimes look for plugins.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;

use cni::plugin::program;

const NAME: &str = "sextant-cni";

const USAGE: &str = "usage: sextant-cni link DIR    put every plugin into DIR (such as /opt/cni/bin), as links to this program
       sextant-cni list        print the names of the plugins
A plugin is called by its own name, by a runtime; see docs/cni.md.";

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let called = words.next().unwrap_or_default();
    let name = Path::new(&called).file_name().and_then(OsStr::to_str).unwrap_or_default();
    if name != NAME {
        return program::main(name);
    }
    let words: Vec<_> = words.collect();
    match words.iter().map(|word| word.to_str().unwrap_or_default()).collect::<Vec<_>>().as_slice() {
        ["list"] => {
            program::names().iter().for_each(|name| println!("{name}"));
            ExitCode::SUCCESS
        }
        ["link", dir] => match link(Path::new(dir)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{NAME}: {error}");
                ExitCode::FAILURE
            }
        },
        ["-h" | "--help" | "help"] => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// Hard links, so that nothing dangles when this program is moved; on another file system a copy, and links to it. A
/// plugin of somebody else is not replaced.
fn link(dir: &Path) -> Result<(), String> {
    let say =
        |what: &str, path: &Path, e: &dyn std::fmt::Display| format!("cannot {what} {}: {e}", path.display());
    let here = std::env::current_exe().map_err(|e| format!("cannot find this program: {e}"))?;
    std::fs::create_dir_all(dir).map_err(|e| say("make", dir, &e))?;
    let mut source = here;
    for name in program::names() {
        let path = dir.join(name);
        match std::fs::hard_link(&source, &path) {
            Err(e) if e.kind() == ErrorKind::CrossesDevices => {
                let program = dir.join(NAME);
                std::fs::copy(&source, &program).map_err(|e| say("copy this program to", &program, &e))?;
                std::fs::hard_link(&program, &path).map_err(|e| say("make", &path, &e))?;
                source = program;
            }
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                let same = std::fs::read(&path).ok() == std::fs::read(&source).ok();
                if !same {
                    return Err(say("make", &path, &"another program is there; remove it first"));
                }
            }
            outcome => outcome.map_err(|e| say("make", &path, &e))?,
        }
    }
    Ok(())
}
