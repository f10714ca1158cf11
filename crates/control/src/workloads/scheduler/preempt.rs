//! Room for a pod at the cost of less important ones.

use std::sync::Arc;

use client::cache::Name;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use super::state::Place;
use super::volumes::Wanted;
use super::{Refusal, Space, pick};
use crate::workloads::pods;

/// Where room can be made, and whose.
#[derive(Debug)]
pub(super) struct Room {
    /// The node.
    pub(super) node: String,
    /// The pods that have to go: as few and as unimportant ones as will do.
    pub(super) victims: Vec<Arc<Pod>>,
}

/// A pod's priority.
pub(super) fn priority(pod: &Pod) -> i32 {
    pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or_default()
}

/// The best room for a pod that fits nowhere. An error says why it may have none made; `None`: nobody's going would help.
pub(super) fn room(
    pod: &Pod,
    wanted: &Wanted,
    refusals: &[Option<Refusal>],
    space: &Space<'_>,
) -> Result<Room, Option<String>> {
    let spec = pod.spec.clone().unwrap_or_default();
    if spec.preemption_policy.as_deref() == Some("Never") {
        return Err(Some("not eligible due to preemptionPolicy=Never".into()));
    }
    let nominated = pod.status.as_ref().and_then(|status| status.nominated_node_name.as_deref());
    let is_less = |other: &Pod| priority(other) < priority(pod);
    let at = space.places.iter().find(|place| nominated == Some(&place.node.name_any()));
    if at.is_some_and(|place| place.pods.iter().any(|other| is_less(other) && pods::is_going(other))) {
        return Err(Some("not eligible due to a terminating pod on the nominated node".into()));
    }
    let helps = |at: &usize| refusals[*at].as_ref().is_some_and(|refusal| !refusal.is_for_good);
    let rooms = (0..space.places.len()).filter(helps).filter_map(|at| at_node(pod, wanted, at, space));
    let cost = |room: &Room| {
        let highest = room.victims.iter().map(|pod| priority(pod)).max().unwrap_or(i32::MIN);
        let sum: i64 = room.victims.iter().map(|pod| i64::from(priority(pod)) + (1 << 31)).sum();
        (highest, sum, room.victims.len())
    };
    rooms.min_by_key(cost).ok_or(None)
}

/// Who has to go from one node. All who are less important go in thought, and come back one after the other, the important ones first,
/// while the pod still fits.
fn at_node(pod: &Pod, wanted: &Wanted, at: usize, space: &Space<'_>) -> Option<Room> {
    let fits = |place: Place| {
        let mut places = space.places.to_vec();
        places[at] = place;
        pick::refusal(pod, wanted, at, &Space { places: &places, ..*space }).is_none()
    };
    let here = &space.places[at];
    let mut victims: Vec<Arc<Pod>> =
        here.pods.iter().filter(|other| priority(other) < priority(pod)).cloned().collect();
    let is_among =
        |some: &[Arc<Pod>], one: &Pod| some.iter().any(|other| Name::of(&**other) == Name::of(one));
    if victims.is_empty() || !fits(here.without(|other| is_among(&victims, other))) {
        return None;
    }
    victims.sort_by_key(|pod| std::cmp::Reverse(priority(pod)));
    let mut chosen = victims.clone();
    for one in victims {
        let rest: Vec<Arc<Pod>> = chosen.iter().filter(|other| !Arc::ptr_eq(other, &one)).cloned().collect();
        if fits(here.without(|other| is_among(&rest, other))) {
            chosen = rest;
        }
    }
    chosen.sort_by_key(|pod| priority(pod));
    (!chosen.is_empty()).then(|| Room { node: here.node.name_any(), victims: chosen })
}

/// Where a pod was promised room, while those who make it are still going.
pub(super) fn promised(pod: &Pod, places: &[Place]) -> Option<String> {
    let node = pod.status.as_ref()?.nominated_node_name.as_deref()?;
    let place = places.iter().find(|place| place.node.name_any() == node)?;
    let goes = |other: &Arc<Pod>| priority(other) < priority(pod) && pods::is_going(other);
    place.pods.iter().any(goes).then(|| node.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn room_is_promised_while_those_who_make_it_are_going() {
        let pod = |name: &str, priority: i32, is_going: bool, node: Option<&str>| {
            let gone = is_going.then_some("2026-01-01T00:00:00Z");
            let spec = json!({"priority": priority, "containers": []});
            let metadata = json!({"name": name, "deletionTimestamp": gone});
            let whole = json!({"metadata": metadata, "spec": spec, "status": {"nominatedNodeName": node}});
            Arc::new(serde_json::from_value::<Pod>(whole).unwrap())
        };
        let place = |name: &str, pods: Vec<Arc<Pod>>| {
            let node = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
            let mut place = Place::new(Arc::new(node));
            pods.into_iter().for_each(|pod| place.put(pod));
            place
        };
        let goes = [place("a", vec![]), place("b", vec![pod("low", 1, true, None)])];
        assert_eq!(promised(&pod("p", 9, false, Some("b")), &goes).as_deref(), Some("b"));
        assert_eq!(promised(&pod("p", 9, false, Some("a")), &goes), None, "nobody goes there");
        assert_eq!(promised(&pod("p", 9, false, None), &goes), None);
        assert_eq!(promised(&pod("p", 1, false, Some("b")), &goes), None, "it is no less important");
        let stays = [place("b", vec![pod("low", 1, false, None)])];
        assert_eq!(promised(&pod("p", 9, false, Some("b")), &stays), None);
    }
}
