//! Images: pulled, pushed, named, listed, removed, written to archives and read from them.

mod archive;
mod explain;
mod list;
mod login;
mod name;
mod password;
mod pull;
mod push;
mod remove;
mod source;
mod verify;

pub(crate) use archive::{load, save};
pub(crate) use explain::registry;
pub(crate) use list::list;
pub(crate) use login::{login, logout};
pub(crate) use pull::{FetchOptions, fetch, pull};
pub(crate) use push::{push, send};
pub(crate) use remove::{collect, remove, tag};
pub(crate) use verify::verify;
