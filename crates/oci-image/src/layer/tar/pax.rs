//! PAX records: `length key=value\n`, over and over.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{Span, Time, entry::Entry};

/// What a PAX header overrides.
#[derive(Clone, Debug, Default)]
pub(super) struct Overrides {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<Time>,
    pub(super) device: (Option<u32>, Option<u32>),
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: SparseRecords,
}

/// The GNU.sparse.* records, whichever version.
#[derive(Clone, Debug, Default)]
pub(super) struct SparseRecords {
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) real_size: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    pub(super) spans: Vec<Span>,
    pub(super) present: bool,
}

impl Overrides {
    /// Reads the records of one header on top of what is there. A record with an empty value takes back an earlier one.
    pub(super) fn read(&mut self, mut data: &[u8]) -> Result<(), String> {
        while !data.is_empty() {
            let (key, value, rest) = record(data).ok_or("a PAX record is malformed")?;
            self.apply(key, value).map_err(|reason| {
                format!("PAX record {}: {reason}", String::from_utf8_lossy(key).escape_debug())
            })?;
            data = rest;
        }
        Ok(())
    }

    fn apply(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        match key {
            b"path" => self.path = name(value)?,
            b"linkpath" => self.link = name(value)?,
            b"size" => self.size = optional(value, integer)?,
            b"uid" => self.uid = optional(value, id)?,
            b"gid" => self.gid = optional(value, id)?,
            b"mtime" => self.mtime = optional(value, time)?,
            b"SCHILY.devmajor" => self.device.0 = optional(value, small)?,
            b"SCHILY.devminor" => self.device.1 = optional(value, small)?,
            b"hdrcharset" if !matches!(value, b"" | b"BINARY" | b"ISO-IR 10646 2000 UTF-8") => {
                return Err("this character set is not known");
            }
            _ => {
                if let Some(attribute) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattr(attribute.to_vec(), value.to_vec())?;
                } else if let Some(attribute) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                    let attribute = percent_decoded(attribute).ok_or("its name is not URL-encoded")?;
                    let padding: &[char] = &['=', '\n'];
                    let text =
                        std::str::from_utf8(value).map_err(|_| "it is not base64")?.trim_end_matches(padding);
                    let value = base64::engine::GeneralPurpose::new(
                        &base64::alphabet::STANDARD,
                        base64::engine::general_purpose::NO_PAD,
                    )
                    .decode(text)
                    .or_else(|_| STANDARD.decode(text))
                    .map_err(|_| "it is not base64")?;
                    // When a writer gives both forms, SCHILY's is the exact one.
                    if !self.xattrs.iter().any(|(n, _)| *n == attribute) {
                        self.xattr(attribute, value)?;
                    }
                } else if let Some(rest) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.apply(rest, value)?;
                }
            }
        }
        Ok(())
    }

    fn xattr(&mut self, name: Vec<u8>, value: Vec<u8>) -> Result<(), &'static str> {
        if name.is_empty() || name.len() > 255 || name.contains(&0) {
            return Err("this is no name for an extended attribute");
        }
        if value.len() > 65536 {
            return Err("an extended attribute has at most 64 KiB");
        }
        match self.xattrs.iter_mut().find(|(n, _)| *n == name) {
            Some(slot) => slot.1 = value,
            None => self.xattrs.push((name, value)),
        }
        Ok(())
    }

    /// Puts the overrides over what the header block said.
    pub(super) fn put_on(&mut self, entry: &mut Entry) {
        if let Some(path) = self.sparse.name.take().or_else(|| self.path.take()) {
            entry.path = path;
        }
        if let Some(link) = self.link.take() {
            entry.link = link;
        }
        entry.uid = self.uid.unwrap_or(entry.uid);
        entry.gid = self.gid.unwrap_or(entry.gid);
        entry.mtime = self.mtime.unwrap_or(entry.mtime);
        entry.device = (self.device.0.unwrap_or(entry.device.0), self.device.1.unwrap_or(entry.device.1));
        entry.xattrs = std::mem::take(&mut self.xattrs);
    }
}

