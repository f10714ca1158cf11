//! The two calls of 32-bit x86 that stand for many: the first argument says which is meant.

use kernel::seccomp::Comparison;

use super::rule::Condition;

/// `socketcall` by its first argument, from 1.
const SOCKET: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];

/// `ipc` by the lower half of its first argument; the upper half is a version.
const IPC: [(&str, u64); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

const SOCKETCALL: u32 = 102;
const IPC_CALL: u32 = 117;

/// The call that stands for the one named, and the condition that it does.
pub(super) fn selector(name: &str) -> Option<(u32, Condition)> {
    let first =
        |mask, value| Condition { index: 0, mask, value, comparison: Comparison::Equal, negated: false };
    if let Some(i) = SOCKET.iter().position(|socket| *socket == name) {
        return Some((SOCKETCALL, first(u64::MAX, i as u64 + 1)));
    }
    let (_, value) = IPC.iter().find(|(ipc, _)| *ipc == name)?;
    Some((IPC_CALL, first(0xffff, *value)))
}
