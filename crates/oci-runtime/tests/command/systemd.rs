//! `--systemd-cgroup`, over a real dbus-daemon and before a fake of systemd; and the D-Bus client itself.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use oci_runtime::systemd::dbus::{Connection, Failure, Message, Socket, Type, Value};
use serde_json::json;

use crate::bench::{Bench, Done};
use crate::bus::{Bus, FakeSystemd, Started};
use crate::{Outcome, Test, check};

pub(crate) const TESTS: &[Test] = &[
    ("systemd_has_a_container_in_a_scope_for_its_life", life),
    ("systemd_is_asked_once_for_a_start", few_calls),
    ("systemd_is_told_of_new_limits", update),
    ("systemds_refusal_is_passed_on", refused),
    ("systemds_failed_job_is_passed_on", failed_job),
    ("a_failed_unit_of_before_makes_room", left_over),
    ("somebody_elses_unit_is_left_alone", somebody_elses),
    ("without_a_bus_the_socket_is_named", no_bus),
    ("delete_without_a_bus_goes_by_the_cgroup", delete_alone),
    ("a_create_killed_while_systemd_works_leaves_nothing", killed),
    ("the_bus_answers_and_refuses", real_bus),
    ("a_bus_that_is_none_is_told", strange_buses),
];

struct Site<'a> {
    bench: &'a Bench,
    fake: FakeSystemd,
    bus: Bus,
    slice: String,
}

impl<'a> Site<'a> {
    fn new(bench: &'a Bench) -> Result<Self, Box<dyn std::error::Error>> {
        let bus = Bus::start(&bench.path(""))?;
        let fake = FakeSystemd::start(&bus)?;
        let site = Self { bench, fake, bus, slice: format!("{}.slice", bench.id.replace('-', "x")) };
        site.configure(json!({}));
        Ok(site)
    }

    /// One that stays, with these resources.
    fn configure(&self, resources: serde_json::Value) {
        let mut spec = self.bench.sleeper();
        spec["linux"]["cgroupsPath"] = json!(format!("{}:bench:{}", self.slice, self.bench.id));
        if let Some(given) = resources.as_object() {
            for (key, value) in given {
                spec["linux"]["resources"][key] = value.clone();
            }
        }
        spec["annotations"]["org.systemd.property.TimeoutStopSec"] = json!("7");
        self.bench.configure(&spec);
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.bench.command();
        command.env("DBUS_SYSTEM_BUS_ADDRESS", self.bus.address()).args(args);
        command
    }

    fn run(&self, args: &[&str]) -> Done {
        self.bench.run_command(&mut self.command(args))
    }

    fn create(&self) -> Done {
        self.run(&["--systemd-cgroup", "create", &self.bench.id])
    }

    fn unit(&self) -> Option<Started> {
        self.fake.ways().units.get(&self.name()).cloned()
    }

    fn name(&self) -> String {
        format!("bench-{}.scope", self.bench.id)
    }

    fn started(&self) -> Result<Started, Box<dyn std::error::Error>> {
        Ok(self.unit().ok_or("no unit")?)
    }

    /// No unit, and no cgroup in the slice.
    fn nothing_is_left(&self) -> Outcome {
        check(self.unit().is_none(), || format!("a unit is left: {:?}", self.unit()))?;
        let slice = kernel::cgroup::Cgroup::at(self.slice.as_ref())?;
        let below = std::fs::read_dir("/sys/fs/cgroup")?.flatten().map(|tree| tree.path().join(&self.slice));
        let below = below.chain([std::path::Path::new("/sys/fs/cgroup").join(&self.slice)]);
        let left: Vec<_> = below.map(|dir| dir.join(self.name())).filter(|scope| scope.exists()).collect();
        check(left.is_empty(), || format!("cgroups are left: {left:?}"))?;
        slice.remove()?;
        self.bench.nothing_is_left()
    }
}

impl Drop for Site<'_> {
    fn drop(&mut self) {
        let _ = self.run(&["delete", "--force", &self.bench.id]);
        let _ = kernel::cgroup::destroy(self.slice.as_ref());
    }
}

