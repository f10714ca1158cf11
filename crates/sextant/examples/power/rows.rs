//! The rows that a pod writes to its volume.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

/// Of a row, in bytes: so that some go over the border of two sectors.
pub(crate) const LENGTH: u64 = 100;

/// A row, which is the same nowhere else.
pub(crate) fn row(number: u64) -> String {
    let word = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{:<99}\n", format!("{number} {}", format!("{word:016x}").repeat(4)))
}

/// How many whole rows there are, from the first one on.
pub(crate) fn count(file: &File) -> std::io::Result<u64> {
    let mut bytes = vec![0; usize::try_from(file.metadata()?.len()).unwrap_or_default()];
    file.read_exact_at(&mut bytes, 0)?;
    let rows = bytes.chunks(LENGTH as usize).zip(0..);
    Ok(rows.take_while(|(bytes, number)| *bytes == row(*number).as_bytes()).count() as u64)
}
