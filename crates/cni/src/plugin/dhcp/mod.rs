//! `dhcp`: addresses from a network's DHCP server. A daemon gets the leases and keeps them; the plugin asks it.

mod client;
pub(super) mod daemon;
mod message;
mod options;
mod rpc;

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use kernel::packet::datagram;
use ledger::Record;
use serde_json::Value;

use super::ipam::no_ipam;
use crate::contract::{AddResult, Code, Error, Keys, Plugin, Request, ValidAttachment};
use rpc::{Call, Method};

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;

/// Where the daemon listens, if nobody says otherwise.
const SOCKET: &str = "/run/cni/dhcp.sock";

/// The plugin `dhcp`.
#[derive(Debug)]
pub(super) struct Dhcp;

impl Plugin for Dhcp {
    fn add(&self, request: &Request<'_>, _record: &mut dyn Record) -> Result<AddResult, Error> {
        call(request, Method::Allocate, connect(&socket_path(request)?)?)
    }

    fn del(&self, request: &Request<'_>, _record: &mut dyn Record) -> Result<(), Error> {
        let path = socket_path(request)?;
        match connect(&path) {
            Ok(stream) => call(request, Method::Release, stream).map(|_| ()),
            // Nobody is there who renews the lease, so it ends by itself; a daemon that comes later need not know it.
            Err(_) => daemon::forget(&path, request),
        }
    }

    fn check(&self, request: &Request<'_>) -> Result<(), Error> {
        call(request, Method::Allocate, connect(&socket_path(request)?)?).map(|_| ())
    }

    fn status(&self, request: &Request<'_>) -> Result<(), Error> {
        let path = socket_path(request)?;
        let ipam = ipam(request)?;
        options::of_configuration(&ipam, request.attachment, request.network)?;
        connect(&path).map(|_| ()).map_err(|e| e.code(Code::NotAvailable))
    }

    fn gc(&self, request: &Request<'_>, _record: &mut dyn Record) -> Result<(), Error> {
        let path = socket_path(request)?;
        let release = |(attachment, conf): (ValidAttachment, Vec<u8>)| {
            let call = Call { conf, ..arguments(request, Method::Release) };
            let call = Call { container_id: attachment.container_id, ifname: attachment.ifname, ..call };
            connect(&path).and_then(|stream| converse(&call, stream)).map(|_| ())
        };
        // All of them are tried.
        daemon::stale(&path, request)?.into_iter().map(release).fold(Ok(()), Result::and)
    }
}

fn ipam<'a>(request: &Request<'a>) -> Result<Keys<'a>, Error> {
    let ipam = request.keys().object("ipam")?.ok_or_else(no_ipam)?;
    Ok(Keys::new(ipam, "\"ipam\""))
}

fn socket_path(request: &Request<'_>) -> Result<PathBuf, Error> {
    let path = ipam(request)?.text("daemonSocketPath")?.filter(|path| !path.is_empty());
    Ok(path.unwrap_or(SOCKET).into())
}

fn connect(path: &Path) -> Result<UnixStream, Error> {
    UnixStream::connect(path).map_err(|e| {
        Error::because(format!("cannot reach the DHCP daemon at {}", path.display()), e)
            .code(Code::TryAgain)
            .hint("`dhcp daemon` starts it")
    })
}

fn arguments(request: &Request<'_>, method: Method) -> Call {
    let mut conf = request.conf.keys.clone();
    conf.insert("name".into(), request.network.into());
    conf.insert("cniVersion".into(), request.version.as_str().into());
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    Call {
        method,
        container_id: request.attachment.container_id.clone(),
        netns: request.attachment.netns.as_ref().map(absolute).unwrap_or_default().display().to_string(),
        ifname: request.attachment.ifname.clone(),
        args: request.attachment.args_text(),
        conf: Value::Object(conf).to_string().into_bytes(),
    }
}

fn call(request: &Request<'_>, method: Method, stream: UnixStream) -> Result<AddResult, Error> {
    converse(&arguments(request, method), stream)
}

/// Asks the daemon. It answers when it has a lease, or gives up by its own flags: there is no deadline here.
fn converse(call: &Call, mut stream: UnixStream) -> Result<AddResult, Error> {
    let failed =
        |e: std::io::Error| Error::because("cannot talk with the DHCP daemon", e).code(Code::TryAgain);
    stream.write_all(rpc::opening()).map_err(failed)?;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    let mut asked = false;
    loop {
        if !asked && rpc::is_connected(&answer)? {
            asked = true;
            stream.write_all(&call.to_bytes()).map_err(failed)?;
        }
        if let Some(result) = rpc::read_answer(call.method, &answer)? {
            return Ok(result);
        }
        match stream.read(&mut part) {
            Ok(0) => return Err(failed(ErrorKind::UnexpectedEof.into())),
            Ok(n) if answer.len() + n <= rpc::LONGEST => answer.extend(part.get(..n).unwrap_or_default()),
            Ok(_) => return Err(failed(ErrorKind::FileTooLarge.into())),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(failed(e)),
        }
    }
}

/// Any bytes as what comes from the network, and as either side of a conversation: for the fuzzer.
pub(super) fn exercise(bytes: &[u8]) {
    if let Some(message) =
        message::Message::parse(datagram::unwrap(bytes, SERVER_PORT, CLIENT_PORT).unwrap_or(bytes))
    {
        assert_eq!(message::Message::parse(&message.to_bytes()), Some(message.clone()));
        let _ = options::result(&message, None);
    }
    daemon::exercise(bytes);
    rpc::exercise(bytes);
}
