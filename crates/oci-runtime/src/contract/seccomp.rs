//! The system call filter, as `config.json` describes it.

use serde::{Deserialize, Serialize};

use super::{is_default, nullable};

/// A filter of system calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seccomp {
    /// What happens to a call that no rule names.
    pub default_action: Action,
    /// The errno of that action; none is EPERM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u32>,
    /// Architectures beyond the machine's own.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub architectures: Vec<Arch>,
    /// Flags for seccomp(2); none given leaves them to the runtime, which an empty list does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<Flag>>,
    /// The socket of the agent that gets the notifications' descriptor.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub listener_path: String,
    /// What the agent is told beside it.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub listener_metadata: String,
    /// The rules.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub syscalls: Vec<Syscall>,
}

/// A rule: what happens to the calls it names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Syscall {
    /// The calls; a name that an architecture does not have is ignored there.
    pub names: Vec<String>,
    /// What happens.
    pub action: Action,
    /// The action's errno; none is EPERM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u32>,
    /// Conditions, all of which hold where the rule applies.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub args: Vec<Arg>,
}

/// A condition on an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Arg {
    /// Which argument, 0 to 5.
    pub index: u32,
    /// What it is compared with; for [`Operator::MaskedEq`], the mask.
    pub value: u64,
    /// For [`Operator::MaskedEq`]: what the masked argument has to equal.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub value_two: u64,
    /// The comparison.
    pub op: Operator,
}

/// The comparisons, of unsigned 64-bit values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operator {
    /// Not equal.
    #[serde(rename = "SCMP_CMP_NE")]
    Ne,
    /// Less.
    #[serde(rename = "SCMP_CMP_LT")]
    Lt,
    /// Less or equal.
    #[serde(rename = "SCMP_CMP_LE")]
    Le,
    /// Equal.
    #[serde(rename = "SCMP_CMP_EQ")]
    Eq,
    /// Greater or equal.
    #[serde(rename = "SCMP_CMP_GE")]
    Ge,
    /// Greater.
    #[serde(rename = "SCMP_CMP_GT")]
    Gt,
    /// Equal under a mask.
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEq,
}

impl Operator {
    /// All of them.
    pub const ALL: [Self; 7] = [Self::Ne, Self::Lt, Self::Le, Self::Eq, Self::Ge, Self::Gt, Self::MaskedEq];
}

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// The thread is killed: the older name.
    #[serde(rename = "SCMP_ACT_KILL")]
    Kill,
    /// The process is killed.
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    /// The thread is killed.
    #[serde(rename = "SCMP_ACT_KILL_THREAD")]
    KillThread,
    /// The thread gets SIGSYS.
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    /// The call fails with an errno.
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    /// A tracer decides.
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    /// The call goes ahead.
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    /// The call goes ahead and is logged.
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
    /// An agent decides.
    #[serde(rename = "SCMP_ACT_NOTIFY")]
    Notify,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Kill,
        Self::KillProcess,
        Self::KillThread,
        Self::Trap,
        Self::Errno,
        Self::Trace,
        Self::Allow,
        Self::Log,
        Self::Notify,
    ];

    /// Does the action carry an errno (for a tracer: a message)?
    pub fn takes_errno(self) -> bool {
        matches!(self, Self::Errno | Self::Trace)
    }
}

/// Flags for seccomp(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Flag {
    /// All threads get the filter.
    #[serde(rename = "SECCOMP_FILTER_FLAG_TSYNC")]
    Tsync,
    /// All actions but `allow` are logged.
    #[serde(rename = "SECCOMP_FILTER_FLAG_LOG")]
    Log,
    /// No mitigation of speculative store bypass.
    #[serde(rename = "SECCOMP_FILTER_FLAG_SPEC_ALLOW")]
    SpecAllow,
    /// Only a fatal signal interrupts a call that an agent is looking at.
    #[serde(rename = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV")]
    WaitKillableRecv,
}

impl Flag {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Tsync, Self::Log, Self::SpecAllow, Self::WaitKillableRecv];
}

/// The architectures of the specification (libseccomp 2.6's names).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[expect(missing_docs, reason = "a list of machines")]
pub enum Arch {
    #[serde(rename = "SCMP_ARCH_X86")]
    X86,
    #[serde(rename = "SCMP_ARCH_X86_64")]
    X86_64,
    #[serde(rename = "SCMP_ARCH_X32")]
    X32,
    #[serde(rename = "SCMP_ARCH_ARM")]
    Arm,
    #[serde(rename = "SCMP_ARCH_AARCH64")]
    Aarch64,
    #[serde(rename = "SCMP_ARCH_MIPS")]
    Mips,
    #[serde(rename = "SCMP_ARCH_MIPS64")]
    Mips64,
    #[serde(rename = "SCMP_ARCH_MIPS64N32")]
    Mips64N32,
    #[serde(rename = "SCMP_ARCH_MIPSEL")]
    Mipsel,
    #[serde(rename = "SCMP_ARCH_MIPSEL64")]
    Mipsel64,
    #[serde(rename = "SCMP_ARCH_MIPSEL64N32")]
    Mipsel64N32,
    #[serde(rename = "SCMP_ARCH_PPC")]
    Ppc,
    #[serde(rename = "SCMP_ARCH_PPC64")]
    Ppc64,
    #[serde(rename = "SCMP_ARCH_PPC64LE")]
    Ppc64Le,
    #[serde(rename = "SCMP_ARCH_S390")]
    S390,
    #[serde(rename = "SCMP_ARCH_S390X")]
    S390X,
    #[serde(rename = "SCMP_ARCH_PARISC")]
    Parisc,
    #[serde(rename = "SCMP_ARCH_PARISC64")]
    Parisc64,
    #[serde(rename = "SCMP_ARCH_RISCV64")]
    Riscv64,
    #[serde(rename = "SCMP_ARCH_LOONGARCH64")]
    Loongarch64,
    #[serde(rename = "SCMP_ARCH_M68K")]
    M68k,
    #[serde(rename = "SCMP_ARCH_SH")]
    Sh,
    #[serde(rename = "SCMP_ARCH_SHEB")]
    Sheb,
}

impl Arch {
    /// All of them.
    pub const ALL: [Self; 23] = [
        Self::X86,
        Self::X86_64,
        Self::X32,
        Self::Arm,
        Self::Aarch64,
        Self::Mips,
        Self::Mips64,
        Self::Mips64N32,
        Self::Mipsel,
        Self::Mipsel64,
        Self::Mipsel64N32,
        Self::Ppc,
        Self::Ppc64,
        Self::Ppc64Le,
        Self::S390,
        Self::S390X,
        Self::Parisc,
        Self::Parisc64,
        Self::Riscv64,
        Self::Loongarch64,
        Self::M68k,
        Self::Sh,
        Self::Sheb,
    ];
}
