//! What drivers say of their volumes' health, told to those who have claimed them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use client::cache::Name;
use csi::caller::Driver;
use csi::contract::v1::controller_service_capability::rpc::Type as Call;
use csi::contract::v1::{ControllerGetVolumeRequest, VolumeCondition};
use futures_util::StreamExt as _;
use futures_util::stream::iter;
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::ListParams;

use super::Context;
use super::claims::{Bound, driver as of, owner};
use super::here::is_here;

/// How often a driver is asked for single volumes.
const ASK: Duration = Duration::from_secs(60);
/// How often it is asked for a list of all.
const ASK_FOR_ALL: Duration = Duration::from_secs(300);
/// How many volumes are asked for at the same time.
const AT_ONCE: usize = 10;

const ABNORMAL: &str = "VolumeConditionAbnormal";
const NORMAL: &str = "VolumeConditionNormal";

struct Monitor {
    context: Arc<Context>,
    /// Claims, by uid, of which something wrong was told last.
    abnormal: Mutex<BTreeSet<String>>,
}

/// Asks each driver when it has come, and now and then while it is there, until it is dropped.
pub(super) async fn run(context: Arc<Context>) {
    let monitor = Monitor { abnormal: Mutex::new(told_before(&context).await), context };
    let drivers = monitor.context.drivers.clone();
    drivers.each(|driver| monitor.follow(driver)).await;
}

/// Of which claims the process before this one has told something wrong, as far as its events are kept.
async fn told_before(context: &Context) -> BTreeSet<String> {
    let api: Api<Event> = Api::all(context.client.clone());
    let mut last: BTreeMap<String, (_, bool)> = BTreeMap::new();
    for reason in [ABNORMAL, NORMAL] {
        let query = ListParams::default().fields(&format!("reason={reason}"));
        // Without them a recovery is not told: that is all that is lost.
        let events = api.list(&query).await.map(|events| events.items).unwrap_or_default();
        for event in events {
            let series = event.series.and_then(|series| series.last_observed_time);
            let at = series.or(event.event_time).map(|at| at.0).max(event.last_timestamp.map(|at| at.0));
            let Some(claim) = event.involved_object.uid else { continue };
            let entry = last.entry(claim).or_insert((at, reason == ABNORMAL));
            if at >= entry.0 {
                *entry = (at, reason == ABNORMAL);
            }
        }
    }
    last.into_iter().filter(|(_, (_, is_abnormal))| *is_abnormal).map(|(claim, _)| claim).collect()
}

impl Monitor {
    async fn follow(&self, driver: Arc<Driver>) {
        if !driver.controls(Call::VolumeCondition) {
            return;
        }
        // One call for all is less than one for each.
        let lists = driver.controls(Call::ListVolumes);
        if !lists && !driver.controls(Call::GetVolume) {
            return;
        }
        loop {
            let its = self.context.volumes.find(|volume| {
                of(volume) == Some(&driver.name) && volume.metadata.deletion_timestamp.is_none()
            });
            let claims: Vec<Name> =
                its.iter().filter_map(|volume| owner(volume)).map(|(name, _)| name).collect();
            if lists {
                if !claims.is_empty() {
                    self.ask_for_all(&driver, claims).await;
                }
                tokio::time::sleep(ASK_FOR_ALL).await;
            } else {
                iter(claims).for_each_concurrent(AT_ONCE, |claim| self.ask_for(&driver, claim)).await;
                tokio::time::sleep(ASK).await;
            }
        }
    }

    async fn ask_for_all(&self, driver: &Driver, claims: Vec<Name>) {
        let volumes = match driver.volumes().await {
            Ok(volumes) => volumes,
            Err(error) => {
                eprintln!("sextant control: warning: driver {}: {error}", driver.name);
                return;
            }
        };
        let entries = volumes
            .into_iter()
            .filter_map(|entry| Some((entry.volume?.volume_id, entry.status?.volume_condition?)));
        let conditions: BTreeMap<String, VolumeCondition> = entries.collect();
        for claim in claims {
            let Some((bound, id)) = self.bound(&claim) else { continue };
            if let Some(condition) = conditions.get(&id) {
                self.tell(&bound, condition).await;
            }
        }
    }

    async fn ask_for(&self, driver: &Driver, claim: Name) {
        let Some((bound, volume_id)) = self.bound(&claim) else { return };
        // Where each node has its own driver, the one of another node does not know it.
        if !is_here(&self.context, &bound.volume).await.unwrap_or_default() {
            return;
        }
        // A driver that does not answer says nothing of a volume.
        let answer = driver.client.controller_get_volume(ControllerGetVolumeRequest { volume_id }).await;
        let status = answer.ok().and_then(|answer| answer.status);
        if let Some(condition) = status.and_then(|status| status.volume_condition) {
            self.tell(&bound, &condition).await;
        }
    }

    /// A claim with its volume, and what the driver calls that.
    fn bound(&self, claim: &Name) -> Option<(Bound, String)> {
        let bound = Bound::find(&self.context, claim)?;
        let id = bound.volume.spec.as_ref()?.csi.as_ref()?.volume_handle.clone();
        Some((bound, id))
    }

    /// Tells what is wrong, each time, so that the event is kept; and once that nothing is any more.
    async fn tell(&self, bound: &Bound, condition: &VolumeCondition) {
        let was_abnormal = {
            let mut abnormal = self.abnormal.lock().unwrap_or_else(PoisonError::into_inner);
            match condition.abnormal {
                true => !abnormal.insert(bound.uid().to_owned()),
                false => abnormal.remove(bound.uid()),
            }
        };
        if condition.abnormal {
            self.context.events.warning(&*bound.claim, ABNORMAL, condition.message.clone()).await;
        } else if was_abnormal {
            let text = format!("nothing is wrong with volume {} any more", bound.volume_name());
            self.context.events.normal(&*bound.claim, NORMAL, text).await;
        }
    }
}
