//! What people call pods and their containers.

use cri::contract::v1::{Container, PodSandbox, PodSandboxState};

use crate::output::short;

/// What a runtime holds.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) pods: Vec<PodSandbox>,
    pub(crate) containers: Vec<Container>,
}

impl Held {
    /// The pod that `text` means: NAMESPACE/NAME, NAME if only one pod is called so, or the beginning of an id. Of
    /// sandboxes that one pod had after the other it is the one that is ready, or the youngest.
    pub(crate) fn pod(&self, text: &str) -> Result<&PodSandbox, String> {
        let named = |pod: &&PodSandbox| {
            let metadata = pod.metadata.as_ref();
            pod_name(pod) == text || metadata.is_some_and(|m| m.name == text)
        };
        if let Some(pod) = self.pods.iter().find(|pod| pod.id == text) {
            return Ok(pod);
        }
        let mut found: Vec<&PodSandbox> = self.pods.iter().filter(named).collect();
        if found.is_empty() && !text.is_empty() {
            found = self.pods.iter().filter(|pod| pod.id.starts_with(text)).collect();
        } else {
            found = latest(found, pod_name, |pod| (is_ready(pod), pod.created_at));
        }
        match found[..] {
            [pod] => Ok(pod),
            [] => Err(format!("no pod {text:?} is here (see `sextant pods -a`)")),
            _ => {
                let all: Vec<_> =
                    found.iter().map(|pod| format!("{} ({})", pod_name(pod), short(&pod.id))).collect();
                Err(format!(
                    "the pod {text:?} may be {}: give NAMESPACE/NAME, or more of the id",
                    all.join(" or ")
                ))
            }
        }
    }

    /// The container of `pod` that is called `name`, in its last attempt; without a name the pod's only one.
    pub(crate) fn container_of(&self, pod: &PodSandbox, name: Option<&str>) -> Result<&Container, String> {
        let of_pod = self.containers.iter().filter(|c| c.pod_sandbox_id == pod.id).collect();
        let mut all = latest(of_pod, |c| container_name(c).to_owned(), attempt);
        all.sort_by_key(|c| container_name(c));
        let whose = pod_name(pod);
        let names: Vec<&str> = all.iter().map(|c| container_name(c)).collect();
        match (name, &all[..]) {
            (_, []) => Err(format!("pod {whose} has no containers")),
            (None, [only]) => Ok(only),
            (None, _) => {
                Err(format!("pod {whose} has several containers: say which by -c: {}", names.join(", ")))
            }
            (Some(name), _) => {
                all.iter().find(|c| container_name(c) == name).copied().ok_or_else(|| {
                    format!("pod {whose} has no container {name:?}: it has {}", names.join(", "))
                })
            }
        }
    }

    /// The container that `text` means: an id, a name if only one pod has a container that is called so, or the
    /// beginning of an id.
    pub(crate) fn container(&self, text: &str) -> Result<&Container, String> {
        if let Some(container) = self.containers.iter().find(|c| c.id == text) {
            return Ok(container);
        }
        let mut found: Vec<&Container> =
            self.containers.iter().filter(|c| container_name(c) == text).collect();
        if found.is_empty() && !text.is_empty() {
            found = self.containers.iter().filter(|c| c.id.starts_with(text)).collect();
        } else {
            found = latest(found, |c| self.whose(c), |c| (self.is_of_ready_pod(c), attempt(c)));
        }
        match found[..] {
            [container] => Ok(container),
            [] => Err(format!("no container {text:?} is here (see `sextant ps -a`)")),
            _ => {
                let all: Vec<_> =
                    found.iter().map(|c| format!("{} ({})", self.full_name(c), short(&c.id))).collect();
                Err(format!(
                    "the container {text:?} may be {}: say which by --pod, or give more of the id",
                    all.join(" or ")
                ))
            }
        }
    }

    /// The container that ran before this one in its place.
    pub(crate) fn previous(&self, container: &Container) -> Result<&Container, String> {
        let (name, whose) = (container_name(container), self.whose(container));
        let earlier = self.containers.iter().filter(|c| {
            c.id != container.id
                && container_name(c) == name
                && self.whose(c) == whose
                && attempt(c) < attempt(container)
        });
        earlier.max_by_key(|c| attempt(c)).ok_or_else(|| {
            format!(
                "container {} has no previous one here: it was removed, or never was",
                self.full_name(container)
            )
        })
    }

    /// NAMESPACE/POD of a container.
    pub(crate) fn whose(&self, container: &Container) -> String {
        self.pods.iter().find(|pod| pod.id == container.pod_sandbox_id).map(pod_name).unwrap_or_default()
    }

    fn full_name(&self, container: &Container) -> String {
        format!("{}/{}", self.whose(container), container_name(container))
    }

