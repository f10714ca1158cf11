//! `sextant control --workloads` with `sextant api`, as they run on a machine: pods are made, scheduled, replaced and counted as
//! Kubernetes does it. There is no node: the test does a kubelet's part ([`hand::Kubelet`]).
#![allow(clippy::unwrap_used, reason = "a test")]

mod batch;
mod hand;
mod nodes;
#[path = "../control/rig.rs"]
mod rig;
mod rollout;
mod scale;
mod schedule;
mod sets;
