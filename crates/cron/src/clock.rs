//! The times that a schedule names.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Unit, Zoned};

use crate::Schedule;
use crate::schedule::{ANY, Fields, Times};
use crate::zone;

/// A schedule that names no time within so long names none.
const HORIZON: SignedDuration = SignedDuration::from_hours(24 * 366 * 5);

/// A schedule in a time zone.
#[derive(Clone, Debug)]
pub struct Clock {
    times: Times,
    zone: TimeZone,
}

impl Schedule {
    /// The schedule in a time zone: in `zone`, or the one that it names itself, or UTC.
    ///
    /// # Errors
    /// `unknown time zone x`, where the machine does not know it.
    pub fn clock(self, zone: Option<&str>) -> Result<Clock, String> {
        let zone = zone::load(zone.or(self.zone.as_deref()).unwrap_or_default())?;
        Ok(Clock { times: self.times, zone })
    }
}

fn is_in(set: u64, value: i8) -> bool {
    set >> value & 1 == 1
}

impl Clock {
    /// The first time after `after`, if there is one at all.
    #[must_use]
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let fields = match &self.times {
            Times::Every(wait) => {
                let whole = Timestamp::from_second(after.as_second()).ok()?;
                return whole.checked_add(*wait).ok();
            }
            Times::At(fields) => fields,
        };
        let begun = Timestamp::from_second((after.as_second().div_euclid(60) + 1) * 60).ok()?;
        // Kubernetes takes a list without anything in it, such as `,`: it names no minute to look for.
        let Fields { minute, hour, day, month, weekday } = *fields;
        if [minute, hour, day, month, weekday].iter().any(|set| set & !ANY == 0) {
            return None;
        }
        let mut at = begun.to_zoned(self.zone.clone());
        let end = begun.checked_add(HORIZON).ok()?;
        while at.timestamp() < end {
            if !is_day(fields, at.date()) {
                at = at.tomorrow().ok()?.start_of_day().ok()?;
            } else if !is_in(fields.hour, at.hour()) {
                // The clock may be set forward or back meanwhile: what is counted is the time that passes.
                at = later(&at, 60 - i64::from(at.minute()))?;
            } else if !is_in(fields.minute, at.minute()) {
                at = later(&at, 1)?;
            } else {
                return Some(at.timestamp());
            }
        }
        None
    }

    /// The last time that is after `since` and not after `now`, and how many there are, a hundred and one at most.
    #[must_use]
    pub fn missed(&self, since: Timestamp, now: Timestamp) -> Option<(Timestamp, usize)> {
        if let Times::Every(wait) = &self.times {
            // From the first to the last, not from anywhere between them.
            let passed = now.as_second().saturating_sub(since.as_second()) / wait.as_secs().max(1);
            let last = Timestamp::from_second(since.as_second() + passed * wait.as_secs()).ok()?;
            return (passed > 0).then(|| (last, usize::try_from(passed).map_or(101, |count| count.min(101))));
        }
        let from = |begin: Timestamp| {
            std::iter::successors(self.next(begin), |at| self.next(*at)).take_while(|at| *at <= now)
        };
        let count = from(since).take(101).count();
        // Of a long time only the end is walked through.
        let ends = [1, 24, 24 * 32, 24 * 370].map(SignedDuration::from_hours);
        let near =
            ends.into_iter().filter_map(|span| now.checked_sub(span).ok()).filter(|begin| *begin > since);
        let last = near.chain([since]).find_map(|begin| from(begin).last())?;
        Some((last, count))
    }
}

/// Of a day of the month and a day of the week both said, one is enough.
fn is_day(fields: &Fields, date: Date) -> bool {
    let of_month = is_in(fields.day, date.day());
    let of_week = is_in(fields.weekday, date.weekday().to_sunday_zero_offset());
    let either = (fields.day | fields.weekday) & ANY == 0;
    is_in(fields.month, date.month()) && if either { of_month || of_week } else { of_month && of_week }
}