fn life(bench: &Bench) -> Outcome {
    let site = Site::new(bench)?;
    site.configure(json!({"pids": {"limit": 40}, "memory": {"limit": 67108864}}));
    site.create().ok()?;
    let unit = site.started()?;
    let has = |name: &str, value: Value| {
        let found = unit.properties.get(name);
        check(found == Some(&value), || format!("{name} is {found:?}, not {value:?}"))
    };
    has("Slice", Value::text(&site.slice))?;
    has("Delegate", Value::Bool(true))?;
    has("DefaultDependencies", Value::Bool(false))?;
    has("TasksMax", Value::U64(40))?;
    has("DevicePolicy", Value::text("strict"))?;
    has("TimeoutStopUSec", Value::U64(7_000_000))?;
    let pid = bench.run(&["state", &bench.id]).ok()?.json()?["pid"].as_u64().ok_or("no pid")?;
    has("PIDs", Value::array(Type::U32, [Value::U32(pid as u32)]))?;
    let cgroup = kernel::cgroup::Cgroup::at(&unit.cgroup)?;
    check(cgroup.pids()?.contains(&(pid as i32)), || "the process is not in the unit's cgroup".into())?;
    let table = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let wrong: Vec<_> = table.lines().filter(|line| !line.ends_with(&site.name())).collect();
    check(wrong.is_empty(), || format!("hierarchies without it: {wrong:?}"))?;
    let pids = cgroup.read("pids.max").unwrap_or_default();
    check(pids.trim() == "40", || format!("pids.max is {pids:?}"))?;
    site.run(&["start", &bench.id]).ok()?;
    check(bench.status()? == "running", || "not running".into())?;
    let exec = site.run(&["exec", &bench.id, "cat", "/proc/self/cgroup"]).ok()?;
    check(exec.out.contains(&site.name()), || exec.out)?;
    site.run(&["pause", &bench.id]).ok()?;
    check(bench.status()? == "paused", || "not paused".into())?;
    site.run(&["resume", &bench.id]).ok()?;
    site.run(&["kill", &bench.id, "KILL"]).ok()?;
    bench.until("it has stopped", || bench.status().is_ok_and(|status| status == "stopped"))?;
    site.run(&["delete", &bench.id]).ok()?;
    site.nothing_is_left()
}

fn few_calls(bench: &Bench) -> Outcome {
    let site = Site::new(bench)?;
    site.create().ok()?;
    let calls = std::mem::take(&mut site.fake.ways().calls);
    check(calls == ["StartTransientUnit"], || format!("{calls:?}"))?;
    site.run(&["start", &bench.id]).ok()?;
    site.run(&["exec", &bench.id, "true"]).ok()?;
    bench.run(&["state", &bench.id]).ok()?;
    let calls = std::mem::take(&mut site.fake.ways().calls);
    check(calls.is_empty(), || format!("{calls:?}"))?;
    site.run(&["delete", "--force", &bench.id]).ok()?;
    bench.until("both calls have come", || site.fake.ways().calls.len() == 2)?;
    let calls = site.fake.ways().calls.clone();
    check(calls == ["StopUnit", "ResetFailedUnit"], || format!("{calls:?}"))?;
    site.nothing_is_left()
}

fn update(bench: &Bench) -> Outcome {
    let site = Site::new(bench)?;
    site.create().ok()?;
    site.run(&["update", "--pids-limit", "33", "--memory", "64M", &bench.id]).ok()?;
    let unit = site.started()?;
    check(unit.properties.get("TasksMax") == Some(&Value::U64(33)), || format!("{unit:?}"))?;
    let cgroup = kernel::cgroup::Cgroup::at(&unit.cgroup)?;
    check(cgroup.read("pids.max").is_some_and(|text| text.trim() == "33"), || "pids.max".into())?;
    check(cgroup.usage().memory_limit == Some(64 << 20), || format!("{:?}", cgroup.usage()))?;
    let file = bench.path("devices.json");
    let rule = json!({"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"});
    std::fs::write(&file, json!({"devices": [{"allow": false, "access": "rwm"}, rule]}).to_string())?;
    site.run(&["update", "-r", &file.display().to_string(), &bench.id]).ok()?;
    let allowed = format!("{:?}", site.started()?.properties.get("DeviceAllow"));
    check(allowed.contains("/dev/char/10:229"), || allowed)?;
    check(bench.status()? == "created", || "the update left it frozen".into())?;
    site.run(&["delete", "--force", &bench.id]).ok()?;
    site.nothing_is_left()
}

