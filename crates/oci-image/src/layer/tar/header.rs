//! The fields of one 512-byte header block.

use super::{BLOCK, Kind};

/// One header block, viewed field by field.
pub(super) struct Block<'a>(pub(super) &'a [u8; BLOCK]);

/// Which dialect a header is in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    V7,
    Ustar,
    Gnu,
    Star,
}

impl<'a> Block<'a> {
    fn field(&self, from: usize, length: usize) -> &'a [u8] {
        self.0.get(from..from + length).unwrap_or_default()
    }

    pub(super) fn is_zero(&self) -> bool {
        self.0.iter().all(|&b| b == 0)
    }

    /// Whether the checksum is right, counted either unsigned or, as some old writers did, signed.
    pub(super) fn checksum_holds(&self) -> bool {
        let Some(stored) = number(self.field(148, 8)) else { return false };
        let fixed = 8 * i64::from(b' ');
        let outside = |i: usize| !(148..156).contains(&i);
        let sum = |value: fn(u8) -> i64| {
            fixed
                + self.0.iter().enumerate().filter(|(i, _)| outside(*i)).map(|(_, &b)| value(b)).sum::<i64>()
        };
        stored == sum(i64::from) || stored == sum(|b| i64::from(b.cast_signed()))
    }

    pub(super) fn format(&self) -> Format {
        match (self.field(257, 6), self.field(263, 2)) {
            (b"ustar\0", _) if self.field(508, 4) == b"tar\0" => Format::Star,
            (b"ustar\0", _) => Format::Ustar,
            (b"ustar ", b" \0") => Format::Gnu,
            _ => Format::V7,
        }
    }

    pub(super) fn typeflag(&self) -> u8 {
        self.0.get(156).copied().unwrap_or_default()
    }

    pub(super) fn size(&self) -> Option<u64> {
        u64::try_from(number(self.field(124, 12))?).ok()
    }

    pub(super) fn mode(&self) -> Option<u32> {
        Some(u32::try_from(number(self.field(100, 8))? & 0o7777).unwrap_or_default())
    }

    pub(super) fn uid(&self) -> Option<i64> {
        number(self.field(108, 8))
    }

    pub(super) fn gid(&self) -> Option<i64> {
        number(self.field(116, 8))
    }

    pub(super) fn mtime(&self) -> Option<i64> {
        number(self.field(136, 12))
    }

    pub(super) fn device(&self) -> Option<(u32, u32)> {
        let part = |from| u32::try_from(number(self.field(from, 8))?).ok();
        Some((part(329)?, part(337)?))
    }

    /// The name, with ustar's or star's prefix in front, appended to `path`.
    pub(super) fn name_into(&self, path: &mut Vec<u8>) {
        let prefix = match self.format() {
            Format::Ustar => text(self.field(345, 155)),
            Format::Star => text(self.field(345, 131)),
            Format::V7 | Format::Gnu => b"",
        };
        path.extend_from_slice(prefix);
        if !prefix.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(text(self.field(0, 100)));
    }

    pub(super) fn linkname(&self) -> &'a [u8] {
        text(self.field(157, 100))
    }

    /// GNU's first four sparse spans, whether more follow in blocks of their own, and the file's full size.
    pub(super) fn gnu_sparse(&self) -> (&'a [u8], bool, Option<u64>) {
        let real = number(self.field(483, 12)).and_then(|n| u64::try_from(n).ok());
        (self.field(386, 96), self.field(482, 1) != [0], real)
    }

    /// What the type flag makes, for those that make something.
    pub(super) fn kind(&self, path: &[u8]) -> Option<Kind> {
        Some(match self.typeflag() {
            0 | b'0' | b'7' if path.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::Char,
            b'4' => Kind::Block,
            b'5' | b'D' => Kind::Directory,
            b'6' => Kind::Fifo,
            _ => return None,
        })
    }
}

/// A text field, up to its NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|&b| b == 0).next().unwrap_or_default()
}

/// A number: octal digits among blanks, or base 256 when the first bit is set. An empty field is 0.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    let (&first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        let negative = first & 0x40 != 0;
        // Sign-extend, then shift the bytes in; a value that does not fit 64 bits is refused.
        let mut value = i128::from(first & 0x3f) - if negative { 0x40 } else { 0 };
        for &byte in rest {
            value = value.checked_mul(256)? + i128::from(byte);
            if value > i128::from(i64::MAX) || value < i128::from(i64::MIN) {
                return None;
            }
        }
        return i64::try_from(value).ok();
    }
    let digits = text(field).trim_ascii();
    digits.iter().try_fold(0_i64, |n, &b| match b {
        b'0'..=b'7' => n.checked_mul(8)?.checked_add(i64::from(b - b'0')),
        _ => None,
    })
}

/// One sparse span of GNU's old form: two numbers of twelve bytes; `None` where the list ends.
pub(super) fn span(field: &[u8]) -> Option<Result<super::Span, ()>> {
    let (offset, length) = field.split_at_checked(12)?;
    if offset.first() == Some(&0) || length.first() == Some(&0) {
        return None;
    }
    let value = |f| number(f).and_then(|n| u64::try_from(n).ok()).ok_or(());
    Some(value(offset).and_then(|offset| Ok(super::Span { offset, length: value(length)? })))
}
