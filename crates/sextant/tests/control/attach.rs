//! Attachments of a driver that attaches, and of one that does not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use grpc::Code;
use k8s_openapi::api::core::v1::{PersistentVolume, Secret};
use k8s_openapi::api::storage::v1::{CSINode, VolumeAttachment};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::hand::chance;
use crate::rig::{DRIVER, NODE, Rig};
use crate::stand::{STAND_IN, StandIn, State};

const FINALIZER: &str = "external-attacher/block-example-com";
const NODE_ID: &str = "csi.alpha.kubernetes.io/node-id";

/// A machine with the stand-in, which calls the node `id-1`.
async fn with_driver() -> (Rig, StandIn) {
    let mut rig = Rig::bare().await;
    let driver = StandIn::start(rig.socket("stand-in"), State::default());
    rig.node(NODE, STAND_IN, "id-1", &[]).await;
    rig.control(&[]);
    rig.words_have("control", &format!("driver {STAND_IN} is at")).await;
    (rig, driver)
}

impl Rig {
    fn attachments(&self) -> Api<VolumeAttachment> {
        Api::all(self.client.clone())
    }

    async fn attach(&self, name: &str, volume: &str, driver: &str) {
        let source = json!({"persistentVolumeName": volume});
        self.attach_source(name, source, driver).await;
    }

    async fn attach_source(&self, name: &str, source: Value, driver: &str) {
        let spec = json!({"attacher": driver, "nodeName": NODE, "source": source});
        self.make::<VolumeAttachment>(json!({"metadata": {"name": name}, "spec": spec})).await;
    }

    async fn detach(&self, name: &str) {
        self.attachments().delete(name, &DeleteParams::default()).await.unwrap();
    }

    async fn attachment_is(
        &self,
        name: &str,
        what: &str,
        is: impl Fn(&VolumeAttachment) -> bool,
    ) -> VolumeAttachment {
        self.until(&format!("attachment {name}: {what}"), async |rig: &Rig| {
            rig.attachments().get(name).await.ok().filter(|attachment| is(attachment))
        })
        .await
    }

    async fn is_attached(&self, name: &str) -> VolumeAttachment {
        self.attachment_is(name, "attached", |one| one.status.as_ref().is_some_and(|status| status.attached))
            .await
    }

    async fn is_detached(&self, name: &str) {
        let gone = async |rig: &Rig| rig.attachments().get_opt(name).await.unwrap().is_none().then_some(());
        self.until(&format!("attachment {name} is gone"), gone).await;
    }
}

#[tokio::test]
async fn a_volume_is_attached_while_there_is_an_attachment() {
    let (rig, driver) = with_driver().await;
    rig.make_here::<Secret>(json!({"metadata": {"name": "key"}, "stringData": {"token": "hunter2"}})).await;
    rig.volume(
        "v1",
        STAND_IN,
        json!({"mountOptions": ["noatime"], "csi": {"driver": STAND_IN, "volumeHandle": "v1", "fsType": "xfs",
            "readOnly": true, "volumeAttributes": {"tier": "fast"},
            "controllerPublishSecretRef": {"namespace": "default", "name": "key"}}}),
    )
    .await;
    rig.attach("a1", "v1", STAND_IN).await;
    let attachment = rig.is_attached("a1").await;
    let metadata = attachment.status.unwrap().attachment_metadata.unwrap();
    assert_eq!(metadata, BTreeMap::from([("device".to_owned(), "/dev/v1".to_owned())]));
    assert_eq!(attachment.metadata.finalizers.unwrap(), [FINALIZER]);
    assert_eq!(attachment.metadata.annotations.unwrap()[NODE_ID], "id-1");
    let asked = driver.last_publish();
    assert_eq!((asked.volume_id.as_str(), asked.node_id.as_str(), asked.readonly), ("v1", "id-1", true));
    assert_eq!((asked.secrets["token"].as_str(), asked.volume_context["tier"].as_str()), ("hunter2", "fast"));
    let capability = format!("{:?}", asked.volume_capability.unwrap());
    assert!(capability.contains("xfs") && capability.contains("noatime"), "{capability}");

    // The volume's object stays while something is attached, and goes with the last attachment.
    let volumes = Api::<PersistentVolume>::all(rig.client.clone());
    let held = json!({"metadata": {"finalizers": ["example.com/other", FINALIZER]}});
    volumes.patch("v1", &PatchParams::default(), &Patch::Merge(held)).await.unwrap();
    volumes.delete("v1", &DeleteParams::default()).await.unwrap();
    let volume = volumes.get("v1").await.unwrap();
    assert!(volume.metadata.finalizers.unwrap().iter().any(|name| name == FINALIZER));
    rig.detach("a1").await;
    rig.is_detached("a1").await;
    assert_eq!(driver.state().published, BTreeMap::new());
    rig.until("the volume's object is let go", async |rig: &Rig| {
        let volume = Api::<PersistentVolume>::all(rig.client.clone()).get_opt("v1").await.unwrap();
        // That of somebody else stays.
        (volume.unwrap().metadata.finalizers.unwrap() == ["example.com/other"]).then_some(())
    })
    .await;
    assert!(!rig.words("control").contains("hunter2"));
}

