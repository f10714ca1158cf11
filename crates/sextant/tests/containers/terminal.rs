//! Containers with a terminal, and the person at it.

use crate::Test;
use crate::bench::Bench;
use crate::pty::Session;

pub(crate) const TESTS: &[Test] = &[
    ("a_prompt_is_answered", prompt),
    ("the_size_of_the_terminal_goes_along", sizes),
    ("ctrl_c_reaches_the_program", interrupt),
    ("a_person_leaves_and_comes_back", detach),
    ("a_terminal_for_a_program_that_is_brought_in", exec),
    ("a_terminal_nobody_sits_at", unattended),
];

fn prompt(b: &Bench) {
    let mut session =
        Session::new(b, &["run", "--rm", "-it", "t", "probe", "ask-name", "name", "then", "exit", "3"]);
    session.until("name: ");
    assert!(!session.is_cooked());
    session.type_in("captain\r");
    session.until("hello captain\r\n");
    assert_eq!(session.end().code, 3);
    assert!(session.is_cooked());
}

fn sizes(b: &Bench) {
    let mut session = Session::new(b, &["run", "--rm", "-it", "--name", "wide", "t", "probe", "sizes"]);
    session.until("size 80x24");
    session.resize(100, 30);
    session.until("size 100x30");
    b.ok(&["kill", "wide"]);
    assert_eq!(session.end().code, 137);
    assert!(session.is_cooked());
}

fn interrupt(b: &Bench) {
    let mut session =
        Session::new(b, &["run", "--rm", "-it", "t", "probe", "trap", "INT", "then", "exit", "4"]);
    session.until("ready");
    session.type_in("\x03");
    session.until("got INT");
    assert_eq!(session.end().code, 4);
}

fn detach(b: &Bench) {
    let mut session = Session::new(b, &["run", "--rm", "-it", "--name", "shell", "t", "probe", "lines"]);
    session.type_in("one\r");
    session.until("line one");
    session.type_in("\x10\x11");
    let ended = session.end();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(session.is_cooked());
    assert_eq!(b.inspect("shell", "/state"), "running");
    let mut session = Session::new(b, &["attach", "shell"]);
    session.type_in("two\r");
    session.until("line two");
    // A Ctrl-P and something else are for the program.
    session.type_in("a\x10b\r");
    session.until("line a\x10b");
    session.type_in("\x04");
    assert_eq!(session.end().code, 0);
    b.until("--rm has removed it", || b.ok(&["ps", "-aq"]).is_empty());
}

fn exec(b: &Bench) {
    b.ok(&["run", "-d", "--name", "host", "t", "probe", "sleep"]);
    let mut session = Session::new(b, &["exec", "-it", "host", "probe", "ask-name", "name", "then", "sizes"]);
    session.until("name: ");
    session.type_in("mate\r");
    session.until("hello mate");
    session.until("size 80x24");
    session.resize(90, 20);
    session.until("size 90x20");
    session.type_in("\x03");
    assert_eq!(session.end().code, 130);
    b.ok(&["rm", "-f", "host"]);
}

fn unattended(b: &Bench) {
    // Scripts ask for a terminal to get lines at once, colours and all.
    assert_eq!(b.ok(&["run", "--rm", "-t", "t", "probe", "say", "x"]), "x\r\n");
    b.ok(&["run", "-dt", "--name", "later", "t", "probe", "sizes"]);
    let mut session = Session::new(b, &["attach", "later"]);
    session.until("size 80x24");
    session.type_in("\x10\x11");
    assert_eq!(session.end().code, 0);
    b.ok(&["rm", "-f", "later"]);
    let text = b.fails(125, &["run", "--rm", "-it", "t"]);
    assert!(text.contains("terminal"), "{text}");
}
