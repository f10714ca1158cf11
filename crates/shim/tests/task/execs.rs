//! Processes that are brought in, and do not arrive.

use shim::protocol::task::{TaskDeleted, TaskPid, TaskWaited};

use crate::{Tasks, fifo, of};

/// One that ran before its terminal was carried anywhere stayed unreaped, and kept its container from ending.
#[test]
fn a_terminal_without_its_fifos_leaves_nothing_in_the_container() {
    let mut tasks = Tasks::new();
    tasks.run("exec sleep 3600");
    let missing = tasks.path("missing");
    for n in 0..3 {
        let exec_id = format!("lost-{n}");
        tasks.add(&exec_id, &["/bin/sleep", "3600"], |e| {
            (e.terminal, e.stdout) = (true, missing.clone());
        });
        let waiting = tasks.ask("Wait", &of(&exec_id));
        let refused = tasks.call::<TaskPid>("Start", &of(&exec_id)).unwrap_err();
        assert!(refused.message.contains("missing"), "{}", refused.message);
        let waited = tasks.answer::<TaskWaited>(waiting).unwrap_err();
        assert_eq!(waited.message, refused.message);
    }
    assert_eq!(tasks.children().len(), 1, "the container is left");
    tasks.end();
}

#[test]
fn who_waits_for_one_that_does_not_start_is_told_so() {
    let mut tasks = Tasks::new();
    tasks.run("exec sleep 3600");
    let (out, missing) = (tasks.path("out"), tasks.path("missing"));
    fifo(&out);
    for (exec_id, program, stdout) in
        [("program", "/no/such/program", &out), ("streams", "/bin/true", &missing)]
    {
        tasks.add(exec_id, &[program], |e| e.stdout.clone_from(stdout));
        // Containerd waits before it starts, and so may others.
        let waiting = [tasks.ask("Wait", &of(exec_id)), tasks.ask("Wait", &of(exec_id))];
        let refused = tasks.call::<TaskPid>("Start", &of(exec_id)).unwrap_err();
        for stream in waiting {
            assert_eq!(tasks.answer::<TaskWaited>(stream).unwrap_err(), refused);
        }
    }
    // Neither of one that is deleted before.
    tasks.add("deleted", &["/bin/true"], |_| ());
    let waiting = tasks.ask("Wait", &of("deleted"));
    tasks.call::<TaskDeleted>("Delete", &of("deleted")).unwrap();
    tasks.answer::<TaskWaited>(waiting).unwrap_err();
    // Nor if the container is paused.
    tasks.call::<shim::protocol::Empty>("Pause", &of("")).unwrap();
    tasks.add("paused", &["/bin/true"], |_| ());
    let waiting = tasks.ask("Wait", &of("paused"));
    let refused = tasks.call::<TaskPid>("Start", &of("paused")).unwrap_err();
    assert!(refused.message.contains("paused"), "{}", refused.message);
    tasks.answer::<TaskWaited>(waiting).unwrap_err();
    tasks.call::<shim::protocol::Empty>("Resume", &of("")).unwrap();
    tasks.end();
}

#[test]
fn one_that_is_stopped_on_its_way_in_can_be_killed_and_deleted() {
    let mut tasks = Tasks::new();
    tasks.run("while :; do kill -STOP -1; done");
    // One of them is caught, sooner or later.
    for n in 0..1000 {
        let exec_id = format!("stopped-{n}");
        tasks.add(&exec_id, &["/bin/sleep", "3600"], |_| ());
        let waiting = tasks.ask("Wait", &of(&exec_id));
        let starting = tasks.ask("Start", &of(&exec_id));
        // Until it runs, or is stopped: which is on its way, or a moment after that.
        while !tasks.children().contains(&'T') && !tasks.is_answered(starting) {}
        tasks.kill(&exec_id).expect("killed");
        assert_eq!(tasks.answer::<TaskWaited>(waiting).expect("an end").exit_status, 137);
        let started = tasks.answer::<TaskPid>(starting);
        assert_eq!(tasks.call::<TaskDeleted>("Delete", &of(&exec_id)).expect("deleted").exit_status, 137);
        assert_eq!(tasks.children().len(), 1, "the container is left");
        if let Err(refused) = started {
            assert!(refused.message.contains("killed before it ran"), "{}", refused.message);
            return tasks.end();
        }
    }
    panic!("none was caught on its way in");
}
