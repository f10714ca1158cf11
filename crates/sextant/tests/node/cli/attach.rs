//! `sextant attach` to a pod's container.

use std::io::{Read, Write};

use cri::contract::v1::ContainerState;

use super::screen::Screen;
use super::{ended, interactive, spawn};
use crate::bench::Bench;

pub(super) fn terminal(b: &Bench) {
    let pod = b.host_pod("console");
    let id = b.run_as(&pod, interactive("c", &["probe", "lines", "then", "exit", "5"], true));
    let mut screen = Screen::new(&b.command(&["attach", "c"]));
    screen.type_in("one\r");
    screen.until("line one");
    assert!(!screen.is_cooked());
    screen.type_in("\x10\x11");
    assert_eq!(screen.end(), 0);
    assert!(screen.is_cooked());
    assert_eq!(b.status(&id).state(), ContainerState::ContainerRunning);
    let mut screen = Screen::new(&b.command(&["attach", "-p", "console"]));
    screen.type_in("two\r");
    screen.until("line two");
    // A Ctrl-P and something else are for the program.
    screen.type_in("a\x10b\r");
    screen.until("line a\x10b");
    screen.type_in("\x04");
    assert_eq!(screen.end(), 5, "{}", screen.shown());
    assert!(screen.is_cooked());
    b.remove_pod(&pod);
}

pub(super) fn code(b: &Bench) {
    let pod = b.host_pod("piped");
    let mut config = interactive("c", &["probe", "lines", "then", "exit", "6"], false);
    config.stdin_once = true;
    b.run_as(&pod, config);
    let mut attached = spawn(b.command(&["attach", "c"]));
    attached.stdin.take().unwrap().write_all(b"one\ntwo\n").unwrap();
    let attached = ended(attached.wait_with_output().unwrap());
    assert_eq!((attached.code, attached.out.as_str()), (6, "line one\nline two\n"), "{}", attached.err);
    // One that only watches.
    let id = b.run_as(
        &pod,
        interactive("w", &["probe", "tick", "/tmp/go", "then", "say", "gone", "then", "exit", "8"], false),
    );
    let mut watching = spawn(b.command(&["attach", "--no-stdin", "w"]));
    let mut first = [0; 5];
    watching.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(&first, b"tick\n");
    b.exec(&id, &["probe", "write", "/tmp/go", ""]);
    let watched = ended(watching.wait_with_output().unwrap());
    assert_eq!(watched.code, 8, "{}", watched.err);
    assert!(watched.out.ends_with("tick\ngone\n") || watched.out == "gone\n", "{}", watched.out);
    b.remove_pod(&pod);
}
