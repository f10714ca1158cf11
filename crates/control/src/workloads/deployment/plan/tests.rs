//! The plan, step by step, against ReplicaSets that do what they are told.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn deployment(replicas: i32, strategy: &Value) -> Deployment {
    let spec = json!({"replicas": replicas, "strategy": strategy, "selector": {}, "template": {}});
    serde_json::from_value(json!({"metadata": {"name": "d", "generation": 1}, "spec": spec})).unwrap()
}

fn set(name: &str, asked: i32, has: i32, available: i32, told: i32) -> ReplicaSet {
    let annotations = json!({revision::DESIRED: told.to_string(), revision::MOST: told.to_string()});
    let metadata =
        json!({"name": name, "creationTimestamp": "2026-01-01T00:00:00Z", "annotations": annotations});
    serde_json::from_value(json!({"metadata": metadata, "spec": {"replicas": asked, "selector": {}},
        "status": {"replicas": has, "availableReplicas": available}}))
    .unwrap()
}

fn view<'a>(deployment: &'a Deployment, new: Option<ReplicaSet>, old: Vec<ReplicaSet>) -> View<'a> {
    let old_run = old.iter().any(|set| has(set) > 0);
    View { deployment, new: new.map(Arc::new), old: old.into_iter().map(Arc::new).collect(), old_run }
}

fn scales(plan: &Plan) -> Vec<(String, i32)> {
    plan.scale.iter().map(|(set, count)| (set.name_any(), *count)).collect()
}

#[test]
fn bounds_are_rounded_and_never_both_nothing() {
    let of = |replicas, surge: Value, unavailable: Value| {
        let rolling = json!({"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}});
        bounds(&deployment(replicas, &rolling))
    };
    assert_eq!(of(3, json!("25%"), json!("25%")), (1, 0));
    assert_eq!(of(10, json!("25%"), json!("25%")), (3, 2));
    assert_eq!(of(3, json!(0), json!("1%")), (0, 1));
    assert_eq!(of(3, json!(2), json!(9)), (2, 3));
    assert_eq!(bounds(&deployment(4, &json!({"type": "Recreate"}))), (0, 4));
}

#[test]
fn new_pods_come_before_old_ones_go() {
    let quarter = deployment(3, &json!({}));
    assert_eq!(view(&quarter, None, vec![]).plan().create, Some(3));
    let old = || vec![set("old", 3, 3, 3, 3)];
    assert_eq!(view(&quarter, None, old()).plan().create, Some(1));
    let new = |asked, available| Some(set("new", asked, asked, available, 3));
    assert_eq!(view(&quarter, new(1, 0), old()).plan(), Plan::default(), "it waits for the new one");
    assert_eq!(scales(&view(&quarter, new(1, 1), old()).plan()), [("old".into(), 2)]);
    // The old one's third pod is not gone yet: four are there.
    assert_eq!(view(&quarter, new(1, 1), vec![set("old", 2, 3, 2, 3)]).plan(), Plan::default());
    assert_eq!(scales(&view(&quarter, new(1, 1), vec![set("old", 2, 2, 2, 3)]).plan()), [("new".into(), 2)]);
    // Pods that never became ready go first.
    assert_eq!(scales(&view(&quarter, new(1, 1), vec![set("old", 3, 3, 0, 3)]).plan()), [("old".into(), 2)]);
}

#[test]
fn recreating_waits_for_the_last_old_pod() {
    let all = deployment(2, &json!({"type": "Recreate"}));
    assert_eq!(scales(&view(&all, None, vec![set("old", 2, 2, 2, 2)]).plan()), [("old".into(), 0)]);
    assert_eq!(view(&all, None, vec![set("old", 0, 1, 0, 2)]).plan(), Plan::default());
    assert_eq!(view(&all, None, vec![set("old", 0, 0, 0, 2)]).plan().create, Some(2));
}

#[test]
fn another_number_is_shared_in_the_middle_of_a_rollout() {
    let ten = deployment(10, &json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 2}}));
    let sets = (Some(set("new", 3, 3, 3, 5)), vec![set("old", 2, 2, 2, 5)]);
    assert_eq!(scales(&view(&ten, sets.0, sets.1).plan()), [("new".into(), 6), ("old".into(), 4)]);
    // Where nothing is left to share, they are told all the same: it would be shared for ever else.
    let full = deployment(3, &json!({"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}));
    let told = view(&full, Some(set("new", 1, 1, 0, 2)), vec![set("old", 3, 3, 3, 3)]).plan();
    assert_eq!(scales(&told), [("old".into(), 3), ("new".into(), 1)]);
    let one = view(&ten, Some(set("new", 5, 5, 5, 5)), vec![set("old", 0, 0, 0, 5)]);
    assert_eq!(scales(&one.plan()), [("new".into(), 10)]);
}

#[test]
fn the_history_forgets_the_oldest_that_are_empty() {
    let mut limited = deployment(1, &json!({}));
    limited.spec.as_mut().unwrap().revision_history_limit = Some(1);
    let old = |name: &str, revision: &str, has: i32| {
        let mut set = set(name, 0, has, 0, 1);
        set.annotations_mut().insert(revision::REVISION.into(), revision.into());
        set
    };
    let all = view(&limited, None, vec![old("a", "9", 0), old("b", "10", 0), old("c", "2", 1)]);
    let names: Vec<_> = forgotten(&all).iter().map(|set| set.name_any()).collect();
    assert_eq!(names, ["a"], "of the two oldest one has pods");
}

proptest! {
    /// Whatever the numbers, and however pods come and go: no step goes beyond the bounds, and it comes to its end.
    #[test]
    fn a_rollout_keeps_its_bounds_and_ends(
        replicas in 0..12_i32, surge in 0..5_i32, missing in 0..5_i32, ready in proptest::collection::vec(any::<bool>(), 64),
    ) {
        let rolling = json!({"rollingUpdate": {"maxSurge": surge, "maxUnavailable": missing}});
        let it = deployment(replicas, &rolling);
        let (surge, missing) = bounds(&it);
        let mut new: Option<ReplicaSet> = None;
        let mut old = set("old", replicas, replicas, replicas, replicas);
        for step in 0..400 {
            let plan = view(&it, new.clone(), vec![old.clone()]).plan();
            if let Some(count) = plan.create {
                new = Some(set("new", count, 0, 0, replicas));
            }
            for (which, count) in &plan.scale {
                let one = if which.name_any() == "new" { new.as_mut().unwrap() } else { &mut old };
                one.spec.as_mut().unwrap().replicas = Some(*count);
            }
            let total = |set: &ReplicaSet| asked(set).max(has(set));
            prop_assert!(total(&old) + new.as_ref().map_or(0, total) <= replicas + surge.max(0));
            let kept = |set: &ReplicaSet| available(set).min(asked(set));
            prop_assert!(kept(&old) + new.as_ref().map_or(0, kept) >= replicas - missing);
            // Sets follow now and then; their pods become ready now and then.
            if ready[step % 64] || step > 100 {
                for one in std::iter::once(&mut old).chain(new.as_mut()) {
                    let count = asked(one);
                    let status = one.status.as_mut().unwrap();
                    let known = status.replicas;
                    status.replicas = count;
                    status.available_replicas = Some(count.min(if ready[(step + 7) % 64] || step > 100 { count } else { known }));
                }
            }
        }
        prop_assert_eq!((asked(&old), new.as_ref().map(asked)), (0, Some(replicas)));
    }
}
