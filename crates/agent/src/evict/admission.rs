//! Pods that do not begin while the node is short of something.

use k8s_openapi::api::core::v1::Pod;

use super::Pressure;
use crate::pod::resources::Qos;

/// Pods of this priority keep the node or the cluster going.
const CRITICAL: i32 = 2_000_000_000;
/// The taint of nodes that are short of memory.
const TAINT: &str = "node.kubernetes.io/memory-pressure";

/// Why a pod that has not begun does not, in a kubelet's words.
pub(crate) fn refusal(pod: &Pod, pressures: &[Pressure]) -> Option<String> {
    if pressures.is_empty() || is_critical(pod) {
        return None;
    }
    // What asks for memory has it; what asks for nothing would take it from others.
    if pressures == [Pressure::Memory] && (Qos::of(pod) != Qos::BestEffort || tolerates(pod)) {
        return None;
    }
    let names: Vec<&str> = pressures.iter().map(|one| one.name()).collect();
    Some(format!("The node had condition: [{}]. ", names.join(" ")))
}

/// Whether the node or the cluster needs the pod.
pub(crate) fn is_critical(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.priority).is_some_and(|priority| priority >= CRITICAL)
}

fn tolerates(pod: &Pod) -> bool {
    let all = pod.spec.iter().flat_map(|spec| spec.tolerations.iter().flatten());
    all.clone().any(|one| {
        let key = one.key.as_deref().unwrap_or_default();
        let effect = one.effect.as_deref().unwrap_or_default();
        let is_any = key.is_empty() && one.operator.as_deref() == Some("Exists");
        (is_any || key == TAINT) && matches!(effect, "" | "NoSchedule")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn who_asks_for_nothing_does_not_begin_without_memory() {
        let pod = |spec: Value| serde_json::from_value::<Pod>(json!({"spec": spec})).unwrap();
        let none = pod(json!({"containers": [{"name": "c"}]}));
        let asks = pod(json!({"containers": [{"name": "c", "resources": {"requests": {"memory": "1Mi"}}}]}));
        let tolerant = pod(
            json!({"containers": [{"name": "c"}], "tolerations": [{"key": TAINT, "operator": "Exists"}]}),
        );
        let critical = pod(json!({"containers": [{"name": "c"}], "priority": CRITICAL}));
        let refused = |pod: &Pod, all: &[Pressure]| refusal(pod, all).is_some();
        assert_eq!([&none, &asks, &tolerant, &critical].map(|pod| refused(pod, &[])), [false; 4]);
        let memory = [Pressure::Memory];
        assert_eq!(
            [&none, &asks, &tolerant, &critical].map(|pod| refused(pod, &memory)),
            [true, false, false, false]
        );
        let both = [Pressure::Memory, Pressure::Disk];
        assert_eq!(
            [&none, &asks, &tolerant, &critical].map(|pod| refused(pod, &both)),
            [true, true, true, false]
        );
        assert_eq!(refusal(&none, &both).unwrap(), "The node had condition: [MemoryPressure DiskPressure]. ");
    }
}