fn refused(bench: &Bench) -> Outcome {
    let site = Site::new(bench)?;
    let text = "Cannot set property Bogus, or unknown property.";
    site.fake.ways().refuse = Some(("org.freedesktop.DBus.Error.PropertyReadOnly".into(), text.into()));
    let done = site.create();
    let part =
        format!("cannot start unit {}: {text} (org.freedesktop.DBus.Error.PropertyReadOnly)", site.name());
    check(done.code == 1 && done.err.contains(&part), || done.err)?;
    site.nothing_is_left()
}

fn failed_job(bench: &Bench) -> Outcome {
    let site = Site::new(bench)?;
    site.fake.ways().result = Some("failed".into());
    let done = site.create();
    check(done.code == 1 && done.err.contains("its job ended with \"failed\""), || done.err)?;
    // It has reset what it left failed.
    bench.until("the failed unit is gone", || site.unit().is_none())?;
    site.nothing_is_left()
}

fn left_over(bench: &Bench) -> Outcome {
    let site = Site::new(bench)?;
    let dead = Started { properties: Default::default(), cgroup: "sxtest-none".into(), failed: true };
    site.fake.ways().units.insert(site.name(), dead);
    site.create().ok()?;
    check(!site.started()?.failed, || "it is the old one".into())?;
    site.run(&["delete", "--force", &bench.id]).ok()?;
    site.nothing_is_left()
}

fn somebody_elses(bench: &Bench) -> Outcome {
    let site = Site::new(bench)?;
    site.create().ok()?;
    let other = Bench::new();
    let mut spec = other.sleeper();
    spec["linux"]["cgroupsPath"] = json!(format!("{}:bench:{}", site.slice, bench.id));
    other.configure(&spec);
    let mut command = other.command();
    command.env("DBUS_SYSTEM_BUS_ADDRESS", site.bus.address());
    let done = other.run_command(command.args(["--systemd-cgroup", "create", &other.id]));
    check(done.code == 1 && done.err.contains("already loaded"), || done.err)?;
    check(bench.status()? == "created", || "the first one was taken away".into())?;
    check(site.unit().is_some(), || "the first one's unit was stopped".into())?;
    other.nothing_is_left()?;
    // Killed before it heard of it.
    let mut child = other.command();
    child.env("DBUS_SYSTEM_BUS_ADDRESS", site.bus.address()).args(["--systemd-cgroup", "create", &other.id]);
    let stuck = site.fake.ways();
    let mut child = child.stderr(Stdio::null()).spawn()?;
    bench.until("it is recorded", || other.root().join(&other.id).join("state.json").exists())?;
    kernel::process::signal(kernel::process::pidfd(child.id() as i32)?.as_fd(), 9)?;
    child.wait()?;
    drop(stuck);
    let mut delete = other.command();
    delete.env("DBUS_SYSTEM_BUS_ADDRESS", site.bus.address());
    other.run_command(delete.args(["delete", "--force", &other.id])).ok()?;
    check(bench.status()? == "created", || "the first one was deleted with the other".into())?;
    other.nothing_is_left()?;
    site.run(&["delete", "--force", &bench.id]).ok()?;
    site.nothing_is_left()
}

