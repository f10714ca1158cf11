//! How long a session waits, and for what.

use std::time::Duration;

/// The patience of one session.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How long after the upgrade a SPDY client may take to open the streams it asked for: 30 s, as the kubelet's.
    pub create: Duration,
    /// How long nothing may arrive or leave before the connection is ended: 4 h, as the kubelet's.
    pub idle: Duration,
    /// How long, once the result is sent, the client may take to read it and to close: 10 s.
    pub linger: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            create: Duration::from_secs(30),
            idle: Duration::from_secs(4 * 60 * 60),
            linger: Duration::from_secs(10),
        }
    }
}
