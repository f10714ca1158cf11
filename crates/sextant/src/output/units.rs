use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes as people say them: 1.2 GB (powers of 1000).
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let (mut value, mut unit) = (n as f64, 0);
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    match unit {
        0 => format!("{n} B"),
        _ if value < 9.95 => format!("{value:.1} {}", UNITS[unit]),
        _ => format!("{value:.0} {}", UNITS[unit]),
    }
}

/// A size as people type it: 512, 64k, 1.5g, 10Gi (powers of 1024, as other container tools have it).
pub(crate) fn parse_bytes(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let lower = lower.strip_suffix('b').unwrap_or(&lower);
    // Only a unit is of powers of 1024: "512i" is a slip.
    let (unit, is_binary) = lower.strip_suffix('i').map_or((lower, false), |unit| (unit, true));
    let (number, shift) = match unit.as_bytes().last()? {
        b'k' => (&unit[..unit.len() - 1], 10),
        b'm' => (&unit[..unit.len() - 1], 20),
        b'g' => (&unit[..unit.len() - 1], 30),
        b't' => (&unit[..unit.len() - 1], 40),
        _ if is_binary => return None,
        _ => (unit, 0),
    };
    let number: f64 = number.parse().ok()?;
    let value = number * (1_u64 << shift) as f64;
    (number.is_finite() && number >= 0.0 && value < i64::MAX as f64).then_some(value as u64)
}

/// How long ago, roughly: "5 minutes".
pub(crate) fn ago(seconds: u64) -> String {
    let (count, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        86_400..1_209_600 => (seconds / 86_400, "day"),
        _ => (seconds / 604_800, "week"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// RFC 3339 in UTC, to the second.
pub(crate) fn timestamp(seconds: u64) -> String {
    let text = shim::timestamp(UNIX_EPOCH + Duration::from_secs(seconds));
    format!("{}Z", &text[..19])
}

/// A point in time as people type it: RFC 3339 in UTC (or the beginning of it: a day), or an age ("90s", "10m", "2h", "3d"). The answer is comparable with the
/// times in a log, which are RFC 3339 in UTC.
pub(crate) fn since(text: &str) -> Option<String> {
    if text.as_bytes().get(4) == Some(&b'-') {
        // Other offsets would compare as text, and wrongly.
        let (day, time) = text.split_once('T').unwrap_or((text, ""));
        let digits =
            |text: &str, other: &[char]| text.chars().all(|c| c.is_ascii_digit() || other.contains(&c));
        let utc = time.is_empty() || time.ends_with('Z');
        return (utc && digits(day, &['-']) && digits(time, &[':', '.', 'Z'])).then(|| text.to_owned());
    }
    let unit = text.chars().last()?;
    let count: u64 = text.strip_suffix(unit)?.parse().ok()?;
    let seconds = match unit {
        's' => count,
        'm' => count.checked_mul(60)?,
        'h' => count.checked_mul(3600)?,
        'd' => count.checked_mul(86_400)?,
        _ => return None,
    };
    Some(shim::timestamp(SystemTime::now().checked_sub(Duration::from_secs(seconds))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_both_ways() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_500_000), "1.5 MB");
        assert_eq!(bytes(999_999), "1.0 MB");
        assert_eq!(bytes(123_456_789_000), "123 GB");
        assert_eq!(parse_bytes("64m"), Some(64 << 20));
        assert_eq!(parse_bytes("1.5GiB"), Some(3 << 29));
        assert_eq!(parse_bytes("10Gi"), Some(10 << 30));
        assert_eq!(parse_bytes("512"), Some(512));
        assert_eq!(parse_bytes("500Mi"), parse_bytes("500MB"));
        assert_eq!(parse_bytes("512B"), Some(512));
        for bad in ["", "m", "-1", "12x", "nan", "1e30", "512i", "512iB", "i", "b", "1bi"] {
            assert_eq!(parse_bytes(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn ages_are_rough() {
        assert_eq!(ago(1), "1 second");
        assert_eq!(ago(7300), "2 hours");
        assert_eq!(ago(15 * 86_400), "2 weeks");
        assert!(since("10m").unwrap() < since("1s").unwrap());
        assert_eq!(since("10x"), None);
        assert!(since("2026-01-31").is_some() && since("2026-01-31T10:00:00.5Z").is_some());
        assert_eq!(since("2026-01-31T10:00:00+02:00"), None);
        assert_eq!(since("2026-month"), None);
    }
}
