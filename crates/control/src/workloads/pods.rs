//! What is asked of pods everywhere: whether they run, are ready, and for how long.

use k8s_openapi::api::core::v1::{Pod, PodCondition, PodTemplateSpec};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use serde_json::{Value, json};

/// The letters of names that are made: no vowels, so that no words come of it.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// How far a pod has come.
pub(super) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// The node that a pod is on.
pub(super) fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|node| !node.is_empty())
}

/// Whether it has ended, and will not begin again.
pub(super) fn is_over(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether it is being deleted.
pub(super) fn is_going(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Whether it counts: it has not ended, and nobody has it end.
pub(super) fn is_active(pod: &Pod) -> bool {
    !is_over(pod) && !is_going(pod)
}

/// A condition of a pod.
pub(super) fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

/// Since when a pod is ready, if it is.
pub(super) fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|ready| ready.status == "True")?;
    Some(ready.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |at| at.0))
}

/// Whether its condition `Ready` says so.
pub(super) fn is_ready(pod: &Pod) -> bool {
    ready_since(pod).is_some()
}

/// Whether a pod has been ready for so many seconds; if it is ready and has not, how long it takes yet.
pub(super) fn available(pod: &Pod, seconds: i32, now: Timestamp) -> Result<(), Option<SignedDuration>> {
    let since = ready_since(pod).ok_or(None)?;
    let left = SignedDuration::from_secs(seconds.into()) - now.duration_since(since);
    if seconds == 0 || left <= SignedDuration::ZERO { Ok(()) } else { Err(Some(left)) }
}

/// How often its containers have been started again.
pub(super) fn restarts(pod: &Pod) -> i32 {
    let status = pod.status.as_ref();
    let all = status.into_iter().flat_map(|status| {
        let main = status.container_statuses.iter().flatten();
        main.chain(status.init_container_statuses.iter().flatten())
    });
    all.map(|container| container.restart_count).sum()
}

/// A number by chance.
pub(super) fn chance() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    // Keys of hash maps are the standard library's only source of chance.
    std::hash::RandomState::new().build_hasher().finish()
}

/// A name that nothing has yet, as the server makes it of a `generateName`.
pub(super) fn name(base: &str) -> String {
    let mut number = chance();
    let mut name = base[..base.floor_char_boundary(58)].to_owned();
    for _ in 0..5 {
        let at = usize::try_from(number % 27).unwrap_or_default();
        name.push(char::from(LETTERS[at]));
        number /= 27;
    }
    name
}

/// A number as Kubernetes writes hashes in names.
pub(super) fn encode(number: u32) -> String {
    number.to_string().bytes().map(|digit| char::from(LETTERS[usize::from(digit) % LETTERS.len()])).collect()
}

/// FNV-1a of 32 bits.
pub(super) fn fnv(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// A pod of a template, named after `base`, which belongs to `owner`.
pub(super) fn of_template(template: &PodTemplateSpec, base: &str, owner: Value) -> Value {
    let meta = template.metadata.clone().unwrap_or_default();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "generateName": base, "name": name(base), "labels": meta.labels, "annotations": meta.annotations,
            "finalizers": meta.finalizers, "ownerReferences": [owner],
        },
        "spec": template.spec,
    })
}

/// Whether a pod has all labels of its template.
pub(super) fn is_labelled_as(pod: &Pod, template: Option<&PodTemplateSpec>) -> bool {
    let labels = template.and_then(|template| template.metadata.as_ref()?.labels.as_ref());
    labels.into_iter().flatten().all(|(key, value)| pod.labels().get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_new_and_short_enough() {
        let (one, other) = (name("web-"), name("web-"));
        assert!(one.starts_with("web-") && one.len() == 9 && one != other, "{one} {other}");
        assert_eq!(name(&"x".repeat(80)).len(), 63);
        // As Kubernetes' own hash function and encoding have them.
        assert_eq!(fnv(b"hello"), 0x4f9f_2cab);
        assert_eq!(encode(1_234_567_890), "56789bcdf4");
    }
}
