//! Device rules: a list on v1, a BPF program (type `CGROUP_DEVICE`) on v2.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::{Act, Result};

/// Which devices a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// Block and character devices.
    All,
    /// Block devices.
    Block,
    /// Character devices.
    Char,
}

/// What a rule lets a process do with a device, or forbids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceAccess {
    /// Read.
    pub read: bool,
    /// Write.
    pub write: bool,
    /// Make a node for it.
    pub mknod: bool,
}

/// One rule. Of several that match, the last wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceRule {
    /// Allow, or deny.
    pub allow: bool,
    /// The kind of device.
    pub kind: DeviceKind,
    /// The major number; `None` for any.
    pub major: Option<u32>,
    /// The minor number; `None` for any.
    pub minor: Option<u32>,
    /// The access.
    pub access: DeviceAccess,
}

impl DeviceRule {
    /// The rule as `devices.allow` and `devices.deny` take it: "c 1:3 rwm".
    ///
    /// There `a` means every device and every access, whatever follows it: any lesser rule about both kinds is two.
    pub(super) fn v1_texts(&self) -> Vec<String> {
        let DeviceAccess { read, write, mknod } = self.access;
        let everything = read && write && mknod && self.major.is_none() && self.minor.is_none();
        let kinds: &[char] = match self.kind {
            DeviceKind::All if everything => &['a'],
            DeviceKind::All => &['b', 'c'],
            DeviceKind::Block => &['b'],
            DeviceKind::Char => &['c'],
        };
        let number = |n: Option<u32>| n.map_or_else(|| "*".into(), |n| n.to_string());
        let access: String = [(read, 'r'), (write, 'w'), (mknod, 'm')]
            .into_iter()
            .filter(|(yes, _)| *yes)
            .map(|(_, c)| c)
            .collect();
        let text = |kind: &char| format!("{kind} {}:{} {access}", number(self.major), number(self.minor));
        kinds.iter().map(text).collect()
    }
}

/// One eBPF instruction, as the kernel lays it out.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn instruction(code: u8, dst: u8, src: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: dst | src << 4, offset, immediate }
}

const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb7;
const MOVE_REGISTER_32: u8 = 0xbc;
const AND_32: u8 = 0x54;
const SHIFT_RIGHT_32: u8 = 0x74;
const JUMP_NOT_EQUAL: u8 = 0x55;
const JUMP_NOT_EQUAL_REGISTER: u8 = 0x5d;
const EXIT: u8 = 0x95;

/// The program for `rules`: the last rule is asked first; what no rule matches is denied.
///
/// Registers: r2 kind, r3 access, r4 major, r5 minor, r6 scratch.
fn program(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut code = vec![
        // struct bpf_cgroup_dev_ctx { u32 access_type; u32 major; u32 minor; }: access_type is access << 16 | kind.
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(AND_32, 2, 0, 0, 0xffff),
        instruction(LOAD_WORD, 3, 1, 0, 0),
        instruction(SHIFT_RIGHT_32, 3, 0, 0, 16),
        instruction(LOAD_WORD, 4, 1, 4, 0),
        instruction(LOAD_WORD, 5, 1, 8, 0),
    ];
    for rule in rules.iter().rev() {
        let mut tests = Vec::new();
        match rule.kind {
            DeviceKind::All => {}
            DeviceKind::Block => tests.push(instruction(JUMP_NOT_EQUAL, 2, 0, 0, 1)),
            DeviceKind::Char => tests.push(instruction(JUMP_NOT_EQUAL, 2, 0, 0, 2)),
        }
        // BPF_DEVCG_ACC_MKNOD 1, READ 2, WRITE 4.
        let mask = i32::from(rule.access.mknod)
            | i32::from(rule.access.read) << 1
            | i32::from(rule.access.write) << 2;
        if mask != 7 {
            tests.push(instruction(MOVE_REGISTER_32, 6, 3, 0, 0));
            tests.push(instruction(AND_32, 6, 0, 0, mask));
            if rule.allow {
                // All that is asked for must be in the mask...
                tests.push(instruction(JUMP_NOT_EQUAL_REGISTER, 6, 3, 0, 0));
            } else {
                // ...but one part that is denied denies the whole. Equal to zero: not this rule.
                tests.push(instruction(0x15, 6, 0, 0, 0));
            }
        }
        if let Some(major) = rule.major {
            tests.push(instruction(JUMP_NOT_EQUAL, 4, 0, 0, major as i32));
        }
        if let Some(minor) = rule.minor {
            tests.push(instruction(JUMP_NOT_EQUAL, 5, 0, 0, minor as i32));
        }
        let settles_all = tests.is_empty();
        // Every test that fails jumps behind this rule's two last instructions.
        let length = tests.len();
        for (at, test) in tests.iter_mut().enumerate() {
            if test.code & 0x07 == 0x05 {
                test.offset = (length - at - 1 + 2) as i16;
            }
        }
        code.extend(tests);
        code.push(instruction(MOVE, 0, 0, 0, i32::from(rule.allow)));
        code.push(instruction(EXIT, 0, 0, 0, 0));
        if settles_all {
            // What came before it in the list never counts, and the kernel refuses code that is never reached.
            return code;
        }
    }
    code.push(instruction(MOVE, 0, 0, 0, 0));
    code.push(instruction(EXIT, 0, 0, 0, 0));
    code
}

#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log: [u64; 2],
    kern_version: u32,
    prog_flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct AttachAttr {
    target_fd: u32,
    prog_fd: u32,
    attach_type: u32,
    flags: u32,
    replace_fd: u32,
}

