//! The types of the CNI specification 1.1, strictly read, and what a plugin is. No I/O.

mod attachment;
mod config;
mod error;
mod hash;
pub(crate) mod json;
mod keys;
mod plugin;
mod port_mapping;
mod result;
mod version;

pub use attachment::{Attachment, parse_args};
pub use config::{NetworkList, PluginConf, check_network_name};
pub use error::{Code, Error, Errors, FAILED};
pub use hash::hash;
pub use keys::Keys;
pub use plugin::{Delegate, Holders, Plugin, Registry, Request, VALID_ATTACHMENTS, ValidAttachment};
pub use port_mapping::{PortMapping, Protocol};
pub(crate) use result::Versioned;
pub use result::{AddResult, Dns, Interface, Ip, Route, Seen};
pub use version::Version;
