//! How many pods a metric asks for.

use std::collections::{BTreeMap, BTreeSet};

use client::quantity;
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;

use crate::workloads::{pods, scheduler};

/// For so long after its start a pod's use of the processor is that of its start.
const STARTING: SignedDuration = SignedDuration::from_mins(5);
/// One that is unready since no later than this after its start has never been ready.
const FIRST_READY: SignedDuration = SignedDuration::from_secs(30);

/// What was measured of a pod. Who measures may say anything: sums are made where they fit.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// In thousandths.
    pub(super) value: i64,
    /// When.
    pub(super) at: Timestamp,
    /// Over which time.
    pub(super) window: SignedDuration,
}

/// Samples by the pods' names.
pub(super) type Samples = BTreeMap<String, Sample>;

/// How much more or less than the target is as wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tolerance {
    /// Above.
    pub(super) up: f64,
    /// Below.
    pub(super) down: f64,
}

impl Tolerance {
    fn has(self, ratio: f64) -> bool {
        (1.0 - self.down..=1.0 + self.up).contains(&ratio)
    }
}

/// What is asked for.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    /// How many there are to be now.
    pub(super) current: i32,
    /// The pods that the target selects.
    pub(super) pods: &'a [Pod],
    /// What is as wanted.
    pub(super) tolerance: Tolerance,
    /// The moment.
    pub(super) now: Timestamp,
}

/// Pods by what is known of them.
#[derive(Debug, Default)]
struct Groups {
    ready: usize,
    /// They do not do their work yet.
    unready: BTreeSet<String>,
    /// Nobody knows what they do.
    missing: BTreeSet<String>,
    /// They do not count.
    ignored: BTreeSet<String>,
}

fn group(asked: &Asked<'_>, samples: &Samples, is_cpu: bool) -> Groups {
    let mut groups = Groups::default();
    for pod in asked.pods {
        let name = pod.name_any();
        if pods::is_going(pod) || pods::phase(pod) == "Failed" {
            groups.ignored.insert(name);
        } else if pods::phase(pod) == "Pending" {
            groups.unready.insert(name);
        } else if let Some(sample) = samples.get(&name) {
            if is_cpu && is_unready(pod, sample, asked.now) {
                groups.unready.insert(name);
            } else {
                groups.ready += 1;
            }
        } else {
            groups.missing.insert(name);
        }
    }
    groups
}

/// Whether what a pod uses of the processor says nothing yet of its work.
fn is_unready(pod: &Pod, sample: &Sample, now: Timestamp) -> bool {
    let began = pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|at| at.0);
    let (Some(ready), Some(began)) = (pods::condition(pod, "Ready"), began) else { return true };
    let since = ready.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |at| at.0);
    if now.duration_since(began) < STARTING {
        ready.status == "False" || sample.at < since.saturating_add(sample.window).unwrap_or(since)
    } else {
        ready.status == "False" && since.duration_since(began) < FIRST_READY
    }
}

/// A part of all, rounded up.
fn share(ratio: f64, of: usize) -> i32 {
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "numbers of pods are small"
    )]
    let replicas = (ratio * of as f64).ceil() as i32;
    replicas
}

#[allow(clippy::cast_precision_loss, reason = "as Kubernetes counts")]
fn divided(value: i64, by: i64) -> f64 {
    value as f64 / by as f64
}

/// As near as there is one.
fn narrowed(value: i128) -> i64 {
    i64::try_from(value.clamp(i64::MIN.into(), i64::MAX.into())).unwrap_or_default()
}

/// So many together, where they fit.
pub(super) fn sum(values: impl IntoIterator<Item = i64>) -> i64 {
    narrowed(values.into_iter().map(i128::from).sum())
}

/// What each has of them, rounded as Kubernetes does.
fn average(values: impl Iterator<Item = i64>) -> i64 {
    let (count, sum) = values.fold((0, 0), |(count, sum), value| (count + 1, sum + i128::from(value)));
    narrowed(sum / i128::max(count, 1))
}

