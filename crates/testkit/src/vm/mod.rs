//! Virtual machines: Debian's cloud kernel in QEMU, on an initramfs ([`Initramfs`]) or a disk ([`rootfs`]) of our
//! making, heard over the serial line ([`Guest`]).
//!
//! What the guest says on the serial line is all that comes back: a line `sextant-vm: status N` is its exit status.

mod cpio;
mod guest;
mod initramfs;
mod kernel;
mod modules;
pub mod rootfs;

pub(crate) use guest::status;
pub use guest::{Acceleration, Disk, Guest, Running};
pub use initramfs::Initramfs;
pub use kernel::Kernel;

/// The modules that Sextant's tests use, beyond what autoloading would find (there is none in an initramfs).
pub const MODULES: &[&str] = &[
    "virtio_blk",
    "virtio_net",
    "overlay",
    "loop",
    "erofs",
    "ext4",
    "xfs",
    "quota_v2",
    "btrfs",
    "cts",
    "xts",
    "dm_mod",
    "dm_thin_pool",
    "dm_crypt",
    "veth",
    "bridge",
    "dummy",
    "vrf",
    "8021q",
    "macvlan",
    "ipvlan",
    "vxlan",
    "ifb",
    "tun",
    "nf_tables",
    "nft_chain_nat",
    "nft_ct",
    "nft_meta_bridge",
    "nft_nat",
    "nft_masq",
    "nft_redir",
    "nft_reject_inet",
    "nft_fib_inet",
    "nft_limit",
    "nft_numgen",
    "nft_hash",
    "nft_log",
    "nf_conntrack_netlink",
    "br_netfilter",
    "sch_tbf",
    "sch_ingress",
    "cls_u32",
    "cls_matchall",
    "act_mirred",
];
