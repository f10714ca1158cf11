//! The group `apps`: workloads that run for ever.

mod amounts;
mod controller_revision;
mod daemon_set;
mod deployment;
mod replica_set;
mod replicas;
mod stateful_set;

pub(super) use amounts::not_above_all;

use super::base::Kind;
use crate::resource::Resource;

/// The resources of the group.
#[must_use]
pub fn resources() -> Vec<Resource> {
    [
        controller_revision::kind(),
        daemon_set::kind(),
        deployment::kind(),
        replica_set::kind(),
        stateful_set::kind(),
    ]
    .map(Kind::resource)
    .into()
}
