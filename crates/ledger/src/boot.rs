use std::path::Path;

use crate::Error;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The id of the running kernel's boot.
pub(crate) fn id() -> Result<String, Error> {
    let text = std::fs::read_to_string(BOOT_ID)
        .map_err(|source| Error::ReadBootId { path: Path::new(BOOT_ID).into(), source })?;
    Ok(text.trim_end().to_owned())
}