/// The number for samples whose ratio to the target `ratio` tells; `missing` and `rest` are what pods without a sample are taken for where
/// there are too many pods, and too few.
fn number(
    asked: &Asked<'_>,
    groups: &Groups,
    mut samples: Samples,
    ratio: impl Fn(&Samples) -> Result<f64, String>,
    missing: impl Fn(&str) -> i64,
) -> Result<i32, String> {
    let first = ratio(&samples)?;
    let with_unready = !groups.unready.is_empty() && first > 1.0;
    if !with_unready && groups.missing.is_empty() {
        let is_so = asked.tolerance.has(first);
        return Ok(if is_so { asked.current } else { share(first, groups.ready) });
    }
    if (first - 1.0).abs() < f64::EPSILON {
        // As wanted, whatever those do of which nobody knows.
        return Ok(asked.current);
    }
    let mut put = |name: &String, value: i64| {
        let sample = Sample { value, at: asked.now, window: SignedDuration::ZERO };
        samples.insert(name.clone(), sample);
    };
    for name in &groups.missing {
        put(name, if first < 1.0 { missing(name) } else { 0 });
    }
    if with_unready {
        groups.unready.iter().for_each(|name| put(name, 0));
    }
    let second = ratio(&samples)?;
    let turned = first < 1.0 && second > 1.0 || first > 1.0 && second < 1.0;
    let replicas = share(second, samples.len());
    let contrary = second < 1.0 && replicas > asked.current || second > 1.0 && replicas < asked.current;
    Ok(if asked.tolerance.has(second) || turned || contrary { asked.current } else { replicas })
}

/// By how much of what pods have asked for they use: the number, percent of that, and thousandths a pod. `container` is the one that
/// counts, or all.
pub(super) fn by_utilization(
    asked: &Asked<'_>,
    mut samples: Samples,
    resource: &str,
    container: Option<&str>,
    target: i32,
) -> Result<(i32, i32, i64), String> {
    let groups = group_known(asked, &mut samples, resource == "cpu")?;
    let requests = requests(asked.pods, resource, container)?;
    let target = i64::from(target.max(1));
    let percent = |samples: &Samples| -> Result<i64, String> {
        let known = samples.iter().filter_map(|(name, sample)| Some((sample.value, *requests.get(name)?)));
        let both =
            known.fold((0, 0), |(a, b), (used, wanted)| (a + i128::from(used), b + i128::from(wanted)));
        match both {
            (_, 0) => Err("no metrics returned matched known pods".into()),
            (used, wanted) => Ok(narrowed(used * 100 / wanted)),
        }
    };
    let now = percent(&samples)?;
    let known = samples.iter().filter(|(name, _)| requests.contains_key(*name));
    let raw = average(known.map(|(_, sample)| sample.value));
    // One that is missing may do all that it has asked for, or what is wanted of it if that is more.
    let missing = |name: &str| {
        let wanted = requests.get(name).copied().unwrap_or_default();
        narrowed(i128::from(wanted) * i128::from(target.max(100)) / 100)
    };
    let ratio = |samples: &Samples| Ok(divided(percent(samples)?, target));
    let replicas = number(asked, &groups, samples, ratio, missing)?;
    Ok((replicas, i32::try_from(now).unwrap_or(i32::MAX), raw))
}

/// By how much pods have of something on an average: the number, and the average, in thousandths.
pub(super) fn by_average(
    asked: &Asked<'_>,
    mut samples: Samples,
    is_cpu: bool,
    target: i64,
) -> Result<(i32, i64), String> {
    let groups = group_known(asked, &mut samples, is_cpu)?;
    let average = |samples: &Samples| average(samples.values().map(|sample| sample.value));
    let now = average(&samples);
    let ratio = |samples: &Samples| Ok(divided(average(samples), target.max(1)));
    Ok((number(asked, &groups, samples, ratio, |_| target)?, now))
}

/// Sorts the pods, and leaves the samples of those that do their work.
fn group_known(asked: &Asked<'_>, samples: &mut Samples, is_cpu: bool) -> Result<Groups, String> {
    if asked.pods.is_empty() {
        return Err("no pods returned by selector while calculating replica count".into());
    }
    let groups = group(asked, samples, is_cpu);
    samples.retain(|name, _| !groups.unready.contains(name) && !groups.ignored.contains(name));
    match samples.is_empty() {
        true => Err("did not receive metrics for targeted pods (pods might be unready)".into()),
        false => Ok(groups),
    }
}

