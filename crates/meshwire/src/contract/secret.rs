//! Messages with a token in them, as they may be shown.

use std::fmt;

use super::v1::{FollowRequest, ReportRequest, SignRequest};

impl fmt::Debug for FollowRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FollowRequest").field("node", &self.node).finish_non_exhaustive()
    }
}

impl fmt::Debug for SignRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("SignRequest");
        shown.field("node", &self.node).field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl fmt::Debug for ReportRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("ReportRequest");
        shown.field("node", &self.node).field("flows", &self.flows).finish_non_exhaustive()
    }
}
