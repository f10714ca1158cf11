//! systemd's manager over D-Bus (org.freedesktop.systemd1(5)): units started, changed and stopped.

use std::path::PathBuf;
use std::time::Duration;

use super::Error;
use super::dbus::{Connection, Failure, Kind, Message, Socket, Type, Value, parse_address};
use super::properties::{self, Property};

/// The name on the bus, and the interface's beginning.
const SERVICE: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const OBJECT: &str = "/org/freedesktop/systemd1";

const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// How long systemd may take in all. A busy machine's has been seen to take 25 s.
const LIMIT: Duration = Duration::from_secs(60);

/// A connection to systemd for what is done with one unit.
#[derive(Debug)]
pub struct Systemd {
    connection: Connection,
    unit: String,
}

/// Jobs that have ended: their objects, and how.
type Ended = Vec<(String, String)>;

impl Systemd {
    /// Connects to the machine's systemd, or to the `user`'s own, and asks for the ends of the unit's jobs. Waits for
    /// no answer, so that other things can be done meanwhile.
    pub fn connect(unit: &str, user: bool) -> Result<Self, Error> {
        let sockets = if user { user_sockets() } else { system_sockets() };
        Self::first(unit, &sockets).map_err(|tried| Error::NoBus {
            tried,
            hint: if user {
                "log in so that systemd runs for this user, or loginctl enable-linger USER, and set \
                 XDG_RUNTIME_DIR or DBUS_SESSION_BUS_ADDRESS; or leave out --systemd-cgroup"
            } else {
                "systemd must be this machine's init; leave out --systemd-cgroup where it is not"
            },
        })
    }

    fn first(unit: &str, sockets: &[(Socket, bool)]) -> Result<Self, String> {
        let mut tried = Vec::new();
        for (socket, direct) in sockets {
            match Self::open(unit, socket, *direct) {
                Ok(manager) => return Ok(manager),
                Err(failure) => tried.push(format!("{socket}: {failure}")),
            }
        }
        Err(if tried.is_empty() {
            "no address of a bus that is a unix socket".into()
        } else {
            tried.join(", ")
        })
    }

    fn open(unit: &str, socket: &Socket, direct: bool) -> Result<Self, Failure> {
        let mut connection = Connection::open(socket, direct, LIMIT)?;
        if !direct {
            // Only this unit's: a signal that the bus sends to every waiting runtime wakes them all, for each start.
            let unit = unit.replace('\\', "\\\\").replace('\'', "'\\''");
            connection.add_match(&format!(
                "type='signal',sender='{SERVICE}',path='{OBJECT}',interface='{MANAGER}',member='JobRemoved',\
                 arg2='{unit}'"
            ))?;
        }
        connection.send()?;
        Ok(Self { connection, unit: unit.to_owned() })
    }

    fn call(&mut self, member: &str, body: Vec<Value>) -> Result<u32, Failure> {
        self.connection.queue(Message::call(SERVICE, OBJECT, MANAGER, member, body))
    }

    /// Starts the unit, and waits until it is there. One of that name that has failed before is taken away first; a
    /// slice may be there already.
    ///
    /// # Errors
    /// Also `UnitExists`, if it is somebody's.
    pub fn start(&mut self, properties: &[Property]) -> Result<(), Error> {
        let act = format!("start unit {}", self.unit);
        match self.try_start(properties, &act) {
            Err(e) if e.is_taken() && self.unit.ends_with(".slice") => Ok(()),
            Err(e) if e.is_taken() => {
                self.call("ResetFailedUnit", vec![Value::text(&self.unit)]).map_err(|e| failed(&act, e))?;
                self.try_start(properties, &act)
            }
            other => other,
        }
    }

    fn try_start(&mut self, properties: &[Property], act: &str) -> Result<(), Error> {
        let auxiliary = Type::Struct(vec![Type::String, properties::list(&[]).kind()]);
        let body = vec![
            Value::text(&self.unit),
            Value::text("replace"),
            properties::list(properties),
            Value::array(auxiliary, []),
        ];
        let serial = self.call("StartTransientUnit", body).map_err(|e| failed(act, e))?;
        self.job(serial, act)
    }

    /// Stops the unit, waits until that is done, and takes away that it has failed. One that is not there is fine.
    pub fn stop(&mut self) -> Result<(), Error> {
        let act = format!("stop unit {}", self.unit);
        let name = Value::text(&self.unit);
        let stop = self.call("StopUnit", vec![name.clone(), Value::text("replace")]);
        let stop = stop.map_err(|e| failed(&act, e))?;
        // On the heels of the other: nobody waits for its answer, which often is that there is no such unit any more.
        self.call("ResetFailedUnit", vec![name]).map_err(|e| failed(&act, e))?;
        match self.job(stop, &act) {
            Err(e) if e.is(NO_SUCH_UNIT) => Ok(()),
            other => other,
        }
    }

    /// Changes properties of the unit for as long as it lives.
    pub fn set(&mut self, properties: &[Property]) -> Result<(), Error> {
        if properties.is_empty() {
            return Ok(());
        }
        let act = format!("set properties of unit {}", self.unit);
        let body = vec![Value::text(&self.unit), Value::Bool(true), properties::list(properties)];
        let serial = self.call("SetUnitProperties", body).map_err(|e| failed(&act, e))?;
        self.connection.reply(serial).map(drop).map_err(|e| failed(&act, e))
    }

