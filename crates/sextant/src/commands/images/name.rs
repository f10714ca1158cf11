//! How an image's name and age look.

use std::time::{SystemTime, UNIX_EPOCH};

use oci_image::reference::Reference;

use crate::output;

/// What stands where there is no name or no tag.
pub(super) const NONE: &str = "<none>";

/// Name and tag as people know them: `busybox` and `1.36`. A name by digest has no tag, and an image may have neither.
pub(super) fn familiar(name: Option<&str>) -> (String, String) {
    let Some(name) = name else { return (NONE.to_owned(), NONE.to_owned()) };
    let Ok(reference) = Reference::parse(name) else { return (name.to_owned(), NONE.to_owned()) };
    let tag = reference.tag().unwrap_or(NONE).to_owned();
    let short = reference.with_tag("x").map(|r| r.familiar()).unwrap_or_else(|_| reference.familiar());
    (short.strip_suffix(":x").unwrap_or(&short).to_owned(), tag)
}

/// How long ago, roughly, an RFC 3339 time was; `-` if it is not known. Reproducible images say 1970.
pub(super) fn age(created: Option<&str>) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    match created.and_then(seconds) {
        None | Some(i64::MIN..=0) => "-".to_owned(),
        Some(then) => output::ago(now.saturating_sub(then.unsigned_abs())),
    }
}

/// Seconds since 1970 of an RFC 3339 time.
fn seconds(text: &str) -> Option<i64> {
    let field = |range: std::ops::Range<usize>, least: i64, most: i64| {
        let digits = text.get(range).filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?;
        digits.parse::<i64>().ok().filter(|n| (least..=most).contains(n))
    };
    let separators = [(4, "-"), (7, "-"), (13, ":"), (16, ":")];
    if !separators.iter().all(|(at, mark)| text.get(*at..at + 1) == Some(*mark)) {
        return None;
    }
    if !matches!(text.get(10..11)?, "T" | "t" | " ") {
        return None;
    }
    let (year, month, day) = (field(0..4, 0, 9999)?, field(5..7, 1, 12)?, field(8..10, 1, 31)?);
    let (hour, minute, second) = (field(11..13, 0, 23)?, field(14..16, 0, 59)?, field(17..19, 0, 60)?);
    let fraction =
        text.get(19..)?.strip_prefix('.').map_or(0, |f| 1 + f.bytes().take_while(u8::is_ascii_digit).count());
    let zone = 19 + fraction;
    let offset = match text.get(zone..zone + 1)? {
        "Z" | "z" => 0,
        sign @ ("+" | "-") => {
            let minutes = field(zone + 1..zone + 3, 0, 23)? * 60 + field(zone + 4..zone + 6, 0, 59)?;
            if sign == "+" { minutes * 60 } else { -minutes * 60 }
        }
        _ => return None,
    };
    Some(days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset)
}

/// Days from 1970-01-01 in the Gregorian calendar (years begin in March, so that a leap day comes last).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_familiar() {
        let familiar = |name: Option<&str>| {
            let (name, tag) = familiar(name);
            format!("{name} {tag}")
        };
        let digest = format!("sha256:{}", "a".repeat(64));
        assert_eq!(familiar(Some("docker.io/library/busybox:1.36")), "busybox 1.36");
        assert_eq!(familiar(Some("docker.io/me/tool:latest")), "me/tool latest");
        assert_eq!(familiar(Some("127.0.0.1:5000/x:1")), "127.0.0.1:5000/x 1");
        assert_eq!(familiar(Some(&format!("quay.io/x@{digest}"))), "quay.io/x <none>");
        assert_eq!(familiar(None), "<none> <none>");
    }

    #[test]
    fn times_are_read() {
        assert_eq!(seconds("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(seconds("2024-02-29T23:59:59.123456789Z"), Some(1_709_251_199));
        assert_eq!(seconds("2024-03-01T01:29:59+01:30"), Some(1_709_251_199));
        assert_eq!(seconds("1969-12-31T23:59:59Z"), Some(-1));
        for bad in [
            "",
            "2024",
            "2024-13-01T00:00:00Z",
            "2024-01-01T00:00:00",
            "2024-01-01T00:00:00.5",
            "2024-01-01T00:00:00é",
        ] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
        assert_eq!(age(Some("1970-01-01T00:00:00Z")), "-");
        assert_eq!(age(None), "-");
    }
}
