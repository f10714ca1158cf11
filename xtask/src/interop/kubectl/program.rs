//! Which kubectls there are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::Result;
use crate::program::{quiet, target};

/// The package of Debian that has it.
const PACKAGE: &str = "kubernetes-client";

/// One kubectl.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// 32 of 1.32.
    pub(crate) minor: u32,
}

impl Program {
    fn at(path: PathBuf) -> Result<Self> {
        let said = quiet(Command::new(&path).args(["version", "--client", "-o", "json"]))?;
        let version: serde_json::Value = serde_json::from_str(&said)?;
        let minor = version["clientVersion"]["minor"].as_str().unwrap_or_default();
        let digits: String = minor.chars().take_while(char::is_ascii_digit).collect();
        let minor =
            digits.parse().map_err(|_| format!("{} tells no minor version: {said}", path.display()))?;
        Ok(Self { path, minor })
    }
}

/// Debian's, and the machine's where there is one.
pub(super) fn all() -> Result<Vec<Program>> {
    static SAID: OnceLock<()> = OnceLock::new();
    let mut all = vec![debian()?];
    let machine = machine();
    SAID.get_or_init(|| match &machine {
        Some(path) => println!("kubectl: Debian's, and {}", path.display()),
        None => {
            println!("kubectl: Debian's alone; this machine has none of its own, so no newer one was tried")
        }
    });
    if let Some(path) = machine {
        let machine = Program::at(path)?;
        if machine.minor != all[0].minor {
            all.push(machine);
        }
    }
    Ok(all)
}

/// Debian's, unpacked from its package and not installed: a machine may have another kubectl in its place.
pub(crate) fn debian() -> Result<Program> {
    let root = target().join("interop").join(PACKAGE);
    let path = root.join("usr/bin/kubectl");
    if !path.is_file() {
        let unpacking = target().join("interop").join(format!("{PACKAGE}.unpacking"));
        let _ = std::fs::remove_dir_all(&unpacking);
        std::fs::create_dir_all(&unpacking)?;
        // As root apt would drop to a user that may not write here.
        let args = ["-q", "-o", "APT::Sandbox::User=root", "download", PACKAGE];
        quiet(Command::new("apt-get").args(args).current_dir(&unpacking))?;
        for entry in std::fs::read_dir(&unpacking)? {
            let deb = entry?.path();
            quiet(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&unpacking))?;
            std::fs::remove_file(&deb)?;
        }
        let _ = std::fs::remove_dir_all(&root);
        std::fs::rename(&unpacking, &root)?;
    }
    Program::at(path)
}

/// The one that is found by name. Google's package has a dispatcher in its place, which asks the server for its version and
/// starts the nearest it has beside it: 1.32 is what is wanted.
fn machine() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).map(|dir| dir.join("kubectl")).find(|path| path.is_file())?;
    let real = std::fs::canonicalize(&found).ok()?;
    let beside = real.parent().map(|dir| Path::join(dir, "kubectl.1.32")).filter(|path| path.is_file());
    Some(beside.unwrap_or(found))
}
