//! What is wrong with volumes is told to those who have claimed them.

use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;

use crate::rig::Rig;
use crate::stand::{STAND_IN, StandIn, State};

#[tokio::test]
async fn claims_are_told_what_is_wrong_with_their_volumes() {
    let mut rig = Rig::bare().await;
    for name in ["c1", "c2"] {
        rig.bound(name, STAND_IN, &name.replace('c', "v")).await;
    }
    let conditions =
        [("v1".to_owned(), "a disk is lost".to_owned()), ("v2".to_owned(), String::new())].into();
    let driver = StandIn::start(rig.socket("stand-in"), State { conditions, ..State::default() });
    rig.control(&[]);
    rig.event("c1", "VolumeConditionAbnormal", "").await;
    // The next process knows what was told, by the event.
    rig.kill("control");
    let driver = driver.again(rig.socket("stand-in"), |state| {
        state.conditions.insert("v1".into(), String::new());
    });
    rig.again("control");
    rig.event("c1", "VolumeConditionNormal", "").await;
    let events = rig.objects_of::<Event>("").list(&ListParams::default()).await.unwrap();
    let of_c2 = events
        .iter()
        .filter(|event| event.regarding.as_ref().and_then(|of| of.name.as_deref()) == Some("c2"));
    assert_eq!(of_c2.count(), 0, "nothing was wrong with c2");
    drop(driver);
}
