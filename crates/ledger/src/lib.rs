//! Every effect on the machine has an owner, a record and an inverse.
//!
//! Before anything of Sextant changes the world (a mount, a network namespace, a link, a lease, a file that outlives
//! the call), it writes down **who** it is for and **how to take it back**. Undoing is idempotent, goes on past errors
//! and returns all of them. So a process may be killed anywhere: [`Ledger::converge`] at the next start takes back what
//! nobody alive owns.
//!
//! ```
//! use ledger::{Effect, Ledger, OwnerId, Record};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let (run, data) = (dir.path().join("run"), dir.path().join("data"));
//! let ledger = Ledger::open(&run, &data)?;
//! let mut owner = ledger.owner(&OwnerId::new("web-1")?)?;
//! let path = dir.path().join("socket");
//! let id = owner.record(Effect::File { path: path.clone() })?; // first the record,
//! std::fs::write(&path, "")?; // then the effect
//! owner.undo(id)?; // or: drop the owner, and whoever converges next undoes it
//! assert!(!path.exists());
//! # Ok(())
//! # }
//! ```
//!
//! # On disk
//! A folder an owner, 0700, holding one append-only file `effects` of JSON lines, readable with `cat`
//! (docs/adr/0001-ledger-file-format.md), and a link for each shared effect that it uses
//! (docs/adr/0014-shared-effects-of-parts.md). What dies with the kernel is under `<run>/ledger/<owner>/`, what outlives it
//! (files and trees under the data directory) under `<data>/ledger/<owner>/`. Nothing is fsynced, except what is
//! recorded with [`Owner::record_durable`]. A file of another boot is history: only the files its effects left behind
//! are removed (`/run` may not be a tmpfs).
//!
//! # Crash points
//! [`Ledger::open`] reads two variables, for the crash harness in `testkit`:
//! - `SEXTANT_CRASH_AT=N`: the process kills itself with SIGKILL at the N-th ledger step, counted from 0. Steps lie
//!   before a record, in the middle of one (its line is left torn), after it, before an inverse, between an inverse
//!   and its strike, after the strike, around each step of joining and leaving a shared effect, and around the word
//!   that a part of one is made. So between any two effects of a process there is at least one step.
//! - `SEXTANT_CRASH_COUNT=FILE`: each step appends `<pid> <step> <name>` to FILE.
//!
//! # What it never does
//! It never brings an effect about, only takes it back; it never follows a symbolic link, crosses a mount or leaves
//! the recorded path while it removes; it never touches what it did not record; it never waits for a disk unless asked
//! to; it never decides who is alive (its caller does).
//!
//! # Invariants
//! - An effect whose record is torn, or was never written, never happened.
//! - An owner's records change only while its folder is locked (`flock`), and a lock dies with its process. The lock
//!   is an open file description: a child that neither execs nor closes its descriptors keeps it.
//! - A part of a shared effect that is marked as made has been made completely; what was made of another is taken back
//!   before that is made again. Without users a shared effect is taken back by whoever looks.
//! - Locks are taken in one order: owner, then shared name, then a name that this one uses.

mod boot;
mod converge;
mod crash;
mod effect;
mod error;
mod folder;
mod glance;
mod journal;
mod kept;
mod membership;
mod owner;
mod owner_id;
mod shared;
mod transient;
mod undo;

pub use converge::Report;
pub use effect::{Effect, Make, Record, RecordId, Sent};
pub use error::Error;
pub use folder::Ledger;
pub use owner::Owner;
pub use owner_id::OwnerId;
pub use transient::Transient;