    /// Has systemd move a process into the unit, where the caller may not.
    pub fn attach(&mut self, pid: i32) -> Result<(), Error> {
        let act = format!("move process {pid} into unit {}", self.unit);
        let pids = Value::array(Type::U32, [Value::U32(pid.unsigned_abs())]);
        let body = vec![Value::text(&self.unit), Value::text("/"), pids];
        let serial = self.call("AttachProcessesToUnit", body).map_err(|e| failed(&act, e))?;
        self.connection.reply(serial).map(drop).map_err(|e| failed(&act, e))
    }

    /// A property of the manager that is a text.
    pub fn property(&mut self, name: &str) -> Result<String, Error> {
        self.text_of(OBJECT, MANAGER, name)
    }

    /// The unit's description, or `None` if there is no such unit.
    pub fn description(&mut self) -> Result<Option<String>, Error> {
        let act = format!("find unit {}", self.unit);
        let serial = self.call("GetUnit", vec![Value::text(&self.unit)]).map_err(|e| failed(&act, e))?;
        let reply = match self.connection.reply(serial) {
            Err(e) if e.is(NO_SUCH_UNIT) => return Ok(None),
            other => other.map_err(|e| failed(&act, e))?,
        };
        let object = answered(&reply, &act)?;
        self.text_of(&object, "org.freedesktop.systemd1.Unit", "Description").map(Some)
    }

    fn text_of(&mut self, object: &str, interface: &str, name: &str) -> Result<String, Error> {
        let act = format!("read {name} of {object}");
        let body = vec![Value::text(interface), Value::text(name)];
        let call = Message::call(SERVICE, object, "org.freedesktop.DBus.Properties", "Get", body);
        let reply = self.connection.queue(call).and_then(|serial| self.connection.reply(serial));
        let reply = reply.map_err(|e| failed(&act, e))?;
        match reply.body.first() {
            Some(Value::Variant(value)) if value.as_text().is_some() => {
                Ok(value.as_text().unwrap_or_default().to_owned())
            }
            other => Err(Error::Answer { act, found: format!("{other:?}") }),
        }
    }

    /// systemd's version, as the number that counts.
    pub fn version(&mut self) -> Result<u32, Error> {
        let text = self.property("Version")?;
        let digits: String =
            text.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
        digits.parse().map_err(|_| Error::Answer { act: "read systemd's version".into(), found: text })
    }

    /// Waits for the reply with a job in it, and for the job's end, which may come first.
    fn job(&mut self, serial: u32, act: &str) -> Result<(), Error> {
        let mut ended = Ended::new();
        let mut job: Option<String> = None;
        loop {
            let message = self.connection.receive().map_err(|e| failed(act, e))?;
            if message.reply_to == Some(serial) {
                job = Some(answered(&message, act)?);
            } else if let Some(end) = self.end(&message) {
                ended.push(end);
            }
            let Some(job) = &job else { continue };
            if let Some((_, result)) = ended.iter().find(|(object, _)| object == job) {
                return if result == "done" {
                    Ok(())
                } else {
                    Err(Error::Job { act: act.into(), unit: self.unit.clone(), result: result.clone() })
                };
            }
        }
    }

    /// The job that a signal is about, if it is the end of one of this unit's: number, object, unit, result.
    fn end(&self, message: &Message) -> Option<(String, String)> {
        let about = message.kind == Kind::Signal
            && message.member == "JobRemoved"
            && message.interface == MANAGER
            && message.text(2) == Some(&self.unit);
        about.then(|| Some((message.text(1)?.to_owned(), message.text(3)?.to_owned())))?
    }
}

fn answered(message: &Message, act: &str) -> Result<String, Error> {
    if message.kind == Kind::Error {
        let failure = Failure::Refused {
            name: message.error.clone(),
            message: message.text(0).unwrap_or_default().to_owned(),
        };
        return Err(failed(act, failure));
    }
    match message.body.first() {
        Some(Value::ObjectPath(job)) => Ok(job.clone()),
        other => Err(Error::Answer { act: act.into(), found: format!("{other:?}") }),
    }
}

fn failed(act: &str, source: Failure) -> Error {
    Error::Bus { act: act.into(), source }
}

/// The bus of the machine, and systemd's own socket for root, for a machine whose bus is not up.
fn system_sockets() -> Vec<(Socket, bool)> {
    let named = std::env::var("DBUS_SYSTEM_BUS_ADDRESS").ok();
    let named = named.unwrap_or_else(|| "unix:path=/run/dbus/system_bus_socket".into());
    let mut sockets: Vec<_> = parse_address(&named).into_iter().map(|socket| (socket, false)).collect();
    sockets.push((Socket::Path("/run/systemd/private".into()), true));
    sockets
}

/// The bus of the user's session, and the socket of the user's systemd.
fn user_sockets() -> Vec<(Socket, bool)> {
    let named = std::env::var("DBUS_SESSION_BUS_ADDRESS").unwrap_or_default();
    let mut sockets: Vec<_> = parse_address(&named).into_iter().map(|socket| (socket, false)).collect();
    let uid = rustix::process::geteuid().as_raw();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    let runtime = runtime.map_or_else(|| PathBuf::from(format!("/run/user/{uid}")), PathBuf::from);
    let bus = Socket::Path(runtime.join("bus"));
    if !sockets.iter().any(|(socket, _)| *socket == bus) {
        sockets.push((bus, false));
    }
    sockets.push((Socket::Path(runtime.join("systemd/private")), true));
    sockets
}
