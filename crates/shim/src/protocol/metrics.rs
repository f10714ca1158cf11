//! What containerd's clients read of a container's cgroup: `io.containerd.cgroups.v1.Metrics` and v2's, those fields that
//! its CRI, ctr and their exporters look at.

/// Of cgroups v1.
pub mod v1 {
    use prost::Message;

    /// All of it.
    #[derive(Clone, PartialEq, Message)]
    pub struct Metrics {
        /// Processes.
        #[prost(message, optional, tag = "2")]
        pub pids: Option<Pids>,
        /// CPU time.
        #[prost(message, optional, tag = "3")]
        pub cpu: Option<Cpu>,
        /// Memory.
        #[prost(message, optional, tag = "4")]
        pub memory: Option<Memory>,
        /// Out of memory.
        #[prost(message, optional, tag = "9")]
        pub oom: Option<Oom>,
    }

    /// Processes and threads.
    #[derive(Clone, PartialEq, Message)]
    pub struct Pids {
        /// How many.
        #[prost(uint64, tag = "1")]
        pub current: u64,
        /// At most; 0 for no limit.
        #[prost(uint64, tag = "2")]
        pub limit: u64,
    }

    /// CPU time.
    #[derive(Clone, PartialEq, Message)]
    pub struct Cpu {
        /// Used.
        #[prost(message, optional, tag = "1")]
        pub usage: Option<CpuUsage>,
        /// Held back.
        #[prost(message, optional, tag = "2")]
        pub throttling: Option<Throttling>,
    }

    /// Nanoseconds.
    #[derive(Clone, PartialEq, Message)]
    pub struct CpuUsage {
        /// In all.
        #[prost(uint64, tag = "1")]
        pub total: u64,
        /// In the kernel.
        #[prost(uint64, tag = "2")]
        pub kernel: u64,
        /// In programs.
        #[prost(uint64, tag = "3")]
        pub user: u64,
        /// On each CPU.
        #[prost(uint64, repeated, tag = "4")]
        pub per_cpu: Vec<u64>,
    }

    /// Periods.
    #[derive(Clone, PartialEq, Message)]
    pub struct Throttling {
        /// That passed.
        #[prost(uint64, tag = "1")]
        pub periods: u64,
        /// In which something was held back.
        #[prost(uint64, tag = "2")]
        pub throttled_periods: u64,
        /// For so many nanoseconds.
        #[prost(uint64, tag = "3")]
        pub throttled_time: u64,
    }

    /// Bytes, and counts.
    #[derive(Clone, PartialEq, Message)]
    pub struct Memory {
        /// Page cache.
        #[prost(uint64, tag = "1")]
        pub cache: u64,
        /// Anonymous.
        #[prost(uint64, tag = "2")]
        pub rss: u64,
        /// Files mapped.
        #[prost(uint64, tag = "4")]
        pub mapped_file: u64,
        /// Faults.
        #[prost(uint64, tag = "9")]
        pub pg_fault: u64,
        /// Faults that read.
        #[prost(uint64, tag = "10")]
        pub pg_maj_fault: u64,
        /// The limit that holds here.
        #[prost(uint64, tag = "16")]
        pub hierarchical_memory_limit: u64,
        /// Page cache, with all below.
        #[prost(uint64, tag = "18")]
        pub total_cache: u64,
        /// Anonymous, with all below.
        #[prost(uint64, tag = "19")]
        pub total_rss: u64,
        /// Faults, with all below.
        #[prost(uint64, tag = "25")]
        pub total_pg_fault: u64,
        /// Faults that read, with all below.
        #[prost(uint64, tag = "26")]
        pub total_pg_maj_fault: u64,
        /// With all below.
        #[prost(uint64, tag = "27")]
        pub total_inactive_anon: u64,
        /// With all below.
        #[prost(uint64, tag = "28")]
        pub total_active_anon: u64,
        /// With all below: what a working set is without.
        #[prost(uint64, tag = "29")]
        pub total_inactive_file: u64,
        /// With all below.
        #[prost(uint64, tag = "30")]
        pub total_active_file: u64,
        /// Memory.
        #[prost(message, optional, tag = "33")]
        pub usage: Option<Entry>,
        /// Memory and swap.
        #[prost(message, optional, tag = "34")]
        pub swap: Option<Entry>,
        /// The kernel's.
        #[prost(message, optional, tag = "35")]
        pub kernel: Option<Entry>,
    }

