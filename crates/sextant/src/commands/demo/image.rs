//! The image that the objects in `examples/` name: this program, and nothing else.

use std::fs;

use oci_image::archive::{Content, Part, build};
use oci_image::contract::{Compression, ContainerConfig};
use oci_image::store::Store;

use super::app;
use crate::failure::{Context, Result};
use crate::instance::Instance;

/// What they call it. Nobody serves such a name: nothing is asked of the internet.
pub(super) const IMAGE: &str = "registry.sextant.example/shop:1";
/// Its registry.
pub(super) const REGISTRY: &str = "registry.sextant.example";

/// Makes it under this name; how large the program in it is.
pub(super) fn make(store: &Store, name: &str) -> Result<u64> {
    let program = std::env::current_exe().context(|| "find this program".into())?;
    let bytes = loaded(&fs::read(&program).context(|| format!("read {}", program.display()))?);
    let size = bytes.len() as u64;
    let file = |path: &str, text: &str| Part {
        path: path.into(),
        content: Content::Bytes(text.into()),
        mode: 0o644,
    };
    let parts = [
        Part { path: app::PATH.trim_start_matches('/').into(), content: Content::Bytes(bytes), mode: 0o755 },
        Part { path: "tmp".into(), content: Content::Directory, mode: 0o1777 },
        file("etc/passwd", "root:x:0:0:root:/:\nshop:x:1000:1000:shop:/:\n"),
        file("etc/group", "root:x:0:\nshop:x:1000:\n"),
    ];
    let config = ContainerConfig {
        entrypoint: Some(vec![app::PATH.into()]),
        cmd: Some(vec!["serve".into()]),
        user: "1000:1000".into(),
        ..ContainerConfig::default()
    };
    build(store, name, &parts, config, Compression::Gzip)?;
    Ok(size)
}

/// Makes it for an instance, for who runs the examples there.
pub(super) fn make_here(instance: &Instance) -> Result<()> {
    let store = Store::open(instance.data.join("images"))?;
    let size = make(&store, IMAGE)?;
    println!("{IMAGE} ({})", crate::output::bytes(size));
    Ok(())
}

/// What of a 64-bit ELF file is loaded when it is executed: sections, with what they say for debuggers, are left out. Anything else stays as it is.
fn loaded(program: &[u8]) -> Vec<u8> {
    const ELF64_LITTLE: [u8; 6] = *b"\x7fELF\x02\x01";
    let number = |at: usize, length: usize| {
        let bytes = program.get(at..at + length)?;
        Some(bytes.iter().rev().fold(0_usize, |value, byte| value << 8 | usize::from(*byte)))
    };
    let end = || {
        let (table, size, count) = (number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?);
        let segment = |at: usize| Some(number(at + 8, 8)? + number(at + 0x20, 8)?);
        let ends: Option<Vec<usize>> = (0..count).map(|one| segment(table + one * size)).collect();
        ends?.into_iter().chain([table + size * count]).max()
    };
    match end() {
        Some(end) if program.starts_with(&ELF64_LITTLE) && end <= program.len() => {
            let mut kept = program[..end].to_vec();
            // Where sections are, how many, and which has their names.
            kept[0x28..0x30].fill(0);
            kept[0x3c..0x40].fill(0);
            kept
        }
        _ => program.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_without_its_sections_is_smaller_and_runs() {
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        let kept = loaded(&own);
        assert!(kept.len() < own.len(), "{} {}", kept.len(), own.len());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        fs::write(&path, kept).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let listed = std::process::Command::new(&path).arg("--list").output().unwrap();
        assert!(
            listed.status.success() && String::from_utf8_lossy(&listed.stdout).contains("a_program_without")
        );
        assert_eq!(loaded(b"#!/bin/true"), b"#!/bin/true");
    }
}
