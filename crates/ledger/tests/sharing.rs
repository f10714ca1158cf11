//! Owners that come and go at once: a shared effect is there while anybody uses it, and gone with the last.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs::File;

use ledger::{Effect, Ledger, OwnerId, Record as _};

#[test]
fn what_is_shared_is_there_for_each_who_has_joined_and_for_nobody_else() {
    let place = tempfile::tempdir().unwrap();
    // As two processes are: each has its own folders open.
    let open = || Ledger::open(&place.path().join("run"), &place.path().join("data")).unwrap();
    let ledgers = [open(), open()];
    let effect = place.path().join("effect");
    let come_and_go = |thread: usize, round: usize| {
        let ledger = &ledgers[thread % ledgers.len()];
        let mut owner = ledger.owner(&OwnerId::new(format!("{thread}-{round}")).unwrap()).unwrap();
        let shared = owner.share("shared", &mut |record| {
            record.record(Effect::File { path: effect.clone() })?;
            // One that is there has not been taken back.
            Ok(File::create_new(&effect).map(drop)?)
        });
        shared.unwrap();
        assert!(effect.exists(), "taken from {thread}-{round}");
        let errors = owner.undo_all();
        assert!(errors.is_empty(), "{errors:?}");
    };
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let come_and_go = &come_and_go;
            scope.spawn(move || (0..500).for_each(|round| come_and_go(thread, round)));
        }
    });
    assert!(!effect.exists() && !place.path().join("run/ledger/node/shared").exists());
}
