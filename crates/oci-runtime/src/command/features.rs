//! `features`: what this runtime can do, as the specification's features document.

use super::failure::Failure;
use super::list::print;
use super::options::{Given, Rest, Words, switch};
use super::{Command, Context};

pub(super) static FEATURES: Command = Command {
    name: "features",
    usage: "",
    summary: "show what this runtime can do as JSON",
    options: &[switch("help", Some('h'), "show this")],
    words: Words { least: 0, own: 0, rest: Rest::None },
    clones: false,
    run: features,
};

fn features(_: &Context, _: &Given) -> Result<u8, Failure> {
    print(&serde_json::to_string_pretty(&crate::features()).unwrap_or_default())
}
