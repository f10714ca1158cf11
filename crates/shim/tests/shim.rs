//! A real shim with real containers, whose root is this machine's own under an overlay.
//!
//! Needs root.

mod rig;

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kernel::process::Child;
use serde_json::{Value, json};
use shim::client::{Client, Event};
use shim::protocol::{
    AttachRequest, CreateRequest, ExecRequest, Input, KillRequest, Restart, Rootfs, Size, StopRequest,
};

/// One shim and its container's directories.
struct Bench {
    dir: tempfile::TempDir,
    cgroup: PathBuf,
    shim: Child,
    client: Client,
}

impl Drop for Bench {
    fn drop(&mut self) {
        rig::end(&self.shim, &self.cgroup);
    }
}

impl Bench {
    fn new() -> Self {
        // An upper directory must not be below the lower one: this is another filesystem.
        let dir = tempfile::Builder::new().prefix("sextant-").tempdir_in("/dev/shm").expect("a directory");
        for name in ["bundle", "state", "upper", "work"] {
            fs::create_dir(dir.path().join(name)).expect(name);
        }
        let (shim, client) = rig::spawn(dir.path());
        let cgroup = PathBuf::from(format!("sextant-test-{}-shim-{}", std::process::id(), rig::number()));
        Self { dir, cgroup, shim, client }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn request(&self, script: &str, change: impl FnOnce(&mut Value)) -> CreateRequest {
        let mut config = rig::config(script, &self.cgroup);
        change(&mut config);
        fs::write(self.dir.path().join("bundle/config.json"), config.to_string()).expect("config.json");
        CreateRequest {
            id: "test".into(),
            bundle: self.path("bundle"),
            rootfs: Some(Rootfs {
                lower: vec!["/".into()],
                upper: self.path("upper"),
                work: self.path("work"),
                ..Rootfs::default()
            }),
            log: self.path("log"),
            state: self.path("state"),
            ..CreateRequest::default()
        }
    }

    fn create(&mut self, script: &str) -> u32 {
        let request = CreateRequest { stdin: true, ..self.request(script, |_| {}) };
        self.client.create(&request).expect("a container");
        self.client
            .attach(&AttachRequest { exec_id: String::new(), stdin: true, container: String::new() })
            .expect("a stream")
    }

    /// All that comes on a stream, as standard output, standard error and exit code.
    fn drain(&mut self, stream: u32) -> (String, String, i32) {
        rig::drain(&mut self.client, stream)
    }

    fn exec(&mut self, script: &str, terminal: bool, stdin: bool) -> u32 {
        let process = json!({"args": ["/bin/sh", "-c", script], "cwd": "/", "env": ["PATH=/usr/bin:/bin"],
            "user": {"uid": 0, "gid": 0}, "terminal": terminal, "consoleSize": {"height": 20, "width": 30}});
        let exec_id = format!("exec-{}", rig::number());
        let request = ExecRequest {
            exec_id,
            process: process.to_string().into_bytes(),
            stdin,
            container: String::new(),
        };
        self.client.exec(&request).expect("an exec").0
    }

    fn wait_for_end(&self) {
        let mut fds = [rustix::event::PollFd::new(&self.shim.pidfd, rustix::event::PollFlags::IN)];
        let limit = rustix::time::Timespec { tv_sec: 90, tv_nsec: 0 };
        assert_eq!(rustix::event::poll(&mut fds, Some(&limit)).expect("poll"), 1, "the shim is still there");
    }
}

#[test]
fn output_exit_code_and_log_are_kept() {
    let mut bench = Bench::new();
    let stream = bench.create("echo out; echo err >&2; exit 5");
    let early = bench.client.start_while_attached("").expect("started");
    let (mut out, mut err, mut code) = (String::new(), String::new(), None);
    for (_, event) in early {
        match event {
            Event::Output(o) => {
                out += &String::from_utf8_lossy(&o.stdout);
                err += &String::from_utf8_lossy(&o.stderr);
            }
            Event::Exited(e) => code = Some(e.code),
        }
    }
    if code.is_none() {
        let (o, e, c) = bench.drain(stream);
        (out, err, code) = (out + &o, err + &e, Some(c));
    }
    assert_eq!((out.as_str(), err.as_str(), code), ("out\n", "err\n", Some(5)));
    assert_eq!(bench.client.wait("", "").expect("the exit").code, 5);
    let exit: Value =
        serde_json::from_slice(&fs::read(bench.dir.path().join("state/exit.json")).unwrap()).unwrap();
    assert_eq!((&exit["code"], &exit["oom"]), (&json!(5), &json!(false)));
    let log = fs::read_to_string(bench.dir.path().join("log")).unwrap();
    let mut entries: Vec<_> = log.lines().map(|l| l.split_once(' ').unwrap().1).collect();
    entries.sort_unstable();
    assert_eq!(entries, ["stderr F err", "stdout F out"]);
}

#[test]
fn input_reaches_the_program_and_its_end_too() {
    let mut bench = Bench::new();
    let stream = bench.create("cat");
    bench.client.start("").expect("started");
    let mut input = bench.client.input(stream).unwrap();
    // More than a pipe and a socket hold together.
    let data: Vec<u8> = (0..2_000_000_u32).map(|n| b'a' + (n % 25) as u8).collect();
    let sent = data.clone();
    let sender = std::thread::spawn(move || {
        for piece in sent.chunks(50_000) {
            input.send(&Input { data: piece.to_vec(), ..Input::default() }).unwrap();
        }
        input.send(&Input { close: true, ..Input::default() }).unwrap();
    });
    let (out, _, code) = bench.drain(stream);
    sender.join().unwrap();
    assert!(out.as_bytes() == data, "{} of {} bytes came back", out.len(), data.len());
    assert_eq!(code, 0);
}

#[test]
fn a_slow_reader_loses_nothing() {
    let mut bench = Bench::new();
    let stream = bench.create("i=0; while [ $i -lt 20000 ]; do echo line-number-$i-of-many-lines-that-fill-the-buffers; i=$((i+1)); done");
    // What comes before the answer counts, too.
    let early = bench.client.start_while_attached("").expect("started");
    std::thread::sleep(Duration::from_millis(300));
    let (rest, _, code) = bench.drain(stream);
    let mut out = String::new();
    for (_, event) in early {
        if let Event::Output(output) = event {
            out += &String::from_utf8_lossy(&output.stdout);
        }
    }
    out += &rest;
    assert_eq!(code, 0);
    assert_eq!(out.lines().count(), 20_000);
}

#[test]
fn processes_are_brought_in() {
    let mut bench = Bench::new();
    bench.create("echo up; exec sleep 3600");
    bench.client.start("").expect("started");
    let stream = bench.exec("echo in; echo here > /dev/shm-not; hostname; exit 9", false, false);
    let (out, _, code) = bench.drain(stream);
    assert!(out.starts_with("in\n"), "{out:?}");
    assert_eq!(code, 9);
    let stream = bench.exec("cat; stty size", true, true);
    let mut input = bench.client.input(stream).unwrap();
    input.send(&Input { size: Some(Size { rows: 44, columns: 99 }), ..Input::default() }).unwrap();
    input.send(&Input { data: b"typed\n".to_vec(), close: true, ..Input::default() }).unwrap();
    let (out, _, _) = bench.drain(stream);
    assert_eq!(out.replace('\r', ""), "typed\ntyped\n44 99\n");
    let missing = ExecRequest {
        exec_id: "missing".into(),
        process: json!({"args": ["/no/such"], "cwd": "/", "user": {"uid": 0, "gid": 0}})
            .to_string()
            .into_bytes(),
        stdin: false,
        container: String::new(),
    };
    let error = bench.client.exec(&missing).unwrap_err();
    assert!(error.to_string().starts_with("cannot execute \"/no/such\""), "{error}");
    assert!(bench.client.pids("").unwrap().len() == 1);
}

#[test]
fn stop_escalates_and_answers_at_the_end() {
    let mut bench = Bench::new();
    bench.create("trap '' TERM; echo up; while :; do sleep 1; done");
    bench.client.start("").expect("started");
    // It is deaf once it says so, however long its shell takes to come so far.
    let deadline = Instant::now() + Duration::from_secs(90);
    while !fs::read_to_string(bench.dir.path().join("log")).is_ok_and(|log| log.contains("up")) {
        assert!(Instant::now() < deadline, "it does not say that it is up");
        std::thread::sleep(Duration::from_millis(5));
    }
    let began = Instant::now();
    let exited = bench
        .client
        .stop(&StopRequest { signal: 15, timeout: 200, container: String::new() })
        .expect("stopped");
    assert_eq!(exited.code, 137);
    assert!(began.elapsed() >= Duration::from_millis(200));
}

#[test]
fn a_container_is_started_again_until_the_limit() {
    let mut bench = Bench::new();
    let mut request = bench.request("echo run; exit 3", |_| {});
    request.set_restart(Restart::OnFailure);
    request.restart_limit = 2;
    bench.client.create(&request).expect("a container");
    bench.client.start("").expect("started");
    let code = bench.client.wait("", "").expect("the exit").code;
    let log = fs::read_to_string(bench.dir.path().join("log")).unwrap();
    assert_eq!(code, 3, "{log}");
    assert_eq!(log.lines().count(), 3, "{log}");
    assert_eq!(bench.client.state("", "").unwrap().restarts, 2);
}

#[test]
fn a_frozen_container_stands_still() {
    let mut bench = Bench::new();
    bench.create("while :; do :; done");
    bench.client.start("").expect("started");
    bench.client.pause("").expect("paused");
    assert!(bench.client.state("", "").unwrap().paused);
    let error = bench.client.exec(&ExecRequest {
        exec_id: "x".into(),
        process: b"{\"args\":[\"/bin/true\"],\"cwd\":\"/\",\"user\":{\"uid\":0,\"gid\":0}}".to_vec(),
        stdin: false,
        container: String::new(),
    });
    assert!(error.unwrap_err().to_string().contains("paused"));
    bench.client.resume("").expect("resumed");
    bench
        .client
        .kill(&KillRequest { exec_id: String::new(), signal: 9, all: false, container: String::new() })
        .unwrap();
    assert_eq!(bench.client.wait("", "").unwrap().code, 137);
}

#[test]
fn others_connect_and_the_creator_may_leave() {
    let mut bench = Bench::new();
    let marker = bench.path("marker");
    let mut request = bench.request("read line; echo got $line; exit 4", |_| {});
    request.stdin = true;
    request.on_exit = vec!["touch".into(), marker.clone()];
    bench.client.create(&request).expect("a container");
    bench.client.start("").expect("started");
    let socket = bench.dir.path().join("bundle/shim.sock");
    bench.client = Client::connect(&socket).expect("a second connection");
    let stream = bench
        .client
        .attach(&AttachRequest { exec_id: String::new(), stdin: true, container: String::new() })
        .unwrap();
    bench
        .client
        .input(stream)
        .unwrap()
        .send(&Input { data: b"word\n".to_vec(), ..Input::default() })
        .unwrap();
    let (out, _, code) = bench.drain(stream);
    assert_eq!((out.as_str(), code), ("got word\n", 4));
    bench.wait_for_end();
    let deadline = Instant::now() + Duration::from_secs(90);
    while !Path::new(&marker).exists() {
        assert!(Instant::now() < deadline, "the program at the end did not run");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_creator_that_dies_early_leaves_nothing() {
    let mut bench = Bench::new();
    let pid = bench.client.create(&bench.request("sleep 3600", |_| {})).expect("a container").pid;
    bench.client = Client::over(std::os::unix::net::UnixStream::pair().unwrap().0.into());
    bench.wait_for_end();
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn bad_requests_are_answered() {
    let mut bench = Bench::new();
    assert!(bench.client.start("").unwrap_err().to_string().contains("no container is made yet"));
    let mut request = bench.request("true", |c| c["process"]["cwd"] = json!("relative"));
    let error = bench.client.create(&request).unwrap_err().to_string();
    assert!(error.contains("process.cwd"), "{error}");
    request.bundle = "/no/such/bundle".into();
    let error = bench.client.create(&request).unwrap_err().to_string();
    assert!(error.contains("cannot read /no/such/bundle/config.json"), "{error}");
    // And it still works.
    let request = bench.request("exit 0", |_| {});
    bench.client.create(&request).expect("a container");
    assert!(bench.client.create(&request).unwrap_err().to_string().contains("already"));
    bench.client.start("").expect("started");
    assert_eq!(bench.client.wait("", "").unwrap().code, 0);
}

/// Whether the shim waits in the kernel whenever it is looked at.
fn is_idle(bench: &Bench) -> bool {
    std::thread::sleep(Duration::from_millis(100));
    let is_waiting = |_| {
        std::thread::sleep(Duration::from_millis(5));
        let call = fs::read_to_string(format!("/proc/{}/syscall", bench.shim.pid)).expect("a shim");
        // Not "running": a number, of epoll_wait or one of its kind.
        call.starts_with(|c: char| c.is_ascii_digit())
    };
    // One that is woken for good reason, and has no core yet, is "running" too; one that is busy always is.
    (0..100).any(|_| (0..20).all(is_waiting))
}

#[test]
fn a_hang_up_is_not_told_again_and_again() {
    // A pipe whose other end is closed is reported whatever is asked for.
    for script in ["exec <&-; sleep 3600", "exec >&- 2>&-; sleep 3600", "exec <&- >&- 2>&-; sleep 3600"] {
        let mut bench = Bench::new();
        bench.create(script);
        bench.client.start("").expect("started");
        assert!(is_idle(&bench), "{script}");
        // A client that leaves, one that says that it sends no more, and an exec that leaves something behind.
        let socket = bench.dir.path().join("bundle/shim.sock");
        let half = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        half.shutdown(std::net::Shutdown::Write).unwrap();
        let mut second = Client::connect(&socket).unwrap();
        second
            .attach(&AttachRequest { exec_id: String::new(), stdin: true, container: String::new() })
            .unwrap();
        drop(second);
        let stream = bench.exec("sleep 3600 & exit 3", false, false);
        assert_eq!(bench.drain(stream).2, 3);
        assert!(is_idle(&bench), "{script}, with clients");
    }
}

#[test]
fn what_a_process_leaves_running_does_not_hold_its_end_up() {
    let mut bench = Bench::new();
    bench.create("sleep 3600");
    bench.client.start("").expect("started");
    let stream = bench.exec("yes & yes & yes & yes & yes & yes & exit 6", false, false);
    assert_eq!(bench.drain(stream).2, 6);
    assert_eq!(bench.client.state("", "").unwrap().restarts, 0);
}

fn children(bench: &Bench) -> usize {
    let pid = bench.shim.pid;
    fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("a shim").split_whitespace().count()
}

/// A container that stops all it sees, and processes on their way into it: one of them is caught, sooner or later.
fn stopped_on_their_way_in() -> (Bench, Vec<std::thread::JoinHandle<()>>) {
    let mut bench = Bench::new();
    bench.create("while :; do kill -STOP -1; done");
    bench.client.start("").expect("started");
    let socket = bench.dir.path().join("bundle/shim.sock");
    let before = children(&bench);
    let mut others = Vec::new();
    for n in 0..20 {
        let mut client = Client::connect(&socket).expect("connected");
        let process = json!({"args": ["/bin/sleep", "3600"], "cwd": "/", "user": {"uid": 0, "gid": 0}});
        let request = ExecRequest {
            exec_id: format!("stopped-{n}"),
            process: process.to_string().into_bytes(),
            stdin: false,
            container: String::new(),
        };
        others.push(std::thread::spawn(move || drop(client.exec(&request))));
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    while children(&bench) <= before && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(200));
    assert!(bench.client.state("", "").expect("a state").running);
    assert!(children(&bench) > before);
    (bench, others)
}

#[test]
fn a_process_on_its_way_in_can_be_killed() {
    let (bench, others) = stopped_on_their_way_in();
    let mut killer = Client::connect(&bench.dir.path().join("bundle/shim.sock")).unwrap();
    let deadline = Instant::now() + Duration::from_secs(90);
    // The container's own process is all that stays.
    while others.iter().any(|other| !other.is_finished()) || children(&bench) > 1 {
        for n in 0..20 {
            // Those that are gone are not found.
            let exec_id = format!("stopped-{n}");
            let _ = killer.kill(&KillRequest { exec_id, signal: 9, all: false, container: String::new() });
        }
        assert!(Instant::now() < deadline, "{} are left", children(&bench));
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(killer.state("", "").unwrap().running);
}

#[test]
fn a_process_that_is_stopped_on_its_way_in_holds_nobody_up() {
    let (mut bench, others) = stopped_on_their_way_in();
    assert_eq!(
        bench
            .client
            .stop(&StopRequest { signal: 9, timeout: 0, container: String::new() })
            .expect("stopped")
            .code,
        137
    );
    for other in others {
        other.join().unwrap();
    }
}

#[test]
fn a_terminal_takes_more_than_it_holds() {
    let mut bench = Bench::new();
    bench.create("sleep 3600");
    bench.client.start("").expect("started");
    let stream = bench.exec("stty raw -echo; echo ready; sleep 0.3; head -c 300000 | wc -c", true, true);
    let mut out = Vec::new();
    while !String::from_utf8_lossy(&out).contains("ready") {
        if let Event::Output(output) = bench.client.event(stream).unwrap() {
            out.extend(output.stdout);
        }
    }
    let input = Input { data: vec![b'x'; 300_000], ..Input::default() };
    bench.client.input(stream).unwrap().send(&input).unwrap();
    let (out, _, code) = bench.drain(stream);
    assert_eq!((out.trim(), code), ("300000", 0));
}

#[test]
fn a_frozen_container_that_is_killed_starts_again_thawed() {
    let mut bench = Bench::new();
    let mut request = bench.request("sleep 3600", |_| {});
    request.set_restart(Restart::Always);
    bench.client.create(&request).expect("a container");
    bench.client.start("").expect("started");
    bench.client.pause("").expect("paused");
    bench
        .client
        .kill(&KillRequest { exec_id: String::new(), signal: 9, all: false, container: String::new() })
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        let state = bench.client.state("", "").unwrap();
        if state.restarts == 1 && state.running {
            assert!(!state.paused);
            break;
        }
        assert!(Instant::now() < deadline, "{state:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    let stream = bench.exec("exit 8", false, false);
    assert_eq!(bench.drain(stream).2, 8);
}

#[test]
fn more_clients_than_descriptors_end_no_shim() {
    let mut bench = Bench::new();
    bench.create("read line; exit 5");
    bench.client.start("").expect("started");
    let limit = rustix::process::Rlimit { current: Some(24), maximum: Some(24) };
    let shim = rustix::process::Pid::from_raw(bench.shim.pid);
    rustix::process::prlimit(shim, rustix::process::Resource::Nofile, limit).unwrap();
    let socket = bench.dir.path().join("bundle/shim.sock");
    let many: Vec<_> = (0..40).map(|_| std::os::unix::net::UnixStream::connect(&socket).unwrap()).collect();
    std::thread::sleep(Duration::from_millis(50));
    assert!(bench.client.state("", "").unwrap().running);
    drop(many);
    let mut late = Client::connect(&socket).unwrap();
    assert!(late.state("", "").unwrap().running);
}

#[test]
fn a_client_that_never_reads_does_not_keep_the_shim() {
    let mut bench = Bench::new();
    bench.create("read line; head -c 60000 /dev/zero; exit 5");
    bench.client.start("").expect("started");
    let socket = bench.dir.path().join("bundle/shim.sock");
    let mut stuck = Client::connect(&socket).unwrap();
    let stream = stuck
        .attach(&AttachRequest { exec_id: String::new(), stdin: true, container: String::new() })
        .unwrap();
    // What a pipe holds, forty times over, is more than a socket does.
    for _ in 0..40 {
        let ask =
            stuck.attach(&AttachRequest { exec_id: String::new(), stdin: false, container: String::new() });
        assert!(ask.is_ok());
    }
    stuck.send_input(stream, &Input { data: b"go\n".to_vec(), ..Input::default() }).unwrap();
    assert_eq!(bench.client.wait("", "").unwrap().code, 5);
    bench.client.shutdown().unwrap();
    bench.wait_for_end();
    drop(stuck);
}

#[test]
fn a_shim_keeps_no_directory_of_its_creator() {
    let bench = Bench::new();
    let deadline = Instant::now() + Duration::from_secs(90);
    while fs::read_link(format!("/proc/{}/cwd", bench.shim.pid)).unwrap() != Path::new("/") {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_created_container_goes_with_its_shim() {
    let mut bench = Bench::new();
    let pid = bench.client.create(&bench.request("sleep 3600", |_| {})).expect("a container").pid;
    kernel::process::signal(bench.shim.pidfd.as_fd(), 9).unwrap();
    bench.wait_for_end();
    let deadline = Instant::now() + Duration::from_secs(90);
    while Path::new(&format!("/proc/{pid}")).exists() {
        assert!(Instant::now() < deadline, "it waits for ever");
        std::thread::sleep(Duration::from_millis(1));
    }
}
