//! The header `grpc-timeout`: how long the caller waits.

use std::time::Duration;

/// The time in a `grpc-timeout`: at most eight digits and a unit; anything else is no timeout.
#[must_use]
pub fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// A `grpc-timeout` of this time, in the finest unit that eight digits suffice for.
#[must_use]
pub fn format(timeout: Duration) -> String {
    let units = [("n", 1), ("u", 1_000), ("m", 1_000_000), ("S", 1_000_000_000)];
    let nanoseconds = timeout.as_nanos();
    for (unit, size) in units {
        if nanoseconds / size < 100_000_000 {
            return format!("{}{unit}", nanoseconds / size);
        }
    }
    "99999999S".into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_timeout_is_none() {
        for text in ["", "S", "1", "1s", "-1S", "123456789n", "1ä", "\u{e4}"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(parse("1m"), Some(Duration::from_millis(1)));
    }

    proptest! {
        #[test]
        fn eight_digits_are_kept(nanoseconds in 0u64..100_000_000_000_000_000) {
            let timeout = Duration::from_nanos(nanoseconds);
            let read = parse(&format(timeout)).unwrap();
            prop_assert!(read <= timeout && timeout - read <= timeout / 100_000, "{read:?}");
        }
    }
}
