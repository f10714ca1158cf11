//! Reading a schedule.

use jiff::SignedDuration;

use crate::zone;

/// When something is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    pub(crate) times: Times,
    /// The time zone that the schedule itself names (`CRON_TZ=...`).
    pub(crate) zone: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Times {
    /// In every minute that is in all of the sets.
    At(Fields),
    /// Again and again after so long (`@every 1h30m`), of whole seconds.
    Every(SignedDuration),
}

/// The fields of a schedule: bit n of a set stands for the value n.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fields {
    /// 0 to 59.
    pub(crate) minute: u64,
    /// 0 to 23.
    pub(crate) hour: u64,
    /// Days of the month, 1 to 31.
    pub(crate) day: u64,
    /// 1 to 12.
    pub(crate) month: u64,
    /// Days of the week, 0 (Sunday) to 6.
    pub(crate) weekday: u64,
}

struct Field {
    least: u64,
    most: u64,
    names: &'static [&'static str],
}

const MINUTE: Field = Field { least: 0, most: 59, names: &[] };
const HOUR: Field = Field { least: 0, most: 23, names: &[] };
const DAY: Field = Field { least: 1, most: 31, names: &[] };
const MONTH: Field = Field {
    least: 1,
    most: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const WEEKDAY: Field = Field { least: 0, most: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

/// Set in a set that stands for "any": with it a day of the month and a day of the week both have to fit, without it one.
pub(crate) const ANY: u64 = 1 << 63;

impl Schedule {
    /// Reads a schedule.
    ///
    /// # Errors
    /// What is wrong with it, in the words of Kubernetes.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("empty spec string".to_owned());
        }
        let (zone, rest) = split_zone(text)?;
        let times = if rest.starts_with('@') { descriptor(rest)? } else { fields(rest)? };
        Ok(Self { times, zone })
    }
}

fn fields(text: &str) -> Result<Times, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = words[..] else {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", words.len(), words.join(" ")));
    };
    Ok(Times::At(Fields {
        minute: set(minute, &MINUTE)?,
        hour: set(hour, &HOUR)?,
        day: set(day, &DAY)?,
        month: set(month, &MONTH)?,
        weekday: set(weekday, &WEEKDAY)?,
    }))
}

fn split_zone(text: &str) -> Result<(Option<String>, &str), String> {
    if !text.starts_with("TZ=") && !text.starts_with("CRON_TZ=") {
        return Ok((None, text));
    }
    let Some((first, rest)) = text.split_once(' ') else {
        return Err("invalid schedule format: runtime error: slice bounds out of range [:-1]".to_owned());
    };
    let zone = first.split_once('=').map(|(_, zone)| zone).unwrap_or_default();
    zone::check(zone).map_err(|cause| format!("provided bad location {zone}: {cause}"))?;
    Ok((Some(zone.to_owned()), rest.trim()))
}

fn descriptor(text: &str) -> Result<Times, String> {
    if let Some(duration) = text.strip_prefix("@every ") {
        return every(duration).map(Times::Every);
    }
    let first = |field: &Field| 1 << field.least;
    let all = |field: &Field| bits(field.least, field.most, 1) | ANY;
    let (hour, day, month, weekday) = match text {
        "@yearly" | "@annually" => (first(&HOUR), first(&DAY), first(&MONTH), all(&WEEKDAY)),
        "@monthly" => (first(&HOUR), first(&DAY), all(&MONTH), all(&WEEKDAY)),
        "@weekly" => (first(&HOUR), all(&DAY), all(&MONTH), first(&WEEKDAY)),
        "@daily" | "@midnight" => (first(&HOUR), all(&DAY), all(&MONTH), all(&WEEKDAY)),
        "@hourly" => (all(&HOUR), all(&DAY), all(&MONTH), all(&WEEKDAY)),
        _ => return Err(format!("unrecognized descriptor: {text}")),
    };
    Ok(Times::At(Fields { minute: first(&MINUTE), hour, day, month, weekday }))
}

fn set(text: &str, field: &Field) -> Result<u64, String> {
    text.split(',').filter(|part| !part.is_empty()).try_fold(0, |all, part| Ok(all | range(part, field)?))
}

