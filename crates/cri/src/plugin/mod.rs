//! Our runtime.

mod dispatch;
pub mod server;
