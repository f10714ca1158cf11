//! Of several processes one works.

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::rig::Rig;

const ELECT: &[&str] =
    &["--leader-elect", "--leader-elect-namespace", "kube-system", "--leader-elect-lease", "6"];

/// Two that want to lead; the first does.
async fn two() -> Rig {
    let mut rig = Rig::bare().await;
    rig.driver();
    rig.spawn_control("first", ELECT);
    rig.words_have("first", "has lease kube-system/sextant-control").await;
    rig.words_have("first", "driver csi.sextant.dev is at").await;
    rig.spawn_control("second", ELECT);
    rig.words_have("second", "waits for lease kube-system/sextant-control").await;
    rig
}

async fn transitions(rig: &Rig) -> i32 {
    let lease: Lease = rig.objects_of("kube-system").get("sextant-control").await.unwrap();
    lease.spec.unwrap().lease_transitions.unwrap()
}

#[tokio::test]
async fn another_goes_on_when_the_leader_was_killed() {
    let mut rig = two().await;
    assert!(!rig.words("second").contains("driver"), "it works without the lease");
    rig.kill("first");
    rig.words_have("second", "has lease").await;
    rig.words_have("second", "driver csi.sextant.dev is at").await;
    assert_eq!(transitions(&rig).await, 1);
    // The first comes back as another process, and waits.
    rig.again("first");
    rig.words_have("first", "waits for lease").await;
    // One that ends in order is not waited for.
    assert_eq!(rig.end("second"), Some(0));
    rig.until("the first leads again", async |rig| {
        (rig.words("first").matches("has lease").count() == 2).then_some(())
    })
    .await;
    assert_eq!(transitions(&rig).await, 2);
}

#[tokio::test]
async fn a_lease_that_somebody_has_labelled_is_given_back_all_the_same() {
    let mut rig = two().await;
    let leases: Api<Lease> = rig.objects_of("kube-system");
    let label = Patch::Merge(json!({"metadata": {"labels": {"team": "storage"}}}));
    let lease = leases.patch("sextant-control", &PatchParams::default(), &label).await.unwrap();
    // Before it is renewed, and so seen, as a rule.
    assert_eq!(rig.end("first"), Some(0));
    let after = leases.get("sextant-control").await.unwrap();
    let holder = |lease: Lease| lease.spec.unwrap().holder_identity;
    assert_ne!(holder(after), holder(lease), "who has ended holds it");
    rig.words_have("second", "has lease").await;
}

#[tokio::test]
async fn a_leader_that_cannot_renew_the_lease_ends() {
    let mut rig = two().await;
    rig.kill("api");
    assert_eq!(rig.wait("first").await, Some(1));
    let said = rig.words("first");
    assert!(
        said.contains("cannot hold lease kube-system/sextant-control: not renewed for 4 seconds"),
        "{said}"
    );
    rig.again("api");
    rig.words_have("second", "has lease").await;
}
