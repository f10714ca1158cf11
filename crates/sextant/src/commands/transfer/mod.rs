//! `sextant cp`: files between a container and this machine, as `docker cp` has it.
//!
//! One side packs a tar, the other unpacks it. Paths in a container are resolved by the kernel inside its root
//! (`RESOLVE_IN_ROOT`), so whatever is in there, nothing outside is read or written; and what comes out of a container
//! is unpacked without following any link.

mod channel;
mod name;
mod pack;
mod root;
mod tree;
mod unpack;

use std::io::{self, BufReader, BufWriter, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread;

use tree::{Kind, Tree};

use crate::cli::CpArgs;
use crate::container::{self, Record};
use crate::failure::{Context, Failure, Result};
use crate::instance::Instance;

const BUFFER: usize = 128 << 10;

/// One of the two arguments.
#[derive(Debug, PartialEq, Eq)]
enum End<'a> {
    /// `-`
    Stream,
    Here(&'a str),
    /// `CONTAINER:PATH`
    Container(&'a str, &'a str),
}

impl<'a> End<'a> {
    /// As Docker reads it: what begins with `/` or `.` is a path here, whatever colons are in it.
    fn parse(text: &'a str) -> Self {
        match text.split_once(':') {
            _ if text == "-" => Self::Stream,
            Some((container, path)) if !text.starts_with(['/', '.']) && !container.contains('/') => {
                Self::Container(container, path)
            }
            _ => Self::Here(text),
        }
    }
}

pub(crate) fn run(instance: &Instance, args: &CpArgs) -> Result<()> {
    let attempt = || match (End::parse(&args.from), End::parse(&args.to)) {
        (End::Stream, End::Container(container, path)) => from_stream(instance, container, path),
        (End::Container(container, path), End::Stream) => to_stream(instance, container, path),
        (End::Stream, _) | (_, End::Stream) => {
            Err(Failure::new("- goes with CONTAINER:PATH on the other side: the archive is the container's"))
        }
        (End::Here(_), End::Here(_)) => Err(Failure::new(
            "neither is in a container: write CONTAINER:PATH, or use cp for files of this machine",
        )),
        (from, to) => between(instance, &from, &to),
    };
    attempt().context(|| format!("copy {} to {}", args.from, args.to))
}

fn open(instance: &Instance, end: &End<'_>, write: bool) -> Result<(root::Root, PathBuf)> {
    match end {
        End::Here(path) => Ok((root::here()?, PathBuf::from(path))),
        End::Container(name, path) => {
            let record: Record = container::find(instance, name)?;
            root::of(instance, &record, Path::new(path), write)
        }
        End::Stream => Err(Failure::new("a stream has no path")),
    }
}

/// Packs one side and unpacks on the other, both at once.
fn between(instance: &Instance, from: &End<'_>, to: &End<'_>) -> Result<()> {
    let (source_root, source) = open(instance, from, false)?;
    let (target_root, target) = open(instance, to, true)?;
    let source = Source::resolve(&source_root.tree, &source)?;
    let target = Target::resolve(&target_root.tree, &target, &source)?;
    let (mut output, input) = channel::channel();
    thread::scope(|scope| {
        let packing = scope.spawn(|| {
            let mut out = BufWriter::with_capacity(BUFFER, &mut output);
            pack::pack(&source_root.tree, &source.path, target.top.as_bytes(), &mut out)?;
            out.flush()?;
            drop(out);
            output.end();
            Ok::<(), Failure>(())
        });
        let unpacked =
            unpack::unpack(&target_root.tree, &target.base, BufReader::with_capacity(BUFFER, input));
        let packed = packing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match (packed, unpacked) {
            // Then packing ended because nobody read on.
            (Err(_), Err(unpack::Error::Write(failure))) => Err(failure),
            (Err(failure), _) => Err(failure),
            (Ok(()), done) => done.map_err(Failure::from),
        }
    })
}

fn from_stream(instance: &Instance, container: &str, path: &str) -> Result<()> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Err(Failure::new("standard input is a terminal: give the archive by a pipe"));
    }
    let (root, path) = open(instance, &End::Container(container, path), true)?;
    match root.tree.kind(&path, true)? {
        Some(Kind::Directory) => {}
        Some(_) => return Err(Failure::new(format!("{} is no directory", path.display()))),
        None => {
            return Err(Failure::new(format!(
                "there is no directory {} in it: make it first",
                path.display()
            )));
        }
    }
    Ok(unpack::unpack(&root.tree, &path, BufReader::with_capacity(BUFFER, stdin.lock()))?)
}

