//! An image of this machine's own small files, as an OCI layout, twice: gzip and zstd. Made once and kept.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::Result;
use crate::layout::{compress, describe, sha256};
use crate::program::shown;

const FORMAT: u32 = 1;
const LAYERS: usize = 5;
/// Of file data in each layer; together well above 500 MB.
const LAYER_BYTES: u64 = 110_000_000;
/// Larger files would measure the disk.
const LARGEST: u64 = 1 << 20;
const TREES: [&str; 4] = ["bin", "include", "lib", "share"];

/// How layers are compressed: the media type's suffix and the program.
pub(super) const COMPRESSIONS: [(&str, [&str; 3]); 2] =
    [("gzip", ["gzip", "-6", "-n"]), ("zstd", ["zstd", "-q", "-3"])];

/// The image, in both compressions, below one directory.
pub(super) struct Image {
    pub(super) dir: PathBuf,
    /// Entries of all layers' tars.
    pub(super) entries: u64,
    /// Bytes of all layers' tars.
    pub(super) bytes: u64,
}

struct Entry {
    path: PathBuf,
    bytes: u64,
}

impl Image {
    /// The image, from `cache` or made there now.
    pub(super) fn cached(cache: &Path) -> Result<Self> {
        let dir = cache.join(format!("image-{FORMAT}"));
        let facts = dir.join("facts.json");
        if !facts.is_file() {
            let _ = fs::remove_dir_all(&dir);
            let made = make(&dir)?;
            fs::write(&facts, made.to_string())?;
        }
        let facts: Value = serde_json::from_slice(&fs::read(&facts)?)?;
        let number = |name: &str| facts[name].as_u64().ok_or(format!("facts.json has no {name}"));
        Ok(Self { entries: number("entries")?, bytes: number("bytes")?, dir })
    }

    /// The layout in one compression, as skopeo names it.
    pub(super) fn layout(&self, compression: &str) -> String {
        format!("oci:{}:bench", self.dir.join(compression).display())
    }
}

fn make(dir: &Path) -> Result<Value> {
    eprintln!("making the image, once: {}", dir.display());
    fs::create_dir_all(dir)?;
    let mut all = Vec::new();
    for tree in TREES {
        walk(&Path::new("/usr").join(tree), &mut all)?;
    }
    let (mut layers, mut entries, mut bytes) = ([Vec::new(), Vec::new()], 0, 0);
    for number in 0..LAYERS {
        let paths = window(&all, number);
        entries += paths.len() as u64;
        let tar = dir.join("layer.tar");
        archive(&paths, &tar)?;
        bytes += fs::metadata(&tar)?.len();
        let diff_id = sha256(&tar)?;
        for ((compression, program), into) in COMPRESSIONS.iter().zip(&mut layers) {
            into.push(compress(
                &tar,
                &dir.join(compression),
                &format!("tar+{compression}"),
                program,
                &diff_id,
            )?);
        }
        fs::remove_file(&tar)?;
    }
    for ((compression, _), layers) in COMPRESSIONS.iter().zip(&layers) {
        describe(&dir.join(compression), layers, "bench")?;
    }
    Ok(json!({"entries": entries, "bytes": bytes}))
}

/// Directories, links and files that are not large, in order; other filesystems are left out by name.
fn walk(dir: &Path, all: &mut Vec<Entry>) -> Result<()> {
    let mut found: Vec<_> = fs::read_dir(dir)?.collect::<Result<_, _>>()?;
    found.sort_by_key(fs::DirEntry::file_name);
    for entry in found {
        let (path, meta) = (entry.path(), entry.metadata()?);
        let fits = meta.is_symlink() || (meta.is_file() && meta.len() <= LARGEST);
        if meta.is_dir() {
            all.push(Entry { path: path.clone(), bytes: 0 });
            walk(&path, all)?;
        } else if fits {
            all.push(Entry { path, bytes: if meta.is_file() { meta.len() } else { 0 } });
        }
    }
    Ok(())
}

/// A layer's paths, below /: the layers begin at equal distances in the whole list and wrap around at its end. With
/// all directories above, so that no program has to make up any.
fn window(all: &[Entry], number: usize) -> BTreeSet<PathBuf> {
    let (mut paths, mut bytes) = (BTreeSet::new(), 0);
    let begin = all.len() * number / LAYERS;
    for entry in all.iter().cycle().skip(begin).take(all.len()) {
        if bytes >= LAYER_BYTES {
            break;
        }
        bytes += entry.bytes;
        let below = entry.path.strip_prefix("/").unwrap_or(&entry.path);
        paths.extend(below.ancestors().filter(|path| *path != Path::new("")).map(Path::to_owned));
    }
    paths
}

fn archive(paths: &BTreeSet<PathBuf>, to: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["-C", "/", "--no-recursion", "--null", "--verbatim-files-from", "-T", "-", "-cf"]).arg(to);
    let mut child = tar.stdin(Stdio::piped()).spawn()?;
    let mut list = Vec::new();
    for path in paths {
        list.extend_from_slice(path.as_os_str().as_encoded_bytes());
        list.push(0);
    }
    child.stdin.take().ok_or("tar has no standard input")?.write_all(&list)?;
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(format!("{} failed: {status}", shown(&tar)).into()) }
}
