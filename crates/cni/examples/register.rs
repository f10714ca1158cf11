//! A plugin that registers containers: a file with the addresses of each, in a directory that others look into.

use std::io::{Error as IoError, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cni::contract::{AddResult, Code, Error, Plugin, Registry, Request};
use ledger::{Effect, Record};

pub(crate) struct Register;

fn directory(request: &Request<'_>) -> Result<PathBuf, Error> {
    let keys = request.keys();
    let directory = keys.text("directory")?.ok_or_else(|| keys.refuse("directory", "a directory's path"))?;
    Ok(Path::new(directory).join(request.network))
}

fn file(request: &Request<'_>, container_id: &str, ifname: &str) -> Result<PathBuf, Error> {
    Ok(directory(request)?.join(format!("{container_id}@{ifname}")))
}

fn own_file(request: &Request<'_>) -> Result<PathBuf, Error> {
    file(request, &request.attachment.container_id, &request.attachment.ifname)
}

fn failed(path: &Path, e: IoError) -> Error {
    Error::because(format!("cannot write {}", path.display()), e).code(Code::Io)
}

fn remove(path: &Path) -> Result<(), Error> {
    let removed = std::fs::remove_file(path);
    removed.or_else(|e| if e.kind() == ErrorKind::NotFound { Ok(()) } else { Err(failed(path, e)) })
}

impl Plugin for Register {
    fn add(&self, request: &Request<'_>, record: &mut dyn Record) -> Result<AddResult, Error> {
        let alone = || Error::new(Code::InvalidConfig, "cannot register: there is no \"prevResult\"");
        let result = request.previous.ok_or_else(alone)?;
        let (directory, path) = (directory(request)?, own_file(request)?);
        let text: String = result.ips.iter().map(|ip| format!("{}\n", ip.address.address())).collect();
        std::fs::create_dir_all(&directory).map_err(|e| failed(&directory, e))?;
        record.record(Effect::File { path: path.clone() })?; // Before it happens, so that a crash loses nothing.
        std::fs::write(&path, text).map_err(|e| failed(&path, e))?;
        Ok(result.clone())
    }
    fn del(&self, request: &Request<'_>, _: &mut dyn Record) -> Result<(), Error> {
        remove(&own_file(request)?)
    }
    fn check(&self, request: &Request<'_>) -> Result<(), Error> {
        std::fs::metadata(own_file(request)?)
            .map(drop)
            .map_err(|e| Error::because("cannot find the entry", e))
    }
    fn gc(&self, request: &Request<'_>, _: &mut dyn Record) -> Result<(), Error> {
        let valid = request.valid_attachments()?;
        let stay = valid.iter().map(|of| file(request, &of.container_id, &of.ifname));
        let stay = stay.collect::<Result<Vec<_>, _>>()?;
        let entries = std::fs::read_dir(directory(request)?).into_iter().flatten().flatten();
        let stale = entries.map(|entry| entry.path()).filter(|path| !stay.contains(path));
        stale.map(|path| remove(&path)).fold(Ok(()), Result::and)
    }
}

fn main() -> ExitCode {
    cni::plugin::program::serve("register", &Register, Registry::new())
}