fn no_bus(bench: &Bench) -> Outcome {
    let socket = bench.path("none").display().to_string();
    let mut command = bench.command();
    command.env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={socket}"));
    command.args(["--systemd-cgroup", "create", &bench.id]);
    // This machine's own systemd, if it has one, would be asked next.
    let own = std::path::Path::new("/run/systemd/private").exists();
    let mut spec = bench.sleeper();
    spec["linux"]["cgroupsPath"] = json!("x.slice:a:b");
    bench.configure(&spec);
    if !own {
        let done = bench.run_command(&mut command);
        let parts = ["cannot reach systemd", &socket, "/run/systemd/private", "leave out --systemd-cgroup"];
        check(done.code == 1 && parts.iter().all(|part| done.err.contains(part)), || done.err)?;
    }
    spec["linux"]["cgroupsPath"] = json!("/a/b");
    bench.configure(&spec);
    let done = bench.run_command(&mut command);
    check(done.code == 1 && done.err.contains("must be slice:prefix:name"), || done.err)
}

/// The bus is gone when the container is deleted, and so it is when its maker was killed before it had an answer.
fn delete_alone(bench: &Bench) -> Outcome {
    let site = Site::new(bench)?;
    // A machine that is systemd's has another way to it.
    let own = std::path::Path::new("/run/systemd/private").exists();
    let delete = |bench: &Bench| -> Outcome {
        let mut command = bench.command();
        command.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/run/none");
        let done = bench.run_command(command.args(["delete", "--force", &bench.id])).ok()?;
        check(own || done.err.contains("cannot reach systemd") && done.err.contains(".scope"), || done.err)?;
        bench.nothing_is_left()
    };
    site.create().ok()?;
    site.run(&["start", &bench.id]).ok()?;
    let cgroup = kernel::cgroup::Cgroup::at(&site.started()?.cgroup)?;
    delete(bench)?;
    check(!cgroup.exists(), || format!("{} is left", cgroup.path().display()))?;
    site.fake.ways().units.clear();
    // Its maker is killed when systemd has placed it, or before.
    let stuck = |bench: &Bench| -> Outcome {
        let held = site.fake.ways();
        let mut create = bench.command();
        create.env("DBUS_SYSTEM_BUS_ADDRESS", site.bus.address()).stderr(Stdio::null());
        let mut create = create.args(["--systemd-cgroup", "create", &bench.id]).spawn()?;
        bench.until("it is recorded", || bench.root().join(&bench.id).join("state.json").exists())?;
        kernel::process::signal(kernel::process::pidfd(create.id() as i32)?.as_fd(), 9)?;
        create.wait()?;
        drop(held);
        Ok(())
    };
    stuck(bench)?;
    bench.until("what it held is gone", || bench.processes().is_empty())?;
    delete(bench)?;
    site.fake.ways().units.clear();
    if own {
        // That systemd would be asked instead, which knows nothing of the fake's units.
        return site.nothing_is_left();
    }
    // The unit that the other one would have had is somebody's.
    site.create().ok()?;
    let other = Bench::new();
    let mut spec = other.sleeper();
    spec["linux"]["cgroupsPath"] = json!(format!("{}:bench:{}", site.slice, bench.id));
    other.configure(&spec);
    stuck(&other)?;
    delete(&other)?;
    check(bench.status()? == "created", || "the first one was deleted with the other".into())?;
    site.run(&["delete", "--force", &bench.id]).ok()?;
    site.nothing_is_left()
}

/// The command is killed at moments from before it asks until after it is answered.
fn killed(bench: &Bench) -> Outcome {
    let site = Site::new(bench)?;
    let begun = std::time::Instant::now();
    site.create().ok()?;
    let whole = begun.elapsed();
    site.run(&["delete", "--force", &bench.id]).ok()?;
    site.nothing_is_left()?;
    for round in 0..24_u32 {
        let mut child = site.command(&["--systemd-cgroup", "create", &bench.id]);
        let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        std::thread::sleep(whole.mul_f64(f64::from(round * 7 % 24) / 24.0 * 1.1));
        kernel::process::signal(kernel::process::pidfd(child.id() as i32)?.as_fd(), 9)?;
        child.wait()?;
        site.run(&["delete", "--force", &bench.id]).ok()?;
        site.nothing_is_left().map_err(|e| format!("round {round}: {e}"))?;
    }
    Ok(())
}

