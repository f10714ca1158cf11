//! What was asked for is there, and hardly more; what is told to be there can be had.

use csi::contract::v1::*;
use grpc::Code;

use crate::rig::{Rig, refusal};
use crate::rows::{Disk, Row, each_row};
use crate::writers::{WAYS, Way, fill, has_note, note};

fn at_most(bytes: i64) -> u64 {
    let bytes = u64::try_from(bytes).unwrap();
    bytes + bytes / 20
}

each_row! { a_writer_gets_what_was_asked_for_and_is_stopped_within_a_twentieth }

async fn a_writer_gets_what_was_asked_for_and_is_stopped_within_a_twentieth(row: Row) {
    let Some(disk) = Disk::of(&row, row.capacity / (1 << 20) * 3 + 50) else { return };
    let rig = disk.rig(1.0).await;
    // Somebody else's, in the same pool.
    let other = rig.create_as(row.request("other", row.capacity)).await.unwrap().volume_id;
    let beside = disk.mount(&rig, &other).await;
    note(&beside.target, "as it was");
    for way in WAYS.into_iter().filter(|way| !row.is_block || *way != Way::Small) {
        a_writer(&row, &disk, &rig, way).await;
    }
    has_note(&beside.target, "as it was");
    let used = row.usage(&rig, &other, &beside.target).await;
    assert!(used.available >= row.capacity - (1 << 20), "{}: {used:?}", row.name);
    rig.unmount(beside).await;
    rig.delete(&other).await.unwrap();
}

async fn a_writer(row: &Row, disk: &Disk, rig: &Rig, way: Way) {
    let what = format!("{}, {way:?}", row.name);
    let id = rig.create_as(row.request("v", row.capacity)).await.unwrap().volume_id;
    let mounted = disk.mount(rig, &id).await;
    let (written, stopped) = fill(&mounted.target, way, at_most(row.capacity) + (1 << 20)).await;
    println!("{what}: {written} of {}, {stopped:?}", row.capacity);
    if row.is_bounded {
        let least = if way == Way::Small {
            u64::try_from(row.capacity).unwrap() * row.small / 100
        } else {
            u64::try_from(row.capacity).unwrap()
        };
        assert!((least..=at_most(row.capacity)).contains(&written), "{what}: {written} of {}", row.capacity);
        assert_eq!(stopped, Some(row.full), "{what}");
        let used = row.usage(rig, &id, &mounted.target).await;
        assert_eq!(
            (used.total, used.used + used.available),
            (row.capacity, row.capacity),
            "{what}: {used:?}"
        );
        assert!(used.available <= row.capacity / 8, "{what}: {used:?}");
    } else {
        assert!(stopped.is_none() && written > at_most(row.capacity), "{what}: {written}, {stopped:?}");
        assert_eq!(row.usage(rig, &id, &mounted.target).await.total, row.capacity, "{what}");
    }
    rig.unmount(mounted).await;
    rig.delete(&id).await.unwrap();
}

each_row! { as_much_as_is_told_can_be_had_and_filled_and_no_block_more }

async fn as_much_as_is_told_can_be_had_and_filled_and_no_block_more(row: Row) {
    // Twice what it has at least, and what the pool's own file system needs.
    let Some(disk) = Disk::of(&row, row.capacity / (1 << 20) * 2) else { return };
    let rig = disk.rig(1.0).await;
    let told = row.available(&rig).await;
    assert!(told > row.capacity, "{}: {told}", row.name);
    let (code, message) = refusal(rig.create_as(row.request("more", told + 4096)).await);
    assert_eq!(code, Code::ResourceExhausted, "{}: {message}", row.name);
    let id = rig.create_as(row.request("all", told)).await.unwrap().volume_id;
    assert!(row.available(&rig).await < row.capacity, "{}", row.name);
    assert_eq!(refusal(rig.create_as(row.request("x", row.capacity)).await).0, Code::ResourceExhausted);
    if row.is_bounded {
        // The pool has room for all of it.
        let mounted = disk.mount(&rig, &id).await;
        let (written, stopped) = fill(&mounted.target, Way::Plain, u64::MAX).await;
        println!("{}: {written} of {told}, {stopped:?}", row.name);
        assert!(written >= u64::try_from(told).unwrap(), "{}: {written} of {told}", row.name);
        assert_eq!(stopped, Some(row.full), "{}", row.name);
        rig.unmount(mounted).await;
    }
    rig.delete(&id).await.unwrap();
}

each_row! { all_volumes_and_their_growth_are_no_more_than_the_pool_has }

async fn all_volumes_and_their_growth_are_no_more_than_the_pool_has(row: Row) {
    let Some(disk) = Disk::of(&row, row.capacity / (1 << 20) * 4) else { return };
    let (rig, size) = (disk.rig(1.0).await, disk.size());
    let (mut sum, mut ids) = (0, Vec::new());
    let refused = loop {
        match rig.create_as(row.request(&format!("v{}", ids.len()), row.capacity)).await {
            Ok(volume) => {
                sum += volume.capacity_bytes;
                ids.push(volume.volume_id);
            }
            error => break refusal(error).0,
        }
    };
    assert!(refused == Code::ResourceExhausted && ids.len() >= 2, "{}: {}", row.name, ids.len());
    // None may grow by more than is left.
    let expand = |id: &str, bytes: i64| ControllerExpandVolumeRequest {
        volume_id: id.into(),
        capacity_range: Some(CapacityRange { required_bytes: bytes, limit_bytes: 0 }),
        ..Default::default()
    };
    let grown = rig.client.controller_expand_volume(expand(&ids[0], 3 * row.capacity)).await;
    assert_eq!(refusal(grown).0, Code::OutOfRange, "{}", row.name);
    assert!(sum <= size, "{}: {sum} of {size}", row.name);
    // A copy takes as much as its origin.
    let snapshot = rig.snapshot("s", &ids[0]).await;
    if let Ok(snapshot) = snapshot {
        let copy = CreateVolumeRequest {
            volume_content_source: crate::rig::from_snapshot(&snapshot.snapshot_id),
            ..row.request("copy", row.capacity)
        };
        assert_eq!(refusal(rig.create_as(copy).await).0, Code::ResourceExhausted, "{}", row.name);
        let delete = DeleteSnapshotRequest { snapshot_id: snapshot.snapshot_id, ..Default::default() };
        rig.client.delete_snapshot(delete).await.unwrap();
    }
    for id in &ids {
        rig.delete(id).await.unwrap();
    }
    rig.create_as(row.request("again", row.capacity)).await.unwrap();
}
