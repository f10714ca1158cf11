//! `sextant exec` in a pod's container.

use std::io::Write;

use rustix::process::{Pid, Signal, kill_process};

use super::screen::Screen;
use super::{ended, spawn};
use crate::bench::Bench;

pub(super) fn streams(b: &Bench) {
    let pod = b.host_pod("run-in");
    b.run(&pod, "c", &["probe", "sleep"]);
    let said = b.cli(&["exec", "c", "probe", "say", "out", "then", "complain", "err", "then", "exit", "7"]);
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (7, "out\n", "err\n"));
    let words = ["probe", "exit", "0"];
    assert_eq!(b.cli(&[&["exec", "-p", "tests/run-in"][..], &words].concat()).code, 0);
    assert_eq!(b.cli(&["exec", "-p", "run-in", "-c", "c", "probe", "die", "KILL"]).code, 137);
    // Words that look like options are the program's.
    assert_eq!(b.says(&["exec", "-p", "run-in", "probe", "say", "-c", "-i", "--pod"]), "-c -i --pod\n");
    let mut copy = spawn(b.command(&["exec", "-i", "c", "probe", "copy"]));
    let sent = "y".repeat(1 << 20);
    copy.stdin.take().unwrap().write_all(sent.as_bytes()).unwrap();
    let copied = ended(copy.wait_with_output().unwrap());
    assert!(copied.code == 0 && copied.out == sent, "{} {} {}", copied.code, copied.out.len(), copied.err);
    // Without -i there is no input to wait for.
    assert_eq!(b.says(&["exec", "c", "probe", "copy"]), "");
    let flood = b.says(&["exec", "c", "probe", "flood", "3000000"]);
    assert_eq!(flood.len(), 3_000_000);
    // A reader that has seen enough does not end the program before its time.
    let mut early = spawn(b.command(&["exec", "c", "probe", "flood", "3000000", "then", "exit", "4"]));
    drop(early.stdout.take());
    assert_eq!(ended(early.wait_with_output().unwrap()).code, 4);
    b.remove_pod(&pod);
}

pub(super) fn terminal(b: &Bench) {
    let pod = b.host_pod("at-terminal");
    b.run(&pod, "c", &["probe", "sleep"]);
    let mut screen =
        Screen::new(&b.command(&["exec", "-it", "c", "probe", "ask-name", "name", "then", "sizes"]));
    screen.until("name: ");
    assert!(!screen.is_cooked());
    screen.type_in("mate\r");
    screen.until("hello mate");
    screen.until("size 80x24");
    screen.resize(91, 21);
    screen.until("size 91x21");
    screen.type_in("\x03");
    assert_eq!(screen.end(), 130);
    assert!(screen.is_cooked());
    // Nothing is left in raw mode by whoever ends the command from outside.
    let mut screen = Screen::new(&b.command(&["exec", "-it", "c", "probe", "say", "up", "then", "sleep"]));
    screen.until("up");
    kill_process(Pid::from_raw(screen.pid()).unwrap(), Signal::TERM).unwrap();
    assert_eq!(screen.end(), 143);
    assert!(screen.is_cooked());
    // One that cannot be executed does not leave it raw either.
    let mut screen = Screen::new(&b.command(&["exec", "-it", "c", "nosuch"]));
    screen.until("nosuch");
    assert_eq!(screen.end(), 126);
    assert!(screen.is_cooked());
    b.remove_pod(&pod);
}

pub(super) fn ended_by_signal(b: &Bench) {
    let pod = b.host_pod("cut-short");
    let id = b.run(&pod, "c", &["probe", "sleep"]);
    let running = spawn(b.command(&["exec", "-i", "c", "probe", "sleep"]));
    // It may not be its program yet: then it is killed on its way in.
    b.until("it runs", || b.processes(&id) == 2);
    kill_process(Pid::from_raw(running.id().try_into().unwrap()).unwrap(), Signal::INT).unwrap();
    assert_eq!(ended(running.wait_with_output().unwrap()).code, 130);
    b.until("it is gone", || b.processes(&id) == 1);
    b.remove_pod(&pod);
}

pub(super) fn mistakes(b: &Bench) {
    let pod = b.host_pod("not-so");
    let id = b.run(&pod, "c", &["probe", "sleep"]);
    b.refuses(126, &["exec", "c", "nosuch"], &["nosuch"]);
    b.refuses(2, &["exec", "c"], &["<COMMAND>", "\"c\""]);
    b.refuses(1, &["exec", "nosuch", "probe"], &["no container \"nosuch\""]);
    b.refuses(1, &["exec", "-p", "nosuch", "probe"], &["no pod \"nosuch\""]);
    b.refuses(1, &["exec", "-it", "c", "probe"], &["terminal", "-t"]);
    for (option, name) in
        [("-d", "--detach"), ("-eA=b", "--env"), ("-uroot", "--user"), ("-w/tmp", "--workdir")]
    {
        b.refuses(1, &["exec", option, "c", "probe"], &[name, "CRI"]);
    }
    b.stop(&id, 0);
    b.refuses(1, &["exec", "c", "probe"], &[&id, "EXITED"]);
    b.refuses(1, &["attach", "c"], &[&id, "EXITED"]);
    b.remove_pod(&pod);
}
