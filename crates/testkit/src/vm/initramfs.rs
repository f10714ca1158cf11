use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cpio::Archive;
use super::kernel::list;
use super::{Kernel, modules};
use crate::program::{find, run};
use crate::{Error, Result};

/// The guest's first root: busybox, modules, files, and a script that is run as `/run-me`.
///
/// `/init` loads the modules, mounts what every system has (proc, sys, dev, securityfs, cgroup v2 at /sys/fs/cgroup), moves onto a
/// tmpfs (a container cannot pivot away from the very first root), runs the script, says how it ended, powers off.
#[derive(Debug)]
pub struct Initramfs {
    modules: Vec<(String, Vec<u8>)>,
    files: Vec<(String, PathBuf, u32)>,
    texts: Vec<(String, String)>,
    script: String,
}

impl Initramfs {
    /// One that loads `modules` (and what they need) and then runs `script` with `sh`.
    pub fn new(kernel: &Kernel, modules: &[&str], script: &str) -> Result<Self> {
        let modules = modules::in_order(kernel, &[&["virtio_rng"], modules].concat())?;
        Ok(Self { modules, files: Vec::new(), texts: Vec::new(), script: script.to_owned() })
    }

    /// Puts the host's `file` at `path` (`/tests/kernel`), executable.
    pub fn program(&mut self, path: &str, file: &Path) -> &mut Self {
        self.files.push((path.to_owned(), file.to_owned(), 0o755));
        self
    }

    /// Puts the host's program `name` and the libraries it is linked with into the guest, before busybox's of that
    /// name.
    pub fn host_program(&mut self, name: &str) -> Result<&mut Self> {
        let file = find(name)?;
        Ok(self.linked_program(&format!("bin/{name}"), &file))
    }

    /// Puts the host's `file` at `path`, executable, and the libraries it is linked with where they are on the host.
    pub fn linked_program(&mut self, path: &str, file: &Path) -> &mut Self {
        let linked = run(Command::new("ldd").arg(file)).unwrap_or_default();
        for word in linked.split_whitespace().filter(|word| word.starts_with('/')) {
            if !self.files.iter().any(|(path, _, _)| path == word) {
                self.program(word, Path::new(word));
            }
        }
        self.program(path, file)
    }

    /// Puts the host's files below `dir` where they are on the host.
    pub fn host_files(&mut self, dir: &Path) -> Result<&mut Self> {
        for path in list(dir)? {
            match path.is_dir() {
                true => drop(self.host_files(&path)?),
                false => self.files.push((path.to_string_lossy().into_owned(), path, 0o644)),
            }
        }
        Ok(self)
    }

    /// Puts a text at `path`.
    pub fn text(&mut self, path: &str, text: &str) -> &mut Self {
        self.texts.push((path.to_owned(), text.to_owned()));
        self
    }

    /// Writes the archive.
    pub fn write(&self, to: &Path) -> Result<()> {
        let file = File::create(to).map_err(|e| Error::access("create", to, e))?;
        let busybox = find("busybox")?;
        let fill = || -> std::io::Result<()> {
            let mut out = Tree { archive: Archive::new(BufWriter::new(file)), made: BTreeSet::new() };
            let dirs = "bin dev proc sys tmp run etc root var/lib var/tmp new modules";
            dirs.split(' ').try_for_each(|dir| out.directory(dir))?;
            out.file("bin/busybox", 0o755, &std::fs::read(&busybox)?)?;
            out.archive.link("bin/sh", "busybox")?;
            // As on Debian, so that a test finds /usr/bin/touch.
            out.directory("usr")?;
            for (path, target) in [("usr/bin", "../bin"), ("usr/sbin", "../bin"), ("sbin", "bin")] {
                out.archive.link(path, target)?;
            }
            out.file("init", 0o755, INIT.as_bytes())?;
            out.file("init2", 0o755, INIT2.as_bytes())?;
            out.file("run-me", 0o755, self.script.as_bytes())?;
            out.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n")?;
            out.file("etc/group", 0o644, b"root:x:0:\n")?;
            let order: String = self.modules.iter().map(|(name, _)| format!("{name}\n")).collect();
            out.file("modules/order", 0o644, order.as_bytes())?;
            for (name, content) in &self.modules {
                out.file(&format!("modules/{name}.ko"), 0o644, content)?;
            }
            for (path, from, mode) in &self.files {
                out.file(path, *mode, &std::fs::read(from)?)?;
            }
            for (path, text) in &self.texts {
                out.file(path, 0o644, text.as_bytes())?;
            }
            out.archive.finish()?.into_inner()?.sync_data()
        };
        fill().map_err(|e| Error::access("write", to, e))
    }
}

/// An archive that makes the directories a file needs.
struct Tree<W> {
    archive: Archive<W>,
    made: BTreeSet<String>,
}

impl<W: std::io::Write> Tree<W> {
    fn directory(&mut self, path: &str) -> std::io::Result<()> {
        let path = path.trim_matches('/');
        for (at, _) in path.match_indices('/').chain([(path.len(), "")]) {
            let dir = path.get(..at).unwrap_or_default();
            if !dir.is_empty() && self.made.insert(dir.to_owned()) {
                self.archive.directory(dir)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> std::io::Result<()> {
        let path = path.trim_start_matches('/');
        if let Some((dir, _)) = path.rsplit_once('/') {
            self.directory(dir)?;
        }
        self.archive.file(path, mode, content)
    }
}

const INIT: &str = r#"#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin 2>/dev/null
mount -t proc proc /proc
mount -t devtmpfs dev /dev
while read -r name; do insmod "/modules/$name.ko" || echo "sextant-vm: module $name does not load"; done < /modules/order
rm -r /modules
if grep -q sextant.root= /proc/cmdline; then
    root=$(sed 's/.*sextant.root=\([^ ]*\).*/\1/' /proc/cmdline)
    mount "$root" /new || exec echo "sextant-vm: status 97"
    umount /proc
    exec switch_root /new /sbin/init
fi
mount -t tmpfs -o mode=755 root /new
for entry in /*; do
    case $entry in /new|/proc|/dev|/sys) ;; *) cp -a "$entry" /new/ ;; esac
done
mkdir -p /new/proc /new/dev /new/sys
mount --move /dev /new/dev
umount /proc
exec switch_root /new /init2
"#;

const INIT2: &str = r#"#!/bin/sh
export PATH=/bin:/usr/bin:/sbin:/usr/sbin HOME=/root TMPDIR=/tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t securityfs security /sys/kernel/security
mkdir -p /dev/pts /dev/shm
mount -t devpts -o ptmxmode=666 pts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mount -t tmpfs -o mode=1777 tmp /tmp
mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
ifconfig lo up
echo "sextant-vm: up after $(cut -d' ' -f1 /proc/uptime) s"
cd /root
sh /run-me </dev/null 2>&1
echo "sextant-vm: status $?"
sync
poweroff -f
"#;
