//! How fast the number of pods may change: what was recommended of late, what was done of late, and what people have said about it.

use std::cmp::{max, min};

use k8s_openapi::api::autoscaling::v2::{HPAScalingRules, HorizontalPodAutoscalerBehavior};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// For so long the highest recommendation counts before pods are taken away, where nothing else is said.
const DOWN_WINDOW: SignedDuration = SignedDuration::from_mins(5);
/// Without rules: at most twice as many, or so many.
const FACTOR: i32 = 2;
const AT_LEAST: i32 = 4;

/// What is remembered of an autoscaler.
#[derive(Debug, Default)]
pub(super) struct Memory {
    recommended: Vec<(Timestamp, i32)>,
    added: Vec<(Timestamp, i32)>,
    removed: Vec<(Timestamp, i32)>,
}

/// Within which numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// At least.
    pub(super) min: i32,
    /// At most.
    pub(super) max: i32,
}

/// A number of pods, and why it is that one: reason and message, and whether that is another number than asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decided {
    /// How many there are to be.
    pub(super) replicas: i32,
    /// What is said of being able to scale.
    pub(super) able: (&'static str, &'static str),
    /// What is said of being limited.
    pub(super) limited: (bool, &'static str, &'static str),
}

const DOWN_HELD: (&str, &str) = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const UP_HELD: (&str, &str) = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const READY: (&str, &str) = ("ReadyForNewScale", "recommended size matches current size");
const WITHIN: (&str, &str) = ("DesiredWithinRange", "the desired count is within the acceptable range");
const TOO_MANY: (&str, &str) =
    ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const TOO_FEW: (&str, &str) =
    ("TooFewReplicas", "the desired replica count is less than the minimum replica count");
const TOO_FAST_UP: (&str, &str) =
    ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const TOO_FAST_DOWN: (&str, &str) =
    ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate");

impl Memory {
    /// Begins with the number that there is: what comes first does not take pods away at once.
    pub(super) fn begin(&mut self, current: i32, now: Timestamp) {
        if self.recommended.is_empty() {
            self.recommended.push((now, current));
        }
    }

    /// How many there are to be, for so many that metrics ask for.
    pub(super) fn decide(
        &mut self,
        behavior: Option<&HorizontalPodAutoscalerBehavior>,
        current: i32,
        asked: i32,
        bounds: Bounds,
        now: Timestamp,
    ) -> Decided {
        let (held, why, (limited, because)) = match behavior {
            None => {
                let held = self.since(now, DOWN_WINDOW).fold(asked, max);
                self.remember(asked, now, DOWN_WINDOW);
                (held, DOWN_HELD, within(held, bounds, current))
            }
            Some(behavior) => {
                let (up, down) = (behavior.scale_up.as_ref(), behavior.scale_down.as_ref());
                let windows = (window(up, SignedDuration::ZERO), window(down, DOWN_WINDOW));
                let lowest = self.since(now, windows.0).fold(asked, min);
                let highest = self.since(now, windows.1).fold(asked, max);
                self.remember(asked, now, max(windows.0, windows.1));
                let held = min(max(current, lowest), highest);
                let why = if asked >= current { UP_HELD } else { DOWN_HELD };
                (held, why, self.at_rate((up, down), held, bounds, current, now))
            }
        };
        Decided {
            replicas: limited,
            able: if held == asked { READY } else { why },
            limited: (limited != held, because.0, because.1),
        }
    }

    /// Notes that the number was changed.
    pub(super) fn changed(&mut self, from: i32, to: i32, now: Timestamp) {
        // Longer than any period that may be said.
        for list in [&mut self.added, &mut self.removed] {
            list.retain(|(at, _)| now.duration_since(*at) <= SignedDuration::from_mins(30));
        }
        match to - from {
            0 => {}
            more if more > 0 => self.added.push((now, more)),
            less => self.removed.push((now, -less)),
        }
    }

    fn since(&self, now: Timestamp, window: SignedDuration) -> impl Iterator<Item = i32> {
        let is_of = move |(at, _): &&(Timestamp, i32)| now.duration_since(*at) < window;
        self.recommended.iter().filter(is_of).map(|(_, replicas)| *replicas)
    }

    fn remember(&mut self, asked: i32, now: Timestamp, longest: SignedDuration) {
        self.recommended.retain(|(at, _)| now.duration_since(*at) <= longest);
        self.recommended.push((now, asked));
    }