#[tokio::test]
async fn what_fails_is_told_and_tried_again() {
    let (rig, driver) = with_driver().await;
    driver.state().failing.insert("publish", Code::Internal);
    rig.volume("v1", STAND_IN, json!({})).await;
    let began = Instant::now();
    rig.attach("a1", "v1", STAND_IN).await;
    let failed =
        |one: &VolumeAttachment| one.status.as_ref().is_some_and(|status| status.attach_error.is_some());
    let error = rig.attachment_is("a1", "failed", failed).await.status.unwrap().attach_error.unwrap();
    assert_eq!(error.error_code, Some(13));
    assert!(error.time.is_some() && error.message.unwrap().contains("publish is to fail"));
    // Later and later, whatever is written down meanwhile: after one second, two more, four more, and so on.
    rig.until("it is tried again", async |_: &Rig| (driver.count("publish") > 1).then_some(())).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let (tries, passed) = (driver.count("publish"), began.elapsed());
    assert!(passed.as_secs() + 1 >= 1_u64 << (tries - 2), "{tries} tries in {passed:?}");
    driver.state().failing.clear();
    let attachment = rig.is_attached("a1").await;
    assert_eq!(attachment.status.unwrap().attach_error, None);

    driver.state().failing.insert("unpublish", Code::DeadlineExceeded);
    rig.detach("a1").await;
    let failed =
        |one: &VolumeAttachment| one.status.as_ref().is_some_and(|status| status.detach_error.is_some());
    let attachment = rig.attachment_is("a1", "failed to detach", failed).await;
    assert!(attachment.status.unwrap().attached, "it may still be attached");
    driver.state().failing.clear();
    rig.is_detached("a1").await;
    assert_eq!(driver.state().published, BTreeMap::new());
}

#[tokio::test]
async fn a_driver_that_hangs_holds_no_other() {
    let (mut rig, driver) = with_driver().await;
    rig.driver();
    rig.words_have("control", &format!("driver {DRIVER} is at")).await;
    driver.state().slow = Duration::from_secs(600);
    // More than are attached at the same time.
    for volume in 0..12 {
        let name = format!("v{volume}");
        rig.volume(&name, STAND_IN, json!({})).await;
        rig.attach(&format!("a{volume}"), &name, STAND_IN).await;
    }
    rig.until("ten hang", async |_: &Rig| (driver.count("publish") == 10).then_some(())).await;
    rig.volume("local", DRIVER, json!({})).await;
    rig.attach("other", "local", DRIVER).await;
    rig.is_attached("other").await;
    // Else it may have had its turn after them.
    let attachments = rig.attachments().list(&ListParams::default()).await.unwrap();
    let failed =
        |one: &VolumeAttachment| one.status.as_ref().is_some_and(|status| status.attach_error.is_some());
    assert!(!attachments.iter().any(failed), "no call has ended yet");
    assert_eq!(driver.count("publish"), 10);
    rig.kill("control");
}

#[tokio::test]
async fn what_is_not_there_yet_is_waited_for_and_what_is_gone_is_remembered() {
    let (rig, driver) = with_driver().await;
    let nodes = Api::<CSINode>::all(rig.client.clone());
    nodes.delete(NODE, &DeleteParams::default()).await.unwrap();
    rig.attach("a1", "v1", STAND_IN).await;
    let says = |what: &'static str| {
        move |one: &VolumeAttachment| {
            let error = one.status.as_ref().and_then(|status| status.attach_error.as_ref());
            error.and_then(|error| error.message.as_ref()).is_some_and(|message| message.contains(what))
        }
    };
    let attachment = rig.attachment_is("a1", "lacks its volume", says("no PersistentVolume v1")).await;
    assert_eq!(attachment.metadata.finalizers, None, "nothing was attached");
    rig.volume("v1", STAND_IN, json!({})).await;
    rig.attachment_is("a1", "lacks its node", says("no CSINode node-1")).await;
    rig.make::<CSINode>(
        json!({"metadata": {"name": NODE}, "spec": {"drivers": [{"name": STAND_IN, "nodeID": "id-2"}]}}),
    )
    .await;
    rig.is_attached("a1").await;
    nodes.delete(NODE, &DeleteParams::default()).await.unwrap();
    rig.detach("a1").await;
    rig.is_detached("a1").await;
    assert_eq!(driver.state().calls.last().unwrap(), "unpublish v1 id-2");
}