/// What pods have asked for, in thousandths.
fn requests(all: &[Pod], resource: &str, only: Option<&str>) -> Result<BTreeMap<String, i64>, String> {
    let mut requests = BTreeMap::new();
    for pod in all {
        let spec = pod.spec.clone().unwrap_or_default();
        let whole = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        // One that asks for itself asks for all of its containers.
        if whole.is_some_and(|whole| !whole.is_empty()) && only.is_none() {
            let asked = scheduler::requests(pod).get(resource).copied().ok_or_else(|| {
                format!("missing pod-level request for {resource} in Pod {}", pod.name_any())
            })?;
            let thousandths = if resource == "cpu" { asked } else { asked.saturating_mul(1000) };
            requests.insert(pod.name_any(), thousandths);
            continue;
        }
        let sidecars = spec.init_containers.iter().flatten();
        let sidecars = sidecars.filter(|one| one.restart_policy.as_deref() == Some("Always"));
        let counted = spec.containers.iter().chain(sidecars);
        let counted: Vec<_> = counted.filter(|one| only.is_none_or(|name| name == one.name)).collect();
        if let Some(name) = only.filter(|_| counted.is_empty()) {
            return Err(format!("container {name} not found in Pod {}", pod.name_any()));
        }
        let wanted = counted.into_iter().map(|container| {
            request(container, resource).ok_or_else(|| {
                format!(
                    "missing request for {resource} in container {} of Pod {}",
                    container.name,
                    pod.name_any()
                )
            })
        });
        requests.insert(pod.name_any(), sum(wanted.collect::<Result<Vec<_>, _>>()?));
    }
    Ok(requests)
}

fn request(container: &Container, resource: &str) -> Option<i64> {
    quantity::thousandths(container.resources.as_ref()?.requests.as_ref()?.get(resource)?)
}

/// By a value of something else than pods: the number for its ratio to the target.
pub(super) fn by_ratio(asked: &Asked<'_>, ratio: f64) -> Result<i32, String> {
    if asked.current == 0 {
        return Ok(share(ratio, 1));
    }
    if asked.tolerance.has(ratio) {
        return Ok(asked.current);
    }
    if asked.pods.is_empty() {
        return Err(
            "unable to calculate ready pods: no pods returned by selector while calculating replica count"
                .into(),
        );
    }
    let ready = asked.pods.iter().filter(|pod| pods::phase(pod) == "Running" && pods::is_ready(pod)).count();
    Ok(share(ratio, ready))
}

