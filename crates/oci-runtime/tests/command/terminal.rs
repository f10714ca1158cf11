//! Terminals: handed over by a socket, and held by the command itself.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::json;
use testkit::receive;

use crate::bench::Bench;
use crate::{Outcome, Test, check};

pub(crate) const TESTS: &[Test] = &[
    ("a_terminal_is_sent_by_the_socket", sent),
    ("a_terminal_is_held_in_the_foreground", held),
    ("terminal_and_socket_go_together", together),
];

fn all(master: OwnedFd) -> String {
    let mut text = Vec::new();
    // The end of a terminal whose other side is closed is an error.
    let _ = std::fs::File::from(master).read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

fn sent(bench: &Bench) -> Outcome {
    let mut spec = bench.spec(&["/bin/sh", "-c", "stty size; readlink /proc/self/fd/0; exit 3"]);
    spec["process"]["terminal"] = json!(true);
    spec["process"]["consoleSize"] = json!({"height": 33, "width": 77});
    bench.configure(&spec);
    let path = bench.path("console.sock");
    let listener = UnixListener::bind(&path)?;
    let socket = path.display().to_string();
    bench.run(&["create", "--console-socket", &socket, &bench.id]).ok()?;
    let (name, master) = receive(&listener)?;
    check(name == b"/dev/ptmx", || String::from_utf8_lossy(&name).into_owned())?;
    bench.run(&["start", &bench.id]).ok()?;
    let text = all(master);
    check(text.contains("33 77") && text.contains("/dev/pts/0"), || text)?;
    bench.run(&["delete", "-f", &bench.id]).ok()?;
    bench.start_sleeper()?;
    bench
        .run(&["exec", "-td", "--console-socket", &socket, &bench.id, "sh", "-c", "stty size; echo hi"])
        .ok()?;
    let text = all(receive(&listener)?.1);
    check(text.contains("hi"), || text)?;
    bench.run(&["delete", "-f", &bench.id]).ok()?;
    Ok(())
}

fn held(bench: &Bench) -> Outcome {
    let mut spec = bench.spec(&["/bin/sh", "-c", "stty size; read line; echo got $line; exit 6"]);
    spec["process"]["terminal"] = json!(true);
    bench.configure(&spec);
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    tcsetwinsize(&master, Winsize { ws_row: 22, ws_col: 66, ws_xpixel: 0, ws_ypixel: 0 })?;
    let slave = || ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY);
    let mut command = bench.command();
    command.args(["run", &bench.id]).stdin(slave()?).stdout(slave()?).stderr(slave()?);
    let mut child = command.spawn()?;
    drop(command);
    let mut master = std::fs::File::from(master);
    master.write_all(b"word\r")?;
    let mut text = Vec::new();
    let mut buffer = [0_u8; 256];
    while !String::from_utf8_lossy(&text).contains("got word") {
        match master.read(&mut buffer) {
            Ok(n) if n > 0 => text.extend_from_slice(&buffer[..n]),
            _ => break,
        }
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    let status = child.wait()?;
    check(status.code() == Some(6), || format!("{status:?} {text:?}"))?;
    check(text.contains("22 66") && text.contains("got word"), || text)
}

fn together(bench: &Bench) -> Outcome {
    let done = bench.run(&["create", "--console-socket", "/none", &bench.id]);
    check(done.code == 1 && done.err.contains("--console-socket /none"), || done.err)?;
    let mut spec = bench.spec(&["/bin/true"]);
    spec["process"]["terminal"] = json!(true);
    bench.configure(&spec);
    let done = bench.run(&["create", &bench.id]);
    check(done.code == 1 && done.err.contains("cannot allocate tty"), || done.err)?;
    let done = bench.run(&["create", "--console-socket", "/none/such", &bench.id]);
    check(done.code == 1 && done.err.contains("/none/such"), || done.err)
}
