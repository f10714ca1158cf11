//! `pause` and `resume`.

use super::failure::Failure;
use super::options::{Given, Opt, Rest, Words, switch};
use super::record::Dir;
use super::{Command, Context};
use crate::contract::Status;

const ONE: Words = Words { least: 1, own: 1, rest: Rest::None };
static OPTIONS: [Opt; 1] = [switch("help", Some('h'), "show this")];

pub(super) static PAUSE: Command = Command {
    name: "pause",
    usage: "ID",
    summary: "stop all processes of a container",
    options: &OPTIONS,
    words: ONE,
    clones: false,
    run: |context, given| freeze(context, given, true),
};

pub(super) static RESUME: Command = Command {
    name: "resume",
    usage: "ID",
    summary: "let them go on",
    options: &OPTIONS,
    words: ONE,
    clones: false,
    run: |context, given| freeze(context, given, false),
};

fn freeze(context: &Context, given: &Given, frozen: bool) -> Result<u8, Failure> {
    let (id, verb) = (given.id(), if frozen { "pause" } else { "resume" });
    let dir = Dir::open(&context.root, id)?.locked()?;
    let record = dir.read()?;
    match (dir.status(&record)?, frozen) {
        (Status::Running | Status::Created, true) | (Status::Paused, false) => {}
        (_, true) => return Err(Failure::container(verb, id, "container not running")),
        (_, false) => return Err(Failure::container(verb, id, "container not paused")),
    }
    let cgroup = record.cgroup()?;
    let cgroup = cgroup.ok_or_else(|| Failure::container(verb, id, "it has no cgroup of its own"))?;
    cgroup.freeze(frozen)?;
    Ok(0)
}
