//! What CSI puts on the caller: what is undone, when, and in which order; and drivers that do not behave.

use std::os::unix::net::UnixListener;

use csi::contract::v1::controller_service_capability::rpc::Type as Call;
use grpc::Code;

use crate::Place;
use crate::fake::Serving;

fn attaching(place: &Place) -> Serving {
    Serving::start(place.path("run/csi.sock"), &[Call::CreateDeleteVolume, Call::PublishUnpublishVolume])
}

#[test]
fn a_volume_is_unstaged_and_detached_after_its_last_path() {
    let place = Place::new();
    let driver = attaching(&place);
    place.ok(&["publish", "v", "/mnt/a"]);
    place.ok(&["publish", "v", "/mnt/b"]);
    driver.calls();
    place.ok(&["unpublish", "v", "/mnt/a"]);
    assert_eq!(driver.calls(), ["unpublish /mnt/a"]);
    // Whatever it is that the driver refuses, it is told, and nothing further is done.
    driver.fail("unstage", Code::FailedPrecondition);
    place.refused(&["unpublish", "v", "/mnt/b"], &["cannot unstage volume v", "unstage is to fail"]);
    assert_eq!(driver.calls(), ["unpublish /mnt/b", "unstage v"]);
    driver.mend();
    place.ok(&["unpublish", "v", "/mnt/b"]);
    assert_eq!(driver.calls(), ["unpublish /mnt/b", "unstage v", "detach here"]);
    assert_eq!(place.records(), 0);
    // Who staged or attached what is not on record is not known.
    let (code, _, err) = place.run(&["unpublish", "v", "/mnt/b"]);
    assert!(code == 0 && err.contains("nothing is on record of v"), "{code}: {err}");
    assert_eq!(driver.calls(), ["unpublish /mnt/b"]);
}

#[test]
fn what_was_done_before_a_failure_is_undone_in_reverse() {
    let place = Place::new();
    let driver = attaching(&place);
    let publish = ["publish", "v", "/mnt/a"];
    let [attach, stage, publication] = ["attach here", "stage", "publish /mnt/a"];
    let [unpublish, unstage, detach] = ["unpublish /mnt/a", "unstage v", "detach here"];
    for (failing, code, calls) in [
        ("attach", Code::FailedPrecondition, &[attach][..]),
        // It may have come about all the same.
        ("attach", Code::Internal, &[attach, detach]),
        ("stage", Code::InvalidArgument, &[attach, stage, detach]),
        ("publish", Code::AlreadyExists, &[attach, stage, publication, unstage, detach]),
        ("publish", Code::Unavailable, &[attach, stage, publication, unpublish, unstage, detach]),
    ] {
        driver.fail(failing, code);
        place.refused(&publish, &[&format!("{failing} is to fail")]);
        assert_eq!(driver.calls().iter().map(|call| call.trim()).collect::<Vec<_>>(), calls);
        assert_eq!(place.records(), 0);
        driver.mend();
    }
    // What cannot be undone now is on record, and is undone by who asks for it.
    driver.fail("publish", Code::ResourceExhausted);
    driver.fail("unstage", Code::Internal);
    place.refused(&publish, &["publish is to fail", "unstage is to fail", "sextant csi unpublish v /mnt/a"]);
    driver.mend();
    driver.calls();
    place.ok(&["unpublish", "v", "/mnt/a"]);
    assert_eq!(driver.calls(), [unpublish, unstage, detach]);
    // What is there already stays there when it is asked for once more, in another way.
    place.ok(&publish);
    driver.calls();
    driver.fail("publish", Code::Internal);
    place.refused(&publish, &["publish is to fail"]);
    assert_eq!(driver.calls().len(), 3);
    driver.mend();
    place.ok(&["unpublish", "v", "/mnt/a"]);
    assert_eq!(place.records(), 0);
}

#[test]
fn what_a_volume_is_published_with_reaches_the_driver() {
    let place = Place::new();
    let driver = attaching(&place);
    place.ok(&["publish", "v", "/mnt/a", "--fs-type", "xfs", "--context", "disk=7"]);
    assert_eq!(driver.calls()[1], "stage xfs disk=7");
    place.ok(&["expand", "v", "2Gi"]);
    place.ok(&["expand", "v", "2Gi", "--path", "/mnt/b"]);
    assert_eq!(driver.calls(), ["expand /mnt/a staged xfs", "expand /mnt/b staged xfs"]);
    place.ok(&["unpublish", "v", "/mnt/a"]);
    assert!(place.ok(&["expand", "v", "2Gi"]).contains("--path"));
    place.ok(&["expand", "v", "2Gi", "--path", "/mnt/b"]);
    assert!(driver.calls().contains(&"expand /mnt/b unstaged unsaid".into()));
}

#[test]
fn what_a_driver_does_not_list_is_deleted_by_its_whole_id() {
    let place = Place::new();
    let delete = [Call::CreateDeleteVolume, Call::CreateDeleteSnapshot];
    {
        let driver = Serving::start(place.path("run/csi.sock"), &delete);
        place.ok(&["rm", "v"]);
        place.ok(&["rm", "--snapshot", "s"]);
        assert_eq!(driver.calls(), ["DeleteVolume v", "DeleteSnapshot s"]);
    }
    let can = [&delete[..], &[Call::ListSnapshots]].concat();
    let driver = Serving::start(place.path("run/csi.sock"), &can);
    // A volume of that name is none that begins so.
    place.ok(&["rm", "s"]);
    place.refused(&["rm", "s-1"], &["s-1 is a snapshot", "--snapshot"]);
    place.refused(&["rm", "--snapshot", "s"], &["begins several ids: s-1, s-2"]);
    place.refused(&["rm", "--snapshot", "t"], &["no snapshot \"t\"", "sextant csi snapshots"]);
    place.ok(&["rm", "--snapshot", "s-2"]);
    assert_eq!(driver.calls(), ["DeleteVolume s", "DeleteSnapshot s-2"]);
}

#[test]
fn a_list_without_an_end_is_an_error() {
    let place = Place::new();
    let _driver = Serving::start(place.path("run/csi.sock"), &[Call::ListVolumes]);
    for command in ["volumes", "doctor"] {
        place.refused(&[command], &["cannot list volumes", "\"again\"", "twice"]);
    }
}

#[test]
fn a_socket_that_does_not_answer_holds_nobody_up() {
    let place = Place::new();
    std::fs::create_dir(place.path("run")).unwrap();
    let _silent = UnixListener::bind(place.path("run/csi.sock")).unwrap();
    place.refused(&["doctor"], &["run/csi.sock", "no answer in time"]);
    // There may be others on this machine, which answer.
    let (_, _, err) = place.run(&["drivers"]);
    assert!(err.contains("run/csi.sock") && err.contains("no answer in time"), "{err}");
}
