//! How fast the pods of a zone are sent away from nodes that are down: where many are down at once, it is more likely that the zone is cut
//! off than that each of them has died.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;
use tokio::time::Instant;

use super::health;

/// A node with this label does not count.
const EXCLUDED: &str = "node.kubernetes.io/exclude-disruption";
/// Names of regions and zones, the older label first, as Kubernetes reads them.
const REGION: [&str; 2] = ["failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"];
const ZONE: [&str; 2] = ["failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"];
/// One node in so long.
const PAUSE: Duration = Duration::from_secs(10);
/// The same where many nodes of a large zone are down.
const LONG: Duration = Duration::from_secs(100);
/// A zone is large with more nodes than this.
const LARGE: usize = 50;
/// Many are more than two, and so many percent.
const MANY: usize = 55;

/// The zone of a node.
fn key(node: &Node) -> (String, String) {
    let one = |names: [&str; 2]| names.into_iter().find_map(|name| node.labels().get(name)).cloned();
    (one(REGION).unwrap_or_default(), one(ZONE).unwrap_or_default())
}

/// How many nodes there are, and how many of them are well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    all: usize,
    well: usize,
}

impl Count {
    fn of<'a>(nodes: impl Iterator<Item = &'a Arc<Node>>) -> Self {
        let counted = nodes.filter(|node| !node.labels().contains_key(EXCLUDED));
        counted.fold(Self::default(), |count, node| Self {
            all: count.all + 1,
            well: count.well + usize::from(health::is_well(node)),
        })
    }

    fn is_down(self) -> bool {
        self.all > 0 && self.well == 0
    }

    /// How long it is from one node to the next; `None` where none is given up.
    fn pause(self) -> Option<Duration> {
        let down = self.all - self.well;
        let is_cut_off = !self.is_down() && down > 2 && down * 100 >= self.all * MANY;
        match is_cut_off {
            false => Some(PAUSE),
            true => (self.all > LARGE).then_some(LONG),
        }
    }
}

/// Whether no node is well: then it is rather we who do not hear.
pub(super) fn are_all_down(nodes: &[Arc<Node>]) -> bool {
    Count::of(nodes.iter()).is_down()
}

/// When the last node of each zone was given up.
#[derive(Debug, Default)]
pub(super) struct Zones(BTreeMap<(String, String), Instant>);

impl Zones {
    /// Whether pods may be sent away from one more node of a zone; if not, how long it takes yet, or `None` while too many are down.
    pub(super) fn take(
        &mut self,
        node: &Node,
        nodes: &[Arc<Node>],
        now: Instant,
    ) -> Result<(), Option<Duration>> {
        let zone = key(node);
        let pause = Count::of(nodes.iter().filter(|other| key(other) == zone)).pause().ok_or(None)?;
        let left = self.0.get(&zone).map(|last| (*last + pause).saturating_duration_since(now));
        if let Some(left) = left.filter(|left| !left.is_zero()) {
            return Err(Some(left));
        }
        self.0.insert(zone, now);
        Ok(())
    }

    /// What was taken was not made use of.
    pub(super) fn give_back(&mut self, node: &Node) {
        self.0.remove(&key(node));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn nodes(zone: &str, all: usize, well: usize) -> Vec<Arc<Node>> {
        let node = |at: usize| {
            let conditions = json!([{"type": "Ready", "status": if at < well { "True" } else { "Unknown" }}]);
            let metadata = json!({"name": format!("{zone}-{at}"), "labels": {ZONE[1]: zone}});
            serde_json::from_value(json!({"metadata": metadata, "status": {"conditions": conditions}}))
                .unwrap()
        };
        (0..all).map(|at| Arc::new(node(at))).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn nodes_of_a_zone_are_given_up_one_after_the_other() {
        let (mut zones, now) = (Zones::default(), Instant::now());
        let [a, b] = ["a", "b"].map(|zone| nodes(zone, 4, 2));
        let all: Vec<_> = a.iter().chain(&b).cloned().collect();
        assert_eq!(zones.take(&a[2], &all, now), Ok(()));
        assert_eq!(zones.take(&a[3], &all, now + Duration::from_secs(4)), Err(Some(Duration::from_secs(6))));
        assert_eq!(zones.take(&b[3], &all, now), Ok(()), "another zone");
        assert_eq!(zones.take(&a[3], &all, now + PAUSE), Ok(()));
        zones.give_back(&a[3]);
        assert_eq!(zones.take(&a[3], &all, now + PAUSE), Ok(()));
    }

    #[test]
    fn where_many_are_down_nobody_is_sent_away_or_few_are() {
        let pause = |all, well| Count { all, well }.pause();
        assert_eq!((pause(3, 1), pause(4, 2)), (Some(PAUSE), Some(PAUSE)), "two are not many");
        assert_eq!((pause(5, 2), pause(10, 4)), (None, None));
        assert_eq!(pause(10, 5), Some(PAUSE), "half of them");
        assert_eq!(pause(51, 20), Some(LONG), "of a large zone");
        // All of one zone while others are well: they have died with it.
        assert_eq!(pause(5, 0), Some(PAUSE));
    }

    #[test]
    fn who_is_excluded_does_not_count() {
        let mut all = nodes("a", 2, 1);
        assert!(!are_all_down(&all));
        let mut well = (*all[0]).clone();
        well.labels_mut().insert(EXCLUDED.into(), String::new());
        all[0] = Arc::new(well);
        assert!(are_all_down(&all) && !are_all_down(&[]));
    }
}
