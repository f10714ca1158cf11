//! The name this program was called by. Called `runc` it stands in runc's place, for callers that know no other: it
//! speaks of itself by that name, and words its failures as runc does where they are compared.
//!
//! The name changes words alone: records stay in this program's own directory, whose format is not runc's.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::OnceLock;

/// The name this program is called by.
pub const NAME: &str = "sextant-oci";

/// The name of what it can stand in for.
pub(super) const RUNC: &str = "runc";

static CALLED: OnceLock<&str> = OnceLock::new();

/// Whether a program called `name` (its file's name alone) is this one.
pub fn is_name(name: &str) -> bool {
    known(name).is_some()
}

fn known(name: &str) -> Option<&'static str> {
    [NAME, RUNC].into_iter().find(|known| *known == name)
}

/// Takes on the name in `program`, the first word of the command line. The first call counts.
pub(super) fn take(program: &OsStr) {
    let name = Path::new(program).file_name().and_then(OsStr::to_str).and_then(known);
    CALLED.get_or_init(|| name.unwrap_or(NAME));
}

/// What this program calls itself.
pub(super) fn name() -> &'static str {
    CALLED.get().copied().unwrap_or(NAME)
}
