use kernel::arch::{Arch, Syscall, X32_BIT};
use kernel::capability::{CapSet, Capability};
use kernel::seccomp::{RET_ALLOW, RET_ERRNO, RET_KILL_THREAD};
use proptest::prelude::*;

use super::evaluate::Call;
use super::reference::verdict;
use super::*;
use crate::contract::seccomp::{Action, Arg, Flag, Operator, Seccomp};

/// Names that collide in interesting ways: neighbours, aliases, multiplexed ones, private ones, unknown ones.
const NAMES: [&str; 28] = [
    "read",
    "write",
    "open",
    "close",
    "stat",
    "socket",
    "bind",
    "accept4",
    "socketcall",
    "ipc",
    "shmat",
    "msgget",
    "clone",
    "clone3",
    "personality",
    "set_tls",
    "cacheflush",
    "sync_file_range2",
    "arm_sync_file_range",
    "mount_setattr",
    "rseq_slice_yield",
    "execve",
    "ioctl",
    "restart_syscall",
    "preadv2",
    "futex_time64",
    "tuxcall",
    "no_such_call",
];

const VALUES: [u64; 10] = [0, 1, 2, 40, 0x7e02_0000, 0xffff, 0xffff_ffff, 1 << 32, 5 << 32 | 40, u64::MAX];

fn action() -> impl Strategy<Value = (Action, Option<u32>)> {
    use Action::*;
    let plain = prop::sample::select(vec![Kill, KillProcess, KillThread, Trap, Allow, Log, Notify]);
    let coded = (
        prop::sample::select(vec![Errno, Trace]),
        prop::option::of(prop::sample::select(vec![1u32, 22, 38])),
    );
    prop_oneof![plain.prop_map(|action| (action, None)), coded]
}

fn value() -> impl Strategy<Value = u64> {
    prop_oneof![3 => prop::sample::select(VALUES.to_vec()), 1 => any::<u64>()]
}

fn arg() -> impl Strategy<Value = Arg> {
    use Operator::*;
    let op = prop::sample::select(vec![Ne, Lt, Le, Eq, Ge, Gt, MaskedEq]);
    (0..6u32, value(), value(), op).prop_map(|(index, value, value_two, op)| Arg {
        index,
        value,
        value_two,
        op,
    })
}

fn rule() -> impl Strategy<Value = oci::Syscall> {
    let any_name = (0..Syscall::all().count()).prop_map(|i| Syscall::all().nth(i).unwrap().name());
    let name = prop_oneof![2 => prop::sample::select(NAMES.to_vec()), 1 => any_name];
    (prop::collection::vec(name, 1..12), action(), prop::collection::vec(arg(), 0..4)).prop_map(
        |(names, (action, errno_ret), args)| {
            let names = names.into_iter().map(str::to_owned).collect();
            oci::Syscall { names, action, errno_ret, args }
        },
    )
}

fn profile() -> impl Strategy<Value = Seccomp> {
    use oci::Arch::*;
    let archs = prop::sample::subsequence(vec![X86, X86_64, X32, Arm, Aarch64, Mips], 0..=6);
    (action(), archs, prop::collection::vec(rule(), 0..24)).prop_map(|(action, architectures, syscalls)| {
        Seccomp {
            default_action: action.0,
            default_errno_ret: action.1,
            architectures,
            flags: None,
            listener_path: String::new(),
            listener_metadata: String::new(),
            syscalls,
        }
    })
}

fn call() -> impl Strategy<Value = Call> {
    let number = prop_oneof![
        4 => (prop::sample::select(NAMES.to_vec()), prop::sample::select(Arch::ALL.to_vec()))
            .prop_map(|(name, arch)| arch.number(name).unwrap_or(7)),
        4 => 0..600u32,
        1 => (0..600u32).prop_map(|nr| nr | X32_BIT),
        1 => prop::sample::select(vec![u32::MAX, u32::MAX - 1, X32_BIT - 1, 0xf_0000, 0xf_0006, 1 << 31]),
    ];
    let arch = prop_oneof![
        9 => prop::sample::select(Arch::ALL.to_vec()).prop_map(Arch::audit),
        1 => any::<u32>(),
    ];
    (number, arch, prop::array::uniform6(value())).prop_map(|(nr, arch, args)| Call { nr, arch, args })
}

/// 32-bit architectures have no upper half.
fn real(call: &Call) -> Call {
    let narrow = [Arch::X86, Arch::Arm].iter().any(|arch| arch.audit() == call.arch);
    Call { args: call.args.map(|arg| if narrow { arg & 0xffff_ffff } else { arg }), ..*call }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn a_filter_says_what_the_profile_says(
        profile in profile(),
        native in prop::sample::select(vec![Arch::X86_64, Arch::Aarch64]),
        calls in prop::collection::vec(call(), 1..48),
    ) {
        let filter = compile_for(&profile, native).unwrap();
        for call in calls.iter().map(real) {
            prop_assert_eq!(filter.evaluate(&call), Some(verdict(&profile, native, &call)), "{:?}", call);
        }
    }
}