#[tokio::test]
async fn what_the_driver_has_lost_is_attached_again() {
    let (rig, driver) = with_driver().await;
    for name in ["v1", "v2"] {
        rig.volume(name, STAND_IN, json!({})).await;
        rig.attach(&format!("a-{name}"), name, STAND_IN).await;
        rig.is_attached(&format!("a-{name}")).await;
    }
    let driver = driver.again(rig.socket("stand-in"), |state| {
        state.published.remove("v1");
        state.calls.clear();
    });
    rig.until("v1 is attached again", async |_: &Rig| {
        driver.state().published.contains_key("v1").then_some(())
    })
    .await;
    assert_eq!(driver.count("publish v1 id-1"), 1);
    assert_eq!(driver.count("publish v2"), 0, "v2 was attached all the time");
}

#[tokio::test]
async fn volumes_of_pods_are_attached_and_those_of_drivers_that_attach_nothing_are_as_they_are() {
    let (mut rig, driver) = with_driver().await;
    rig.driver();
    rig.words_have("control", &format!("driver {DRIVER} is at")).await;
    rig.volume("local", DRIVER, json!({})).await;
    rig.attach("trivial", "local", DRIVER).await;
    let attachment = rig.is_attached("trivial").await;
    assert_eq!(attachment.metadata.finalizers, None);
    rig.detach("trivial").await;
    rig.is_detached("trivial").await;

    let inline = json!({"inlineVolumeSpec": {"accessModes": ["ReadWriteMany"],
        "csi": {"driver": STAND_IN, "volumeHandle": "v9"}}});
    rig.attach_source("inline", inline, STAND_IN).await;
    rig.is_attached("inline").await;
    assert_eq!(driver.last_publish().volume_id, "v9");
    rig.detach("inline").await;
    rig.is_detached("inline").await;
    assert_eq!(driver.state().published, BTreeMap::new());
}

#[tokio::test]
async fn nothing_stays_attached_without_an_object_whenever_the_controllers_are_killed() {
    const VOLUMES: u64 = 6;
    let (mut rig, driver) = with_driver().await;
    driver.state().slow = Duration::from_millis(60);
    for volume in 0..VOLUMES {
        rig.volume(&format!("v{volume}"), STAND_IN, json!({})).await;
    }
    let mut chance = chance();
    let mut wanted = BTreeSet::new();
    for round in 0..8 {
        for volume in 0..VOLUMES {
            let (name, volume) = (format!("a{volume}"), format!("v{volume}"));
            match (wanted.contains(&volume), chance() % 3) {
                (false, 0 | 1) if rig.attachments().get_opt(&name).await.unwrap().is_none() => {
                    rig.attach(&name, &volume, STAND_IN).await;
                    wanted.insert(volume);
                }
                (true, 0) => {
                    rig.detach(&name).await;
                    wanted.remove(&volume);
                }
                _ => {}
            }
        }
        tokio::time::sleep(Duration::from_millis(chance() % 900)).await;
        if round == 7 && !wanted.is_empty() {
            let any = async |_: &Rig| (driver.count("publish") > 0).then_some(());
            rig.until("something is attached", any).await;
        }
        rig.kill("control");
        rig.again("control");
    }
    // Else nothing was killed in the middle of anything.
    assert!(driver.count("publish") > 0, "nothing was attached between the kills");
    let published = |driver: &StandIn| driver.state().published.keys().cloned().collect::<BTreeSet<_>>();
    rig.until("all is as the objects say", async |rig: &Rig| {
        let attachments = rig.attachments().list(&ListParams::default()).await.unwrap().items;
        let attached =
            attachments.iter().all(|one| one.status.as_ref().is_some_and(|status| status.attached));
        (attached && attachments.len() == wanted.len() && published(&driver) == wanted).then_some(())
    })
    .await;
    for volume in &wanted {
        rig.detach(&volume.replace('v', "a")).await;
    }
    rig.until("nothing is attached", async |_: &Rig| published(&driver).is_empty().then_some(())).await;
    for volume in &wanted {
        rig.is_detached(&volume.replace('v', "a")).await;
    }
}