fn to_stream(instance: &Instance, container: &str, path: &str) -> Result<()> {
    let stdout = io::stdout();
    if stdout.is_terminal() {
        return Err(Failure::new("standard output is a terminal: write the archive to a file or a pipe"));
    }
    let (root, path) = open(instance, &End::Container(container, path), false)?;
    let source = Source::resolve(&root.tree, &path)?;
    let top = source.name().unwrap_or_else(|| ".".into());
    let mut out = BufWriter::with_capacity(BUFFER, stdout.lock());
    pack::pack(&root.tree, &source.path, top.as_os_str().as_bytes(), &mut out)?;
    Ok(out.flush()?)
}

/// What is copied.
struct Source {
    path: PathBuf,
    directory: bool,
    /// What is in the directory, not the directory itself: its path ends in `/.`
    contents: bool,
}

impl Source {
    fn resolve(tree: &Tree, path: &Path) -> Result<Self> {
        let text = path.as_os_str().as_bytes();
        let dot = text == b"." || text.ends_with(b"/.");
        // A link is copied as a link, unless a slash behind it says that what it leads to is meant.
        let follow = dot || text.ends_with(b"/");
        let kind = tree
            .kind(path, follow)?
            .ok_or_else(|| Failure::new(format!("there is no {}", path.display())))?;
        if follow && kind != Kind::Directory {
            return Err(Failure::new(format!("{} is no directory", path.display())));
        }
        let contents = dot || path.file_name().is_none();
        Ok(Self { path: path.to_owned(), directory: kind == Kind::Directory, contents })
    }

    /// What it is called at its new place, if that is not what is in it alone.
    fn name(&self) -> Option<PathBuf> {
        self.path.file_name().filter(|_| !self.contents).map(PathBuf::from)
    }
}

/// Where it goes: a directory that is there, and what the topmost entry is called in it.
struct Target {
    base: PathBuf,
    top: std::ffi::OsString,
}

impl Target {
    fn resolve(tree: &Tree, path: &Path, source: &Source) -> Result<Self> {
        let text = path.as_os_str().as_bytes();
        let must_be_directory = text.ends_with(b"/") || text.ends_with(b"/.");
        let path = if text.is_empty() { Path::new("/") } else { path };
        let path = tree.settle(path)?;
        let shown = path.display();
        match (tree.kind(&path, true)?, source.directory) {
            (Some(Kind::Directory), _) => {
                let top = source.name().map_or_else(|| ".".into(), PathBuf::into_os_string);
                Ok(Self { base: path, top })
            }
            (Some(_), true) => {
                Err(Failure::new(format!("{shown} is a file, and what is copied is a directory")))
            }
            (Some(_), false) if must_be_directory => Err(Failure::new(format!("{shown} is no directory"))),
            (None, false) if must_be_directory => Err(Failure::new(format!("there is no directory {shown}"))),
            (_, _) => {
                let top =
                    path.file_name().ok_or_else(|| Failure::new(format!("there is no {shown}")))?.to_owned();
                let base = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
                match tree.kind(base, true)? {
                    Some(Kind::Directory) => Ok(Self { base: base.to_owned(), top }),
                    _ => Err(Failure::new(format!("there is no directory {}", base.display()))),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_apart() {
        assert_eq!(End::parse("-"), End::Stream);
        assert_eq!(End::parse("web:/srv"), End::Container("web", "/srv"));
        assert_eq!(End::parse("web:srv/a:b"), End::Container("web", "srv/a:b"));
        for here in ["./a:b", "/a:b", "file", "dir/a:b"] {
            assert_eq!(End::parse(here), End::Here(here));
        }
    }
}
