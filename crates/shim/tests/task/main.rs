//! A shim that containerd drives, without containerd: what goes wrong on a process's way in, and its streams.
//!
//! Needs root.

#[path = "../rig/mod.rs"]
mod rig;

mod execs;
mod loggers;
mod starts;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kernel::process::{CStrings, Child, Program};
use prost::Message;
use serde_json::json;
use shim::protocol::task::{
    Any, CreateTask, ExecTask, KillTask, Mount, TASK_SERVICES, TaskDeleted, TaskPid, TaskProcess, TaskWaited,
};
use shim::protocol::{Empty, Frame, Kind, REMOTE_CLOSED, Request, Response, Status};

/// The one container of most tests.
const ID: &str = "a";

/// A shim, its directories and its cgroup.
struct Tasks {
    dir: tempfile::TempDir,
    cgroup: PathBuf,
    shim: Child,
    socket: UnixStream,
    inbox: Vec<u8>,
    answers: BTreeMap<u32, Result<Vec<u8>, Status>>,
    stream: u32,
}

impl Drop for Tasks {
    fn drop(&mut self) {
        rig::end(&self.shim, &self.cgroup);
    }
}

impl Tasks {
    fn new() -> Self {
        // An upper directory must not be below the lower one: this is another filesystem.
        let dir = tempfile::Builder::new().prefix("sextant-").tempdir_in("/dev/shm").expect("a directory");
        let path = dir.path().join("shim.sock");
        let listener: OwnedFd = UnixListener::bind(&path).expect("a socket").into();
        let program = std::env::var("SEXTANT_TEST_SHIM").ok();
        let program = program.as_deref().unwrap_or(env!("CARGO_BIN_EXE_sextant-shim"));
        let open = |path: &str| OwnedFd::from(fs::File::open(path).expect(path));
        let (null, binary) = (open("/dev/null"), open(program));
        let errors: OwnedFd = fs::File::create(dir.path().join("shim.err")).expect("a file").into();
        let text = path.display().to_string();
        let shim = kernel::process::spawn(&Program {
            file: binary.as_fd(),
            args: CStrings::new([shim::containerd::NAME, "-namespace", "test", "-id", ID, "-socket", &text])
                .expect("arguments"),
            env: CStrings::new([""; 0]).expect("environment"),
            fds: vec![null.as_fd(), null.as_fd(), errors.as_fd(), listener.as_fd()],
        })
        .expect("a shim");
        let cgroup = PathBuf::from(format!("sextant-test-{}-task-{}", std::process::id(), rig::number()));
        let socket = UnixStream::connect(&path).expect("a connection");
        // What hangs fails.
        socket.set_read_timeout(Some(Duration::from_secs(90))).expect("a timeout");
        Self { dir, cgroup, shim, socket, inbox: Vec::new(), answers: BTreeMap::new(), stream: 1 }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Asks, and waits for no answer.
    fn ask(&mut self, method: &str, message: &impl Message) -> u32 {
        let request = Request {
            service: TASK_SERVICES[1].to_owned(),
            method: method.to_owned(),
            payload: message.encode_to_vec(),
            timeout_nano: 0,
        };
        let stream = self.stream;
        self.stream += 2;
        let (mut bytes, payload) = (Vec::new(), request.encode_to_vec());
        Frame { stream, kind: Kind::Request, flags: REMOTE_CLOSED, payload }.encode(&mut bytes);
        self.socket.write_all(&bytes).expect("asked");
        stream
    }

    /// Takes one more answer.
    fn hear(&mut self) -> std::io::Result<()> {
        loop {
            if let Some(frame) = Frame::decode(&mut self.inbox).expect("a frame") {
                let response = Response::decode(&*frame.payload).expect("a response");
                let answer = response.status.filter(|s| s.code != 0).map_or(Ok(response.payload), Err);
                assert!(self.answers.insert(frame.stream, answer).is_none(), "answered twice");
                return Ok(());
            }
            let mut piece = [0; 4096];
            match self.socket.read(&mut piece)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                read => self.inbox.extend(&piece[..read]),
            }
        }
    }

    /// Whether an answer is there by now; takes what has come.
    fn is_answered(&mut self, stream: u32) -> bool {
        self.socket.set_nonblocking(true).expect("a socket");
        while self.hear().is_ok() {}
        self.socket.set_nonblocking(false).expect("a socket");
        self.answers.contains_key(&stream)
    }

    fn answer<A: Message + Default>(&mut self, stream: u32) -> Result<A, Status> {
        loop {
            if let Some(answer) = self.answers.remove(&stream) {
                return answer.map(|payload| A::decode(&*payload).expect("an answer"));
            }
            self.hear().expect("an answer in time");
        }
    }

    fn call<A: Message + Default>(&mut self, method: &str, message: &impl Message) -> Result<A, Status> {
        let stream = self.ask(method, message);
        self.answer(stream)
    }

    /// What a container that runs `script` is made with.
    fn request(&self, script: &str) -> CreateTask {
        for name in ["bundle/rootfs", "upper", "work"] {
            fs::create_dir_all(self.path(name)).expect(name);
        }
        let config = rig::config(script, &self.cgroup.join(ID));
        fs::write(self.path("bundle/config.json"), config.to_string()).expect("config.json");
        let options = ["upper", "work"].map(|name| format!("{name}dir={}", self.path(name)));
        let root = Mount {
            kind: "overlay".into(),
            source: "overlay".into(),
            target: String::new(),
            options: [["lowerdir=/".to_owned()].as_slice(), &options].concat(),
        };
        CreateTask { id: ID.into(), bundle: self.path("bundle"), rootfs: vec![root], ..CreateTask::default() }
    }