    /// One counter.
    #[derive(Clone, PartialEq, Message)]
    pub struct Entry {
        /// At most.
        #[prost(uint64, tag = "1")]
        pub limit: u64,
        /// Now.
        #[prost(uint64, tag = "2")]
        pub usage: u64,
        /// So far.
        #[prost(uint64, tag = "3")]
        pub max: u64,
        /// How often the limit was hit.
        #[prost(uint64, tag = "4")]
        pub failcnt: u64,
    }

    /// Out of memory.
    #[derive(Clone, PartialEq, Message)]
    pub struct Oom {
        /// The killer is off.
        #[prost(uint64, tag = "1")]
        pub oom_kill_disable: u64,
        /// It is now.
        #[prost(uint64, tag = "2")]
        pub under_oom: u64,
        /// How many it killed.
        #[prost(uint64, tag = "3")]
        pub oom_kill: u64,
    }
}

/// Of cgroups v2.
pub mod v2 {
    use prost::Message;

    /// All of it.
    #[derive(Clone, PartialEq, Message)]
    pub struct Metrics {
        /// Processes.
        #[prost(message, optional, tag = "1")]
        pub pids: Option<super::v1::Pids>,
        /// CPU time.
        #[prost(message, optional, tag = "2")]
        pub cpu: Option<Cpu>,
        /// Memory.
        #[prost(message, optional, tag = "4")]
        pub memory: Option<Memory>,
        /// What happened to it.
        #[prost(message, optional, tag = "8")]
        pub events: Option<Events>,
    }

    /// Microseconds, and periods.
    #[derive(Clone, PartialEq, Message)]
    pub struct Cpu {
        /// In all.
        #[prost(uint64, tag = "1")]
        pub usage_usec: u64,
        /// In programs.
        #[prost(uint64, tag = "2")]
        pub user_usec: u64,
        /// In the kernel.
        #[prost(uint64, tag = "3")]
        pub system_usec: u64,
        /// Periods that passed.
        #[prost(uint64, tag = "4")]
        pub nr_periods: u64,
        /// Those in which something was held back.
        #[prost(uint64, tag = "5")]
        pub nr_throttled: u64,
        /// For so long.
        #[prost(uint64, tag = "6")]
        pub throttled_usec: u64,
    }

    /// Bytes, and counts.
    #[derive(Clone, PartialEq, Message)]
    pub struct Memory {
        /// Anonymous.
        #[prost(uint64, tag = "1")]
        pub anon: u64,
        /// Page cache.
        #[prost(uint64, tag = "2")]
        pub file: u64,
        /// Of the kernel.
        #[prost(uint64, tag = "3")]
        pub kernel_stack: u64,
        /// Of the kernel.
        #[prost(uint64, tag = "4")]
        pub slab: u64,
        /// Shared.
        #[prost(uint64, tag = "6")]
        pub shmem: u64,
        /// Files mapped.
        #[prost(uint64, tag = "7")]
        pub file_mapped: u64,
        /// Lists of pages.
        #[prost(uint64, tag = "11")]
        pub inactive_anon: u64,
        /// Lists of pages.
        #[prost(uint64, tag = "12")]
        pub active_anon: u64,
        /// What a working set is without.
        #[prost(uint64, tag = "13")]
        pub inactive_file: u64,
        /// Lists of pages.
        #[prost(uint64, tag = "14")]
        pub active_file: u64,
        /// Faults.
        #[prost(uint64, tag = "18")]
        pub pgfault: u64,
        /// Faults that read.
        #[prost(uint64, tag = "19")]
        pub pgmajfault: u64,
        /// Now.
        #[prost(uint64, tag = "32")]
        pub usage: u64,
        /// At most.
        #[prost(uint64, tag = "33")]
        pub usage_limit: u64,
        /// Now.
        #[prost(uint64, tag = "34")]
        pub swap_usage: u64,
        /// At most.
        #[prost(uint64, tag = "35")]
        pub swap_limit: u64,
    }

    /// How often.
    #[derive(Clone, PartialEq, Message)]
    pub struct Events {
        /// Reclaimed though below `memory.low`.
        #[prost(uint64, tag = "1")]
        pub low: u64,
        /// Above `memory.high`.
        #[prost(uint64, tag = "2")]
        pub high: u64,
        /// At the limit.
        #[prost(uint64, tag = "3")]
        pub max: u64,
        /// Out of memory.
        #[prost(uint64, tag = "4")]
        pub oom: u64,
        /// Killed for it.
        #[prost(uint64, tag = "5")]
        pub oom_kill: u64,
    }
}
