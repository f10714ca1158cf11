//! Registration with a kubelet, and what probes ask, as processes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use csi::caller::registration::{Event, Registered, watch};
use rustix::process::{Pid, Signal, kill_process};

use crate::fake::Serving;
use crate::{LIMIT, Place};

/// A kubelet's side, on a thread of its own; it takes every driver.
fn kubelet(folder: &Path) -> Receiver<Event> {
    let (tell, events) = channel();
    let folder = folder.to_owned();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // It ends with the test.
        runtime.block_on(watch(&folder, move |event| {
            let _ = tell.send(event);
            std::future::ready(Ok(()))
        }));
    });
    events
}

fn came(events: &Receiver<Event>) -> Registered {
    loop {
        match events.recv_timeout(LIMIT).unwrap() {
            Event::Came(driver) => return driver,
            Event::Failed { .. } => {}
            gone @ Event::Gone(_) => panic!("{gone:?}"),
        }
    }
}

/// A command that serves, and what it says.
struct Server<'p>(&'p Place, &'static str, Child);

impl<'p> Server<'p> {
    fn start(place: &'p Place, name: &'static str, args: &[&str]) -> Server<'p> {
        let words = std::fs::File::create(place.path(name)).unwrap();
        let child = place.command(args).stdout(Stdio::null()).stderr(words).spawn().unwrap();
        Server(place, name, child)
    }

    fn words(&self) -> String {
        std::fs::read_to_string(self.0.path(self.1)).unwrap()
    }

    fn says(&self, what: &str) -> String {
        let until = Instant::now() + LIMIT;
        while !self.words().contains(what) {
            assert!(Instant::now() < until, "{} does not say {what:?}: {}", self.1, self.words());
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        self.words()
    }

    fn end(mut self, signal: Signal) -> Option<i32> {
        kill_process(Pid::from_child(&self.2), signal).unwrap();
        self.2.wait().unwrap().code()
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        let _ = self.2.kill();
        let _ = self.2.wait();
    }
}

#[test]
fn a_driver_registers_itself_again_after_it_was_killed() {
    let place = Place::new();
    let registry = place.at("registry");
    let events = kubelet(&place.path("registry"));
    let args = ["csi-driver", "--node-id", "node-1", "--registration-dir", &registry];
    let driver = Server::start(&place, "driver", &args);
    let registered = came(&events);
    assert_eq!((registered.driver.as_str(), registered.node.as_str()), ("csi.sextant.dev", "node-1"));
    assert_eq!(registered.endpoint, place.path("run/csi.sock"));
    assert_eq!(registered.topology["topology.csi.sextant.dev/node"], "node-1");
    driver.says("the kubelet has registered it");
    assert_eq!(driver.end(Signal::KILL), None);
    assert!(place.path("registry/csi.sextant.dev-reg.sock").exists());
    let driver = Server::start(&place, "driver", &args);
    assert_eq!(events.recv_timeout(LIMIT).unwrap(), Event::Gone("csi.sextant.dev".into()));
    assert_eq!(came(&events), registered);
    assert_eq!(driver.end(Signal::TERM), Some(0));
    assert_eq!(events.recv_timeout(LIMIT).unwrap(), Event::Gone("csi.sextant.dev".into()));
    assert_eq!(std::fs::read_dir(&registry).unwrap().count(), 0);
}

#[test]
fn drivers_of_others_are_registered_too() {
    let place = Place::new();
    let (registry, socket) = (place.at("registry"), place.at("other/csi.sock"));
    let events = kubelet(&place.path("registry"));
    let args = ["csi", "register", "--socket", &socket, "--registration-dir", &registry];
    let registrar = Server::start(&place, "registrar", &args);
    registrar.says("waits for the driver");
    let _driver = Serving::start(place.path("other/csi.sock"), &[]);
    let registered = came(&events);
    assert_eq!(registered.endpoint, place.path("other/csi.sock"));
    let words = registrar.says("the kubelet has registered driver");
    assert!(words.contains(&registered.driver), "{words}");
    assert_eq!(registrar.end(Signal::TERM), Some(0));
    assert_eq!(events.recv_timeout(LIMIT).unwrap(), Event::Gone(registered.driver));
}

#[test]
fn a_driver_that_goes_while_it_is_asked_is_waited_for() {
    let place = Place::new();
    let (registry, socket) = (place.at("registry"), place.at("other/csi.sock"));
    let events = kubelet(&place.path("registry"));
    std::fs::create_dir(place.path("other")).unwrap();
    let gone = testkit::faulty::deaf(&place.path("other/csi.sock"), 1);
    let args = ["csi", "register", "--socket", &socket, "--registration-dir", &registry];
    let registrar = Server::start(&place, "registrar", &args);
    // A signal would end it without a word.
    registrar.says("waits for the driver");
    registrar.says("the connection broke: ");
    gone.join().unwrap();
    let _driver = Serving::start(place.path("other/csi.sock"), &[]);
    let registered = came(&events);
    assert_eq!(registered.endpoint, place.path("other/csi.sock"));
    assert_eq!(registrar.end(Signal::TERM), Some(0));
}

#[test]
fn a_driver_that_goes_is_not_offered_any_more() {
    let place = Place::new();
    let (registry, socket) = (place.at("registry"), place.at("run/csi.sock"));
    let events = kubelet(&place.path("registry"));
    let driver = Server::start(&place, "driver", &["csi-driver", "--node-id", "node-1"]);
    let args = ["csi", "register", "--socket", &socket, "--registration-dir", &registry];
    let mut registrar = Server::start(&place, "registrar", &args);
    let registered = came(&events);
    assert_eq!(driver.end(Signal::KILL), None);
    assert_eq!(registrar.2.wait().unwrap().code(), Some(1));
    assert_eq!(events.recv_timeout(LIMIT).unwrap(), Event::Gone(registered.driver));
    assert_eq!(std::fs::read_dir(&registry).unwrap().count(), 0);
    let words = registrar.says("does not serve");
    assert!(words.contains(&socket) && words.contains("start this again"), "{words}");
}

/// Status and text that are answered at `http://HOST:PORT/PATH`.
fn get(url: &str) -> (String, String) {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    write!(stream, "GET /{path} HTTP/1.1\r\nhost: {host}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.lines().next().unwrap().strip_prefix("HTTP/1.1 ").unwrap();
    (status.into(), text.into())
}

#[test]
fn probes_are_told_whether_a_driver_is_ready() {
    let place = Place::new();
    place.refused(&["probe"], &["is not ready", "csi.sock"]);
    let driver = Server::start(&place, "driver", &["csi-driver", "--health-listen", "0"]);
    let words = driver.says("csi-driver: serves");
    let url = words.split_whitespace().find(|word| word.starts_with("http://127.0.0.1:")).unwrap();
    place.ok(&["probe"]);
    let (status, text) = get(url);
    assert_eq!(
        (status.as_str(), text.as_str()),
        ("200 OK", format!("{}: ok\n", place.at("run/csi.sock")).as_str())
    );
    assert_eq!(get(&url.replace("healthz", "other")).0, "404 Not Found");
    // A pool that cannot be asked any more.
    std::fs::rename(place.path("data/csi"), place.path("elsewhere")).unwrap();
    let (status, text) = get(url);
    assert_eq!(status, "500 Internal Server Error", "{text}");
    place.refused(&["probe"], &["is not ready"]);
    drop(driver);
}
