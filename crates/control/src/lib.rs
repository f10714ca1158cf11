//! Controllers: they bring about what Kubernetes objects ask for, against any API server.
//!
//! What the Go sidecars do for one driver each (external provisioner, attacher, resizer, snapshotter, health monitor), [`csi`] does
//! for every driver in one process. It speaks to a driver through the contract alone, and to the API server as any client.
//!
//! What kube-scheduler and kube-controller-manager do for pods, [`workloads`] does where they are not. What a cloud controller manager
//! does with its one cloud, [`cloud`] does with any provider. [`mesh`] follows what a service mesh goes by, and has it
//! compiled.
//!
//! A controller here is level-triggered, over the caches and queues of [`client`]. Whatever it did is told by objects (finalizers,
//! annotations, status), so that it may end at any moment and go on.
//!
//! It never: writes a whole object it has read (fields that it does not know would be lost: it patches), keeps state of its own, or
//! calls a driver before what the call may leave behind is written down.

pub mod cloud;
pub mod csi;
pub mod mesh;
pub mod workloads;
