//! Times as Go's `time.Parse` reads them and Kubernetes writes them.

use jiff::SignedDuration;
use jiff::civil::DateTime;
use serde_json::Value;
use std::fmt::Write as _;

const SECONDS: &str = "2006-01-02T15:04:05Z07:00";
const MICROSECONDS: &str = "2006-01-02T15:04:05.000000Z07:00";

/// A time in UTC, with seconds or with microseconds; null for Go's zero time.
///
/// # Errors
/// In Go's words.
pub(super) fn canonical(text: &str, micro: bool) -> Result<Value, String> {
    let layout = if micro { MICROSECONDS } else { SECONDS };
    let time = Parser { text, rest: text, layout }.time(micro)?;
    let second = time.strftime("%Y-%m-%dT%H:%M:%S");
    if !micro {
        return Ok(match time {
            time if time == DateTime::constant(1, 1, 1, 0, 0, 0, 0) => Value::Null,
            _ => format!("{second}Z").into(),
        });
    }
    Ok(format!("{second}.{:06}Z", time.subsec_nanosecond() / 1000).into())
}

struct Parser<'t> {
    text: &'t str,
    rest: &'t str,
    layout: &'static str,
}

impl Parser<'_> {
    fn time(mut self, micro: bool) -> Result<DateTime, String> {
        let year = self.year()?;
        self.separator("-")?;
        let month = self.two_digits("01", "month", 1..=12)?;
        self.separator("-")?;
        // The day is looked at when month and year are known.
        let day = self.two_digits("02", "day", 0..=99)?;
        self.separator("T")?;
        let hour = self.hour()?;
        self.separator(":")?;
        let minute = self.two_digits("04", "minute", 0..=59)?;
        self.separator(":")?;
        let second = self.two_digits("05", "second", 0..=59)?;
        let nanosecond = if micro { self.microseconds()? } else { self.fraction() };
        let offset = self.zone()?;
        if !self.rest.is_empty() {
            return Err(self.range(&format!("extra text: {}", quote(self.rest))));
        }
        let time = DateTime::new(year, month, day, hour, minute, second, nanosecond)
            .map_err(|_| self.range("day out of range"))?;
        time.checked_sub(SignedDuration::from_secs(offset)).map_err(|_| self.range("year out of range"))
    }

    fn year(&mut self) -> Result<i16, String> {
        let digits = self.rest.get(..4).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        let year = digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| self.bad("2006"))?;
        self.rest = &self.rest[4..];
        Ok(year)
    }

    fn separator(&mut self, separator: &str) -> Result<(), String> {
        self.rest = self.rest.strip_prefix(separator).ok_or_else(|| self.bad(separator))?;
        Ok(())
    }

    fn two_digits(
        &mut self,
        layout: &str,
        what: &str,
        range: std::ops::RangeInclusive<i8>,
    ) -> Result<i8, String> {
        let number = self.number(2).ok_or_else(|| self.bad(layout))?;
        self.rest = &self.rest[2..];
        if range.contains(&number) { Ok(number) } else { Err(self.range(&format!("{what} out of range"))) }
    }

    /// Of the hour Go takes one digit too.
    fn hour(&mut self) -> Result<i8, String> {
        let digits = if self.number(2).is_some() { 2 } else { 1 };
        let hour = self.number(digits).ok_or_else(|| self.bad("15"))?;
        self.rest = &self.rest[digits..];
        if hour < 24 { Ok(hour) } else { Err(self.range("hour out of range")) }
    }

    fn number(&self, digits: usize) -> Option<i8> {
        let digits = self.rest.get(..digits)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    }

    fn microseconds(&mut self) -> Result<i32, String> {
        let digits = self.rest.get(..7).and_then(|fraction| fraction.strip_prefix(['.', ',']));
        let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        let micro: i32 = digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| self.bad(".000000"))?;
        self.rest = &self.rest[7..];
        Ok(micro * 1000)
    }

    /// A fraction is passed over where seconds are all that is kept; its nanoseconds tell nothing afterwards.
    fn fraction(&mut self) -> i32 {
        if let Some(rest) = self.rest.strip_prefix(['.', ',']) {
            let behind = rest.trim_start_matches(|digit: char| digit.is_ascii_digit());
            if behind.len() < rest.len() {
                self.rest = behind;
            }
        }
        0
    }

    /// Seconds east of Greenwich.
    fn zone(&mut self) -> Result<i64, String> {
        const LAYOUT: &str = "Z07:00";
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(0);
        }
        let zone =
            self.rest.get(..6).filter(|zone| zone.as_bytes()[3] == b':').ok_or_else(|| self.bad(LAYOUT))?;
        let part = |at: usize| {
            let digits = zone.get(at..at + 2)?;
            digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<i64>().ok())?
        };
        let (hours, minutes) = part(1).zip(part(4)).ok_or_else(|| self.bad(LAYOUT))?;
        if hours > 24 {
            return Err(self.range("time zone offset hour out of range"));
        }
        if minutes > 60 {
            return Err(self.range("time zone offset minute out of range"));
        }
        let sign = match zone.as_bytes()[0] {
            b'+' => 1,
            b'-' => -1,
            _ => return Err(self.bad(LAYOUT)),
        };
        self.rest = &self.rest[6..];
        Ok(sign * (hours * 3600 + minutes * 60))
    }

    fn bad(&self, part: &str) -> String {
        let [text, layout, rest, part] = [self.text, self.layout, self.rest, part].map(quote);
        format!("parsing time {text} as {layout}: cannot parse {rest} as {part}")
    }

    fn range(&self, what: &str) -> String {
        format!("parsing time {}: {what}", quote(self.text))
    }
}

