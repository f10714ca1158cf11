//! The table of system calls, made from `syscalls.txt` while compiling: names in one string and numbers in 16 bits,
//! so that it needs no relocation and every process shares its pages.

const TEXT: &[u8] = include_bytes!("syscalls.txt");

/// How many calls there are.
pub(super) const ROWS: usize = size().0;
const NAME_BYTES: usize = size().1;
const ARCHES: usize = super::Arch::ALL.len();

/// No such call there.
const NONE: u16 = u16::MAX;
/// Where the private calls of ARM are in 16 bits.
const PRIVATE: u16 = 0xf000;

struct Table {
    names: [u8; NAME_BYTES],
    /// Where the name of each row ends; the one before it ends where it begins.
    ends: [u16; ROWS],
    numbers: [[u16; ARCHES]; ROWS],
}

#[allow(long_running_const_eval, reason = "it reads a file of 16 kB")]
static TABLE: Table = read();

pub(super) fn name(row: u16) -> &'static str {
    // The file is ASCII, as the compiler's reading has checked.
    std::str::from_utf8(bytes(row)).unwrap_or_default()
}

fn bytes(row: u16) -> &'static [u8] {
    let row = usize::from(row);
    let start = if row == 0 { 0 } else { usize::from(TABLE.ends[row - 1]) };
    &TABLE.names[start..usize::from(TABLE.ends[row])]
}

pub(super) fn row(wanted: &str) -> Option<u16> {
    let (mut low, mut high) = (0, ROWS as u16);
    while low < high {
        let middle = low + (high - low) / 2;
        match bytes(middle).cmp(wanted.as_bytes()) {
            std::cmp::Ordering::Equal => return Some(middle),
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    None
}

pub(super) fn number(row: u16, column: usize) -> Option<u32> {
    match TABLE.numbers[usize::from(row)][column] {
        NONE => None,
        private if private >= PRIVATE => Some(super::ARM_PRIVATE + u32::from(private - PRIVATE)),
        number => Some(u32::from(number)),
    }
}

/// How many rows the file has, and how many bytes their names.
const fn size() -> (usize, usize) {
    let (mut rows, mut bytes, mut at) = (0, 0, 0);
    while at < TEXT.len() {
        if TEXT[at] != b'#' {
            rows += 1;
            let mut end = at;
            while TEXT[end] != b' ' {
                end += 1;
            }
            bytes += end - at;
        }
        at = next_line(at);
    }
    (rows, bytes)
}

const fn next_line(mut at: usize) -> usize {
    while TEXT[at] != b'\n' {
        at += 1;
    }
    at + 1
}

const fn read() -> Table {
    let mut table = Table { names: [0; NAME_BYTES], ends: [0; ROWS], numbers: [[NONE; ARCHES]; ROWS] };
    let (mut at, mut row, mut written) = (0, 0, 0);
    while at < TEXT.len() {
        if TEXT[at] == b'#' {
            at = next_line(at);
            continue;
        }
        let start = written;
        while TEXT[at] != b' ' {
            assert!(TEXT[at].is_ascii_lowercase() || TEXT[at].is_ascii_digit() || TEXT[at] == b'_');
            table.names[written] = TEXT[at];
            written += 1;
            at += 1;
        }
        table.ends[row] = written as u16;
        if row > 0 {
            let before = if row > 1 { table.ends[row - 2] as usize } else { 0 };
            assert!(less(&table.names, before, start, written), "syscalls.txt is sorted by name");
        }
        let mut column = 0;
        while column < ARCHES {
            (table.numbers[row][column], at) = cell(at + 1);
            column += 1;
        }
        assert!(TEXT[at] == b'\n', "a row has a column for each architecture");
        at += 1;
        row += 1;
    }
    table
}

/// Is the name from `a` to `b` before the one from `b` to `c`?
const fn less(names: &[u8], a: usize, b: usize, c: usize) -> bool {
    let mut i = 0;
    while a + i < b && b + i < c {
        if names[a + i] != names[b + i] {
            return names[a + i] < names[b + i];
        }
        i += 1;
    }
    b - a < c - b
}

/// A number or a dash, and where it ends.
const fn cell(mut at: usize) -> (u16, usize) {
    if TEXT[at] == b'-' {
        return (NONE, at + 1);
    }
    let mut number = 0;
    while TEXT[at].is_ascii_digit() {
        number = number * 10 + (TEXT[at] - b'0') as u32;
        at += 1;
    }
    if number >= super::ARM_PRIVATE {
        number = number - super::ARM_PRIVATE + PRIVATE as u32;
    } else {
        assert!(number < PRIVATE as u32);
    }
    (number as u16, at)
}
