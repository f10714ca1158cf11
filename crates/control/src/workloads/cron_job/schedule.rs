//! Schedules in the notation of crontab(5), and the times they name.

use k8s_openapi::jiff::civil::Date;
use k8s_openapi::jiff::tz::TimeZone;
use k8s_openapi::jiff::{SignedDuration, Timestamp, Unit, Zoned};

/// Where systems keep what they know of time zones.
const ZONES: [&str; 3] = ["/usr/share/zoneinfo", "/usr/share/lib/zoneinfo", "/etc/zoneinfo"];
/// A schedule that names no time within so many days names none.
const HORIZON: usize = 5 * 366;

/// When something is to be done.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    times: Times,
    zone: TimeZone,
}

#[derive(Clone, Debug, PartialEq)]
enum Times {
    /// In every minute that all of it names; bit n stands for n.
    At { minute: u64, hour: u64, day: u64, month: u64, weekday: u64, either: bool },
    /// After so long again and again.
    Every(SignedDuration),
}

impl Schedule {
    /// Reads a schedule; without a zone, and without one of its own, it is of UTC.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str, zone: Option<&str>) -> Result<Self, String> {
        let (own, rest) = match text.strip_prefix("CRON_TZ=").or_else(|| text.strip_prefix("TZ=")) {
            Some(rest) => {
                rest.split_once(' ').map(|(zone, rest)| (Some(zone), rest.trim())).unwrap_or((Some(rest), ""))
            }
            None => (None, text.trim()),
        };
        Ok(Self { times: times(rest)?, zone: zone.or(own).map_or(Ok(TimeZone::UTC), load)? })
    }

    /// The first time after `after`, if there is one at all.
    pub(super) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let (minute, hour) = match &self.times {
            Times::Every(wait) => {
                let whole = Timestamp::from_second(after.as_second()).ok()?;
                return whole.checked_add(*wait).ok();
            }
            Times::At { minute, hour, .. } => (*minute, *hour),
        };
        let is_in = |set: u64, value: i8| set >> value & 1 == 1;
        let begun = Timestamp::from_second((after.as_second().div_euclid(60) + 1) * 60).ok()?;
        let mut at = begun.to_zoned(self.zone.clone());
        let mut days = 0;
        while days < HORIZON {
            if !self.is_day(at.date()) {
                days += 1;
                at = at.tomorrow().ok()?.start_of_day().ok()?;
            } else if !is_in(hour, at.hour()) {
                // The clock may be set forward or back meanwhile: what is counted is the time that passes.
                at = later(&at, 60 - i64::from(at.minute()))?;
            } else if !is_in(minute, at.minute()) {
                at = later(&at, 1)?;
            } else {
                return Some(at.timestamp());
            }
        }
        None
    }

    fn is_day(&self, date: Date) -> bool {
        let Times::At { day, month, weekday, either, .. } = &self.times else { return true };
        let is_in = |set: u64, value: i8| set >> value & 1 == 1;
        let of_month = is_in(*day, date.day());
        let of_week = is_in(*weekday, date.weekday().to_sunday_zero_offset());
        is_in(*month, date.month()) && if *either { of_month || of_week } else { of_month && of_week }
    }

    /// The last time that is after `since` and not after `now`, and how many there are, a hundred and one at most.
    pub(super) fn missed(&self, since: Timestamp, now: Timestamp) -> Option<(Timestamp, usize)> {
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

    /// A time as people in its zone write it.
    pub(super) fn local(&self, at: Timestamp) -> Zoned {
        at.to_zoned(self.zone.clone())
    }
}

fn later(at: &Zoned, minutes: i64) -> Option<Zoned> {
    at.checked_add(SignedDuration::from_mins(minutes)).ok()?.round(Unit::Minute).ok()
}

fn load(name: &str) -> Result<TimeZone, String> {
    if name == "UTC" {
        return Ok(TimeZone::UTC);
    }
    let unknown = || format!("unknown time zone {name}");
    if name.split('/').any(|part| part.is_empty() || part.starts_with('.')) {
        return Err(unknown());
    }
    let data = ZONES.iter().find_map(|folder| std::fs::read(format!("{folder}/{name}")).ok());
    TimeZone::tzif(name, &data.ok_or_else(unknown)?).map_err(|error| format!("{}: {error}", unknown()))
}

const MONTHS: &str = "jan feb mar apr may jun jul aug sep oct nov dec";
const DAYS: &str = "sun mon tue wed thu fri sat";

fn times(text: &str) -> Result<Times, String> {
    let text = match text {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        other => other,
    };
    if let Some(wait) = text.strip_prefix("@every ") {
        return every(wait.trim()).map(Times::Every);
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = fields[..] else {
        return Err(format!("expected exactly 5 fields, found {}: {text:?}", fields.len()));
    };
    // Where both say something, one of the two is enough.
    let is_any = |field: &str| {
        field.split(',').any(|part| matches!(part.strip_suffix("/1").unwrap_or(part), "*" | "?"))
    };
    Ok(Times::At {
        minute: set(minute, 0, 59, "")?,
        hour: set(hour, 0, 23, "")?,
        day: set(day, 1, 31, "")?,
        month: set(month, 1, 12, MONTHS)?,
        weekday: set(weekday, 0, 6, DAYS)?,
        either: !is_any(day) && !is_any(weekday),
    })
}

/// A duration as Go writes it, of whole seconds, one at least.
fn every(text: &str) -> Result<SignedDuration, String> {
    let wrong = || format!("cannot read the duration {text:?}");
    let (mut rest, mut total) = (text, 0.0);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..end].parse().map_err(|_| wrong())?;
        rest = &rest[end..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let scale = match &rest[..unit] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            _ => return Err(wrong()),
        };
        total += number * scale;
        rest = &rest[unit..];
    }
    let wait = SignedDuration::try_from_secs_f64(total.floor()).map_err(|_| wrong())?;
    Ok(wait.max(SignedDuration::from_secs(1)))
}

