//! Kernel modules in the order they load: what each needs is written in it, so no `depmod` is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Kernel;
use super::kernel::list;
use crate::program::finish;
use crate::{Error, Result};

/// The uncompressed modules for `wanted` and all they need, each after what it needs. Built-in ones are left out.
pub(crate) fn in_order(kernel: &Kernel, wanted: &[&str]) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = BTreeMap::new();
    index(&kernel.modules, &mut files)?;
    let built_in = kernel.built_in()?;
    let built_in = built_in.lines().map(|line| module_name(Path::new(line))).collect();
    let mut load = Load { files, built_in, seen: BTreeSet::new(), order: Vec::new() };
    for name in wanted {
        load.add(&name.replace('-', "_"))?;
    }
    Ok(load.order)
}

struct Load {
    files: BTreeMap<String, PathBuf>,
    built_in: BTreeSet<String>,
    seen: BTreeSet<String>,
    order: Vec<(String, Vec<u8>)>,
}

impl Load {
    fn add(&mut self, name: &str) -> Result<()> {
        if self.built_in.contains(name) || !self.seen.insert(name.to_owned()) {
            return Ok(());
        }
        let Some(file) = self.files.get(name) else {
            return Err(Error::refuse(
                "load",
                format!("module {name}"),
                "the kernel's package does not have it",
            ));
        };
        let content = uncompressed(file)?;
        for needed in needs(&content) {
            self.add(&needed)?;
        }
        self.order.push((name.to_owned(), content));
        Ok(())
    }
}

fn index(dir: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for path in list(dir)? {
        if path.is_dir() {
            index(&path, files)?;
        } else if path.to_string_lossy().contains(".ko") {
            files.insert(module_name(&path), path);
        }
    }
    Ok(())
}

/// `nf_tables` of `net/netfilter/nf_tables.ko.xz`; the kernel takes `-` and `_` for one.
fn module_name(path: &Path) -> String {
    let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    file.split(".ko").next().unwrap_or_default().replace('-', "_")
}

fn uncompressed(file: &Path) -> Result<Vec<u8>> {
    let program = match file.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return std::fs::read(file).map_err(|e| Error::access("read", file, e)),
    };
    let output = finish(Command::new(program).arg("-dc").arg(file))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(Error::refuse("uncompress", file.display().to_string(), String::from_utf8_lossy(&output.stderr)))
}

/// What a module's `.modinfo` says it depends on: the string `depends=a,b`.
fn needs(module: &[u8]) -> Vec<String> {
    let key = b"\0depends=";
    let found = module.windows(key.len()).position(|window| window == key);
    let rest = found.and_then(|at| module.get(at + key.len()..)).unwrap_or_default();
    let value = rest.split(|&b| b == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(value).into_owned();
    names.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_are_read_from_the_module() {
        assert_eq!(
            needs(b"\x7fELF\0license=GPL\0depends=nf_tables,nf-nat\0retpoline=Y\0"),
            ["nf_tables", "nf_nat"]
        );
        assert!(needs(b"\0depends=\0intree=Y\0").is_empty());
        assert!(needs(b"").is_empty());
        assert_eq!(module_name(Path::new("kernel/net/8021q/8021q.ko.xz")), "8021q");
        assert_eq!(module_name(Path::new("kernel/fs/nls/nls_iso8859-1.ko")), "nls_iso8859_1");
    }
}
