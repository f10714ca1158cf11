//! How sockets that stream are set up.

use std::time::Duration;

use tokio::net::TcpStream;

/// After how much silence the kernel asks whether the other machine is there, how often, and how many times in vain.
const SILENCE: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_secs(15);
const TIMES: u32 = 4;

/// Keystrokes do not wait for one another, and a machine that vanished is found out: a session may be silent for hours.
/// What the kernel refuses of it is done without.
pub(crate) fn tune(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = rustix::net::sockopt::set_socket_keepalive(stream, true);
    let _ = rustix::net::sockopt::set_tcp_keepidle(stream, SILENCE);
    let _ = rustix::net::sockopt::set_tcp_keepintvl(stream, AGAIN);
    let _ = rustix::net::sockopt::set_tcp_keepcnt(stream, TIMES);
}