    /// Made and started.
    fn run(&mut self, script: &str) {
        let request = self.request(script);
        self.call::<TaskPid>("Create", &request).expect("a container");
        self.call::<TaskPid>("Start", &of("")).expect("started");
    }

    /// Said, not started.
    fn add(&mut self, exec_id: &str, args: &[&str], change: impl FnOnce(&mut ExecTask)) {
        let process =
            json!({"args": args, "cwd": "/", "env": ["PATH=/usr/bin:/bin"], "user": {"uid": 0, "gid": 0}});
        let spec = Any { type_url: String::new(), value: process.to_string().into_bytes() };
        let mut request =
            ExecTask { id: ID.into(), exec_id: exec_id.into(), spec: Some(spec), ..ExecTask::default() };
        change(&mut request);
        self.call::<Empty>("Exec", &request).expect("an exec");
    }

    fn kill(&mut self, exec_id: &str) -> Result<Empty, Status> {
        self.call("Kill", &KillTask { id: ID.into(), exec_id: exec_id.into(), signal: 9, all: false })
    }

    /// The container is killed and deleted, as far as it can be, and the shim ends.
    fn end(mut self) {
        let waiting = self.ask("Wait", &of(""));
        self.kill("").expect("killed");
        assert_eq!(self.answer::<TaskWaited>(waiting).expect("an end").exit_status, 137);
        self.call::<TaskDeleted>("Delete", &of("")).expect("deleted");
        self.call::<Empty>("Shutdown", &of("")).expect("shut down");
        wait_until("the shim's end", || self.shim.try_wait().is_ok_and(|exit| exit.is_some()));
    }

    /// The states of the shim's children, as `ps` has them.
    fn children(&self) -> Vec<char> {
        let parent = self.shim.pid.to_string();
        let pids = fs::read_dir("/proc").expect("/proc").flatten();
        // One that is gone by now is none.
        let stats = pids.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
        let state = |stat: String| {
            let mut fields = stat.rsplit_once(") ")?.1.split(' ');
            let state = fields.next()?.chars().next()?;
            (fields.next()? == parent).then_some(state)
        };
        stats.filter_map(state).collect()
    }

    /// How many pipes the shim holds ends of.
    fn pipes(&self) -> usize {
        let fds = fs::read_dir(format!("/proc/{}/fd", self.shim.pid)).expect("a shim").flatten();
        let names = fds.filter_map(|fd| fs::read_link(fd.path()).ok());
        names.filter(|name| name.to_string_lossy().starts_with("pipe:")).count()
    }
}

fn of(exec_id: &str) -> TaskProcess {
    TaskProcess { id: ID.into(), exec_id: exec_id.into() }
}

fn fifo(path: &str) {
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).expect("a FIFO");
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(90);
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A container that was not made leaves no cgroup, whose owner nobody would be.
#[test]
fn a_container_that_is_not_made_leaves_no_cgroup() {
    let mut tasks = Tasks::new();
    let request = tasks.request("exec sleep 3600");
    // Where the numbers of its processes are to go.
    fs::create_dir_all(Path::new(&tasks.path("bundle/process.json")).join("taken")).unwrap();
    let refused = tasks.call::<TaskPid>("Create", &request).unwrap_err();
    let cgroup = kernel::cgroup::Cgroup::at(&tasks.cgroup.join(ID)).unwrap();
    assert!(!cgroup.exists(), "the cgroup is left: {}", refused.message);
    fs::remove_dir_all(tasks.path("bundle/process.json")).unwrap();
    // Nor does one whose terminal is fed from what nobody can wait for: it is found when the container is there.
    let config = fs::read_to_string(tasks.path("bundle/config.json")).unwrap();
    let terminal = config.replacen(r#""process":{"#, r#""process":{"terminal":true,"#, 1);
    assert_ne!(config, terminal);
    fs::write(tasks.path("bundle/config.json"), terminal).unwrap();
    let stdin = tasks.path("bundle/config.json");
    let refused =
        tasks.call::<TaskPid>("Create", &CreateTask { terminal: true, stdin, ..request }).unwrap_err();
    assert!(!cgroup.exists(), "the cgroup is left: {}", refused.message);
    assert_eq!(tasks.children(), [] as [char; 0]);
    tasks.run("exec sleep 3600");
    tasks.end();
}

/// What is frozen says nothing; and with cgroup v1 of some kernels it does not even end when it is killed.
#[test]
fn what_is_frozen_is_not_waited_for() {
    let mut tasks = Tasks::new();
    for deleted in [false, true] {
        let request = tasks.request("exec sleep 3600");
        tasks.call::<TaskPid>("Create", &request).unwrap();
        tasks.call::<Empty>("Pause", &of("")).unwrap();
        let refused = tasks.call::<TaskPid>("Start", &of("")).unwrap_err();
        assert!(refused.message.contains("paused"), "{}", refused.message);
        if !deleted {
            tasks.kill("").unwrap();
        }
        tasks.call::<TaskDeleted>("Delete", &of("")).unwrap();
        assert_eq!(tasks.children(), [] as [char; 0]);
    }
    tasks.run("exec sleep 3600");
    tasks.end();
}
