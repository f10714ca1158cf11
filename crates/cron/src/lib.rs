//! Schedules in the notation of crontab(5), as Kubernetes reads it.
//!
//! [`Schedule::parse`] reads one, and says in Kubernetes' words what is wrong with it: that is what the API server refuses a `CronJob` with.
//! [`Clock`] is a schedule in a time zone, and tells the times that it names: that is what its controller goes by. Both read the same
//! notation. What names no time, or a zone that this machine does not know, is taken where Kubernetes takes it, and its controller says so.
//!
//! It never: waits for a time, or looks what time it is.

mod clock;
mod schedule;
pub mod zone;

pub use clock::Clock;
pub use schedule::Schedule;
