//! Numbers with a prefix (RFC 7541, 5.1).

use super::Fault;

/// The number whose first byte has `prefix` bits of it, and how many bytes it takes.
pub(super) fn read(bytes: &[u8], prefix: u32) -> Result<(u32, usize), Fault> {
    let (first, rest) = bytes.split_first().ok_or(Fault::Truncated)?;
    let full = (1_u32 << prefix) - 1;
    let mut value = u32::from(*first) & full;
    if value < full {
        return Ok((value, 1));
    }
    // Four bytes more are 28 bits: more than any length or index that is let pass.
    for (n, byte) in rest.iter().take(4).enumerate() {
        value += u32::from(byte & 0x7f) << (7 * n);
        if byte & 0x80 == 0 {
            return Ok((value, n + 2));
        }
    }
    Err(if rest.len() < 4 { Fault::Truncated } else { Fault::Number })
}

/// Writes a number below 2^32 with `prefix` bits of it in the first byte, whose other bits are those of `first`.
pub(super) fn write(out: &mut Vec<u8>, first: u8, prefix: u32, value: usize) {
    let full = (1_usize << prefix) - 1;
    if value < full {
        out.push(first | value as u8);
        return;
    }
    out.push(first | full as u8);
    let mut rest = value - full;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