    /// Within the bounds, and no faster than the rules have it.
    fn at_rate(
        &self,
        (up, down): (Option<&HPAScalingRules>, Option<&HPAScalingRules>),
        wanted: i32,
        bounds: Bounds,
        current: i32,
        now: Timestamp,
    ) -> (i32, (&'static str, &'static str)) {
        if wanted > current {
            let fastest = max(self.highest(up, current, now), current);
            let (most, why) =
                if bounds.max > fastest { (fastest, TOO_FAST_UP) } else { (bounds.max, TOO_MANY) };
            if wanted > most {
                return (most, why);
            }
        } else if wanted < current {
            let fastest = min(self.lowest(down, current, now), current);
            let (least, why) =
                if bounds.min < fastest { (fastest, TOO_FAST_DOWN) } else { (bounds.min, TOO_FEW) };
            if wanted < least {
                return (least, why);
            }
        }
        (wanted, WITHIN)
    }

    /// How many there may be at most by the rules for more.
    fn highest(&self, rules: Option<&HPAScalingRules>, current: i32, now: Timestamp) -> i32 {
        let Some(choose) = choice(rules, (min, max)) else { return current };
        let default = [("Percent", 100, 15), ("Pods", 4, 15)];
        let each = policies(rules, &default).into_iter().map(|(kind, value, period)| {
            let began = self.at_start_of(current, period, now);
            match kind.as_str() {
                "Percent" => {
                    (i64::from(began) * (100 + i64::from(value))).div_euclid(100)
                        + i64::from((i64::from(began) * (100 + i64::from(value))).rem_euclid(100) > 0)
                }
                _ => i64::from(began) + i64::from(value),
            }
        });
        each.map(whole).reduce(choose).unwrap_or(current)
    }

    /// How few by those for less.
    fn lowest(&self, rules: Option<&HPAScalingRules>, current: i32, now: Timestamp) -> i32 {
        let Some(choose) = choice(rules, (max, min)) else { return current };
        let each = policies(rules, &[("Percent", 100, 15)]).into_iter().map(|(kind, value, period)| {
            let began = self.at_start_of(current, period, now);
            match kind.as_str() {
                "Percent" => i64::from(began) * (100 - i64::from(value)) / 100,
                _ => i64::from(began) - i64::from(value),
            }
        });
        each.map(whole).reduce(choose).unwrap_or(current)
    }

    /// How many there were so many seconds ago.
    fn at_start_of(&self, current: i32, seconds: i32, now: Timestamp) -> i32 {
        let period = SignedDuration::from_secs(seconds.into());
        let sum = |list: &[(Timestamp, i32)]| -> i64 {
            let counted = list.iter().filter(|(at, _)| now.duration_since(*at) < period);
            counted.map(|(_, count)| i64::from(*count)).sum()
        };
        whole(i64::from(current) - sum(&self.added) + sum(&self.removed))
    }
}

fn whole(number: i64) -> i32 {
    i32::try_from(number).unwrap_or(if number < 0 { i32::MIN } else { i32::MAX })
}

fn window(rules: Option<&HPAScalingRules>, default: SignedDuration) -> SignedDuration {
    let said = rules.and_then(|rules| rules.stabilization_window_seconds);
    said.map_or(default, |seconds| SignedDuration::from_secs(seconds.into()))
}

type Choose = fn(i32, i32) -> i32;

/// Which of several policies counts: the one that changes least, or most; `None` where none does.
fn choice(rules: Option<&HPAScalingRules>, (least, most): (Choose, Choose)) -> Option<Choose> {
    match rules.and_then(|rules| rules.select_policy.as_deref()) {
        Some("Disabled") => None,
        Some("Min") => Some(least),
        _ => Some(most),
    }
}

fn policies(rules: Option<&HPAScalingRules>, default: &[(&str, i32, i32)]) -> Vec<(String, i32, i32)> {
    let said = rules.and_then(|rules| rules.policies.as_ref()).filter(|said| !said.is_empty());
    match said {
        Some(said) => said.iter().map(|one| (one.type_.clone(), one.value, one.period_seconds)).collect(),
        None => default.iter().map(|(kind, value, period)| ((*kind).to_owned(), *value, *period)).collect(),
    }
}

