//! `start`.

use std::os::fd::AsFd;

use super::failure::Failure;
use super::options::{Given, Rest, Words, switch};
use super::record::Dir;
use super::{Command, Context};
use crate::contract::Status;

pub(super) static START: Command = Command {
    name: "start",
    usage: "ID",
    summary: "execute the program of a container that was created",
    options: &[switch("help", Some('h'), "show this")],
    words: Words { least: 1, own: 1, rest: Rest::None },
    clones: false,
    run: start,
};

fn start(context: &Context, given: &Given) -> Result<u8, Failure> {
    let id = given.id();
    let dir = Dir::open(&context.root, id)?.locked()?;
    let record = dir.read()?;
    let running = || Failure::container("start", id, "cannot start an already running container");
    let Some(pidfd) = record.process() else {
        return Err(Failure::container("start", id, "cannot start a container that has stopped (delete it)"));
    };
    if record.status != Status::Created || !dir.start_socket().exists() {
        return Err(running());
    }
    let spec = || dir.config().map_err(|failure| unreadable(&failure));
    let state = record.state(Status::Created);
    match crate::start_waiting(&dir.start_socket(), pidfd.as_fd(), &state, record.hooks.as_ref(), spec) {
        Ok(warnings) => warnings.iter().for_each(|warning| context.log.warn(warning)),
        Err(crate::Error::Kernel(error)) if error.errno() == Some(rustix::io::Errno::CONNREFUSED) => {
            return Err(running());
        }
        Err(error) => return Err(error.into()),
    }
    dir.remove_socket();
    Ok(0)
}

/// The copy of the configuration cannot be read: said as an error of the library, which asked for it.
fn unreadable(failure: &Failure) -> crate::Error {
    kernel::Error::new("read", "the container's configuration", std::io::Error::other(failure.to_string()))
        .into()
}
