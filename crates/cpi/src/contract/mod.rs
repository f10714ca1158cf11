//! What a cloud provider is: [`CloudProvider`], Kubernetes' `cloudprovider.Interface`, and its wire.
//!
//! A provider implements [`CloudProvider`] and those of [`Instances`], [`LoadBalancers`], [`Routes`] and [`Clusters`] that it has.
//! Kubernetes' older `Instances` and `Zones` are not here: [`Instances`] is `InstancesV2`, and has both.

mod cidr;
mod error;
mod id;
mod provider;
mod services;
#[allow(missing_docs, reason = "the words of the .proto file are what there is")]
pub mod v1;
mod validate;
pub(crate) mod wire;

pub use cidr::Cidr;
pub use error::Error;
pub use id::ProviderId;
pub use k8s_openapi::api::core::v1::{LoadBalancerIngress, LoadBalancerStatus, Node, NodeAddress, Service};
pub use provider::{
    Answer, CloudProvider, Clusters, InstanceMetadata, Instances, LoadBalancers, Route, Routes, Services,
};
pub use services::{SourceRangesError, health_check, load_balancer_name, source_ranges};
pub use validate::Validate;
