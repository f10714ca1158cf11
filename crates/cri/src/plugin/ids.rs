//! Ids that nobody else has.

use std::io::Read;

use crate::contract::Error;

/// An id for a pod or a container: 64 hexadecimal digits.
pub(crate) fn new_id() -> Result<String, Error> {
    random_hex::<32>()
}

/// An id for a process that is brought in.
pub(crate) fn exec_id() -> Result<String, Error> {
    random_hex::<8>()
}

fn random_hex<const N: usize>() -> Result<String, Error> {
    let mut bytes = [0; N];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|e| Error::internal(format!("cannot get random bytes: {e}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
