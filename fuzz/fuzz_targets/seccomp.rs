//! Any profile: it compiles or is refused, and its filter decides every call within the kernel's rules.

use kernel::arch::Arch;
use kernel::seccomp::MAX_INSTRUCTIONS;
use oci_runtime::contract::Seccomp;
use oci_runtime::seccomp::{Call, Program, compile_for};

pub fn run(bytes: &[u8]) {
    // The first bytes choose the calls, the rest is the profile.
    let Some((choice, profile)) = bytes.split_at_checked(16) else { return };
    let Ok(profile) = serde_json::from_slice::<Seccomp>(profile) else { return };
    let word = |i: usize| u64::from_le_bytes(choice[i..i + 8].try_into().expect("eight bytes"));
    for native in [Arch::X86_64, Arch::Aarch64] {
        let Ok(filter) = compile_for(&profile, native) else { continue };
        assert!(filter.instructions.len() <= MAX_INSTRUCTIONS);
        assert_eq!(Program::from_bytes(&filter.to_bytes()).as_ref(), Some(&filter));
        for arch in Arch::ALL.map(Arch::audit).into_iter().chain([word(0) as u32]) {
            for nr in [word(0) as u32 & 0x1ff, word(8) as u32, (word(0) >> 32) as u32] {
                let call = Call { nr, arch, args: [word(0), word(8), 0, u64::MAX, word(0) >> 32, 1] };
                assert!(filter.evaluate(&call).is_some(), "{call:?} runs off the filter");
            }
        }
    }
}
