//! What the kinds share: how a kind is told in a few lines ([`Kind`]), how its fields are read and defaulted ([`Fields`],
//! [`Defaults`]), the checks that many have ([`check`]) and the cells of tables ([`table`]).

pub mod check;
pub mod diff;
mod fields;
pub mod go;
pub mod internal;
mod kind;
pub mod table;

pub use check::Errors;
pub use fields::{Defaults, Fields, defined};
pub use kind::Kind;