fn range(text: &str, field: &Field) -> Result<u64, String> {
    let parts: Vec<&str> = text.split('/').collect();
    let ends: Vec<&str> = parts[0].split('-').collect();
    let mut any = 0;
    let (start, mut end) = if matches!(ends[0], "*" | "?") {
        any = ANY;
        (field.least, field.most)
    } else {
        let start = value(ends[0], field)?;
        match ends[..] {
            [_] => (start, start),
            [_, end] => (start, value(end, field)?),
            _ => return Err(format!("too many hyphens: {text}")),
        }
    };
    let step = match parts[..] {
        [_] => 1,
        [_, step] => {
            let step = number(step)?;
            if ends.len() == 1 {
                end = field.most;
            }
            if step > 1 {
                any = 0;
            }
            step
        }
        _ => return Err(format!("too many slashes: {text}")),
    };
    if start < field.least {
        return Err(format!("beginning of range ({start}) below minimum ({}): {text}", field.least));
    }
    if end > field.most {
        return Err(format!("end of range ({end}) above maximum ({}): {text}", field.most));
    }
    if start > end {
        return Err(format!("beginning of range ({start}) beyond end of range ({end}): {text}"));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {text}"));
    }
    Ok(bits(start, end, step) | any)
}

fn bits(start: u64, end: u64, step: u64) -> u64 {
    let mut set = 0;
    let mut at = start;
    while at <= end {
        set |= 1 << at;
        at = at.saturating_add(step);
    }
    set
}

fn value(text: &str, field: &Field) -> Result<u64, String> {
    match field.names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
        Some(at) => Ok(at as u64 + field.least),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u64, String> {
    let refused =
        |cause: &str| format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: {cause}");
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refused("invalid syntax"));
    }
    let number: i64 = text.parse().map_err(|_| refused("value out of range"))?;
    u64::try_from(number).map_err(|_| format!("negative number ({number}) not allowed: {text}"))
}

/// A duration as Go writes them, `1h30m`, `1.5s`: of that whole seconds, and one at least.
fn every(text: &str) -> Result<SignedDuration, String> {
    let refused = |cause: String| format!("failed to parse duration @every {text}: time: {cause}");
    let invalid = || refused(format!("invalid duration {text:?}"));
    let (negative, mut rest) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    let second = SignedDuration::from_secs(1);
    if rest == "0" {
        return Ok(second);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut sum: f64 = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|byte: char| !byte.is_ascii_digit() && byte != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let unit_end = tail.find(|byte: char| byte.is_ascii_digit() || byte == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let nanoseconds = match unit {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            "" => return Err(refused(format!("missing unit in duration {text:?}"))),
            _ => return Err(refused(format!("unknown unit {unit:?} in duration {text:?}"))),
        };
        sum += number * nanoseconds;
        rest = tail;
    }
    // Go counts nanoseconds in 64 bits.
    let most = SignedDuration::from_nanos(i64::MAX).as_secs_f64();
    let whole = SignedDuration::try_from_secs_f64((sum / 1e9).floor()).map_err(|_| invalid())?;
    if sum / 1e9 >= most {
        return Err(invalid());
    }
    Ok(if negative { second } else { whole.max(second) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubernetes_says_of_wrong_schedules() {
        for (schedule, said) in [
            ("", "empty spec string"),
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("x * * * *", "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            ("@often", "unrecognized descriptor: @often"),
            ("TZ=UTC", "invalid schedule format: runtime error: slice bounds out of range [:-1]"),
        ] {
            assert_eq!(Schedule::parse(schedule), Err(said.to_owned()), "{schedule:?}");
        }
    }

    #[test]
    fn good_schedules() {
        let times = |text: &str| Schedule::parse(text).unwrap().times;
        let Times::At(fields) = times("*/15 8-10 1,15 jan-Mar MON") else { panic!("no fields") };
        assert_eq!(fields.minute, 1 | 1 << 15 | 1 << 30 | 1 << 45);
        assert_eq!(fields.hour, 0b111 << 8);
        assert_eq!(fields.day, 1 << 1 | 1 << 15);
        assert_eq!(fields.month, 0b1110);
        assert_eq!(fields.weekday, 0b10);
        assert_eq!(times("@every 1h30m"), Times::Every(SignedDuration::from_mins(90)));
        assert_eq!(times("@every 1.9s"), Times::Every(SignedDuration::from_secs(1)));
        for least in ["@every 10ms", "@every 0", "@every -5h"] {
            assert_eq!(times(least), Times::Every(SignedDuration::from_secs(1)), "{least}");
        }
        assert!(matches!(times("@hourly"), Times::At(fields) if fields.minute == 1));
        assert_eq!(Schedule::parse("TZ=UTC 1 2 3 4 5").unwrap().zone.as_deref(), Some("UTC"));
    }
}
