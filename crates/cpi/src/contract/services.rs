//! What of a service providers have to read alike.

use super::{Cidr, Service};

/// Where ranges are named that do not fit, or did not fit once, into the spec.
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

/// What Kubernetes calls the load balancer of a service, where its provider has no better name: an `a` and the uid without dashes,
/// 32 characters in all.
#[must_use]
pub fn load_balancer_name(service: &Service) -> String {
    let uid = service.metadata.uid.as_deref().unwrap_or_default();
    std::iter::once('a').chain(uid.chars().filter(|c| *c != '-')).take(32).collect()
}

/// Where, if anywhere, a node says whether it has endpoints of the service: path and port. So it is with `externalTrafficPolicy: Local`.
#[must_use]
pub fn health_check(service: &Service) -> Option<(&'static str, u16)> {
    let spec = service.spec.as_ref()?;
    let port =
        spec.health_check_node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)?;
    let is_local = spec.external_traffic_policy.as_deref() == Some("Local");
    (is_local && spec.type_.as_deref() == Some("LoadBalancer")).then_some(("/healthz", port))
}

/// A range of clients that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {value:?} is no range of addresses; write it as 10.0.0.0/8")]
pub struct SourceRangesError {
    /// Where it stands.
    pub field: &'static str,
    /// What stands there.
    pub value: String,
}

/// From where clients may come: what the spec says, else the annotation, else from anywhere, which is IPv4's anywhere alone, as in
/// Kubernetes.
///
/// # Errors
/// One of them is no range of addresses.
pub fn source_ranges(service: &Service) -> Result<Vec<Cidr>, SourceRangesError> {
    let listed = service
        .spec
        .as_ref()
        .and_then(|spec| spec.load_balancer_source_ranges.as_deref())
        .unwrap_or_default();
    let read = |field, value: &str| {
        value
            .trim()
            .parse()
            .map_err(|_| SourceRangesError { field, value: value.trim().chars().take(64).collect() })
    };
    if !listed.is_empty() {
        return listed.iter().map(|value| read("spec.loadBalancerSourceRanges", value)).collect();
    }
    let annotated = service.metadata.annotations.as_ref().and_then(|all| all.get(SOURCE_RANGES));
    let annotated = annotated.map(|text| text.trim()).filter(|text| !text.is_empty()).unwrap_or("0.0.0.0/0");
    annotated.split(',').map(|value| read(SOURCE_RANGES, value)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(object: Value) -> Service {
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn names_are_kubernetes_own() {
        let one = service(json!({"metadata": {"uid": "f7b6c1a0-1b2c-4d5e-8f90-123456789abc"}}));
        assert_eq!(load_balancer_name(&one), "af7b6c1a01b2c4d5e8f90123456789ab");
        assert_eq!(load_balancer_name(&one).len(), 32);
        assert_eq!(load_balancer_name(&service(json!({}))), "a");
    }

    #[test]
    fn health_is_asked_where_traffic_is_local() {
        let of = |kind: &str, policy: &str, port: i32| {
            health_check(&service(
                json!({"spec": {"type": kind, "externalTrafficPolicy": policy, "healthCheckNodePort": port}}),
            ))
        };
        assert_eq!(of("LoadBalancer", "Local", 30123), Some(("/healthz", 30123)));
        assert_eq!(of("LoadBalancer", "Cluster", 30123), None);
        assert_eq!(of("NodePort", "Local", 30123), None);
        assert_eq!(of("LoadBalancer", "Local", 0), None);
        assert_eq!(of("LoadBalancer", "Local", 70000), None);
    }

    #[test]
    fn clients_come_from_where_the_spec_or_the_annotation_says() {
        let of = |spec: &[&str], annotation: Option<&str>| {
            let annotations = annotation.map(|text| json!({SOURCE_RANGES: text}));
            let one =
                json!({"metadata": {"annotations": annotations}, "spec": {"loadBalancerSourceRanges": spec}});
            let ranges = source_ranges(&service(one)).map_err(|e| e.to_string());
            ranges.map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(of(&[], None).unwrap(), ["0.0.0.0/0"]);
        assert_eq!(of(&[], Some(" ")).unwrap(), ["0.0.0.0/0"]);
        assert_eq!(of(&["10.0.0.0/8", " fd00::/8 "], Some("x")).unwrap(), ["10.0.0.0/8", "fd00::/8"]);
        assert_eq!(of(&[], Some("10.0.0.0/8, 192.168.0.0/16")).unwrap(), ["10.0.0.0/8", "192.168.0.0/16"]);
        assert!(
            of(&["10.0.0.0"], None).unwrap_err().starts_with("spec.loadBalancerSourceRanges: \"10.0.0.0\"")
        );
        assert!(of(&[], Some("a,b")).unwrap_err().contains(SOURCE_RANGES));
    }
}
