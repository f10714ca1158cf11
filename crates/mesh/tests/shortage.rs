//! A proxy in a process that has no descriptor left: alone in its process, since that is so for all of it.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]
#![allow(dead_code, reason = "others use more of what they share")]

use std::fs::File;
use std::sync::{Arc, Barrier};

use mesh::proxy::Settings;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[path = "proxy/backend.rs"]
mod backend;
#[path = "proxy/harness.rs"]
mod harness;
#[path = "proxy/models.rs"]
mod models;

use backend::{Backend, Wire, ok};
use harness::{FRONTEND, Harness, answer, until};
use models::*;

/// Takes every descriptor that is left, below the highest in use and a few more.
fn take_all() -> (Rlimit, Vec<File>) {
    let before = getrlimit(Resource::Nofile);
    let names = std::fs::read_dir("/proc/self/fd").unwrap();
    let used = names.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<u64>().ok());
    let highest = used.max().unwrap();
    setrlimit(Resource::Nofile, Rlimit { current: Some(highest + 8), maximum: before.maximum }).unwrap();
    let taken = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    (before, taken)
}

#[test]
fn what_runs_out_here_is_no_endpoints_failure() {
    const IDLE: usize = 8;
    let together = Arc::new(Barrier::new(IDLE));
    let a = Backend::new(move |_, mut wire| {
        while wire.head().is_some() {
            together.wait();
            wire.send(ok("a"));
        }
    });
    let (one, other) = (Backend::saying("one"), Backend::saying("other"));
    let matches = vec![prefix("/a", 0), prefix("/b", 1)];
    let routing = routes(matches, vec![rule(vec![backend("a", 1)]), rule(vec![backend("b", 1)])]);
    let set = delta(vec![
        frontend(routing, Some("http")),
        endpoints("a", &[a.address]),
        endpoints("b", &[one.address, other.address]),
    ]);
    let mut settings = Settings::default();
    settings.ejection.base = std::time::Duration::from_secs(10_000);
    settings.ejection.most = settings.ejection.base;
    let mesh = Harness::with(set.clone(), settings, FRONTEND, None);
    // Without connections that wait for a request there is nothing that could make room.
    let bare = Harness::with(set, Settings { pool_most: 0, ..settings }, FRONTEND, None);
    let mut wires: Vec<Wire> = (0..IDLE).map(|_| mesh.connect()).collect();
    wires.iter_mut().for_each(|wire| wire.send("GET /a HTTP/1.1\r\nHost: web\r\n\r\n"));
    wires.iter_mut().for_each(|wire| assert_eq!(answer(wire).2, "a"));
    let ask = |wire: &mut Wire| {
        wire.send("GET /b HTTP/1.1\r\nHost: web\r\n\r\n");
        answer(wire)
    };
    let mut poor = bare.connect();
    // It answers itself where no rule is about the request: now it has been taken.
    poor.send("GET /c HTTP/1.1\r\nHost: web\r\n\r\n");
    assert_eq!(answer(&mut poor).0, 404);

    let (before, taken) = take_all();
    for _ in 0..8 {
        let (status, _, body) = ask(&mut poor);
        assert!(status == 503 && body.contains("os error 24"), "{status} {body}");
    }
    let (status, _, body) = ask(&mut wires[0]);
    assert_eq!(status, 200, "{body}");
    drop(taken);
    setrlimit(Resource::Nofile, before).unwrap();
    let mut seen = [false; 2];
    until("both are asked", || {
        seen[usize::from(ask(&mut poor).2 == "one")] = true;
        seen == [true, true]
    });
}
