//! The seccomp compiler: from the rules of `config.json` to a filter the kernel loads.
//!
//! A filter is a search tree over ranges of call numbers for each architecture, not a list: a call is decided
//! after eight or nine comparisons, and loading is cheaper too, because the kernel walks the filter once for every
//! number it has. Compiling the usual profile takes a fraction of a millisecond, so nothing has to be cached.
//!
//! Where the specification is silent, a filter does what runc's and libseccomp's do:
//! - a call from an architecture that is not listed kills its thread, as does a call of x32 where only x86_64 is;
//! - a name that an architecture does not have is ignored there;
//! - rules for one call are alternatives, tried in their order; one without conditions settles the call for all;
//!   a rule whose action is the default one says nothing;
//! - the conditions of a rule hold together, except where two concern the same argument: then each is a rule;
//! - a call newer than all that the profile names fails with `ENOSYS`, if the default action is a refusal: programs
//!   then use the older call that they know, and would not after `EPERM`;
//! - on 32-bit x86, rules for `socket` and its like, and for `shmat` and its like, are for `socketcall` and `ipc` too.
//!
//! Entry points: [`compile`], [`flags`], [`default_profile`], [`read_profile`].

mod emit;
mod evaluate;
mod file;
mod multiplex;
mod profile;
mod program;
mod range;
mod rule;

use kernel::arch::Arch;
use kernel::seccomp::{Flags, MAX_INSTRUCTIONS};

use crate::contract::seccomp as oci;

pub use evaluate::Call;
pub use file::{Circumstances, ProfileError, read_profile};
pub use profile::default_profile;
pub use program::{Program, digest};

/// Why rules could not become a filter.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel takes no filter that long.
    #[error(
        "cannot compile the seccomp profile: it takes {instructions} instructions and the kernel takes \
         {MAX_INSTRUCTIONS}; merge rules that differ in conditions only"
    )]
    TooLong {
        /// How many there would be.
        instructions: usize,
    },
    /// A condition on an argument that no call has.
    #[error("cannot compile the seccomp profile: a condition is on argument {index}, and calls have 0 to 5")]
    Argument {
        /// The argument.
        index: u32,
    },
}

/// Compiles rules for this machine.
///
/// # Errors
/// [`Error::TooLong`]: some hundreds of rules with conditions.
///
/// ```
/// use oci_runtime::{contract, seccomp};
/// let spec = contract::parse(br#"{"ociVersion": "1.3.0", "linux": {"seccomp": {
///     "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]}}}"#)?;
/// let rules = spec.linux.and_then(|linux| linux.seccomp).unwrap();
/// let filter = seccomp::compile(&rules)?;
/// assert!(filter.instructions.len() < 12);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn compile(seccomp: &oci::Seccomp) -> Result<Program, Error> {
    compile_for(seccomp, Arch::NATIVE)
}

/// Compiles rules for a machine of architecture `native`.
///
/// Architectures that such a machine cannot run need no rules: nothing ever calls from them.
///
/// # Errors
/// As [`compile`].
pub fn compile_for(seccomp: &oci::Seccomp, native: Arch) -> Result<Program, Error> {
    let rules = rule::Rules::of(seccomp, &architectures(seccomp, native))?;
    let instructions = emit::program(&rules, native);
    if instructions.len() > MAX_INSTRUCTIONS {
        return Err(Error::TooLong { instructions: instructions.len() });
    }
    Ok(Program { instructions, flags: flags(seccomp) })
}

/// The flags to load the filter with; [`kernel::seccomp::flag_available`] says which of them this kernel has.
///
/// A profile that says nothing of flags gets `SPEC_ALLOW`, as with runc: without it, older kernels slow down the
/// whole container.
pub fn flags(seccomp: &oci::Seccomp) -> Flags {
    let listener = needs_listener(seccomp);
    let one = |flag: &oci::Flag| match flag {
        oci::Flag::Tsync => Flags::TSYNC,
        oci::Flag::Log => Flags::LOG,
        oci::Flag::SpecAllow => Flags::SPEC_ALLOW,
        // The kernel refuses it without a listener.
        oci::Flag::WaitKillableRecv if listener => Flags::WAIT_KILLABLE_RECV,
        oci::Flag::WaitKillableRecv => Flags::NONE,
    };
    let given = match &seccomp.flags {
        None => Flags::SPEC_ALLOW,
        Some(flags) => flags.iter().map(one).fold(Flags::NONE, Flags::with),
    };
    if listener { given.with(Flags::NEW_LISTENER) } else { given }
}

/// Does a rule ask an agent?
pub fn needs_listener(seccomp: &oci::Seccomp) -> bool {
    seccomp.syscalls.iter().any(|rule| rule.action == oci::Action::Notify)
}

/// The architectures that get rules: the machine's own and those listed that it can run.
fn architectures(seccomp: &oci::Seccomp, native: Arch) -> Vec<Arch> {
    let listed = |arch: &&Arch| seccomp.architectures.iter().any(|listed| known(*listed) == Some(**arch));
    std::iter::once(native).chain(native.sub_architectures().iter().filter(listed).copied()).collect()
}

fn known(arch: oci::Arch) -> Option<Arch> {
    match arch {
        oci::Arch::X86_64 => Some(Arch::X86_64),
        oci::Arch::X86 => Some(Arch::X86),
        oci::Arch::X32 => Some(Arch::X32),
        oci::Arch::Aarch64 => Some(Arch::Aarch64),
        oci::Arch::Arm => Some(Arch::Arm),
        _ => None,
    }
}

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
