//! A plugin as a program: CNI_* variables and a configuration on standard input, a result or an error on standard
//! output (specification 1.1, sections 2 and 3).

mod call;
mod delegates;

use std::io::{Read, Write};
use std::process::ExitCode;

use ledger::Transient;
use serde_json::{Value, json};

pub use call::{Call, Verb};

use crate::contract::{AddResult, Code, Error, Plugin, Registry, Request, Version};
use delegates::Delegates;

/// More configuration than any network has, in bytes.
const INPUT: u64 = 4 << 20;

/// The names that a program of Sextant's own plugins can be called by.
pub fn names() -> Vec<&'static str> {
    super::builtins().into_keys().collect()
}

/// Whether a program of this name is one of Sextant's own plugins.
pub fn is_plugin(name: &str) -> bool {
    super::builtins().contains_key(name)
}

/// Serves one call of one of Sextant's own plugins, in the process that a runtime has started: `kind` is the name that
/// it was called by.
///
/// `dhcp daemon` is no call but the daemon that the plugin `dhcp` asks.
pub fn main(kind: &str) -> ExitCode {
    let mut args = std::env::args().skip(1);
    if kind == "dhcp" && args.next().as_deref() == Some("daemon") {
        return super::dhcp::daemon::main(args);
    }
    let builtins = super::builtins();
    match builtins.get(kind).cloned() {
        Some(plugin) => serve(kind, plugin.as_ref(), builtins),
        None => {
            let known: Vec<_> = builtins.keys().copied().collect();
            eprintln!("sextant-cni: cannot be called {kind:?}: it is one of {}", known.join(", "));
            ExitCode::FAILURE
        }
    }
}

/// Serves one call of `plugin`, which is called `kind`: the whole `main` of a plugin's program. `own` are the plugins
/// that this program is too, under other names: delegation to one of them, if `CNI_PATH` leads to this very program,
/// needs no second process.
///
/// The exit code is 0 with a result (or nothing) on standard output, 1 with an error object there. Without
/// `CNI_COMMAND` it says on standard error what it is.
pub fn serve(kind: &str, plugin: &dyn Plugin, own: Registry) -> ExitCode {
    let mut call = match Call::from_environment(|name| std::env::var_os(name)) {
        Ok(Some(call)) => call,
        Ok(None) => {
            eprintln!("CNI plugin {kind} of Sextant {}", env!("CARGO_PKG_VERSION"));
            eprintln!("CNI protocol versions supported: {}", Version::ALL.map(Version::as_str).join(", "));
            return ExitCode::SUCCESS;
        }
        Err(error) => return refuse(&error, Version::LATEST),
    };
    let mut input = Vec::new();
    if let Err(e) = std::io::stdin().lock().take(INPUT).read_to_end(&mut input) {
        return refuse(&Error::because("cannot read standard input", e).code(Code::Io), Version::LATEST);
    }
    match call.read(kind, &input).and_then(|()| answer(plugin, &call, own)) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(value)) => say(&value, ExitCode::SUCCESS),
        Err(error) => refuse(&error, call.version),
    }
}

fn refuse(error: &Error, version: Version) -> ExitCode {
    say(&error.to_json(version.as_str()), ExitCode::FAILURE)
}

fn say(value: &Value, code: ExitCode) -> ExitCode {
    // A runtime that has gone away reads nothing, and calls DEL later.
    match writeln!(std::io::stdout().lock(), "{value}") {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Does what was asked for. The value is what goes to standard output.
fn answer(plugin: &dyn Plugin, call: &Call, own: Registry) -> Result<Option<Value>, Error> {
    if call.verb == Verb::Version {
        let versions = Version::ALL.map(Version::as_str);
        return Ok(Some(json!({ "cniVersion": call.version.as_str(), "supportedVersions": versions })));
    }
    let delegates = Delegates::new(&call.path, own);
    let request = Request {
        attachment: &call.attachment,
        network: &call.network,
        version: call.version,
        conf: &call.conf,
        previous: call.previous.as_ref(),
        delegate: &delegates,
    };
    let mut record = Transient::new();
    match call.verb {
        Verb::Add => {
            let added = plugin.add(&request, &mut record).and_then(|result| sayable(result, call.version));
            let result = added.map_err(|error| take_back(error, &delegates, &request, record))?;
            Ok(Some(result.to_value(call.version)))
        }
        Verb::Del => plugin.del(&request, &mut record).map(|()| None),
        Verb::Check => plugin.check(&request).map(|()| None),
        Verb::Status => plugin.status(&request).map(|()| None),
        Verb::Gc => plugin.gc(&request, &mut record).map(|()| None),
        Verb::Version => Ok(None),
    }
}

/// Before 0.3.0 a result was its addresses.
fn sayable(result: AddResult, version: Version) -> Result<AddResult, Error> {
    if version <= Version::V0_2_0 && result.ips.is_empty() {
        return Err(Error::new(Code::IncompatibleVersion, "cannot convert: no valid IP addresses"));
    }
    Ok(result)
}

/// Undoes a failed ADD: a runtime need not call DEL for it.
fn take_back(error: Error, delegates: &Delegates, request: &Request<'_>, record: Transient) -> Error {
    let mut left: Vec<String> = record.undo_all().iter().map(ToString::to_string).collect();
    left.extend(delegates.take_back(request).iter().map(ToString::to_string));
    if left.is_empty() {
        return error;
    }
    let left = format!("left behind: {}", left.join("; "));
    let details = if error.details.is_empty() { left } else { format!("{}; {left}", error.details) };
    error.hint(details)
}
