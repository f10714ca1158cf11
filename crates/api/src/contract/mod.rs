//! The wire: objects, statuses, errors of fields, and what clients write in queries and bodies. No I/O.

pub mod field;
pub mod names;
mod object;
pub mod quantity;
pub mod selector;
mod status;

pub use object::{Object, is_deeper_than};
pub use status::{Cause, Details, Reason, Result, Status};
