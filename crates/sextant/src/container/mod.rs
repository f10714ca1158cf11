//! Containers as this command line keeps them: a record that outlives a boot, a bundle that does not, a shim while it
//! runs.
//!
//! The container's lock is its owner in the ledger: whoever changes it holds that. What a run holds (namespace,
//! network, cgroup, bundle) is recorded after what outlives it (the state directory, the name), and undone alone when
//! the run has ended.

mod create;
mod ids;
mod lifecycle;
mod limits;
mod mounts;
mod network;
mod options;
mod record;
mod spec;
mod start;
mod user;

pub(crate) use create::create;
pub(crate) use ids::{exec_id, find, search};
pub(crate) use lifecycle::{after_end, is_stale, remove, settle, state_of, stop, undo_run};
pub(crate) use network::{cni_cache, default_network, gateway, hosts_file_name};
pub(crate) use options::{Options, variables};
pub(crate) use record::{NetworkRecord, RECORD, Record, Restart, State};
pub(crate) use start::{connect, start};
pub(crate) use user::resolve as resolve_user;