impl SparseRecords {
    fn apply(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        self.present = true;
        let number = |v| integer(v).ok_or("it is no number");
        match key {
            b"major" => self.major = Some(number(value)?),
            b"minor" => self.minor = Some(number(value)?),
            b"size" | b"realsize" => self.real_size = Some(number(value)?),
            b"name" => self.name = name(value)?,
            // Version 0.0 repeats these two for each span; 0.1 puts them all into one list.
            b"offset" => self.spans.push(Span { offset: number(value)?, length: 0 }),
            b"numbytes" => self.spans.last_mut().ok_or("no offset before it")?.length = number(value)?,
            b"map" => {
                self.spans.clear();
                let mut numbers = value.split(|&b| b == b',');
                while let Some(offset) = numbers.next() {
                    let length = numbers.next().ok_or("it has an odd number of numbers")?;
                    self.spans.push(Span { offset: number(offset)?, length: number(length)? });
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Splits one record off: its key, its value and the rest.
fn record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = data.iter().take(21).position(|&b| b == b' ')?;
    let length = usize::try_from(integer(data.get(..blank)?)?).ok()?;
    let (record, rest) = data.split_at_checked(length)?;
    let body = record.get(blank + 1..)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|&b| b == b'=')?;
    let (key, value) = (body.get(..equals)?, body.get(equals + 1..)?);
    (!key.is_empty() && !key.contains(&0)).then_some((key, value, rest))
}

fn name(value: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
    match value {
        b"" => Ok(None),
        v if v.contains(&0) => Err("a name contains no NUL"),
        v => Ok(Some(v.to_vec())),
    }
}

fn optional<T>(value: &[u8], parse: fn(&[u8]) -> Option<T>) -> Result<Option<T>, &'static str> {
    match value {
        b"" => Ok(None),
        v => parse(v).map(Some).ok_or("its value is no number that fits"),
    }
}

/// Decimal digits and nothing else, up to `i64::MAX`.
pub(super) fn integer(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let value = text.iter().try_fold(0_u64, |n, &b| match b {
        b'0'..=b'9' => n.checked_mul(10)?.checked_add(u64::from(b - b'0')),
        _ => None,
    })?;
    (value <= i64::MAX.cast_unsigned()).then_some(value)
}

fn small(text: &[u8]) -> Option<u32> {
    u32::try_from(integer(text)?).ok()
}

/// A user or group; the largest number means "leave as it is" to chown, so it is none.
fn id(text: &[u8]) -> Option<u32> {
    small(text).filter(|&id| id != u32::MAX)
}

/// Seconds with an optional fraction, of which nanoseconds are kept, rounding down.
fn time(text: &[u8]) -> Option<Time> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = digits.splitn(2, |&b| b == b'.');
    let seconds = i64::try_from(integer(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |i: usize| u32::from(fraction.get(i).map_or(0, |b| b - b'0'));
    let nanoseconds = (0..9).fold(0, |n, i| n * 10 + digit(i));
    let beyond = fraction.iter().skip(9).any(|&b| b != b'0');
    Some(match (negative, nanoseconds, beyond) {
        (false, n, _) => Time { seconds, nanoseconds: n },
        (true, 0, false) => Time { seconds: -seconds, nanoseconds: 0 },
        (true, n, _) => {
            let n = n + u32::from(beyond);
            Time { seconds: -seconds - 1, nanoseconds: 1_000_000_000_u32.saturating_sub(n).min(999_999_999) }
        }
    })
}

fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        bytes.push(match first {
            b'%' => {
                let (hex, tail) = tail.split_at_checked(2)?;
                rest = tail;
                let digit = |b: u8| char::from(b).to_digit(16);
                u8::try_from(digit(*hex.first()?)? * 16 + digit(*hex.last()?)?).ok()?
            }
            byte => byte,
        });
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_nanoseconds_on_both_sides_of_1970() {
        let at = |text: &str| time(text.as_bytes()).map(|t| (t.seconds, t.nanoseconds));
        assert_eq!(at("1.5"), Some((1, 500_000_000)));
        assert_eq!(at("1350244992.023960108"), Some((1_350_244_992, 23_960_108)));
        assert_eq!(at("-1.25"), Some((-2, 750_000_000)));
        assert_eq!(at("-3"), Some((-3, 0)));
        assert_eq!(at("-0.0000000001"), Some((-1, 999_999_999)));
        assert_eq!(at("x"), None);
        assert_eq!(at("1.x"), None);
        assert_eq!(at("99999999999999999999"), None);
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in
            ["5 a=b\n", "7 a=b\n", "x a=b\n", "6 a=b", "6 =ab\n", "99999999999999999999999 a=b\n", "0 a=b\n"]
        {
            assert!(Overrides::default().read(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(Overrides::default().read(b"6 a=b\n").is_ok());
    }
}