/// Within the bounds, and not too many more at once.
fn within(wanted: i32, bounds: Bounds, current: i32) -> (i32, (&'static str, &'static str)) {
    let fastest = max(FACTOR.saturating_mul(current), AT_LEAST);
    let (most, why) = if bounds.max > fastest { (fastest, TOO_FAST_UP) } else { (bounds.max, TOO_MANY) };
    if wanted < bounds.min {
        (bounds.min, TOO_FEW)
    } else if wanted > most {
        (most, why)
    } else {
        (wanted, WITHIN)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    const BOUNDS: Bounds = Bounds { min: 2, max: 10 };

    #[test]
    fn without_rules_fewer_are_only_after_five_minutes_and_more_at_once() {
        let mut memory = Memory::default();
        memory.begin(4, at(0));
        let mut decide = |second: i64, current: i32, asked: i32| {
            let decided = memory.decide(None, current, asked, BOUNDS, at(second));
            (decided.replicas, decided.able.0, decided.limited.0, decided.limited.1)
        };
        assert_eq!(decide(15, 4, 3), (4, "ScaleDownStabilized", false, "DesiredWithinRange"));
        assert_eq!(decide(30, 4, 6), (6, "ReadyForNewScale", false, "DesiredWithinRange"));
        assert_eq!(decide(300, 6, 1), (6, "ScaleDownStabilized", false, "DesiredWithinRange"));
        assert_eq!(decide(331, 6, 1), (2, "ReadyForNewScale", true, "TooFewReplicas"));
        assert_eq!(decide(700, 2, 99), (4, "ReadyForNewScale", true, "ScaleUpLimit"));
        assert_eq!(decide(715, 6, 99), (10, "ReadyForNewScale", true, "TooManyReplicas"));
    }

    fn rules(value: Value) -> HorizontalPodAutoscalerBehavior {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn rules_say_how_fast_and_from_when_on() {
        let behavior = rules(json!({
            "scaleUp": {"stabilizationWindowSeconds": 60, "policies": [{"type": "Pods", "value": 2, "periodSeconds": 30},
                {"type": "Percent", "value": 10, "periodSeconds": 30}]},
            "scaleDown": {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}}));
        let mut memory = Memory::default();
        memory.begin(4, at(0));
        let mut decide = |second: i64, current: i32, asked: i32| {
            let decided = memory.decide(Some(&behavior), current, asked, BOUNDS, at(second));
            memory.changed(current, decided.replicas, at(second));
            (decided.replicas, decided.able.0, decided.limited.1)
        };
        // For a minute fewer were recommended, at the beginning.
        assert_eq!(decide(15, 4, 9), (4, "ScaleUpStabilized", "DesiredWithinRange"));
        assert_eq!(decide(61, 4, 9), (6, "ReadyForNewScale", "ScaleUpLimit"));
        assert_eq!(decide(76, 6, 9), (6, "ReadyForNewScale", "ScaleUpLimit"), "two in half a minute");
        assert_eq!(decide(92, 6, 9), (8, "ReadyForNewScale", "ScaleUpLimit"));
        assert_eq!(decide(200, 8, 3), (7, "ReadyForNewScale", "ScaleDownLimit"));
        assert_eq!(decide(215, 7, 3), (7, "ReadyForNewScale", "ScaleDownLimit"), "one in a minute");
        assert_eq!(decide(261, 7, 1), (6, "ReadyForNewScale", "ScaleDownLimit"));
    }

    #[test]
    fn a_policy_is_chosen_or_none() {
        let both = json!([{"type": "Pods", "value": 1, "periodSeconds": 60}, {"type": "Percent", "value": 50, "periodSeconds": 60}]);
        for (select, up, down) in [("Max", 6, 2), ("Min", 5, 3), ("Disabled", 4, 4)] {
            let behavior = rules(json!({"scaleUp": {"selectPolicy": select, "policies": both},
                "scaleDown": {"selectPolicy": select, "policies": both, "stabilizationWindowSeconds": 0}}));
            let mut memory = Memory::default();
            assert_eq!(memory.decide(Some(&behavior), 4, 9, BOUNDS, at(0)).replicas, up, "{select}");
            assert_eq!(memory.decide(Some(&behavior), 4, 2, BOUNDS, at(0)).replicas, down, "{select}");
        }
        // Where nothing is said, as many again or four, and all down after five minutes.
        let mut memory = Memory::default();
        assert_eq!(memory.decide(Some(&rules(json!({}))), 1, 9, BOUNDS, at(0)).replicas, 5);
        assert_eq!(memory.decide(Some(&rules(json!({}))), 9, 2, BOUNDS, at(10)).replicas, 9);
        assert_eq!(memory.decide(Some(&rules(json!({}))), 9, 2, BOUNDS, at(301)).replicas, 2);
    }
}
