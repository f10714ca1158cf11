//! What the containers of a pod request in all, and the class of its quality of service.

use super::resources::quantity;
use crate::contract::quantity::Quantity;
use crate::kinds::base::Fields;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

type Amounts = BTreeMap<String, Quantity>;

fn amounts(container: &Value, field: &str) -> Amounts {
    let entries = container.field("resources").entries(field);
    entries.filter_map(|(name, value)| Some((name.to_owned(), quantity(value)?))).collect()
}

fn add(sum: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let whole = sum.get(name).map_or_else(|| amount.clone(), |sum| sum.plus(amount));
        sum.insert(name.clone(), whole);
    }
}

fn most(most: &mut Amounts, other: Amounts) {
    for (name, amount) in other {
        if most.get(&name).is_none_or(|most| *most < amount) {
            most.insert(name, amount);
        }
    }
}

/// `requests` or `limits` of all containers: those that run together are added; of those that run before only the largest
/// counts, beside the sidecars that run already.
#[must_use]
pub(in crate::kinds) fn sum(spec: &Map<String, Value>, field: &str) -> Amounts {
    let mut whole = Amounts::new();
    for container in spec.list("containers") {
        add(&mut whole, &amounts(container, field));
    }
    let (mut sidecars, mut before) = (Amounts::new(), Amounts::new());
    for container in spec.list("initContainers") {
        let own = amounts(container, field);
        if container.text("restartPolicy") == "Always" {
            add(&mut whole, &own);
            add(&mut sidecars, &own);
            most(&mut before, sidecars.clone());
        } else {
            let mut together = own;
            add(&mut together, &sidecars);
            most(&mut before, together);
        }
    }
    most(&mut whole, before);
    whole
}

/// `Guaranteed`, `Burstable` or `BestEffort`.
#[must_use]
pub(in crate::kinds) fn class(spec: &Map<String, Value>) -> &'static str {
    let whole = spec.field("resources");
    let (mut requests, mut limits, mut guaranteed) = (Amounts::new(), Amounts::new(), true);
    let owner =
        Value::Object(Map::from_iter([("resources".to_owned(), whole.cloned().unwrap_or(Value::Null))]));
    let counted: Vec<&Value> = match whole {
        Some(_) => vec![&owner],
        None => spec.list("containers").iter().chain(spec.list("initContainers")).collect(),
    };
    let positive = |container: &Value, field: &str| {
        let mut found = amounts(container, field);
        found.retain(|name, amount| {
            matches!(name.as_str(), "cpu" | "memory") && !amount.is_zero() && !amount.is_negative()
        });
        found
    };
    for container in counted {
        add(&mut requests, &positive(container, "requests"));
        let own = positive(container, "limits");
        guaranteed &= own.len() == 2;
        add(&mut limits, &own);
    }
    if requests.is_empty() && limits.is_empty() {
        "BestEffort"
    } else if guaranteed && requests == limits {
        "Guaranteed"
    } else {
        "Burstable"
    }
}