/// Against dbus-daemon: Hello, a reply, an error, a signal that matches, and one that does not.
fn real_bus(bench: &Bench) -> Outcome {
    let bus = Bus::start(&bench.path(""))?;
    let mut connection = bus.open()?;
    let dbus = "org.freedesktop.DBus";
    let call = |member: &str, body| Message::call(dbus, "/org/freedesktop/DBus", dbus, member, body);
    let serial = connection.queue(call("GetId", Vec::new()))?;
    let id = connection.reply(serial)?;
    check(id.text(0).is_some_and(|id| id.len() == 32), || format!("{id:?}"))?;
    let serial = connection.queue(call("NoSuchMethod", vec![Value::U64(1)]))?;
    let error = connection.reply(serial).err().ok_or("it knows NoSuchMethod")?;
    check(error.is("org.freedesktop.DBus.Error.UnknownMethod"), || error.to_string())?;
    connection.add_match("type='signal',member='NameOwnerChanged',arg0='org.example.Here'")?;
    for name in ["org.example.There", "org.example.Here"] {
        connection.queue(call("RequestName", vec![Value::text(name), Value::U32(0)]))?;
    }
    let signal = loop {
        let message = connection.receive()?;
        if message.member == "NameOwnerChanged" {
            break message;
        }
    };
    check(signal.text(0) == Some("org.example.Here"), || format!("{signal:?}"))?;
    connection.add_match("nonsense=")?;
    let serial = connection.queue(call("GetId", Vec::new()))?;
    let error = connection.reply(serial).err().ok_or("it takes any rule")?;
    check(error.is("org.freedesktop.DBus.Error.MatchRuleInvalid"), || error.to_string())
}

/// Services that refuse, fall silent, close, or speak something else.
fn strange_buses(bench: &Bench) -> Outcome {
    type Fits = fn(&Failure) -> bool;
    let cases: [(&str, &[u8], Fits); 5] = [
        ("refuses", b"REJECTED EXTERNAL\r\n", |f| matches!(f, Failure::Denied(_))),
        ("is silent", b"", |f| matches!(f, Failure::Deadline(_))),
        ("is no bus", b"HTTP/1.1 400 Bad Request\r\n\r\n", |f| matches!(f, Failure::Denied(_))),
        ("is mad", b"DATA\r\nOK 0123\r\nl\x02\0\x01\xff\xff\xff\xff\x01\0\0\0\0\0\0\0", |f| {
            matches!(f, Failure::Malformed(_))
        }),
        ("closes", b"OK 0123\r\n", |f| matches!(f, Failure::Closed)),
    ];
    for (number, (name, bytes, fits)) in cases.into_iter().enumerate() {
        let path = bench.path(&format!("strange-{number}"));
        let listener = UnixListener::bind(&path)?;
        let silent = bytes.is_empty();
        let thread = std::thread::spawn(move || -> std::io::Result<()> {
            let (mut stream, _) = listener.accept()?;
            let mut said = [0; 5];
            stream.read_exact(&mut said)?;
            stream.write_all(bytes)?;
            if silent {
                // Until the client gives up.
                stream.read_to_end(&mut Vec::new())?;
            } else {
                stream.shutdown(std::net::Shutdown::Write)?;
                let _ = stream.read_to_end(&mut Vec::new());
            }
            Ok(())
        });
        let limit = Duration::from_millis(if silent { 50 } else { 20_000 });
        let mut connection = Connection::open(&Socket::Path(path), false, limit)?;
        let failure = connection.receive().err().ok_or_else(|| format!("{name}: a message"))?;
        drop(connection);
        check(fits(&failure), || format!("{name}: {failure:?}"))?;
        thread.join().map_err(|_| "the thread panicked")??;
    }
    Ok(())
}
