//! Timeouts (GEP-1742) and retries (GEP-1731) of HTTPRoutes.

use serde::{Deserialize, Serialize};

use super::Wrong;
use crate::contract::finding::Reason;
use crate::contract::part::{Notes, Part};

/// How long a request may take. `None` is as long as it does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeouts {
    /// All of it, retries included, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_ms: Option<u64>,
    /// One try at one backend, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_ms: Option<u64>,
}

impl Timeouts {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Answers with one of these, besides connections that fail; in order.
    pub codes: Vec<u16>,
    /// So many times at most, the first not counted.
    pub attempts: u32,
    /// After so many milliseconds at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_ms: Option<u64>,
}

/// So often at most: a mesh that tries again without end makes an outage worse. Gateway API has no bound, so what is above is this.
const MOST_ATTEMPTS: u64 = 25;

pub(super) fn timeouts(part: &Part<'_>, wrong: &mut Wrong, notes: &mut Notes) -> Timeouts {
    let Some(part) = part.part("timeouts", notes) else { return Timeouts::default() };
    part.only(&["request", "backendRequest"], notes);
    let request_ms = duration(&part, "request", wrong).filter(|ms| *ms != 0);
    let backend_ms = duration(&part, "backendRequest", wrong).filter(|ms| *ms != 0);
    if let (Some(all), Some(one)) = (request_ms, backend_ms)
        && one > all
    {
        let message = format!("{one} ms for one try is more than {all} ms for all; make it less");
        wrong.answer(format!("{}: {message}", part.at("backendRequest")));
    }
    Timeouts { request_ms, backend_ms }
}

pub(super) fn retry(part: &Part<'_>, wrong: &mut Wrong, notes: &mut Notes) -> Option<Retry> {
    let part = part.part("retry", notes)?;
    part.only(&["codes", "attempts", "backoff"], notes);
    let mut codes = Vec::new();
    for item in part.list("codes", notes) {
        match item
            .value
            .as_u64()
            .and_then(|code| u16::try_from(code).ok())
            .filter(|code| (400..600).contains(code))
        {
            Some(code) => codes.push(code),
            None => wrong.answer(format!("{}: {}: write a status of 400 to 599", item.path, item.value)),
        }
    }
    codes.sort_unstable();
    codes.dedup();
    let attempts = match part.get("attempts") {
        None => 1,
        Some(field) => match field.value.as_u64() {
            Some(count) if count > MOST_ATTEMPTS => {
                let advice =
                    format!("was read as {MOST_ATTEMPTS}, which are the most; write 0 to {MOST_ATTEMPTS}");
                notes.say(Reason::Tolerated, &field.path, count.to_string(), advice);
                MOST_ATTEMPTS
            }
            Some(count) => count,
            None => {
                wrong.answer(format!("{}: {}: write 0 to {MOST_ATTEMPTS}", field.path, field.value));
                0
            }
        },
    };
    let attempts = u32::try_from(attempts).unwrap_or_default();
    Some(Retry { codes, attempts, backoff_ms: duration(&part, "backoff", wrong) })
}

fn duration(part: &Part<'_>, name: &str, wrong: &mut Wrong) -> Option<u64> {
    let field = part.get(name)?;
    let milliseconds = field.value.as_str().and_then(milliseconds);
    if milliseconds.is_none() {
        wrong.answer(format!("{}: {}: write a duration as 1h2m3s4ms", field.path, field.value));
    }
    milliseconds
}

/// How many milliseconds a duration has, as GEP-2257 writes it: one to four parts, each of one to five digits and a unit.
#[must_use]
pub fn milliseconds(text: &str) -> Option<u64> {
    let (mut rest, mut sum, mut parts) = (text, 0, 0);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).filter(|end| (1..=5).contains(end))?;
        let (digits, behind) = rest.split_at(end);
        let unit = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit);
        let factor = match unit {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1000,
            "ms" => 1,
            _ => return None,
        };
        sum += digits.parse::<u64>().ok()? * factor;
        parts += 1;
        rest = behind;
    }
    (1..=4).contains(&parts).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::milliseconds;

    #[test]
    fn durations_are_those_of_gep_2257() {
        let cases = [
            ("1h2m3s4ms", Some(3_723_004)),
            ("500ms", Some(500)),
            ("0s", Some(0)),
            ("", None),
            ("1", None),
            ("-1s", None),
            ("1.5s", None),
            ("123456s", None),
            ("1s1s1s1s1s", None),
            ("1d", None),
        ];
        for (text, wanted) in cases {
            assert_eq!(milliseconds(text), wanted, "{text}");
        }
    }
}
