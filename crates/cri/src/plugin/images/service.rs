//! The image service.

use std::sync::Arc;

use crate::contract::v1::ImageService;
use crate::plugin::node::Node;

/// ImageService over a node.
pub(crate) struct Service {
    #[expect(dead_code, reason = "its calls are not written yet")]
    node: Arc<Node>,
}

impl Service {
    /// The images of `node`.
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self { node }
    }
}

impl ImageService for Service {}