/// One field: `*`, numbers, names, ranges, steps, and several of these.
fn set(field: &str, least: u32, most: u32, names: &str) -> Result<u64, String> {
    let mut all = 0;
    for part in field.split(',') {
        let wrong = || format!("cannot read {part:?} of a schedule");
        let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
        let value = |text: &str| {
            let lower = text.to_ascii_lowercase();
            let named = names.split(' ').position(|name| !name.is_empty() && name == lower);
            named.map(|at| u32::try_from(at).unwrap_or_default() + least).or_else(|| text.parse().ok())
        };
        let (first, last) = match range.split_once('-') {
            _ if matches!(range, "*" | "?") => (least, most),
            Some((first, last)) => (value(first).ok_or_else(wrong)?, value(last).ok_or_else(wrong)?),
            None => {
                let one = value(range).ok_or_else(wrong)?;
                (one, if step.is_some() { most } else { one })
            }
        };
        let step: usize =
            step.map_or(Some(1), |step| step.parse().ok()).filter(|step| *step > 0).ok_or_else(wrong)?;
        if first < least || last > most || first > last {
            return Err(wrong());
        }
        (first..=last).step_by(step).for_each(|value| all |= 1_u64 << value);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn next(schedule: &str, after: &str) -> String {
        Schedule::parse(schedule, None).unwrap().next(at(after)).map(|at| at.to_string()).unwrap_or_default()
    }

    #[test]
    fn the_next_time_is_the_first_that_fits() {
        let cases = [
            ("* * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"),
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
            ("0 0 30 2 *", "2026-01-01T00:00:00Z", ""),
        ];
        for (schedule, after, then) in cases {
            assert_eq!(next(schedule, after), then, "{schedule} after {after}");
        }
        for wrong in [
            "",
            "* * * *",
            "60 * * * *",
            "* * 0 * *",
            "*/0 * * * *",
            "5-1 * * * *",
            "@never",
            "@every x",
            "a * * * *",
        ] {
            assert!(Schedule::parse(wrong, None).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_time_zone_has_its_clock() {
        let Ok(berlin) = Schedule::parse("30 2 * * *", Some("Europe/Berlin")) else {
            assert!(
                !ZONES.iter().any(|folder| std::path::Path::new(folder).exists()),
                "zones are there and cannot be read"
            );
            return;
        };
        assert_eq!(berlin.next(at("2026-01-01T00:00:00Z")), Some(at("2026-01-01T01:30:00Z")));
        // On the 29th of March there is no half past two.
        assert_eq!(berlin.next(at("2026-03-28T02:00:00Z")), Some(at("2026-03-30T00:30:00Z")));
        assert!(Schedule::parse("* * * * *", Some("../etc/passwd")).is_err());
    }

    #[test]
    fn of_what_was_missed_the_last_is_told() {
        let hourly = Schedule::parse("0 * * * *", None).unwrap();
        let now = at("2026-06-01T12:30:00Z");
        assert_eq!(hourly.missed(at("2026-06-01T09:00:00Z"), now), Some((at("2026-06-01T12:00:00Z"), 3)));
        assert_eq!(hourly.missed(at("2020-06-01T09:00:00Z"), now), Some((at("2026-06-01T12:00:00Z"), 101)));
        assert_eq!(hourly.missed(at("2026-06-01T12:00:00Z"), now), None);
        let often = Schedule::parse("@every 50m", None).unwrap();
        assert_eq!(often.missed(at("2026-06-01T09:30:00Z"), now), Some((at("2026-06-01T12:00:00Z"), 3)));
        assert_eq!(often.missed(at("2026-06-01T11:40:00.5Z"), now), Some((now, 1)));
        assert_eq!(often.missed(at("2026-06-01T11:40:01Z"), now), None);
        assert_eq!(often.missed(now, at("2026-06-01T09:00:00Z")), None);
        let yearly = Schedule::parse("@yearly", None).unwrap();
        assert_eq!(yearly.missed(at("2020-06-01T09:00:00Z"), now), Some((at("2026-01-01T00:00:00Z"), 6)));
    }

    proptest! {
        #[test]
        fn nothing_is_skipped(minute in 0..60_u32, hour in 0..24_u32, after in 1_700_000_000..1_900_000_000_i64) {
            let schedule = Schedule::parse(&format!("{minute} {hour} * * *"), None).unwrap();
            let after = Timestamp::from_second(after).unwrap();
            let next = schedule.next(after).unwrap();
            prop_assert!(next > after && next.duration_since(after) <= SignedDuration::from_hours(24));
            let local = schedule.local(next);
            prop_assert_eq!((local.minute(), local.hour(), local.second()), (minute as i8, hour as i8, 0));
        }
    }
}
