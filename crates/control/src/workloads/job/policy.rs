//! What a Job's `podFailurePolicy` says of a pod that has failed.

use k8s_openapi::api::batch::v1::{Job, PodFailurePolicyRule};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use super::count;
use crate::workloads::pods;

/// What comes of the failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It counts.
    Count,
    /// It counts for nothing.
    Ignore,
    /// The pod's index has failed.
    FailIndex,
    /// The Job has failed, and why.
    FailJob(String),
}

/// The first rule that holds of a failed pod.
pub(super) fn verdict(job: &Job, pod: &Pod) -> Verdict {
    let rules =
        job.spec.as_ref().and_then(|spec| spec.pod_failure_policy.as_ref()).map(|policy| &policy.rules);
    if pods::phase(pod) != "Failed" {
        return Verdict::Count;
    }
    for (at, rule) in rules.into_iter().flatten().enumerate() {
        let Some(what) = holds(rule, pod) else { continue };
        return match rule.action.as_str() {
            "Ignore" => Verdict::Ignore,
            "FailIndex" if count::limit(job).is_some() => Verdict::FailIndex,
            "FailJob" => Verdict::FailJob(format!("{what} matching FailJob rule at index {at}")),
            _ => Verdict::Count,
        };
    }
    Verdict::Count
}

fn holds(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let name = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
    if let Some(asked) = &rule.on_exit_codes {
        let status = pod.status.as_ref()?;
        let all =
            status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten());
        for container in all.filter(|one| asked.container_name.as_ref().is_none_or(|name| *name == one.name))
        {
            let Some(code) =
                container.state.as_ref().and_then(|state| Some(state.terminated.as_ref()?.exit_code))
            else {
                continue;
            };
            // One that has succeeded has not failed, whatever is asked.
            if code != 0 && asked.values.contains(&code) == (asked.operator == "In") {
                return Some(format!(
                    "Container {} for pod {name} failed with exit code {code}",
                    container.name
                ));
            }
        }
        return None;
    }
    let asked = rule.on_pod_conditions.iter().flatten();
    let mut held = asked.filter_map(|one| {
        let status = one.status.as_deref().unwrap_or("True");
        pods::condition(pod, &one.type_).filter(|condition| condition.status == status)
    });
    held.next().map(|condition| format!("Pod {name} has condition {}", condition.type_))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_rule_that_holds_decides() {
        let job: Job =
            serde_json::from_value(json!({"spec": {"template": {}, "podFailurePolicy": {"rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "FailJob", "onExitCodes": {"containerName": "main", "operator": "In", "values": [42]}},
            {"action": "Count", "onExitCodes": {"operator": "NotIn", "values": [1]}}]}}}))
            .unwrap();
        let pod = |code: i32, disrupted: &str| -> Pod {
            serde_json::from_value(
                json!({"metadata": {"name": "p", "namespace": "n"}, "status": {"phase": "Failed",
                "conditions": [{"type": "DisruptionTarget", "status": disrupted}], "containerStatuses": [
                {"name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                 "state": {"terminated": {"exitCode": code}}}]}}),
            )
            .unwrap()
        };
        assert_eq!(verdict(&job, &pod(42, "True")), Verdict::Ignore);
        let why = "Container main for pod n/p failed with exit code 42 matching FailJob rule at index 1";
        assert_eq!(verdict(&job, &pod(42, "False")), Verdict::FailJob(why.into()));
        assert_eq!(verdict(&job, &pod(1, "False")), Verdict::Count);
    }
}
