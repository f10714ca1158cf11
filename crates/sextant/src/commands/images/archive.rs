use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Seek, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use oci_image::archive::{self, Format, Input, export, export_folder};
use oci_image::pull::{Options, PullReport};
use oci_image::store::{Image, Store};

use super::source;
use crate::cli::{ArchiveFormat, LoadArgs, SaveArgs};
use crate::failure::{Context, Failure, Result};
use crate::instance::Instance;
use crate::output::progress::Transfer;

/// `sextant save`.
pub(crate) fn save(instance: &Instance, args: &SaveArgs) -> Result<()> {
    let store = instance.store()?;
    let images = args.images.iter().map(|text| source::find(&store, text)).collect::<Result<Vec<Image>>>()?;
    let format = match args.format {
        ArchiveFormat::Docker => Format::Docker,
        ArchiveFormat::Oci => Format::Oci,
    };
    let Some(path) = &args.file else {
        let out = io::stdout();
        if out.is_terminal() {
            return Err(Failure::new("cannot write an archive to a terminal: use -o FILE, or a pipe"));
        }
        // Its own buffering is by lines.
        let mut out = BufWriter::with_capacity(128 << 10, File::from(out.as_fd().try_clone_to_owned()?));
        export(&store, &images, format, &mut out)?;
        return Ok(out.flush()?);
    };
    match (path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/"), format) {
        (true, Format::Oci) => Ok(export_folder(&store, &images, path)?),
        (true, Format::Docker) => Err(Failure::new(format!(
            "cannot write the archive to {}: it is a directory, which only --format oci can be written to",
            path.display()
        ))),
        (false, _) => to_file(&store, &images, format, path),
    }
}

/// Writes the archive beside its name and renames it at the end: what has the name is whole.
fn to_file(store: &Store, images: &[Image], format: Format, path: &Path) -> Result<()> {
    // A pipe or a device is written to as it is.
    if fs::metadata(path).is_ok_and(|m| !m.is_file()) {
        let file = File::options().write(true).open(path).context(|| format!("open {}", path.display()))?;
        return Ok(export(store, images, format, &mut BufWriter::with_capacity(128 << 10, file))?);
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    let partial = PathBuf::from(name);
    let file = File::create(&partial).context(|| format!("create {}", partial.display()))?;
    let mut out = BufWriter::with_capacity(128 << 10, file);
    let written = export(store, images, format, &mut out)
        .map_err(Failure::from)
        .and_then(|()| out.flush().context(|| format!("write {}", partial.display())))
        .and_then(|()| fs::rename(&partial, path).context(|| format!("write {}", path.display())));
    if written.is_err() {
        // The first error is the one to tell.
        _ = fs::remove_file(&partial);
    }
    written
}

/// `sextant load`.
pub(crate) fn load(instance: &Instance, args: &LoadArgs) -> Result<()> {
    let store = instance.store()?;
    let progress = Transfer::new(args.quiet);
    let load = |input| archive::import(&store, input, None, &Options::default(), &progress);
    let reports = match &args.input {
        Some(path) if path.is_dir() => {
            load(Input::Folder(path)).context(|| format!("load {}", path.display()))?
        }
        Some(path) => {
            let file = File::open(path).context(|| format!("open {}", path.display()))?;
            load(Input::File(file)).context(|| format!("load {}", path.display()))?
        }
        None => {
            let stdin = io::stdin();
            if stdin.is_terminal() {
                return Err(Failure::new("cannot load from a terminal: use -i FILE, or a pipe"));
            }
            let mut file = File::from(stdin.as_fd().try_clone_to_owned()?);
            // Archives on disk are read where they are, unless somebody has read a part of them.
            let whole =
                file.metadata().is_ok_and(|m| m.is_file()) && file.stream_position().is_ok_and(|at| at == 0);
            let input = if whole { Input::File(file) } else { Input::Stream(&mut file) };
            load(input).context(|| "load standard input".to_owned())?
        }
    };
    reports.iter().for_each(|report| tell(report, args.quiet));
    Ok(())
}

fn tell(report: &PullReport, quiet: bool) {
    match (&report.name, quiet) {
        (_, true) => println!("{}", report.id),
        (Some(name), _) => println!("loaded: {name}\n{}", report.id),
        (None, _) => println!("loaded: {} (give it a name with `sextant tag`)", report.id),
    }
}
