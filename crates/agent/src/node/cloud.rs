//! What a node is registered with whose machine a cloud provider describes: as a kubelet with `--cloud-provider=external` does it.

use serde_json::{Value, json};

use crate::Cloud;

/// Nothing is scheduled on a node with this taint; the provider's controller takes it away once it has described the node.
const UNINITIALIZED: &str = "node.cloudprovider.kubernetes.io/uninitialized";
/// Which of the machine's addresses the node's is to be.
const PROVIDED: &str = "alpha.kubernetes.io/provided-node-ip";

/// The specification of a node that is new. One that is there keeps what it has: it may have been described already.
pub(super) fn spec(cloud: &Cloud) -> Value {
    let taint = json!({"key": UNINITIALIZED, "value": "true", "effect": "NoSchedule"});
    json!({"providerID": cloud.provider_id, "taints": cloud.is_external.then_some([taint])})
}

/// The node's annotations; `is_there`: in a merge patch of one that is there, which takes back what is said no more.
pub(super) fn annotations(cloud: &Cloud, is_there: bool) -> Option<Value> {
    let address = cloud.address.map(|address| address.to_string());
    (cloud.is_external && (is_there || address.is_some())).then(|| json!({PROVIDED: address}))
}

/// Whether the agent says the node's addresses: not those of a provider's node that has some, nor of one for which none was named.
pub(super) fn says_addresses(cloud: &Cloud, has_some: bool) -> bool {
    !cloud.is_external || (!has_some && cloud.address.is_some())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Node;

    use super::*;

    fn external(address: Option<&str>) -> Cloud {
        let address = address.map(|text| text.parse().unwrap());
        Cloud { is_external: true, provider_id: Some("stand://7".into()), address }
    }

    #[test]
    fn a_node_of_a_provider_waits_for_it_and_another_does_not() {
        let node: Node = serde_json::from_value(json!({"spec": spec(&external(None))})).unwrap();
        let its = node.spec.unwrap();
        assert_eq!(its.provider_id.as_deref(), Some("stand://7"));
        let taints = its.taints.unwrap();
        let [taint] = taints.as_slice() else { panic!("{taints:?}") };
        assert_eq!((taint.key.as_str(), taint.effect.as_str()), (UNINITIALIZED, "NoSchedule"));
        assert_eq!(taint.value.as_deref(), Some("true"));
        let node: Node = serde_json::from_value(json!({"spec": spec(&Cloud::default())})).unwrap();
        let its = node.spec.unwrap();
        assert_eq!((its.provider_id, its.taints), (None, None));
        // An id may be known where no provider is.
        let known = Cloud { provider_id: Some("stand://7".into()), ..Cloud::default() };
        assert_eq!(spec(&known), json!({"providerID": "stand://7", "taints": null}));
    }

    #[test]
    fn the_address_that_was_named_is_told_and_taken_back() {
        let named = Some(json!({"alpha.kubernetes.io/provided-node-ip": "192.0.2.7"}));
        for is_there in [false, true] {
            assert_eq!(annotations(&external(Some("192.0.2.7")), is_there), named);
            let own = Cloud { is_external: false, ..external(Some("192.0.2.7")) };
            assert_eq!(annotations(&own, is_there), None, "whatever the node has of it is somebody else's");
        }
        assert_eq!(annotations(&external(None), false), None);
        let taken = Some(json!({"alpha.kubernetes.io/provided-node-ip": null}));
        assert_eq!(annotations(&external(None), true), taken);
    }

    #[test]
    fn addresses_are_the_providers_once_it_has_said_them() {
        for (cloud, has_some, says) in [
            (Cloud::default(), false, true),
            (Cloud::default(), true, true),
            (external(Some("192.0.2.7")), false, true),
            (external(Some("192.0.2.7")), true, false),
            (external(None), false, false),
            (external(None), true, false),
        ] {
            assert_eq!(says_addresses(&cloud, has_some), says, "{cloud:?}, {has_some}");
        }
    }
}
