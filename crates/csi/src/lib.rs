//! CSI, the contract between Kubernetes and storage.
//!
//! [`contract`] has the messages of CSI 1.12 and what a request must satisfy. [`caller`] calls any driver. [`plugin`] is a
//! driver of our own for volumes of this machine, over a socket as any other ([docs/csi.md]).
//!
//! [docs/csi.md]: ../../../docs/csi.md
//!
//! **What it never does**: the driver knows no Kubernetes object; it runs no programs but `mkfs`, `fsck` and `resize2fs`; it removes nothing that
//! it did not make.
//!
//! Invariants: a volume or snapshot exists when its record does, in its pool beside its data; an acknowledged change is
//! durable; what a killed driver has half done is taken away, or done, by the next.

pub mod caller;
pub mod contract;
pub mod plugin;