/// The kernel writes to it, as far as its newest fields: it must have room for all of them.
#[repr(C)]
#[derive(Default)]
struct QueryAttr {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
    later: [u64; 12],
}

#[repr(C)]
#[derive(Default)]
struct OpenAttr {
    id: u32,
    next: u32,
    flags: u32,
}

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const PROG_QUERY: libc::c_int = 16;
/// Cgroups below may have programs of their own; all must agree.
const ALLOW_MULTI: u32 = 2;
/// So many programs the kernel attaches to a cgroup at most.
const MOST: usize = 64;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;

/// Loads the program for `rules`; it goes with its descriptor, unless it is attached.
fn load(rules: &[DeviceRule]) -> Result<OwnedFd> {
    let code = program(rules);
    let mut load = LoadAttr {
        prog_type: TYPE_CGROUP_DEVICE,
        insn_cnt: code.len() as u32,
        insns: code.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..LoadAttr::default()
    };
    let program = bpf(PROG_LOAD, &mut load).act("load", || "the device rules' program")?;
    // SAFETY: PROG_LOAD returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(program) })
}

/// Loads the program for `rules` and attaches it to the cgroup directory, in place of all that are attached there:
/// those of an earlier call, and systemd's, which knows the rules less exactly.
pub(super) fn attach(cgroup: BorrowedFd<'_>, rules: &[DeviceRule]) -> Result<()> {
    let program = load(rules)?;
    let (before, flags) = attached(cgroup)?;
    let mut attach = AttachAttr {
        target_fd: cgroup.as_raw_fd() as u32,
        prog_fd: program.as_raw_fd() as u32,
        attach_type: ATTACH_CGROUP_DEVICE,
        flags,
        ..AttachAttr::default()
    };
    bpf(PROG_ATTACH, &mut attach).act("attach", || "the device rules' program")?;
    if flags & ALLOW_MULTI == 0 {
        // The one before it went by that.
        return Ok(());
    }
    before.into_iter().try_for_each(|id| detach(cgroup, id))
}

/// The programs on the cgroup itself, by their numbers, and the flags to attach another with.
fn attached(cgroup: BorrowedFd<'_>) -> Result<(Vec<u32>, u32)> {
    let mut ids = [0_u32; MOST];
    let mut query = QueryAttr {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_type: ATTACH_CGROUP_DEVICE,
        ids: ids.as_mut_ptr() as u64,
        count: MOST as u32,
        ..QueryAttr::default()
    };
    bpf(PROG_QUERY, &mut query).act("ask for", || "the device rules' programs of a cgroup")?;
    let count = (query.count as usize).min(MOST);
    Ok((ids[..count].to_vec(), if count == 0 { ALLOW_MULTI } else { query.attach_flags }))
}

/// Detaches a program. One that is gone meanwhile is fine.
fn detach(cgroup: BorrowedFd<'_>, id: u32) -> Result<()> {
    let say = || "the device rules' program of before";
    let program = match bpf(PROG_GET_FD_BY_ID, &mut OpenAttr { id, ..OpenAttr::default() }) {
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Ok(()),
        other => other.act("open", say)?,
    };
    // SAFETY: PROG_GET_FD_BY_ID returned a new descriptor that nobody else owns.
    let program = unsafe { OwnedFd::from_raw_fd(program) };
    let mut detach = AttachAttr {
        target_fd: cgroup.as_raw_fd() as u32,
        prog_fd: program.as_raw_fd() as u32,
        attach_type: ATTACH_CGROUP_DEVICE,
        ..AttachAttr::default()
    };
    match bpf(PROG_DETACH, &mut detach) {
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other.act("detach", say).map(drop),
    }
}

fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<i32> {
    // SAFETY: `attr` is a prefix of union bpf_attr of the size given (the kernel takes the rest as zero), and has room
    // for what the command writes to it; the pointers in it are live for the call.
    let rc = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(rc as i32) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: DeviceAccess = DeviceAccess { read: true, write: true, mknod: true };
    const NULL: DeviceRule =
        DeviceRule { allow: true, kind: DeviceKind::Char, major: Some(1), minor: Some(3), access: ALL };

    #[test]
    fn v1_rules_read_as_the_kernel_takes_them() {
        assert_eq!(NULL.v1_texts(), ["c 1:3 rwm"]);
        let none = DeviceRule { allow: false, kind: DeviceKind::All, major: None, minor: None, access: ALL };
        assert_eq!(none.v1_texts(), ["a *:* rwm"]);
        // The kernel takes "a 1:3 rwm" for all devices.
        let both = DeviceRule { kind: DeviceKind::All, ..NULL };
        assert_eq!(both.v1_texts(), ["b 1:3 rwm", "c 1:3 rwm"]);
        let nodes = DeviceAccess { read: false, write: false, mknod: true };
        assert_eq!(DeviceRule { access: nodes, ..none }.v1_texts(), ["b *:* m", "c *:* m"]);
    }

    #[test]
    fn the_kernel_accepts_the_program() {
        let partly = DeviceRule { access: DeviceAccess { write: false, ..ALL }, minor: None, ..NULL };
        let deny = DeviceRule { allow: false, kind: DeviceKind::Block, ..partly };
        let deny_all =
            DeviceRule { allow: false, kind: DeviceKind::All, major: None, minor: None, access: ALL };
        load(&[deny, NULL, partly]).unwrap();
        load(&[deny_all, NULL]).unwrap();
        load(&[NULL, deny_all]).unwrap();
        load(&[]).unwrap();
    }
}
