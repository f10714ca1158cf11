//! Hooks of the container's side, prepared: their state document waits in a memfd, which the parent fills.

use std::ffi::CString;
use std::io::Write;
use std::os::fd::OwnedFd;

use kernel::Act;
use kernel::process::{CStrings, cstring};
use rustix::fs::MemfdFlags;

use crate::Result;
use crate::contract::{Hook, Hooks, State};

/// What the child runs, and when it waits for what the parent runs.
#[derive(Debug)]
pub(crate) struct HookPlans {
    pub(crate) create_container: Vec<HookPlan>,
    pub(crate) start_container: Vec<HookPlan>,
    /// The state on the hooks' standard input: one for each of the two moments.
    pub(crate) creating: OwnedFd,
    pub(crate) starting: OwnedFd,
    /// What the hooks print; the parent shows it if one fails.
    pub(crate) output: OwnedFd,
    /// The child stops when the root is furnished, for the hooks before the root is changed.
    pub(crate) pause: bool,
}

/// One hook of the child's.
#[derive(Debug)]
pub(crate) struct HookPlan {
    pub(crate) path: CString,
    pub(crate) args: CStrings,
    /// `None`: the program's.
    pub(crate) env: Option<CStrings>,
    /// Seconds.
    pub(crate) timeout: Option<u64>,
}

/// Plans the hooks of a configuration; `None` where the child has nothing to do with any.
///
/// A startContainer hook without an environment of its own has that of the program, as with the usual runtimes.
pub(crate) fn plan(hooks: Option<&Hooks>) -> Result<Option<HookPlans>> {
    let Some(hooks) = hooks else { return Ok(None) };
    let in_parent = !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty();
    let pause = in_parent || !hooks.create_container.is_empty();
    if !pause && hooks.start_container.is_empty() {
        return Ok(None);
    }
    let all = |hooks: &[Hook], inherits: bool| {
        hooks.iter().map(|hook| one(hook, inherits)).collect::<Result<Vec<_>>>()
    };
    Ok(Some(HookPlans {
        create_container: all(&hooks.create_container, false)?,
        start_container: all(&hooks.start_container, true)?,
        creating: memfd(c"state")?,
        starting: memfd(c"state")?,
        output: memfd(c"hooks")?,
        pause,
    }))
}

fn one(hook: &Hook, inherits: bool) -> Result<HookPlan> {
    Ok(HookPlan {
        path: cstring(hook.path.as_bytes())?,
        args: arguments(hook)?,
        env: if inherits && hook.env.is_empty() { None } else { Some(CStrings::new(&hook.env)?) },
        timeout: timeout(hook),
    })
}

/// A hook's arguments; without any, its path is its name.
pub(crate) fn arguments(hook: &Hook) -> Result<CStrings> {
    if hook.args.is_empty() { Ok(CStrings::new([&hook.path])?) } else { Ok(CStrings::new(&hook.args)?) }
}

/// Its time, in seconds.
pub(crate) fn timeout(hook: &Hook) -> Option<u64> {
    hook.timeout.and_then(|seconds| u64::try_from(seconds).ok())
}

/// A file that is nowhere.
pub(crate) fn memfd(name: &std::ffi::CStr) -> Result<OwnedFd> {
    Ok(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC).act("create", || "a file in memory")?)
}

/// Writes the state where a hook reads it; its reader starts at the beginning.
pub(crate) fn fill(file: &OwnedFd, state: &State) -> Result<()> {
    let mut text = Vec::new();
    let written = serde_json::to_writer(&mut text, state)
        .map_err(std::io::Error::from)
        .and_then(|()| file.try_clone())
        .and_then(|copy| std::fs::File::from(copy).write_all(&text))
        .and_then(|()| Ok(rustix::fs::seek(file, rustix::fs::SeekFrom::Start(0))?));
    Ok(written.act("write", || "the state for a hook").map(drop)?)
}