    fn is_of_ready_pod(&self, container: &Container) -> bool {
        self.pods.iter().any(|pod| pod.id == container.pod_sandbox_id && is_ready(pod))
    }
}

/// NAMESPACE/NAME.
pub(crate) fn pod_name(pod: &PodSandbox) -> String {
    pod.metadata.as_ref().map(|m| format!("{}/{}", m.namespace, m.name)).unwrap_or_default()
}

pub(super) fn container_name(container: &Container) -> &str {
    container.metadata.as_ref().map_or("", |m| m.name.as_str())
}

fn is_ready(pod: &PodSandbox) -> bool {
    pod.state() == PodSandboxState::SandboxReady
}

/// What orders the containers that ran one after the other in one place.
fn attempt(container: &Container) -> (u32, i64) {
    (container.metadata.as_ref().map_or(0, |m| m.attempt), container.created_at)
}

/// Of those with one name the one that comes last.
fn latest<T, R: Ord>(all: Vec<&T>, name: impl Fn(&T) -> String, rank: impl Fn(&T) -> R) -> Vec<&T> {
    let last = |one: &&T| {
        let same = all.iter().filter(|other| name(other) == name(one));
        same.max_by_key(|other| rank(other)).is_some_and(|max| std::ptr::eq(*max, *one))
    };
    all.iter().copied().filter(last).collect()
}

#[cfg(test)]
mod tests {
    use cri::contract::v1::{ContainerMetadata, PodSandboxMetadata};

    use super::*;

    fn pod(id: &str, namespace: &str, name: &str, attempt: u32) -> PodSandbox {
        let metadata =
            PodSandboxMetadata { name: name.into(), namespace: namespace.into(), uid: "u".into(), attempt };
        let state =
            if attempt == 0 { PodSandboxState::SandboxNotready } else { PodSandboxState::SandboxReady };
        PodSandbox { id: id.into(), metadata: Some(metadata), state: state.into(), ..PodSandbox::default() }
    }

    fn container(id: &str, pod: &str, name: &str, attempt: u32) -> Container {
        let metadata = Some(ContainerMetadata { name: name.into(), attempt });
        Container { id: id.into(), pod_sandbox_id: pod.into(), metadata, ..Container::default() }
    }

    fn held() -> Held {
        Held {
            pods: vec![
                pod("a1", "default", "web", 0),
                pod("a2", "default", "web", 1),
                pod("b1", "prod", "web", 1),
                pod("c1", "prod", "db", 1),
            ],
            containers: vec![
                container("0a", "a1", "app", 1),
                container("1a", "a2", "app", 2),
                container("1b", "a2", "side", 0),
                container("2a", "b1", "app", 0),
                container("3a", "c1", "store", 0),
            ],
        }
    }

    #[test]
    fn a_pod_is_found_by_what_people_call_it() {
        let held = held();
        let id = |text| held.pod(text).map(|pod| pod.id.as_str());
        assert_eq!(id("default/web"), Ok("a2"), "the one that is ready");
        assert_eq!(id("db"), Ok("c1"));
        assert_eq!(id("a1"), Ok("a1"));
        assert_eq!(id("c"), Ok("c1"));
        let text = id("web").unwrap_err();
        assert!(text.contains("default/web (a2) or prod/web (b1)"), "{text}");
        assert!(id("a").unwrap_err().contains("more of the id"));
        assert!(id("").unwrap_err().contains("no pod"));
        assert!(id("default").unwrap_err().contains("no pod \"default\""));
    }

    #[test]
    fn a_pods_container_is_found_by_its_name_or_alone() {
        let held = held();
        let of = |pod, name| held.container_of(held.pod(pod).unwrap(), name).map(|c| c.id.as_str());
        assert_eq!(of("db", None), Ok("3a"));
        assert_eq!(of("default/web", Some("app")), Ok("1a"));
        assert!(of("default/web", None).unwrap_err().contains("app, side"));
        assert!(of("db", Some("app")).unwrap_err().contains("it has store"));
    }

    #[test]
    fn a_container_of_any_pod_is_found_if_only_one_is_meant() {
        let held = held();
        let id = |text| held.container(text).map(|c| c.id.as_str());
        assert_eq!(id("store"), Ok("3a"));
        assert_eq!(id("side"), Ok("1b"));
        assert_eq!(id("2"), Ok("2a"));
        let text = id("app").unwrap_err();
        assert!(text.contains("default/web/app (1a) or prod/web/app (2a)"), "{text}");
        assert!(id("1").unwrap_err().contains("--pod"));
        assert!(id("nosuch").unwrap_err().contains("no container \"nosuch\""));
    }

    #[test]
    fn the_previous_one_is_that_of_the_attempt_before() {
        let held = held();
        assert_eq!(held.previous(&held.containers[1]).map(|c| c.id.as_str()), Ok("0a"));
        assert!(held.previous(&held.containers[4]).unwrap_err().contains("prod/db/store"));
    }
}