#[test]
fn the_default_profile_says_the_same_for_every_number() {
    for (native, caps) in [
        (Arch::X86_64, CapSet::EMPTY),
        (Arch::Aarch64, CapSet::EMPTY),
        (Arch::X86_64, CapSet::ALL),
        (Arch::Aarch64, CapSet::of(&[Capability::SysAdmin])),
    ] {
        let profile = default_profile(caps, native);
        let filter = compile_for(&profile, native).unwrap();
        for arch in std::iter::once(&native).chain(native.sub_architectures()) {
            let numbers = (0..600).chain(X32_BIT..X32_BIT + 600).chain(0xf_0000..0xf_0008).chain([u32::MAX]);
            let looked_at = ["clone", "socket", "personality"].map(|name| arch.number(name).unwrap());
            let firsts =
                [0, 1, 31, 32, 37, 38, 39, 40, 41, 43, 63, 64, 1 << 32 | 40, 0x7e02_0000, 0xffff_ffff];
            let more = looked_at.into_iter().flat_map(|nr| firsts.map(|first| (nr, first)));
            for (nr, first) in numbers.map(|nr| (nr, 0)).chain(more) {
                let call = real(&Call { nr, arch: arch.audit(), args: [first, 0, 0, 0, 0, 0] });
                assert_eq!(filter.evaluate(&call), Some(verdict(&profile, native, &call)), "{call:?}");
            }
        }
    }
}

fn default_says(caps: CapSet, arch: Arch, name: &str, first: u64) -> u32 {
    let native = if matches!(arch, Arch::Arm | Arch::Aarch64) { Arch::Aarch64 } else { Arch::X86_64 };
    let filter = compile_for(&default_profile(caps, native), native).unwrap();
    let nr = arch.number(name).unwrap_or_else(|| panic!("{name} on {arch:?}"));
    filter.evaluate(&Call { nr, arch: arch.audit(), args: [first, 0, 0, 0, 0, 0] }).unwrap()
}

#[test]
fn the_default_profile_is_the_usual_one() {
    let none = CapSet::EMPTY;
    for arch in Arch::ALL {
        for name in ["read", "execve", "ptrace", "mseal", "setxattrat", "futex"] {
            assert_eq!(default_says(none, arch, name, 0), RET_ALLOW, "{name}");
        }
        for name in ["mount", "unshare", "setns", "bpf", "keyctl", "io_uring_setup", "userfaultfd", "reboot"]
        {
            assert_eq!(default_says(none, arch, name, 0), RET_ERRNO | 1, "{name}");
        }
        assert_eq!(default_says(none, arch, "clone3", 0), RET_ERRNO | 38);
        assert_eq!(default_says(none, arch, "clone", 0x0120_0011), RET_ALLOW);
        assert_eq!(default_says(none, arch, "clone", 0x1000_0011), RET_ERRNO | 1);
        assert_eq!(default_says(none, arch, "listns", 0), RET_ERRNO | if arch == Arch::X32 { 1 } else { 38 });
        assert_eq!(default_says(none, arch, "personality", 8), RET_ALLOW);
        assert_eq!(default_says(none, arch, "personality", 0x0004_0000), RET_ERRNO | 1);
        for (family, verdict) in [(2, RET_ALLOW), (16, RET_ALLOW), (38, RET_ERRNO | 1), (40, RET_ERRNO | 1)] {
            assert_eq!(default_says(none, arch, "socket", family), verdict, "{family}");
        }
        assert_eq!(default_says(CapSet::ALL, arch, "clone3", 0), RET_ALLOW);
        assert_eq!(default_says(CapSet::of(&[Capability::SysAdmin]), arch, "mount", 0), RET_ALLOW);
        assert_eq!(default_says(CapSet::of(&[Capability::SysTime]), arch, "clock_settime", 0), RET_ALLOW);
    }
    assert_eq!(default_says(none, Arch::Arm, "set_tls", 0), RET_ALLOW);
    assert_eq!(default_says(none, Arch::X86_64, "arch_prctl", 0), RET_ALLOW);
}

/// Docker's profile lets this through: the kernel looks at the lower 32 bits of a family only.
#[test]
fn upper_bits_of_a_socket_family_get_around_nothing() {
    for upper in [1, 1 << 31, 0xffff_ffff] {
        for family in [38, 40] {
            let verdict = default_says(CapSet::EMPTY, Arch::X86_64, "socket", upper << 32 | family);
            assert_eq!(verdict, RET_ERRNO | 1);
        }
    }
}

#[test]
fn the_default_filter_is_small_and_shallow() {
    for (native, most) in [(Arch::X86_64, 1300), (Arch::Aarch64, 900)] {
        let filter = compile_for(&default_profile(CapSet::EMPTY, native), native).unwrap();
        assert!(filter.instructions.len() < most, "{} instructions", filter.instructions.len());
    }
}