fn later(at: &Zoned, minutes: i64) -> Option<Zoned> {
    at.checked_add(SignedDuration::from_mins(minutes)).ok()?.round(Unit::Minute).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn clock(schedule: &str, zone: Option<&str>) -> Result<Clock, String> {
        Schedule::parse(schedule)?.clock(zone)
    }

    fn next(schedule: &str, after: &str) -> String {
        clock(schedule, None).unwrap().next(at(after)).map(|at| at.to_string()).unwrap_or_default()
    }

    #[test]
    fn the_next_time_is_the_first_that_fits() {
        let cases = [
            ("* * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"),
            (", * * * *", "2026-01-01T00:00:00Z", ""),
            ("0 , * * *", "2026-01-01T00:00:00Z", ""),
            ("0 0 , * *", "2026-01-01T00:00:00Z", ""),
            ("0 0 30 2 *", "2026-01-01T00:00:00Z", ""),
            ("* * * * *", "2026-01-01T00:00:59.9Z", "2026-01-01T00:01:00Z"),
            ("*/15 3 * * *", "2026-01-01T03:46:00Z", "2026-01-02T03:00:00Z"),
            ("0 9-17/4 * * mon-fri", "2026-11-27T17:00:00Z", "2026-11-30T09:00:00Z"),
            ("30 4 1,15 * 5", "2026-01-02T04:30:00Z", "2026-01-09T04:30:00Z"),
            ("0 0 29 FEB *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("@monthly", "2026-01-31T10:00:00Z", "2026-02-01T00:00:00Z"),
            ("@every 1h30m", "2026-01-01T00:00:00.5Z", "2026-01-01T01:30:00Z"),
            ("5/20 * * * ?", "2026-01-01T00:25:00Z", "2026-01-01T00:45:00Z"),
            // Of a day of the month and a day of the week both said: each of them.
            ("0 0 */2 * mon", "2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z"),
            ("0 0 */2 * mon", "2026-01-03T00:00:00Z", "2026-01-05T00:00:00Z"),
            ("0 0 */2 * mon", "2026-01-11T00:00:00Z", "2026-01-12T00:00:00Z"),
            ("0 0 */1 * mon", "2026-01-01T00:00:00Z", "2026-01-05T00:00:00Z"),
            ("0 0 1 * */2", "2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z"),
        ];
        for (schedule, after, then) in cases {
            assert_eq!(next(schedule, after), then, "{schedule} after {after}");
        }
    }

    #[test]
    fn a_time_zone_has_its_clock() {
        let Ok(berlin) = clock("30 2 * * *", Some("Europe/Berlin")) else {
            assert!(
                !std::path::Path::new("/usr/share/zoneinfo").exists(),
                "zones are there and cannot be read"
            );
            return;
        };
        assert_eq!(berlin.next(at("2026-01-01T00:00:00Z")), Some(at("2026-01-01T01:30:00Z")));
        // On the 29th of March there is no half past two.
        assert_eq!(berlin.next(at("2026-03-28T02:00:00Z")), Some(at("2026-03-30T00:30:00Z")));
        assert!(clock("* * * * *", Some("../etc/passwd")).is_err());
    }

    #[test]
    fn of_what_was_missed_the_last_is_told() {
        let hourly = clock("0 * * * *", None).unwrap();
        let now = at("2026-06-01T12:30:00Z");
        assert_eq!(hourly.missed(at("2026-06-01T09:00:00Z"), now), Some((at("2026-06-01T12:00:00Z"), 3)));
        assert_eq!(hourly.missed(at("2020-06-01T09:00:00Z"), now), Some((at("2026-06-01T12:00:00Z"), 101)));
        assert_eq!(hourly.missed(at("2026-06-01T12:00:00Z"), now), None);
        let often = clock("@every 50m", None).unwrap();
        assert_eq!(often.missed(at("2026-06-01T09:30:00Z"), now), Some((at("2026-06-01T12:00:00Z"), 3)));
        assert_eq!(often.missed(at("2026-06-01T11:40:00.5Z"), now), Some((now, 1)));
        assert_eq!(often.missed(at("2026-06-01T11:40:01Z"), now), None);
        assert_eq!(often.missed(now, at("2026-06-01T09:00:00Z")), None);
        let yearly = clock("@yearly", None).unwrap();
        assert_eq!(yearly.missed(at("2020-06-01T09:00:00Z"), now), Some((at("2026-01-01T00:00:00Z"), 6)));
    }

    proptest! {
        #[test]
        fn nothing_is_skipped(minute in 0..60_u32, hour in 0..24_u32, after in 1_700_000_000..1_900_000_000_i64) {
            let schedule = clock(&format!("{minute} {hour} * * *"), None).unwrap();
            let after = Timestamp::from_second(after).unwrap();
            let next = schedule.next(after).unwrap();
            prop_assert!(next > after && next.duration_since(after) <= SignedDuration::from_hours(24));
            let local = next.to_zoned(TimeZone::UTC);
            prop_assert_eq!((local.minute(), local.hour(), local.second()), (minute as i8, hour as i8, 0));
        }
    }
}
