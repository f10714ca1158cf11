use std::path::{Path, PathBuf};
use std::process::Command;

use crate::program::{make_dir, read, run};
use crate::{Error, Result};

/// The packages that depend on the newest cloud kernel of 6.12, on Debian 12 and 13.
const META: &[&str] = &["linux-image-6.12-cloud-amd64", "linux-image-cloud-amd64"];

/// Debian's cloud kernel, unpacked from its package but not installed.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// The bootable image.
    pub image: PathBuf,
    /// The directory `kernel/` of its modules.
    pub modules: PathBuf,
    /// As `uname -r` says.
    pub version: String,
}

impl Kernel {
    /// The kernel in `cache`, fetched by `apt-get download` if it is not there yet.
    pub fn fetch(cache: &Path) -> Result<Self> {
        let root = cache.join("kernel");
        make_dir(cache)?;
        // Another ring, or another of these commands, may want it at the same time.
        let path = cache.join("kernel.lock");
        let lock = std::fs::File::create(&path).and_then(|file| file.lock().map(|()| file));
        let _held = lock.map_err(|e| Error::access("lock", &path, e))?;
        if let Ok(kernel) = Self::unpacked(&root) {
            return Ok(kernel);
        }
        let download = cache.join("download");
        let _ = std::fs::remove_dir_all(&download);
        make_dir(&download)?;
        let package = newest()?;
        // As root apt would drop to a user that may not write here.
        let sandbox = "APT::Sandbox::User=root";
        run(Command::new("apt-get")
            .args(["-q", "-o", sandbox, "-o", "Acquire::Retries=3", "download", &package])
            .current_dir(&download))?;
        let unpacking = cache.join("kernel.unpacking");
        let _ = std::fs::remove_dir_all(&unpacking);
        for deb in list(&download)? {
            run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&unpacking))?;
        }
        let _ = std::fs::remove_dir_all(&root);
        std::fs::rename(&unpacking, &root).map_err(|e| Error::access("rename", &unpacking, e))?;
        let _ = std::fs::remove_dir_all(&download);
        Self::unpacked(&root)
    }

    fn unpacked(root: &Path) -> Result<Self> {
        let boot = root.join("boot");
        let prefix = "vmlinuz-";
        let image = list(&boot)?.into_iter().find(|path| name(path).starts_with(prefix));
        let image =
            image.ok_or_else(|| Error::refuse("find", "a kernel", format!("none in {}", boot.display())))?;
        let version = name(&image).trim_start_matches(prefix).to_owned();
        let modules =
            ["lib", "usr/lib"].map(|lib| root.join(lib).join("modules").join(&version).join("kernel"));
        let modules = modules.into_iter().find(|path| path.is_dir());
        let modules =
            modules.ok_or_else(|| Error::refuse("find", "modules", format!("none for {version}")))?;
        Ok(Self { image, modules, version })
    }

    /// The modules that the kernel has built in, by name.
    pub(crate) fn built_in(&self) -> Result<String> {
        read(&self.modules.with_file_name("modules.builtin"))
    }
}

/// The package with the kernel itself.
fn newest() -> Result<String> {
    let mut last = Error::refuse("find", "a cloud kernel", "no package of that name");
    for meta in META {
        match run(Command::new("apt-cache").args(["depends", "--important", meta])) {
            Ok(list) => {
                let words = list.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
                if let Some(package) = words.into_iter().find(|package| package.starts_with("linux-image-")) {
                    return Ok(package.to_owned());
                }
            }
            Err(e) => last = e,
        }
    }
    Err(last)
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

pub(crate) fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).map_err(|e| Error::access("list", dir, e))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}
