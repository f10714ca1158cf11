//! The group `events.k8s.io`: events as they are reported today. They are kept as events of the core group, which has the
//! same under other names.

mod convert;
mod event;
pub(super) mod rules;

use crate::resource::Resource;

/// The resources of the group.
#[must_use]
pub fn resources() -> Vec<Resource> {
    vec![event::kind().resource()]
}
