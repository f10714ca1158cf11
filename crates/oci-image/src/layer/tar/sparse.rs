//! Sparse maps: where the data of a file with holes goes.

use super::Span;

/// Whether a map is in order, does not overlap, stays within the file and accounts for all the data.
pub(super) fn check(spans: &[Span], real_size: u64, data: u64) -> Result<(), &'static str> {
    if real_size > i64::MAX.cast_unsigned() {
        return Err("a sparse file's size is too large");
    }
    let (mut end, mut total) = (0_u64, 0_u64);
    for span in spans {
        let next = span.offset.checked_add(span.length).ok_or("a sparse map overflows")?;
        if span.offset < end || next > real_size {
            return Err("a sparse map is out of order or out of bounds");
        }
        end = next;
        total += span.length;
    }
    if total != data {
        return Err("a sparse map does not account for the data");
    }
    Ok(())
}

/// Takes the next decimal line of a version 1.0 map off `text`: its number and how many bytes it took.
pub(super) fn line(text: &[u8]) -> Option<Result<(u64, usize), &'static str>> {
    match text.iter().take(21).position(|&b| b == b'\n') {
        Some(end) => Some(
            text.get(..end)
                .and_then(super::pax::integer)
                .map(|n| (n, end + 1))
                .ok_or("a sparse map holds something that is no number"),
        ),
        None if text.len() > 20 => Some(Err("a sparse map holds a line that is too long")),
        None => None,
    }
}
