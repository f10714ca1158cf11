//! What the older iptables (xtables, not nf_tables) does with forwarded packets. Read only: nothing here changes a rule,
//! and a table that nobody has used is not brought into being by looking.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto};

use crate::{Act, Error, Result};

const GET_INFO: libc::c_int = 64;
const GET_ENTRIES: libc::c_int = 65;
/// Length of `struct ipt_getinfo`: name, valid_hooks, hook_entry[5], underflow[5], num_entries, size.
const INFO: usize = 84;
const UNDERFLOW: usize = 56;
const SIZE: usize = 80;
/// Length of `struct ipt_get_entries` before its entries.
const ENTRIES: usize = 40;
/// `NF_INET_FORWARD`.
const FORWARD: usize = 2;
/// Where `target_offset` is in `struct ipt_entry` and `struct ip6t_entry`.
const TARGET_OFFSET: [usize; 2] = [88, 140];
/// Where the names of the link in and the link out are in them, and the length of each.
const IPV4_NAMES: usize = 16;
const IPV6_NAMES: usize = 64;
const NAME: usize = 16;
/// Length of `struct xt_entry_target`, which the verdict follows.
const TARGET: usize = 32;
/// `-NF_DROP - 1`.
const DROP: i32 = -1;
/// More than any table has, in bytes.
const LIMIT: usize = 64 << 20;

/// Chain FORWARD of table `filter`, with the whole table around it.
#[derive(Debug, Clone)]
pub struct Forward {
    /// Its policy is to drop.
    pub drops: bool,
    ipv4: bool,
    table: Vec<u8>,
}

impl Forward {
    /// Some rule of the table asks for the link called `name`.
    pub fn names(&self, name: &str) -> bool {
        let mut wanted = name.as_bytes().to_vec();
        wanted.push(0);
        self.table.windows(wanted.len()).any(|window| window == wanted)
    }

    /// The links that rules of the table ask for, in their order: by name, or by how names begin.
    pub fn links(&self) -> Vec<String> {
        let [names, offset] =
            if self.ipv4 { [IPV4_NAMES, TARGET_OFFSET[0]] } else { [IPV6_NAMES, TARGET_OFFSET[1]] };
        let mut found = Vec::new();
        let mut entry = self.table.as_slice();
        while let Some(next) = entry.get(offset + 2..offset + 4) {
            for at in [names, names + NAME] {
                let name = entry.get(at..at + NAME).unwrap_or_default();
                let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
                found.extend(
                    std::str::from_utf8(name).ok().filter(|name| !name.is_empty()).map(str::to_owned),
                );
            }
            let next = usize::from(u16::from_ne_bytes([next[0], next[1]]));
            entry = entry.get(next..).filter(|_| next > 0).unwrap_or_default();
        }
        found
    }
}

/// The chain of the caller's network namespace; none if nobody has used the table there.
pub fn forward(ipv4: bool) -> Result<Option<Forward>> {
    let list =
        if ipv4 { "/proc/thread-self/net/ip_tables_names" } else { "/proc/thread-self/net/ip6_tables_names" };
    match std::fs::read_to_string(list) {
        Ok(names) if names.lines().any(|name| name == "filter") => {}
        Ok(_) => return Ok(None),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::new("read", list, e)),
    }
    let say = || format!("the iptables table filter of IPv{}", if ipv4 { 4 } else { 6 });
    let family = if ipv4 { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::RAW))
        .act("read", say)?;
    let level = if ipv4 { libc::IPPROTO_IP } else { libc::IPPROTO_IPV6 };
    let mut info = vec![0; INFO];
    info[..6].copy_from_slice(b"filter");
    get(&socket, level, GET_INFO, &mut info).act("read", say)?;
    let size = number(&info, SIZE).unwrap_or(0);
    if size > LIMIT {
        return Err(Error::new("read", say(), Errno::OVERFLOW));
    }
    let mut table = vec![0; ENTRIES + size];
    table[..6].copy_from_slice(b"filter");
    table[32..36].copy_from_slice(&(size as u32).to_ne_bytes());
    // Changed meanwhile: the answer would be of another size. The next call sees it.
    get(&socket, level, GET_ENTRIES, &mut table).act("read", say)?;
    table.drain(..ENTRIES);
    let policy = number(&info, UNDERFLOW + 4 * FORWARD).and_then(|entry| verdict(&table, entry, ipv4));
    Ok(Some(Forward { drops: policy == Some(DROP), ipv4, table }))
}

/// The verdict of the entry at `entry`, if it has a standard one.
fn verdict(table: &[u8], entry: usize, ipv4: bool) -> Option<i32> {
    let at = entry.checked_add(TARGET_OFFSET[usize::from(!ipv4)])?;
    let offset = u16::from_ne_bytes(table.get(at..at.checked_add(2)?)?.try_into().ok()?);
    let verdict = entry.checked_add(usize::from(offset))?.checked_add(TARGET)?;
    number(table, verdict).map(|number| (number as u32).cast_signed())
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?) as usize)
}

fn get(socket: &OwnedFd, level: i32, option: i32, value: &mut [u8]) -> std::result::Result<(), Errno> {
    let mut length = value.len() as libc::socklen_t;
    // SAFETY: the descriptor is open; `value` is writable for `length` bytes, which is its own length, and the kernel
    // writes no more than that.
    let done = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, option, value.as_mut_ptr().cast(), &raw mut length)
    };
    if done == 0 { Ok(()) } else { Err(last_errno()) }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::in_new_netns;

    fn legacy(program: &str, args: &[&str]) {
        let output = std::process::Command::new(program).args(args).output().unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    }

    #[test]
    fn the_policy_is_read_and_looking_makes_no_table() {
        if std::process::Command::new("iptables-legacy").arg("--version").output().is_err() {
            eprintln!("SKIPPED: iptables-legacy is not here; the ring on the machine itself has it");
            return;
        }
        in_new_netns(|| {
            for (ipv4, program) in [(true, "iptables-legacy"), (false, "ip6tables-legacy")] {
                for _ in 0..2 {
                    assert!(forward(ipv4)?.is_none());
                }
                legacy(program, &["-A", "FORWARD", "-i", "br7", "-j", "ACCEPT"]);
                let open = forward(ipv4)?.unwrap();
                assert!(!open.drops && open.names("br7") && !open.names("br") && !open.names("r8"));
                assert_eq!(open.links(), ["br7"]);
                legacy(program, &["-A", "OUTPUT", "-o", "fifteen-letters", "-j", "ACCEPT"]);
                legacy(program, &["-P", "FORWARD", "DROP"]);
                let shut = forward(ipv4)?.unwrap();
                assert!(shut.drops);
                assert_eq!(shut.links(), ["br7", "fifteen-letters"]);
            }
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn entries_out_of_place_have_no_verdict() {
        for (table, entry) in
            [(vec![], 0), (vec![0xff; 200], 0), (vec![0; 120], 40), (vec![0; 10], usize::MAX)]
        {
            assert_eq!(verdict(&table, entry, true), None);
            for ipv4 in [true, false] {
                let _ = Forward { drops: false, ipv4, table: table.clone() }.links();
            }
        }
    }
}
