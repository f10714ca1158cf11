//! The images that are pulled: several of one family that share layers, in gzip, zstd and plain, of many small files and
//! some large; pushed by skopeo into a registry's folder, with what their layers have to look like.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::FileType;
use testkit::Random;

use super::LIST;
use super::tree::Tree;
use crate::Result;
use crate::layout::{Layer, compress, describe, sha256};
use crate::program::quiet;

const GZIP: (&str, &[&str]) = ("tar+gzip", &["gzip", "-6", "-n"]);
const ZSTD: (&str, &[&str]) = ("tar+zstd", &["zstd", "-q", "-3"]);
const PLAIN: (&str, &[&str]) = ("tar", &["cat"]);

/// An image: what it is called here, its repository, and what it is made of.
struct Image {
    key: &'static str,
    repository: &'static str,
    /// With the algorithm in front.
    digest: String,
    blobs: Vec<String>,
    layers: Vec<String>,
}

/// Everything that the guests need.
pub(super) struct Stock {
    images: Vec<Image>,
    /// The registry's files, by their paths in its folder.
    pub(super) registry: Vec<(String, PathBuf)>,
    /// Texts by path: `HEX/blobs`, `HEX/layers` for each image, `layers/HEX` for each layer as `list.sh` tells it.
    pub(super) expected: Vec<(String, String)>,
}

/// Makes layers and keeps the trees they were made of.
struct Maker<'a> {
    place: &'a Path,
    random: &'a mut Random,
    trees: BTreeMap<String, PathBuf>,
}

/// A layer's tar, and how it is compressed.
struct Made {
    tar: PathBuf,
    diff_id: String,
    how: (&'static str, &'static [&'static str]),
}

impl Stock {
    /// Makes the images in `place` and pushes them into the registry run by `program`.
    pub(super) fn make(place: &Path, program: &Path, random: &mut Random) -> Result<Self> {
        let mut maker = Maker { place, random, trees: BTreeMap::new() };
        let layers = maker.layers()?;
        let [base, app, more, web, plain, tool] = &layers;
        let made: [(&str, &str, &[&Made]); 5] = [
            ("BASE", "base", &[base]),
            ("APP", "app", &[base, app]),
            ("APP2", "app", &[base, app, more]),
            ("WEB", "web", &[base, web]),
            // A layer that an image has twice.
            ("TOOL", "tool", &[plain, tool, more, tool]),
        ];
        let folder = place.join("registry");
        let registry = Registry::start(program, &folder)?;
        let mut images = Vec::new();
        for (key, repository, layers) in made {
            images.push(registry.push(&place.join(key), key, repository, layers)?);
        }
        drop(registry);
        let mut files = Vec::new();
        walk(&folder, &folder, &mut files)?;
        let mut stock = Self { images, registry: files, expected: Vec::new() };
        for image in &stock.images {
            let hex = image.digest.trim_start_matches("sha256:");
            stock.expected.push((format!("{hex}/blobs"), image.blobs.join("\n") + "\n"));
            stock.expected.push((format!("{hex}/layers"), image.layers.join("\n") + "\n"));
        }
        for (diff_id, tree) in &maker.trees {
            stock.expected.push((format!("layers/{diff_id}"), list(place, tree)?));
        }
        Ok(stock)
    }

    /// The images' digests as a shell's variables.
    pub(super) fn variables(&self) -> String {
        self.images.iter().map(|image| format!("{}={}\n", image.key, image.digest)).collect()
    }

    /// What each name stands for in the end: the last image of its repository.
    pub(super) fn newest(&self) -> impl Iterator<Item = (&str, &str)> {
        let newest: BTreeMap<&str, &str> =
            self.images.iter().map(|image| (image.repository, image.digest.as_str())).collect();
        NAMES.iter().filter_map(move |(repository, name)| Some((*name, *newest.get(repository)?)))
    }

    /// The paths in a store that has these images and nothing else.
    pub(super) fn paths<'a>(&self, digests: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
        let mut paths: BTreeSet<String> = ALWAYS.iter().map(|path| (*path).to_owned()).collect();
        for digest in digests {
            let Some(image) = self.images.iter().find(|image| image.digest == digest) else { continue };
            paths.extend(image.blobs.iter().map(|hex| format!("blobs/sha256/{hex}")));
            paths.extend(image.layers.iter().map(|hex| format!("layers/sha256/{hex}")));
        }
        paths
    }
}

const NAMES: [(&str, &str); 4] =
    [("base", "base:v1"), ("app", "app:v1"), ("web", "web:v1"), ("tool", "tool:v1")];

/// What every store has.
const ALWAYS: [&str; 11] = [
    "blobs",
    "blobs/sha256",
    "blobs/sha512",
    "layers",
    "layers/sha256",
    "layers/sha512",
    "ingest",
    "ingest/blobs",
    "ingest/layers",
    "oci-layout",
    "lock",
];
/// What a store may have: the record, its lock, and room for changing it on a full disk.
pub(super) const RECORD: [&str; 3] = ["index.json", "index.lock", "reserve"];

impl Maker<'_> {
    /// base, app, more, web, plain, tool.
    fn layers(&mut self) -> Result<[Made; 6]> {
        let base = self.layer("base", GZIP, |tree| {
            tree.files("usr/lib", 24, 26)?;
            tree.directory("etc", 0o2775)?;
            tree.file("etc/empty", 0, 0)?;
            tree.file("etc/big", 600_000, 8)?;
            tree.symlink("etc/link", "../usr/lib/d1")?;
            tree.hard_link("etc/same", "etc/big")?;
            tree.directory("dev", 0o755)?;
            tree.device("dev/null", FileType::CharacterDevice, (1, 3))?;
            tree.device("dev/pipe", FileType::Fifo, (0, 0))?;
            tree.directory("tmp", 0o1777)
        })?;
        let below = self.trees.get(&base.diff_id).cloned().ok_or("the base has no tree")?;
        let app = self.layer("app", ZSTD, |tree| {
            tree.files("app", 8, 25)?;
            tree.directory("usr/lib/d5", 0o755)?;
            tree.whiteout("usr/lib", "d3")?;
            tree.whiteout("usr/lib/d5", ".wh..opq")?;
            tree.file("usr/lib/d5/new", 3000, 8)?;
            tree.implied("tmp", &below)?;
            tree.file("tmp/x", 100, 8)
        })?;
        let more = self.layer("more", GZIP, |tree| {
            tree.files("more", 2, 20)?;
            tree.symlink("more/link", "nowhere")
        })?;
        let web = self.layer("web", GZIP, |tree| {
            tree.directory("srv", 0o750)?;
            (0..5).try_for_each(|n| tree.file(&format!("srv/noise{n}"), 600_000, 8))?;
            tree.files("srv/pages", 3, 30)
        })?;
        let plain = self.layer("plain", PLAIN, |tree| tree.files("opt/plain", 6, 20))?;
        let tool = self.layer("tool", ZSTD, |tree| {
            tree.files("opt/tool", 6, 20)?;
            tree.file("opt/tool/large", 400_000, 4)
        })?;
        Ok([base, app, more, web, plain, tool])
    }