/// By a value that all pods share: the number, and what each has.
pub(super) fn by_share(asked: &Asked<'_>, value: i64, target: i64, there: i32) -> (i32, i64) {
    let target = target.max(1);
    let ratio = divided(value, target.saturating_mul(there.into()));
    let replicas = if asked.tolerance.has(ratio) { there } else { share(divided(value, target), 1) };
    // Rounded up.
    let each = if there > 0 { narrowed(-(-i128::from(value)).div_euclid(there.into())) } else { value };
    (replicas, each)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: &str = "2026-01-01T01:00:00Z";

    fn pod(name: &str, status: Value) -> Pod {
        let container = json!({"name": "c", "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}});
        serde_json::from_value(
            json!({"metadata": {"name": name}, "spec": {"containers": [container]}, "status": status}),
        )
        .unwrap()
    }

    fn ready() -> Value {
        json!({"phase": "Running", "startTime": "2026-01-01T00:00:00Z",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:05Z"}]})
    }

    fn samples(of: &[(&str, i64)]) -> Samples {
        let sample =
            |value| Sample { value, at: NOW.parse().unwrap(), window: SignedDuration::from_secs(15) };
        of.iter().map(|(name, value)| ((*name).to_owned(), sample(*value))).collect()
    }

    fn asked(current: i32, pods: &[Pod]) -> Asked<'_> {
        let tolerance = Tolerance { up: 0.1, down: 0.1 };
        Asked { current, pods, tolerance, now: NOW.parse().unwrap() }
    }

    #[test]
    fn the_number_follows_the_use_of_what_was_asked_for() {
        let all = [pod("a", ready()), pod("b", ready())];
        let by = |target: i32, of: &[(&str, i64)]| {
            by_utilization(&asked(2, &all), samples(of), "cpu", None, target).unwrap()
        };
        assert_eq!(by(50, &[("a", 100), ("b", 100)]), (4, 100, 100));
        assert_eq!(by(100, &[("a", 105), ("b", 105)]), (2, 105, 105), "within a tenth");
        assert_eq!(by(50, &[("a", 10), ("b", 20)]), (1, 15, 15));
        // One that is missing does all it has asked for where there would be fewer, nothing where there would be more.
        assert_eq!(by(50, &[("a", 10)]), (2, 10, 10));
        assert_eq!(by(50, &[("a", 90)]), (2, 90, 90));
        assert_eq!(by(50, &[("a", 300)]), (6, 300, 300));
        assert_eq!(by(50, &[("a", 50)]), (2, 50, 50));
        let none = by_utilization(&asked(2, &all), samples(&[]), "cpu", None, 50);
        assert_eq!(none.unwrap_err(), "did not receive metrics for targeted pods (pods might be unready)");
        let none = by_utilization(&asked(2, &[]), samples(&[]), "cpu", None, 50);
        assert_eq!(none.unwrap_err(), "no pods returned by selector while calculating replica count");
        let none = by_utilization(&asked(2, &all), samples(&[("a", 1)]), "example.org/x", None, 50);
        assert_eq!(none.unwrap_err(), "missing request for example.org/x in container c of Pod a");
        let none = by_utilization(&asked(2, &all), samples(&[("a", 1)]), "cpu", Some("x"), 50);
        assert_eq!(none.unwrap_err(), "container x not found in Pod a");
    }

    #[test]
    fn a_pod_may_ask_for_all_of_its_containers() {
        let mut one = pod("a", ready());
        one.spec.as_mut().unwrap().resources =
            Some(serde_json::from_value(json!({"requests": {"cpu": "400m"}})).unwrap());
        let by = |resource: &str| {
            by_utilization(&asked(1, &[one.clone()]), samples(&[("a", 200)]), resource, None, 50)
        };
        assert_eq!(by("cpu").unwrap(), (1, 50, 200));
        assert_eq!(by("x").unwrap_err(), "missing pod-level request for x in Pod a");
        let of_one = by_utilization(&asked(1, &[one.clone()]), samples(&[("a", 50)]), "cpu", Some("c"), 50);
        assert_eq!(of_one.unwrap(), (1, 50, 50));
    }

    #[test]
    fn who_starts_or_ends_does_not_count() {
        let starting = json!({"phase": "Running", "startTime": "2026-01-01T00:59:00Z",
            "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:59:00Z"}]});
        let all = [
            pod("a", ready()),
            pod("b", starting),
            pod("c", json!({"phase": "Pending"})),
            pod("d", json!({"phase": "Failed"})),
        ];
        let of = samples(&[("a", 200), ("b", 1000), ("d", 1000)]);
        // b and c are taken for idle: 200 of three times 100, at a target of 50 percent.
        let by = by_utilization(&asked(3, &all), of.clone(), "cpu", None, 50).unwrap();
        assert_eq!(by, (4, 200, 200));
        // Of memory what a pod uses at its start counts.
        assert_eq!(by_average(&asked(3, &all), of, false, 500).unwrap(), (3, 600));
    }

    #[test]
    fn whatever_is_measured_is_counted() {
        let starting = json!({"phase": "Running", "startTime": "2026-01-01T00:59:00Z",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:59:05Z"}]});
        let all = [pod("a", starting.clone()), pod("b", starting)];
        // A window that no time is long enough for: that of their start is in it.
        let mut of = samples(&[("a", 100), ("b", 100)]);
        of.values_mut().for_each(|sample| sample.window = SignedDuration::MAX);
        let by = by_utilization(&asked(2, &all), of, "cpu", None, 50);
        assert_eq!(by.unwrap_err(), "did not receive metrics for targeted pods (pods might be unready)");
        let most = samples(&[("a", i64::MAX), ("b", i64::MAX)]);
        let (replicas, percent, each) =
            by_utilization(&asked(2, &all), most.clone(), "cpu", None, 50).unwrap();
        assert_eq!((replicas, percent, each), (i32::MAX, i32::MAX, i64::MAX));
        assert_eq!(by_average(&asked(2, &all), most, true, i64::MAX).unwrap(), (2, i64::MAX));
        // One is missing, and may do all that it has asked for: more than there is.
        let mut greedy = all.clone();
        greedy.iter_mut().for_each(|pod| {
            let container = json!({"name": "c", "resources": {"requests": {"cpu": "9E"}}});
            pod.spec = serde_json::from_value(json!({"containers": [container, container]})).unwrap();
        });
        let by = by_utilization(&asked(2, &greedy), samples(&[("a", 100)]), "cpu", None, i32::MAX).unwrap();
        assert_eq!((by.1, by.2), (0, 100));
        assert_eq!(by_share(&asked(2, &all), i64::MIN, 1, 1).1, i64::MIN);
        assert_eq!(sum([i64::MAX, 1]), i64::MAX);
    }

    #[test]
    fn values_of_others_are_shared_or_compared() {
        let all = [pod("a", ready()), pod("b", ready()), pod("c", json!({"phase": "Pending"}))];
        assert_eq!(by_ratio(&asked(3, &all), 1.5).unwrap(), 3);
        assert_eq!(by_ratio(&asked(3, &all), 1.05).unwrap(), 3);
        assert_eq!(by_ratio(&asked(0, &all), 0.2).unwrap(), 1);
        assert_eq!(by_share(&asked(3, &all), 10_000, 2000, 3), (5, 3334));
        assert_eq!(by_share(&asked(3, &all), 6100, 2000, 3), (3, 2034));
    }
}