#[test]
fn other_architectures_are_killed() {
    let mut profile = default_profile(CapSet::EMPTY, Arch::X86_64);
    profile.architectures = vec![oci::Arch::X86_64];
    let filter = compile_for(&profile, Arch::X86_64).unwrap();
    for (nr, arch) in [(0, Arch::X86.audit()), (X32_BIT, Arch::X86_64.audit()), (0, 0x1234_5678)] {
        assert_eq!(filter.evaluate(&Call { nr, arch, args: [0; 6] }), Some(RET_KILL_THREAD));
    }
    let void = Call { nr: u32::MAX, arch: Arch::X86_64.audit(), args: [0; 6] };
    assert_eq!(filter.evaluate(&void), Some(RET_ERRNO | 1));
}

#[test]
fn branches_reach_beyond_255_instructions() {
    let names: Vec<_> =
        Syscall::all().filter(|s| s.number(Arch::X86_64).is_some()).map(Syscall::name).collect();
    // A rule of its own for each, and with it a block of its own.
    let rule = |(i, name): (usize, &&str)| oci::Syscall {
        names: vec![(*name).to_owned()],
        action: Action::Errno,
        errno_ret: Some(i as u32),
        args: vec![Arg { index: 5, value: i as u64, value_two: 0, op: Operator::Eq }],
    };
    let mut profile = default_profile(CapSet::EMPTY, Arch::X86_64);
    profile.architectures.clear();
    profile.syscalls = names.iter().enumerate().map(rule).collect();
    let filter = compile_for(&profile, Arch::X86_64).unwrap();
    assert!(filter.instructions.len() > 2000);
    for (i, name) in names.iter().enumerate() {
        for last in [i as u64, 9999] {
            let nr = Arch::X86_64.number(name).unwrap();
            let call = Call { nr, arch: Arch::X86_64.audit(), args: [0, 0, 0, 0, 0, last] };
            assert_eq!(filter.evaluate(&call), Some(verdict(&profile, Arch::X86_64, &call)), "{name}");
        }
    }
}

#[test]
fn too_long_and_impossible_profiles_are_errors() {
    let mut profile = default_profile(CapSet::EMPTY, Arch::X86_64);
    let arg = |index, value| Arg { index, value, value_two: 0, op: Operator::Gt };
    let rule = |value| oci::Syscall {
        names: vec!["read".to_owned()],
        action: Action::Allow,
        errno_ret: None,
        args: (0..6).map(|index| arg(index, value)).collect(),
    };
    profile.syscalls = (0..500).map(rule).collect();
    assert!(
        matches!(compile_for(&profile, Arch::X86_64), Err(Error::TooLong { instructions }) if instructions > 4096)
    );
    profile.syscalls = vec![oci::Syscall { args: vec![arg(6, 0)], ..rule(0) }];
    assert!(matches!(compile_for(&profile, Arch::X86_64), Err(Error::Argument { index: 6 })));
}

#[test]
fn flags_are_the_profiles_or_the_usual() {
    let mut profile = default_profile(CapSet::EMPTY, Arch::X86_64);
    assert_eq!(flags(&profile), Flags::SPEC_ALLOW);
    profile.flags = Some(vec![Flag::WaitKillableRecv, Flag::Log]);
    assert_eq!(flags(&profile), Flags::LOG);
    profile.syscalls[0].action = Action::Notify;
    assert_eq!(flags(&profile), Flags::LOG.with(Flags::WAIT_KILLABLE_RECV).with(Flags::NEW_LISTENER));
}

#[test]
fn a_program_survives_its_bytes() {
    let program = compile_for(&default_profile(CapSet::EMPTY, Arch::NATIVE), Arch::NATIVE).unwrap();
    let bytes = program.to_bytes();
    assert_eq!(Program::from_bytes(&bytes).as_ref(), Some(&program));
    assert_eq!(Program::from_bytes(&bytes[1..]), None);
    assert_eq!(Program::from_bytes(&[]), None);
    assert_ne!(digest(&bytes), digest(&bytes[8..]));
    // The published value for "a".
    assert_eq!(digest(b"a"), 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
}

/// The real kernel: a filter is a thread's own, so a thread that ends takes it along.
#[test]
fn the_kernel_enforces_the_default_profile() {
    use rustix::io::Errno;
    use rustix::mount::{MountFlags, mount};
    let inside = std::thread::spawn(|| {
        let profile = default_profile(CapSet::EMPTY, Arch::NATIVE);
        let program = compile(&profile).unwrap();
        rustix::thread::set_no_new_privs(true).unwrap();
        assert!(program.load().unwrap().is_none());

        assert!(!std::fs::read("/proc/self/status").unwrap().is_empty());
        // A path that is not there: without the filter the answer is ENOENT for root, and EPERM only for others.
        let mounted = mount("none", "/no/such/place", "tmpfs", MountFlags::empty(), None);
        assert_eq!(mounted, Err(Errno::PERM));
        let fsopen = rustix::mount::fsopen("tmpfs", rustix::mount::FsOpenFlags::empty());
        assert_eq!(fsopen.unwrap_err(), Errno::PERM);
        // Its children inherit the filter: clone3 says ENOSYS, and they start all the same.
        let status =
            |program: &str, arg: &str| std::process::Command::new(program).arg(arg).output().unwrap().status;
        assert!(status("cat", "/proc/self/status").success());
        assert!(!status("unshare", "--mount").success());
        assert!(!status("unshare", "--user").success());
        std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    });
    inside.join().unwrap();
}
