//! What happens to pods: as the runtime tells it, or as two looks differ where it tells nothing (containerd before 1.7).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cri::contract::v1::*;
use grpc::Code;
use tokio::time::Instant;

use super::{Failed, Runtime};
use crate::names::Key;

/// Between two attempts, and between two looks: as often as a kubelet looks.
const AGAIN: Duration = Duration::from_secs(1);

/// All sandboxes and containers, by their ids: whose each is, and its state.
type Look = BTreeMap<String, (Key, i32)>;

impl Runtime {
    /// Calls `changed` for each pod that something happens to, and `lost` whenever it was not known for a while what happened.
    pub(crate) async fn follow(&self, changed: impl Fn(Key), lost: impl AsyncFn()) -> ! {
        let mut told = false;
        loop {
            let events = match self.endless().await {
                Ok(client) => client.get_container_events(GetEventsRequest {}).await,
                Err(error) => Err(error),
            };
            match events {
                Ok(mut events) => {
                    lost().await;
                    told = false;
                    let began = Instant::now();
                    let mut has_told = false;
                    // Some refuse only once they are asked for the first one; CRI-O has nothing to tell, and says so at once.
                    let refused = loop {
                        match events.next().await {
                            Ok(Some(event)) => {
                                has_told = true;
                                self.tell(&event, &changed, &lost).await;
                            }
                            Ok(None) => break !has_told && began.elapsed() < AGAIN,
                            Err(error) => break error.code() == Code::Unimplemented,
                        }
                    };
                    if refused {
                        self.look(&changed, &lost).await;
                    }
                }
                Err(error) if error.code() == Code::Unimplemented => self.look(&changed, &lost).await,
                Err(error) if !std::mem::replace(&mut told, true) => {
                    eprintln!(
                        "sextant agent: warning: cannot follow the runtime's events, and tries again: {error}"
                    );
                }
                Err(_) => {}
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn tell(&self, event: &ContainerEventResponse, changed: &impl Fn(Key), lost: &impl AsyncFn()) {
        let sandbox = event.pod_sandbox_status.as_ref().map(|status| &status.labels);
        let container = event.containers_statuses.first().map(|status| &status.labels);
        match sandbox.or(container).filter(|labels| !labels.is_empty()) {
            // Those of another agent are nothing to this one.
            Some(labels) => self.key(labels).into_iter().for_each(changed),
            // It does not say whose it is: the container is gone, most likely.
            None => lost().await,
        }
    }

    /// Looks again and again, until the runtime does not answer: another one may be there after that.
    async fn look(&self, changed: &impl Fn(Key), lost: &impl AsyncFn()) {
        let Ok(mut before) = self.all().await else { return };
        lost().await;
        loop {
            tokio::time::sleep(AGAIN).await;
            let Ok(now) = self.all().await else { return };
            differing(&before, &now).into_iter().for_each(changed);
            before = now;
        }
    }

    async fn all(&self) -> Result<Look, Failed> {
        let client = self.client().await?;
        let filter = PodSandboxFilter { label_selector: self.selector(None), ..Default::default() };
        let sandboxes = client.list_pod_sandbox(ListPodSandboxRequest { filter: Some(filter) });
        let filter = ContainerFilter { label_selector: self.selector(None), ..Default::default() };
        let containers = client.list_containers(ListContainersRequest { filter: Some(filter) });
        let (sandboxes, containers) = futures_util::try_join!(sandboxes, containers)?;
        let sandboxes = sandboxes.items.into_iter().map(|one| (one.id, one.labels, one.state));
        let containers = containers.containers.into_iter().map(|one| (one.id, one.labels, one.state));
        let all = sandboxes.chain(containers);
        Ok(all.filter_map(|(id, labels, state)| Some((id, (self.key(&labels)?, state)))).collect())
    }
}

/// The pods of which something came, went, or is in another state.
fn differing(before: &Look, now: &Look) -> BTreeSet<Key> {
    let is_new = |of: &Look, id: &String, one: &(Key, i32)| of.get(id) != Some(one);
    let came = now.iter().filter(|(id, one)| is_new(before, id, one));
    let went = before.iter().filter(|(id, one)| is_new(now, id, one));
    came.chain(went).map(|(_, (key, _))| key.clone()).collect()
}

#[cfg(test)]
mod tests {
    use client::cache::Name;

    use super::*;

    #[test]
    fn two_looks_tell_which_pods_have_changed() {
        let key = |name: &str| Key { name: Name::new("default", name), uid: name.into() };
        let look = |all: &[(&str, &str, i32)]| -> Look {
            all.iter().map(|(id, pod, state)| ((*id).to_owned(), (key(pod), *state))).collect()
        };
        let before = look(&[("1", "same", 0), ("2", "ends", 1), ("3", "goes", 1), ("4", "same", 1)]);
        let now = look(&[("1", "same", 0), ("2", "ends", 2), ("4", "same", 1), ("5", "comes", 0)]);
        assert_eq!(differing(&before, &now), ["comes", "ends", "goes"].map(key).into());
        assert!(differing(&now, &now).is_empty());
    }
}
