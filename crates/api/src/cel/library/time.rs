//! Timestamps and durations.

use crate::cel::eval::{Failure, Outcome};
use crate::cel::value::Value;
use jiff::civil::Date;
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp, Zoned};

/// The first second of the year 1: no time is before it.
const FIRST: i64 = -62_135_596_800;

/// A Go duration (`1h2m3.5s`) in nanoseconds.
pub(crate) fn duration(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.as_bytes().first()? {
        b'-' => (-1_i128, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0_i128;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let unit: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        total = total.checked_add(scaled(number, unit)?)?;
        rest = after;
    }
    i64::try_from(sign * total).ok()
}

/// A decimal number times a unit.
fn scaled(number: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || whole.len() > 19 || fraction.contains('.') {
        return None;
    }
    let mut out = if whole.is_empty() { 0 } else { whole.parse::<i128>().ok()?.checked_mul(unit)? };
    let mut place = unit;
    for digit in fraction.bytes() {
        place /= 10;
        out += i128::from(digit - b'0') * place;
    }
    Some(out)
}

/// An RFC 3339 time.
pub(crate) fn timestamp(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let strict =
        bytes.len() >= 20 && matches!(bytes[10], b'T' | b't') && bytes[4] == b'-' && bytes[13] == b':';
    // Jiff reads more than RFC 3339, such as annotations in brackets.
    let zoned = text.ends_with(['Z', 'z']) || text.get(text.len().checked_sub(6)?..)?.starts_with(['+', '-']);
    (strict && zoned).then(|| text.parse().ok()).flatten()
}

/// Whether a time so many seconds after the beginning of 1970 can be told.
pub(crate) fn is_in_range(seconds: i64) -> bool {
    Timestamp::from_second(seconds).is_ok()
}

/// A date, as its first moment in UTC.
pub(crate) fn date(text: &str) -> Option<Timestamp> {
    if text.len() != 10 {
        return None;
    }
    let date: Date = text.parse().ok()?;
    Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// A duration as `string(duration)` writes it: seconds.
pub(crate) fn seconds_text(nanos: i64) -> String {
    let (whole, rest) = (nanos / 1_000_000_000, (nanos % 1_000_000_000).unsigned_abs());
    let sign = if nanos < 0 && whole == 0 { "-" } else { "" };
    if rest == 0 {
        return format!("{whole}s");
    }
    let fraction = format!("{rest:09}");
    format!("{sign}{whole}.{}s", fraction.trim_end_matches('0'))
}

/// A function of this library.
pub(crate) fn call<'a>(function: &str, args: &[Value<'a>]) -> Option<Outcome<'a>> {
    Some(match (function, args) {
        ("duration", [Value::String(text)]) => match duration(text) {
            Some(nanos) => Ok(Value::Duration(nanos)),
            None => Err(Failure::new("type conversion error from 'string' to 'google.protobuf.Duration'")),
        },
        ("duration", [Value::Duration(nanos) | Value::Int(nanos)]) => Ok(Value::Duration(*nanos)),
        ("timestamp", [Value::String(text)]) => match timestamp(text) {
            Some(time) => Ok(Value::Timestamp(time)),
            None => Err(Failure::new("type conversion error from 'string' to 'google.protobuf.Timestamp'")),
        },
        ("timestamp", [Value::Timestamp(time)]) => Ok(Value::Timestamp(*time)),
        ("timestamp", [Value::Int(seconds)]) => {
            Timestamp::from_second(*seconds).map(Value::Timestamp).map_err(|_| overflow())
        }
        ("_+_", [Value::Timestamp(time), Value::Duration(nanos)])
        | ("_+_", [Value::Duration(nanos), Value::Timestamp(time)]) => shifted(*time, Some(*nanos)),
        ("_-_", [Value::Timestamp(time), Value::Duration(nanos)]) => shifted(*time, nanos.checked_neg()),
        ("_-_", [Value::Timestamp(a), Value::Timestamp(b)]) => i64::try_from(a.duration_since(*b).as_nanos())
            .map(Value::Duration)
            .map_err(|_| duration_overflow()),
        ("_+_", [Value::Duration(a), Value::Duration(b)]) => {
            a.checked_add(*b).map(Value::Duration).ok_or_else(duration_overflow)
        }
        ("_-_", [Value::Duration(a), Value::Duration(b)]) => {
            a.checked_sub(*b).map(Value::Duration).ok_or_else(duration_overflow)
        }
        (_, [Value::Duration(nanos)]) => return part_of_duration(function, *nanos),
        (_, [Value::Timestamp(time)]) => return part_of_time(function, &time.to_zoned(TimeZone::UTC)),
        (_, [Value::Timestamp(time), Value::String(zone)]) => match zone_named(zone) {
            Some(zone) => return part_of_time(function, &time.to_zoned(zone)),
            None => Err(Failure::new(format!("unknown time zone {}", &**zone))),
        },
        _ => return None,
    })
}

fn overflow() -> Failure {
    Failure::new("timestamp overflow")
}

fn duration_overflow() -> Failure {
    Failure::new("duration overflow")
}

fn shifted<'a>(time: Timestamp, nanos: Option<i64>) -> Outcome<'a> {
    nanos
        .and_then(|nanos| time.checked_add(SignedDuration::from_nanos(nanos)).ok())
        .filter(|time| time.as_second() >= FIRST)
        .map(Value::Timestamp)
        .ok_or_else(overflow)
}

/// `America/New_York`, or `+02:00`.
fn zone_named(name: &str) -> Option<TimeZone> {
    let (sign, rest) = match name.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, name.strip_prefix('+').unwrap_or(name)),
    };
    if let Some((hours, minutes)) = rest.split_once(':') {
        let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
        let seconds = hours.checked_mul(3600)?.checked_add(minutes.checked_mul(60)?)?;
        return Some(TimeZone::fixed(Offset::from_seconds(sign * seconds).ok()?));
    }
    if name == "UTC" { Some(TimeZone::UTC) } else { TimeZone::get(name).ok() }
}

fn part_of_duration<'a>(function: &str, nanos: i64) -> Option<Outcome<'a>> {
    let value = match function {
        "getHours" => nanos / 3_600_000_000_000,
        "getMinutes" => nanos / 60_000_000_000,
        "getSeconds" => nanos / 1_000_000_000,
        "getMilliseconds" => nanos / 1_000_000,
        _ => return None,
    };
    Some(Ok(Value::Int(value)))
}

fn part_of_time<'a>(function: &str, time: &Zoned) -> Option<Outcome<'a>> {
    let value = match function {
        "getFullYear" => i64::from(time.year()),
        "getMonth" => i64::from(time.month()) - 1,
        "getDayOfYear" => i64::from(time.day_of_year()) - 1,
        "getDate" => i64::from(time.day()),
        "getDayOfMonth" => i64::from(time.day()) - 1,
        "getDayOfWeek" => i64::from(time.weekday().to_sunday_zero_offset()),
        "getHours" => i64::from(time.hour()),
        "getMinutes" => i64::from(time.minute()),
        "getSeconds" => i64::from(time.second()),
        "getMilliseconds" => i64::from(time.millisecond()),
        _ => return None,
    };
    Some(Ok(Value::Int(value)))
}
