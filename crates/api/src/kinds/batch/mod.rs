//! The group `batch`: work that ends, and when it begins.

mod conditions;
mod cron_job;
mod failure;
mod indexes;
mod job;
mod labels;
mod spec;
mod status;
mod success;

use super::base::Kind;
use crate::resource::Resource;

/// The resources of the group.
#[must_use]
pub fn resources() -> Vec<Resource> {
    [cron_job::kind(), job::kind()].map(Kind::resource).into()
}
