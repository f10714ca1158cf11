//! The Huffman code of strings (RFC 7541, 5.2 and appendix B).
//!
//! The code is canonical: codes of one length count upwards with their symbols, and a longer one begins where the shorter ones end. So the
//! lengths say all of it, and the tables are made of them while compiling.

use super::Fault;

/// The length of each byte's code in bits, and last that of the string's end, which no string has inside.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

const END: usize = 256;
const LONGEST: usize = 30;
/// Codes of up to so many bits are found with one look.
const SHORT: u32 = 8;

struct Code {
    codes: [u32; 257],
    /// By their codes.
    symbols: [u16; 257],
    /// Of each length the first code, the place of its symbol, and how many there are.
    first: [u32; LONGEST + 1],
    place: [u16; LONGEST + 1],
    count: [u16; LONGEST + 1],
    /// By the next bits: the byte, and the length of its code; none where that is longer.
    short: [(u8, u8); 1 << SHORT],
}

static CODE: Code = {
    let mut code = Code {
        codes: [0; 257],
        symbols: [0; 257],
        first: [0; LONGEST + 1],
        place: [0; LONGEST + 1],
        count: [0; LONGEST + 1],
        short: [(0, 0); 1 << SHORT],
    };
    let (mut next, mut placed, mut length) = (0_u32, 0_usize, 1_usize);
    while length <= LONGEST {
        next <<= 1;
        code.first[length] = next;
        code.place[length] = placed as u16;
        let mut symbol = 0;
        while symbol <= END {
            if LENGTHS[symbol] as usize == length {
                code.codes[symbol] = next;
                code.symbols[placed] = symbol as u16;
                code.count[length] += 1;
                if length <= SHORT as usize {
                    let free = SHORT - length as u32;
                    let mut n = 0;
                    while n < 1 << free {
                        code.short[((next << free) + n) as usize] = (symbol as u8, length as u8);
                        n += 1;
                    }
                }
                next += 1;
                placed += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    code
};

/// Writes what a code stands for.
pub(super) fn read(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    let mut bytes = bytes.iter();
    let (mut held, mut count) = (0_u64, 0_u32);
    loop {
        while count <= 56 {
            let Some(byte) = bytes.next() else { break };
            held = held << 8 | u64::from(*byte);
            count += 8;
        }
        // The next 32 bits, with ones behind the last.
        let next = match count.checked_sub(32) {
            Some(more) => (held >> more) as u32,
            None => (held << (32 - count)) as u32 | u32::MAX.checked_shr(count).unwrap_or(0),
        };
        let (byte, length) = match CODE.short[(next >> (32 - SHORT)) as usize] {
            (_, 0) => match long(next) {
                Some(found) => found,
                // The end's code: as much of it as there is must be padding.
                None if next == u32::MAX && count < 8 => return Ok(()),
                None => return Err(Fault::Huffman),
            },
            (byte, length) => (byte, u32::from(length)),
        };
        count = count.checked_sub(length).ok_or(Fault::Huffman)?;
        out.push(byte);
    }
}

/// The byte and the length of a code that is not short; `None` of the end's.
fn long(next: u32) -> Option<(u8, u32)> {
    for length in SHORT as usize + 1..=LONGEST {
        let past = (next >> (32 - length as u32)).wrapping_sub(CODE.first[length]);
        if past < u32::from(CODE.count[length]) {
            let symbol = CODE.symbols[usize::from(CODE.place[length]) + past as usize];
            return u8::try_from(symbol).ok().map(|byte| (byte, length as u32));
        }
    }
    None
}

/// How many bytes the code of these takes.
pub(super) fn length(bytes: &[u8]) -> usize {
    bytes.iter().map(|byte| usize::from(LENGTHS[usize::from(*byte)])).sum::<usize>().div_ceil(8)
}

/// Writes the code of these.
pub(super) fn write(bytes: &[u8], out: &mut Vec<u8>) {
    let (mut held, mut count) = (0_u64, 0_u32);
    for byte in bytes {
        let length = u32::from(LENGTHS[usize::from(*byte)]);
        held = held << length | u64::from(CODE.codes[usize::from(*byte)]);
        count += length;
        while count >= 8 {
            count -= 8;
            out.push((held >> count) as u8);
        }
    }
    if count > 0 {
        out.push((held << (8 - count)) as u8 | (0xff >> count));
    }
}
