//! Programs that take output: `binary://`.

use std::fs;

use shim::protocol::task::{TaskPid, TaskWaited};

use crate::{Tasks, of, wait_until};

/// The address of a logger that runs a script.
fn logger(script: &str) -> String {
    let escaped: String = script.bytes().map(|byte| format!("%{byte:02x}")).collect();
    format!("binary:///bin/sh?-c={escaped}")
}

#[test]
fn a_terminals_logger_that_dies_costs_nothing() {
    let mut tasks = Tasks::new();
    tasks.run("exec sleep 3600");
    let before = tasks.pipes();
    tasks.add("silent", &["/bin/sleep", "3600"], |e| {
        (e.terminal, e.stdout) = (true, logger("exec 5>&-; exit 0"));
    });
    tasks.call::<TaskPid>("Start", &of("silent")).unwrap();
    // A pipe that nobody reads is ready for ever, and nothing can be done about it but to close it.
    wait_until("the end of the pipe", || tasks.pipes() == before);
    tasks.end();
}

#[test]
fn a_logger_that_ends_later_than_its_process_is_reaped() {
    let mut tasks = Tasks::new();
    tasks.run("exec sleep 3600");
    let log = tasks.path("log");
    for terminal in [false, true] {
        let slow = logger(&format!("exec 5>&-; cat <&3 >>{log}; sleep 0.3; echo end >>{log}"));
        let exec_id = format!("logged-{terminal}");
        tasks.add(&exec_id, &["/bin/echo", "said"], |e| (e.terminal, e.stdout) = (terminal, slow));
        let waiting = tasks.ask("Wait", &of(&exec_id));
        tasks.call::<TaskPid>("Start", &of(&exec_id)).unwrap();
        assert_eq!(tasks.answer::<TaskWaited>(waiting).unwrap().exit_status, 0);
        wait_until("the logger's last words", || {
            fs::read_to_string(&log).is_ok_and(|text| text.replace('\r', "") == "said\nend\n")
        });
        // The container is left.
        wait_until("the logger's end", || tasks.children().len() == 1);
        fs::remove_file(&log).unwrap();
    }
    tasks.end();
}

#[test]
fn a_logger_that_does_not_get_ready_is_ended() {
    let mut tasks = Tasks::new();
    tasks.run("exec sleep 3600");
    tasks.add("never", &["/bin/true"], |e| e.stdout = logger("exec sleep 600"));
    let refused = tasks.call::<TaskPid>("Start", &of("never")).unwrap_err();
    assert!(refused.message.contains("not ready"), "{}", refused.message);
    assert_eq!(tasks.children().len(), 1, "the container is left");
    tasks.end();
}
