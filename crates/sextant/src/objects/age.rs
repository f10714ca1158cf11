use std::time::{SystemTime, UNIX_EPOCH};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{number, text};

/// How long ago a time of an object was, in seconds; none where it has no such time.
fn seconds_since(time: &str) -> Option<u64> {
    let then = time.parse::<Timestamp>().ok()?.as_second();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Some(now.saturating_sub(u64::try_from(then).unwrap_or_default()))
}

/// How long ago somebody asked for an object's end. The time that it has for that is the one at which it has to be over.
pub(crate) fn asked_to_end(object: &Value) -> String {
    let grace = SignedDuration::from_secs(number(object, "/metadata/deletionGracePeriodSeconds"));
    let end = text(object, "/metadata/deletionTimestamp").parse::<Timestamp>().ok();
    let asked = end.and_then(|end| end.checked_sub(grace).ok());
    age(&asked.map(|time| time.to_string()).unwrap_or_default())
}

/// As kubectl tells it: `5s`, `3m20s`, `4d`.
pub(crate) fn age(time: &str) -> String {
    seconds_since(time).map_or_else(|| "<unknown>".into(), short)
}

fn short(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |big: u64, unit: char, small: u64, below: char| match small {
        0 => format!("{big}{unit}"),
        small => format!("{big}{unit}{small}{below}"),
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, 'm', seconds % 60, 's'),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, 'h', minutes % 60, 'm'),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, 'd', hours % 24, 'h'),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_end_was_asked_for_before_the_time_that_was_given_for_it() {
        let now = Timestamp::now();
        let at = |seconds: i64| (now + SignedDuration::from_secs(seconds)).to_string();
        let deleted = |time: String, grace: i64| {
            asked_to_end(
                &json!({"metadata": {"deletionTimestamp": time, "deletionGracePeriodSeconds": grace}}),
            )
        };
        assert_eq!(deleted(at(-20_000), 0), "5h33m");
        assert_eq!(deleted(at(-20_000 + 3600), 3600), "5h33m");
        assert_eq!(deleted(at(600), 20_600), "5h33m");
        assert_eq!(deleted("never".into(), i64::MAX), "<unknown>");
    }

    #[test]
    fn ages_are_as_exact_as_they_are_short() {
        let told = [
            (5, "5s"),
            (119, "119s"),
            (125, "2m5s"),
            (180, "3m"),
            (700, "11m"),
            (11_000, "3h3m"),
            (200_000, "2d7h"),
        ];
        for (seconds, text) in told {
            assert_eq!(short(seconds), text);
        }
        assert_eq!(age("never"), "<unknown>");
        assert!(seconds_since("2026-01-01T00:00:00Z").is_some_and(|seconds| seconds > 0));
    }
}
