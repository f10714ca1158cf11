//! A bus of our own, and on it a fake of systemd: it owns systemd's name and answers as systemd does, as far as the
//! runtime asks. What the real one does is for `tests/systemd`, in a virtual machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use kernel::cgroup::Cgroup;
use oci_runtime::systemd::Unit;
use oci_runtime::systemd::dbus::{Connection, Kind, Message, Socket, Value};

type Any<T> = Result<T, Box<dyn std::error::Error>>;

const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// A dbus-daemon (Debian's package `dbus`) that listens in a directory of the test's.
pub(crate) struct Bus {
    daemon: Child,
    pub(crate) socket: PathBuf,
}

impl Bus {
    pub(crate) fn start(dir: &Path) -> Any<Self> {
        let socket = dir.join("bus");
        let config = dir.join("bus.conf");
        std::fs::write(
            &config,
            format!(
                "<!DOCTYPE busconfig PUBLIC '-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN' \
                 'http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd'><busconfig>\
                 <listen>unix:path={}</listen><auth>EXTERNAL</auth><policy context='default'>\
                 <allow send_destination='*' eavesdrop='true'/><allow eavesdrop='true'/><allow own='*'/></policy></busconfig>",
                socket.display()
            ),
        )?;
        let mut command = Command::new("dbus-daemon");
        command.arg("--config-file").arg(&config).args(["--nofork", "--nopidfile", "--nosyslog"]);
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::null());
        let spawned = spawned.stderr(std::fs::File::create(dir.join("bus.log"))?).spawn();
        let daemon = spawned.map_err(|e| format!("cannot start dbus-daemon: {e} (install dbus)"))?;
        let bus = Self { daemon, socket };
        for _ in 0..36_000 {
            if bus.open().is_ok() {
                return Ok(bus);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err("dbus-daemon does not listen".into())
    }

    /// A connection that has said Hello.
    pub(crate) fn open(&self) -> Any<Connection> {
        Ok(Connection::open(&Socket::Path(self.socket.clone()), false, Duration::from_secs(20))?)
    }

    pub(crate) fn address(&self) -> String {
        format!("unix:path={}", self.socket.display())
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// A unit as the fake has it.
#[derive(Debug, Clone)]
pub(crate) struct Started {
    pub(crate) properties: BTreeMap<String, Value>,
    pub(crate) cgroup: PathBuf,
    pub(crate) failed: bool,
}

/// What the fake has, and how it is to behave.
#[derive(Debug, Default)]
pub(crate) struct Ways {
    pub(crate) units: BTreeMap<String, Started>,
    /// The methods that were called, in their order.
    pub(crate) calls: Vec<String>,
    /// The result of jobs that start units, if it is not `done`.
    pub(crate) result: Option<String>,
    /// The answer to StartTransientUnit: an error's name and text.
    pub(crate) refuse: Option<(String, String)>,
}

/// The fake, in a thread of its own.
pub(crate) struct FakeSystemd {
    ways: Arc<Mutex<Ways>>,
    bus: PathBuf,
    thread: Option<JoinHandle<()>>,
}

impl FakeSystemd {
    pub(crate) fn start(bus: &Bus) -> Any<Self> {
        let mut connection =
            Connection::open(&Socket::Path(bus.socket.clone()), false, Duration::from_secs(600))?;
        let name = vec![Value::text("org.freedesktop.systemd1"), Value::U32(0)];
        let dbus = "org.freedesktop.DBus";
        let serial =
            connection.queue(Message::call(dbus, "/org/freedesktop/DBus", dbus, "RequestName", name))?;
        connection.reply(serial)?;
        let ways = Arc::new(Mutex::new(Ways::default()));
        let theirs = Arc::clone(&ways);
        let thread = std::thread::spawn(move || {
            // Ends with the bus, or when it is told.
            while let Ok(call) = connection.receive() {
                let served = call.kind != Kind::Call || serve(&mut connection, &theirs, &call).is_ok();
                if !served || call.member == "Exit" {
                    break;
                }
            }
        });
        Ok(Self { ways, bus: bus.socket.clone(), thread: Some(thread) })
    }

    pub(crate) fn ways(&self) -> MutexGuard<'_, Ways> {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FakeSystemd {
    fn drop(&mut self) {
        let told = Connection::open(&Socket::Path(self.bus.clone()), false, Duration::from_secs(20))
            .and_then(|mut c| {
                let exit =
                    c.queue(Message::call("org.freedesktop.systemd1", PATH, MANAGER, "Exit", Vec::new()))?;
                // A bus drops what it has not read of one that has left.
                c.reply(exit)
            });
        if told.is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

fn serve(connection: &mut Connection, ways: &Mutex<Ways>, call: &Message) -> Any<()> {
    let mut ways = ways.lock().unwrap_or_else(PoisonError::into_inner);
    ways.calls.push(call.member.clone());
    let reply = Message {
        reply_to: Some(call.serial),
        destination: call.sender.clone(),
        ..Message::new(Kind::Return)
    };
    let name = call.text(0).unwrap_or_default().to_owned();
    let answer = match call.member.as_str() {
        "StartTransientUnit" => start(&mut ways, &name, &call.body),
        "StopUnit" => stop(&mut ways, &name),
        "SetUnitProperties" => match ways.units.get_mut(&name) {
            Some(unit) => {
                unit.properties.extend(properties(&call.body[2]));
                Ok(Done::Nothing)
            }
            None => no_such_unit(&name),
        },
        "ResetFailedUnit" => {
            let failed = ways.units.get(&name).map(|unit| unit.failed);
            if failed == Some(true) {
                ways.units.remove(&name);
            }
            if failed.is_some() { Ok(Done::Nothing) } else { no_such_unit(&name) }
        }
        "Exit" => Ok(Done::Nothing),
        "GetUnit" if ways.units.contains_key(&name) => Ok(Done::Value(Value::ObjectPath(object_of(&name)))),
        "GetUnit" => no_such_unit(&name),
        "Get" => {
            let unit = ways.units.iter().find(|(name, _)| object_of(name) == call.path).map(|(_, unit)| unit);
            let value = unit.and_then(|unit| unit.properties.get(call.text(1)?)).cloned();
            value.map(|value| Done::Value(Value::Variant(Box::new(value)))).ok_or_else(|| {
                ("org.freedesktop.DBus.Error.UnknownProperty".to_owned(), "no such property".to_owned())
            })
        }
        other => Err(("org.freedesktop.DBus.Error.UnknownMethod".into(), format!("no method {other}"))),
    };
    match answer {
        Ok(Done::Nothing) => connection.queue(reply)?,
        Ok(Done::Value(value)) => connection.queue(Message { body: vec![value], ..reply })?,
        Ok(Done::Job(result)) => {
            let job = format!("{PATH}/job/{}", ways.calls.len());
            // Others' jobs end, too.
            connection.queue(removed(&format!("{PATH}/job/0"), "other.scope", "failed"))?;
            connection.queue(Message { body: vec![Value::ObjectPath(job.clone())], ..reply })?;
            connection.queue(removed(&job, &name, &result))?
        }
        Err((error, text)) => {
            connection.queue(Message { kind: Kind::Error, error, body: vec![Value::text(text)], ..reply })?
        }
    };
    Ok(connection.send()?)
}

/// What a method returns: nothing, a value, or a job that ends so.
enum Done {
    Nothing,
    Value(Value),
    Job(String),
}

/// Or an error's name and text.
type Answer = Result<Done, (String, String)>;

/// A unit's object, as systemd escapes its name.
fn object_of(name: &str) -> String {
    let escaped = name.bytes().map(|b| match b {
        b if b.is_ascii_alphanumeric() => char::from(b).to_string(),
        b => format!("_{b:02x}"),
    });
    format!("{PATH}/unit/{}", escaped.collect::<String>())
}

fn no_such_unit(name: &str) -> Answer {
    Err(("org.freedesktop.systemd1.NoSuchUnit".into(), format!("Unit {name} not loaded.")))
}

fn removed(job: &str, unit: &str, result: &str) -> Message {
    let body = vec![Value::U32(7), Value::ObjectPath(job.into()), Value::text(unit), Value::text(result)];
    Message {
        kind: Kind::Signal,
        destination: String::new(),
        ..Message::call("", PATH, MANAGER, "JobRemoved", body)
    }
}

fn properties(list: &Value) -> BTreeMap<String, Value> {
    let Value::Array(_, list) = list else { return BTreeMap::new() };
    let pair = |value: &Value| match value {
        Value::Struct(pair) => match pair.as_slice() {
            [Value::String(name), Value::Variant(value)] => Some((name.clone(), (**value).clone())),
            _ => None,
        },
        _ => None,
    };
    list.iter().filter_map(pair).collect()
}

fn start(ways: &mut Ways, name: &str, body: &[Value]) -> Answer {
    if let Some(refusal) = &ways.refuse {
        return Err(refusal.clone());
    }
    if ways.units.contains_key(name) {
        return Err((
            "org.freedesktop.systemd1.UnitExists".into(),
            format!("Unit {name} was already loaded or has a fragment file."),
        ));
    }
    let signature: String = body.iter().map(|value| value.kind().to_string()).collect();
    assert_eq!(signature, "ssa(sv)a(sa(sv))", "StartTransientUnit is called with {signature}");
    let properties = properties(&body[2]);
    let result = ways.result.clone().unwrap_or_else(|| "done".into());
    let slice = properties.get("Slice").and_then(Value::as_text).unwrap_or_default();
    let short = name.trim_end_matches(".scope");
    let unit = Unit::parse(&format!("{slice}::{short}"), "", false).expect("a unit");
    let cgroup = Cgroup::at(&unit.cgroup()).expect("a path");
    if result == "done" {
        cgroup.create().expect("a cgroup");
        let Some(Value::Array(_, pids)) = properties.get("PIDs") else { panic!("no PIDs") };
        for pid in pids {
            let Value::U32(pid) = pid else { panic!("PIDs are {pid:?}") };
            if let Err(e) = cgroup.add(*pid as i32) {
                // Its maker was killed, and it with it.
                cgroup.remove().expect("the cgroup goes");
                return Err(("org.freedesktop.DBus.Error.UnixProcessIdUnknown".into(), e.to_string()));
            }
        }
    }
    let failed = result != "done";
    ways.units.insert(name.into(), Started { properties, cgroup: unit.cgroup(), failed });
    Ok(Done::Job(result))
}

fn stop(ways: &mut Ways, name: &str) -> Answer {
    let Some(unit) = ways.units.get(name) else { return no_such_unit(name) };
    kernel::cgroup::destroy(&unit.cgroup).expect("the cgroup goes");
    if !unit.failed {
        ways.units.remove(name);
    }
    Ok(Done::Job("done".into()))
}
