use std::cell::RefCell;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kernel::netlink::Sockets;
use ledger::{Record, Transient};

use crate::caller::Caller;
use crate::contract::{AddResult, Delegate, Error, Plugin, Registry, Request};

/// The plugins that a program may call: those in `CNI_PATH`. Where the path leads back to the program itself the call
/// stays in this process.
pub(super) struct Delegates {
    caller: Caller,
    own: Registry,
    /// Device and inode of this program.
    program: Option<(u64, u64)>,
    /// Programs that have made something, which no record of ours knows.
    executed: RefCell<Vec<String>>,
}

impl Delegates {
    pub(super) fn new(path: &[PathBuf], own: Registry) -> Self {
        let mut caller = Caller::new(Registry::new(), "");
        caller.plugin_dirs = path.to_vec();
        Self { caller, own, program: identity(Path::new("/proc/self/exe")), executed: RefCell::default() }
    }

    fn own(&self, kind: &str) -> Option<Arc<dyn Plugin>> {
        let plugin = self.own.get(kind)?;
        let found = self.caller.plugin_dirs.iter().find_map(|dir| identity(&dir.join(kind)))?;
        (Some(found) == self.program).then(|| Arc::clone(plugin))
    }

    /// DEL of the programs that ADD has executed.
    pub(super) fn take_back(&self, request: &Request<'_>) -> Vec<Error> {
        let executed = self.executed.take();
        let del = |kind: String| Delegate::del(&self.caller, &kind, request, &mut Transient::new()).err();
        executed.into_iter().rev().filter_map(del).collect()
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

impl Delegate for Delegates {
    fn add(&self, kind: &str, request: &Request<'_>, record: &mut dyn Record) -> Result<AddResult, Error> {
        match self.own(kind) {
            Some(plugin) => plugin.add(request, record),
            None => {
                self.executed.borrow_mut().push(kind.to_owned());
                Delegate::add(&self.caller, kind, request, record)
            }
        }
    }

    fn del(&self, kind: &str, request: &Request<'_>, record: &mut dyn Record) -> Result<(), Error> {
        match self.own(kind) {
            Some(plugin) => plugin.del(request, record),
            None => Delegate::del(&self.caller, kind, request, record),
        }
    }

    fn check(&self, kind: &str, request: &Request<'_>) -> Result<(), Error> {
        match self.own(kind) {
            Some(plugin) => plugin.check(request),
            None => Delegate::check(&self.caller, kind, request),
        }
    }

    fn status(&self, kind: &str, request: &Request<'_>) -> Result<(), Error> {
        match self.own(kind) {
            Some(plugin) => plugin.status(request),
            None => Delegate::status(&self.caller, kind, request),
        }
    }

    fn gc(&self, kind: &str, request: &Request<'_>, record: &mut dyn Record) -> Result<(), Error> {
        match self.own(kind) {
            Some(plugin) => plugin.gc(request, record),
            None => Delegate::gc(&self.caller, kind, request, record),
        }
    }

    fn sockets(&self) -> &Sockets {
        &self.caller.sockets
    }
}
