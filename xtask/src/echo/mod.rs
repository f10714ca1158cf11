//! What pods of Gateway API's mesh suite run: servers that say what they were asked, and a client that says what it was answered, in the words
//! that the suite reads.
//!
//! It is this program by another name: `echo-server`, which is the image's, and `client`, which the suite executes in pods.

mod client;
mod image;
mod message;
mod server;

use std::path::Path;
use std::process::ExitCode;

pub(crate) use image::image;

/// The names.
const SERVER: &str = "echo-server";
const CLIENT: &str = "client";

/// What came of it, if it was called by one of those names.
pub(crate) fn called() -> Option<ExitCode> {
    let mut words = std::env::args();
    let name = words.next()?;
    let words: Vec<String> = words.collect();
    let done = match Path::new(&name).file_name()?.to_str()? {
        SERVER => server::run(&words),
        CLIENT => client::run(&words),
        _ => return None,
    };
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    })
}
