use serde::{Deserialize, Serialize};

use super::{is_default, nullable};

/// The process of a container, or one that joins it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// A pseudoterminal is its standard streams.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub terminal: bool,
    /// The terminal's size; ignored without a terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console_size: Option<ConsoleSize>,
    /// Who it runs as.
    #[serde(default, deserialize_with = "nullable")]
    pub user: User,
    /// All of `argv`; the first entry is looked up as `execvp` does.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub args: Vec<String>,
    /// The environment, `NAME=value` each.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub env: Vec<String>,
    /// The working directory, absolute.
    pub cwd: String,
    /// The capability sets; none given leaves what the runtime has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// Resource limits.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub rlimits: Vec<Rlimit>,
    /// Nothing the process executes may gain privileges.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub no_new_privileges: bool,
    /// The AppArmor profile; empty for none.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub apparmor_profile: String,
    /// What `/proc/PID/oom_score_adj` gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// The scheduling attributes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Scheduler>,
    /// The SELinux label; empty for none.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub selinux_label: String,
    /// The I/O priority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_priority: Option<IoPriority>,
    /// The CPUs an exec'ed process runs on before and after it joins the container's cgroup.
    #[serde(rename = "execCPUAffinity", default, skip_serializing_if = "Option::is_none")]
    pub exec_cpu_affinity: Option<CpuAffinity>,
}

/// A terminal's size, in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleSize {
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
}

/// The ids a process has, as its user namespace counts them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// The user id.
    #[serde(default, deserialize_with = "nullable")]
    pub uid: u32,
    /// The group id.
    #[serde(default, deserialize_with = "nullable")]
    pub gid: u32,
    /// The umask; none given leaves the caller's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
    /// The supplementary groups.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub additional_gids: Vec<u32>,
}

/// The five capability sets, by name (`CAP_CHOWN`). A name the kernel does not have is a warning, not an error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// What execve may ever give.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub bounding: Vec<String>,
    /// What the kernel checks.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub effective: Vec<String>,
    /// What survives an execve of a file that has it too.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub inheritable: Vec<String>,
    /// What may become effective.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub permitted: Vec<String>,
    /// What survives any execve.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub ambient: Vec<String>,
}

/// A resource limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// Which resource.
    #[serde(rename = "type")]
    pub kind: RlimitType,
    /// The ceiling; `u64::MAX` is no limit.
    pub hard: u64,
    /// What is enforced.
    pub soft: u64,
}

/// The resources that getrlimit(2) names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "getrlimit(2) describes them")]
pub enum RlimitType {
    RlimitAs,
    RlimitCore,
    RlimitCpu,
    RlimitData,
    RlimitFsize,
    RlimitLocks,
    RlimitMemlock,
    RlimitMsgqueue,
    RlimitNice,
    RlimitNofile,
    RlimitNproc,
    RlimitRss,
    RlimitRtprio,
    RlimitRttime,
    RlimitSigpending,
    RlimitStack,
}

/// What sched_setattr(2) gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduler {
    /// The policy.
    pub policy: SchedulerPolicy,
    /// -20 to 19, for `SCHED_OTHER` and `SCHED_BATCH`.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub nice: i32,
    /// The static priority, for `SCHED_FIFO` and `SCHED_RR`.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub priority: i32,
    /// Flags.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub flags: Vec<SchedulerFlag>,
    /// Nanoseconds of run time in a period, for `SCHED_DEADLINE`.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub runtime: u64,
    /// Nanoseconds until that run time is due, for `SCHED_DEADLINE`.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub deadline: u64,
    /// Nanoseconds of a period, for `SCHED_DEADLINE`.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub period: u64,
}

/// The policies that the specification names; the kernel has no `SCHED_ISO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "sched(7) describes them")]
pub enum SchedulerPolicy {
    SchedOther,
    SchedFifo,
    SchedRr,
    SchedBatch,
    SchedIso,
    SchedIdle,
    SchedDeadline,
}

/// The flags of sched_setattr(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "sched_setattr(2) describes them")]
pub enum SchedulerFlag {
    SchedFlagResetOnFork,
    SchedFlagReclaim,
    SchedFlagDlOverrun,
    SchedFlagKeepPolicy,
    SchedFlagKeepParams,
    SchedFlagUtilClampMin,
    SchedFlagUtilClampMax,
}

/// What ioprio_set(2) gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoPriority {
    /// The class.
    pub class: IoPriorityClass,
    /// 0 (first) to 7 within the class.
    #[serde(default, deserialize_with = "nullable")]
    pub priority: i32,
}

/// The I/O scheduling classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "ioprio_set(2) describes them")]
pub enum IoPriorityClass {
    IoprioClassRt,
    IoprioClassBe,
    IoprioClassIdle,
}

/// Lists of CPUs, as in `0-3,7`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuAffinity {
    /// Before the process is in the container's cgroup.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub initial: String,
    /// Once it is; empty leaves it to the kernel.
    #[serde(rename = "final", default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub last: String,
}