/// As Go's `time` package quotes: bytes that are not printable ASCII by their numbers.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            0x20..0x80 => out.push(char::from(byte)),
            byte => write!(out, "\\x{byte:02x}").expect("a string takes what is written"),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_utc() {
        let time = |text| canonical(text, false);
        assert_eq!(time("2020-01-01T00:00:00Z"), Ok("2020-01-01T00:00:00Z".into()));
        assert_eq!(time("2020-01-01T01:30:00.999+01:30"), Ok("2020-01-01T00:00:00Z".into()));
        assert_eq!(time("2020-01-01T1:30:00-00:30"), Ok("2020-01-01T02:00:00Z".into()));
        assert_eq!(time("0001-01-01T00:00:00Z"), Ok(Value::Null));
        assert_eq!(canonical("2020-01-01T00:00:00.123456Z", true), Ok("2020-01-01T00:00:00.123456Z".into()));
    }

    #[test]
    fn what_a_kube_apiserver_says_of_times() {
        let layout = r#"as "2006-01-02T15:04:05Z07:00""#;
        for (text, cause) in [
            ("x", format!(r#""x" {layout}: cannot parse "x" as "2006""#)),
            ("", format!(r#""" {layout}: cannot parse "" as "2006""#)),
            ("2020-01-01", format!(r#""2020-01-01" {layout}: cannot parse "" as "T""#)),
            ("2020-13-01T00:00:00Z", r#""2020-13-01T00:00:00Z": month out of range"#.to_owned()),
            ("2020-02-30T00:00:00Z", r#""2020-02-30T00:00:00Z": day out of range"#.to_owned()),
            (
                "2020-01-01T00:00:00",
                format!(r#""2020-01-01T00:00:00" {layout}: cannot parse "" as "Z07:00""#),
            ),
            ("2020-01-01T00:00:00ZZ", r#""2020-01-01T00:00:00ZZ": extra text: "Z""#.to_owned()),
            ("2020-01-01T25:00:00Z", r#""2020-01-01T25:00:00Z": hour out of range"#.to_owned()),
            (
                "2020-01-01T00:00:00+25:00",
                r#""2020-01-01T00:00:00+25:00": time zone offset hour out of range"#.to_owned(),
            ),
        ] {
            assert_eq!(canonical(text, false), Err(format!("parsing time {cause}")), "{text}");
        }
        let layout = r#"as "2006-01-02T15:04:05.000000Z07:00""#;
        for (text, cause) in [
            ("2020-01-01T00:00:00Z", r#"cannot parse "Z" as ".000000""#),
            ("2020-01-01T00:00:00.000Z", r#"cannot parse ".000Z" as ".000000""#),
            ("2020-01-01T00:00:00.1234567Z", r#"cannot parse "7Z" as "Z07:00""#),
        ] {
            assert_eq!(
                canonical(text, true),
                Err(format!("parsing time \"{text}\" {layout}: {cause}")),
                "{text}"
            );
        }
    }
}
