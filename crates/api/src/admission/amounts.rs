//! Amounts of resources: what pods ask for in sum.

use crate::contract::Object;
use crate::contract::quantity::Quantity;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Amounts by the name of the resource.
pub(crate) type Amounts = BTreeMap<String, Quantity>;

/// The amounts of a map; what is no quantity is left out, as the rules of the kind tell it.
pub(crate) fn of(map: Option<&Value>) -> Amounts {
    let map = map.and_then(Value::as_object).into_iter().flatten();
    map.filter_map(|(name, value)| Some((name.clone(), Quantity::from_json(value).ok()?))).collect()
}

/// Adds amounts to others.
pub(crate) fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        match sum.get_mut(name) {
            Some(held) => *held = held.plus(amount),
            None => {
                sum.insert(name.clone(), amount.clone());
            }
        }
    }
}

fn raise(most: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        if most.get(name).is_none_or(|held| held < amount) {
            most.insert(name.clone(), amount.clone());
        }
    }
}

/// The containers of a list below `spec`.
pub(crate) fn containers<'a>(pod: &'a Object, field: &str) -> impl Iterator<Item = &'a Map<String, Value>> {
    let list = pod.at(&["spec", field]).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_object)
}

/// `requests` or `limits` of one container.
pub(crate) fn of_container(container: &Map<String, Value>, side: &str) -> Amounts {
    of(container.get("resources").and_then(|resources| resources.get(side)))
}

/// `requests` or `limits` of a pod: of its containers together, or of the init container that takes most. Those that go
/// on beside the others (sidecars) count with both.
pub(crate) fn of_pod(pod: &Object, side: &str) -> Amounts {
    let mut sum = Amounts::new();
    for container in containers(pod, "containers") {
        add(&mut sum, &of_container(container, side));
    }
    let mut beside = Amounts::new();
    let mut first = Amounts::new();
    for container in containers(pod, "initContainers") {
        let mut own = of_container(container, side);
        if container.get("restartPolicy").and_then(Value::as_str) == Some("Always") {
            add(&mut sum, &own);
            add(&mut beside, &own);
            own.clone_from(&beside);
        } else {
            add(&mut own, &beside);
        }
        raise(&mut first, &own);
    }
    raise(&mut sum, &first);
    for (name, amount) in of(pod.at(&["spec", "resources", side])) {
        if matches!(name.as_str(), "cpu" | "memory") {
            sum.insert(name, amount);
        }
    }
    sum
}

/// As messages have them: `cpu=1,memory=1Gi`.
pub(crate) fn shown(amounts: &Amounts) -> String {
    let list: Vec<String> = amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
    list.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn init_containers_count_when_they_take_more_and_sidecars_always() {
        let container = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let mut sidecar = container("1");
        sidecar["restartPolicy"] = "Always".into();
        let pod = Object::from_value(json!({"spec": {
            "containers": [container("500m"), container("1")],
            "initContainers": [sidecar, container("3")],
        }}))
        .expect("an object");
        assert_eq!(shown(&of_pod(&pod, "requests")), "cpu=4");
    }
}