    fn layer(
        &mut self,
        name: &str,
        how: (&'static str, &'static [&'static str]),
        fill: impl FnOnce(&mut Tree<'_>) -> Result<()>,
    ) -> Result<Made> {
        let mut tree = Tree::new(self.place.join(format!("tree-{name}")), self.random)?;
        fill(&mut tree)?;
        let tar = self.place.join(format!("{name}.tar"));
        let tree = tree.archive(&tar)?;
        let diff_id = sha256(&tar)?;
        self.trees.insert(diff_id.clone(), tree);
        Ok(Made { tar, diff_id, how })
    }
}

/// What `list.sh` tells of a tree, by the busybox that the guest has too.
fn list(place: &Path, tree: &Path) -> Result<String> {
    let bin = place.join("bin");
    if !bin.exists() {
        fs::create_dir(&bin)?;
        for name in ["find", "stat", "sha256sum", "sort"] {
            std::os::unix::fs::symlink("/bin/busybox", bin.join(name))?;
        }
        fs::write(place.join("list.sh"), LIST)?;
    }
    let mut command = Command::new("/bin/busybox");
    quiet(command.arg("sh").arg(place.join("list.sh")).arg(tree).env_clear().env("PATH", &bin))
}

fn walk(root: &Path, dir: &Path, files: &mut Vec<(String, PathBuf)>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(root, &path, files)?;
        } else {
            files.push((path.strip_prefix(root)?.to_string_lossy().into_owned(), path));
        }
    }
    Ok(())
}

/// Our registry server, as a program of its own: it is in the guest too.
struct Registry {
    child: std::process::Child,
    address: String,
}

impl Registry {
    fn start(program: &Path, folder: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg(folder).arg("127.0.0.1:0").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|e| format!("cannot run {}: {e}", program.display()))?;
        let mut address = String::new();
        BufReader::new(child.stdout.take().ok_or("the registry has no output")?).read_line(&mut address)?;
        Ok(Self { child, address: address.trim().to_owned() })
    }

    fn push(
        &self,
        layout: &Path,
        key: &'static str,
        repository: &'static str,
        made: &[&Made],
    ) -> Result<Image> {
        let mut layers: Vec<Layer> = Vec::new();
        for made in made {
            let (kind, program) = made.how;
            layers.push(compress(&made.tar, layout, kind, program, &made.diff_id)?);
        }
        let manifest = describe(layout, &layers, "v1")?;
        let digest = manifest["digest"].as_str().ok_or("the manifest has no digest")?.to_owned();
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false"]);
        skopeo.arg(format!("oci:{}:v1", layout.display()));
        quiet(skopeo.arg(format!("docker://{}/{repository}:v1", self.address)))?;
        let unique = |all: Vec<String>| all.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        let mut blobs = Vec::new();
        for entry in fs::read_dir(layout.join("blobs/sha256"))? {
            blobs.push(entry?.file_name().to_string_lossy().into_owned());
        }
        let layers = layers.into_iter().map(|layer| layer.diff_id).collect();
        Ok(Image { key, repository, digest, blobs: unique(blobs), layers: unique(layers) })
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // The end of its input ends it.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
