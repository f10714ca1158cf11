//! The default profile: what containers get that ask for none, as with Docker and containerd.
//!
//! The calls are those of Docker's profile of 2026. One thing differs: Docker allows families of sockets *above*
//! `AF_VSOCK`, and a call whose upper 32 bits are not zero, which the kernel ignores, passes as one. Here the rules
//! name the families there are, so that no bit up there gets around them. As with Docker, 32-bit x86 programs reach
//! every family by `socketcall`, whose arguments no filter sees: only a security module can forbid that.

mod names;

use kernel::arch::Arch;
use kernel::capability::{CapSet, Capability};

use crate::contract::seccomp::{self as oci, Action, Arg, Operator, Seccomp, Syscall};

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// The namespaces' flags of clone(2): a container makes none with it, unless it has `CAP_SYS_ADMIN`.
const CLONE_NEW: u64 = 0x7e02_0000;

/// Execution domains that are no danger: Linux, 32 bits, each with the uname of Linux 2.6, and the question.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The families of sockets below 64, without `AF_ALG` (38: the kernel's ciphers, a large surface) and `AF_VSOCK`
/// (40: the hypervisor), as masks and values.
const SOCKETS: [(u64, u64); 8] = [
    (!31, 0), // 0 to 31
    (!3, 32), // 32 to 35
    (!1, 36), // 36, 37
    (!0, 39),
    (!0, 41),
    (!1, 42),  // 42, 43
    (!3, 44),  // 44 to 47
    (!15, 48), // 48 to 63
];

/// Calls that come with a capability.
const BY_CAPABILITY: [(Capability, &str); 14] = [
    (Capability::DacReadSearch, "open_by_handle_at"),
    (
        Capability::SysAdmin,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr \
         lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree open_tree_attr \
         perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    (Capability::SysBoot, "reboot"),
    (Capability::SysChroot, "chroot"),
    (Capability::SysModule, "delete_module init_module finit_module"),
    (Capability::SysPacct, "acct"),
    (Capability::SysPtrace, "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"),
    (Capability::SysRawio, "iopl ioperm"),
    (Capability::SysTime, "settimeofday stime clock_settime clock_settime64"),
    (Capability::SysTtyConfig, "vhangup"),
    (Capability::SysNice, "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    (Capability::Syslog, "syslog"),
    (Capability::Bpf, "bpf"),
    (Capability::Perfmon, "perf_event_open"),
];

/// The default profile for a container with these capabilities in its bounding set, on a machine of architecture
/// `native`: what is not allowed fails with `EPERM`.
///
/// ```
/// use kernel::{arch::Arch, capability::CapSet};
/// use oci_runtime::seccomp::{compile_for, default_profile};
/// let profile = default_profile(CapSet::EMPTY, Arch::Aarch64);
/// let filter = compile_for(&profile, Arch::Aarch64).unwrap();
/// assert!(filter.instructions.len() < 1300);
/// ```
pub fn default_profile(capabilities: CapSet, native: Arch) -> Seccomp {
    let mut syscalls = vec![allow(names::ALWAYS, Vec::new())];
    syscalls.extend(SOCKETS.map(|(mask, family)| allow("socket", vec![masked(mask, family)])));
    syscalls.extend(PERSONALITIES.map(|domain| allow("personality", vec![masked(u64::MAX, domain)])));
    syscalls.push(allow(of_architecture(native), Vec::new()));
    for (capability, names) in BY_CAPABILITY {
        if capabilities.contains(capability) {
            syscalls.push(allow(names, Vec::new()));
        }
    }
    if !capabilities.contains(Capability::SysAdmin) {
        syscalls.push(allow("clone", vec![masked(CLONE_NEW, 0)]));
        // Its flags are in memory, out of a filter's sight: programs fall back to clone.
        syscalls.push(Syscall {
            names: vec!["clone3".to_owned()],
            action: Action::Errno,
            errno_ret: Some(ENOSYS),
            args: Vec::new(),
        });
    }
    let architectures =
        std::iter::once(&native).chain(native.sub_architectures()).map(|arch| oci_arch(*arch));
    Seccomp {
        default_action: Action::Errno,
        default_errno_ret: Some(EPERM),
        architectures: architectures.collect(),
        flags: None,
        listener_path: String::new(),
        listener_metadata: String::new(),
        syscalls,
    }
}

fn of_architecture(native: Arch) -> &'static str {
    match native {
        Arch::X86_64 | Arch::X32 | Arch::X86 => "arch_prctl modify_ldt",
        Arch::Aarch64 | Arch::Arm => {
            "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls"
        }
    }
}

fn allow(names: &str, args: Vec<Arg>) -> Syscall {
    let names = names.split_ascii_whitespace().map(str::to_owned).collect();
    Syscall { names, action: Action::Allow, errno_ret: None, args }
}

/// The first argument equals a value under a mask.
fn masked(mask: u64, value: u64) -> Arg {
    match mask {
        u64::MAX => Arg { index: 0, value, value_two: 0, op: Operator::Eq },
        _ => Arg { index: 0, value: mask, value_two: value, op: Operator::MaskedEq },
    }
}

fn oci_arch(arch: Arch) -> oci::Arch {
    match arch {
        Arch::X86_64 => oci::Arch::X86_64,
        Arch::X86 => oci::Arch::X86,
        Arch::X32 => oci::Arch::X32,
        Arch::Aarch64 => oci::Arch::Aarch64,
        Arch::Arm => oci::Arch::Arm,
    }
}
