//! When to try again, and after how long.

use std::time::{Duration, SystemTime};

use ureq::http::HeaderMap;

use super::Patience;

/// Statuses that pass: too many requests, and a server or gateway in trouble.
pub(super) fn is_transient_status(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

/// `Retry-After`, in seconds or as a date (RFC 9110, 10.2.3).
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("retry-after")?.to_str().ok()?.trim();
    match text.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            let moment = http_date(text)?;
            Some(moment.duration_since(SystemTime::now()).unwrap_or_default())
        }
    }
}

/// How long to wait before the next try; `None` when there is none.
pub(super) fn pause(patience: &Patience, attempt: u32, asked: Option<Duration>) -> Option<Duration> {
    if attempt + 1 >= patience.attempts || asked.is_some_and(|asked| asked > patience.retry_after_max) {
        return None;
    }
    let backoff = patience.backoff * 2u32.saturating_pow(attempt.min(10));
    Some(asked.unwrap_or_default().max(backoff).min(patience.retry_after_max))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(text: &str) -> Option<SystemTime> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<_> = text.split([' ', ':']).collect();
    let [_, day, month, year, hour, minute, second, "GMT"] = words.as_slice() else { return None };
    let month = MONTHS.iter().position(|name| name == month)? as i64 + 1;
    let [day, year] = [day, year].map(|word| word.parse::<i64>().ok().filter(|n| (0..=9999).contains(n)));
    let [hour, minute, second] =
        [hour, minute, second].map(|word| word.parse::<u64>().ok().filter(|n| *n <= 60));
    // Days from 1970-01-01 in the proleptic Gregorian calendar (Hinnant's days_from_civil).
    let (day, year) = (day?, year? - i64::from(month <= 2));
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let seconds = u64::try_from(days).ok()? * 86_400 + hour? * 3600 + minute? * 60 + second?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_seconds() {
        let at = |text| http_date(text).and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        assert_eq!(at("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(784_111_777)));
        assert_eq!(at("Thu, 29 Feb 2024 00:00:00 GMT"), Some(Duration::from_secs(1_709_164_800)));
        for bad in [
            "",
            "Sun, 06 Nov 1994",
            "x, 99999999999999999999 Nov 1994 08:49:37 GMT",
            "Sun, 6 Foo 1994 8:49:37 GMT",
        ] {
            assert_eq!(at(bad), None, "{bad}");
        }
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", "7".parse().unwrap());
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(7)));
        headers.insert("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT".parse().unwrap());
        assert_eq!(retry_after(&headers), Some(Duration::ZERO));
    }

    #[test]
    fn pauses_grow_and_end() {
        let patience = Patience { attempts: 3, ..Patience::default() };
        assert_eq!(pause(&patience, 0, None), Some(patience.backoff));
        assert_eq!(pause(&patience, 1, None), Some(patience.backoff * 2));
        assert_eq!(pause(&patience, 2, None), None);
        assert_eq!(pause(&patience, 0, Some(Duration::from_secs(5))), Some(Duration::from_secs(5)));
        assert_eq!(pause(&patience, 0, Some(Duration::from_secs(3600))), None);
    }
}
