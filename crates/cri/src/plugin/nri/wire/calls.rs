//! What is asked and answered.
#![expect(missing_docs, reason = "the words are the runtime specification's, and CRI's")]

use prost::Message;

use super::{
    Container, ContainerAdjustment, ContainerEviction, ContainerUpdate, Event, LinuxResources, OwningPlugins,
    PodSandbox,
};

/// A plugin says who it is.
#[derive(Clone, PartialEq, Message)]
pub struct RegisterPluginRequest {
    #[prost(string, tag = "1")]
    pub plugin_name: String,
    #[prost(string, tag = "2")]
    pub plugin_idx: String,
    #[prost(string, tag = "3")]
    pub nri_version: String,
}

/// The node says who it is; timeouts in milliseconds.
#[derive(Clone, PartialEq, Message)]
pub struct ConfigureRequest {
    #[prost(string, tag = "1")]
    pub config: String,
    #[prost(string, tag = "2")]
    pub runtime_name: String,
    #[prost(string, tag = "3")]
    pub runtime_version: String,
    #[prost(int64, tag = "4")]
    pub registration_timeout: i64,
    #[prost(int64, tag = "5")]
    pub request_timeout: i64,
    #[prost(string, tag = "6")]
    pub nri_version: String,
}

/// The events that a plugin wants: bit N-1 for event N; 0 for all.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct ConfigureResponse {
    #[prost(int32, tag = "2")]
    pub events: i32,
}

/// All there is, in one message or in several.
#[derive(Clone, PartialEq, Message)]
pub struct SynchronizeRequest {
    #[prost(message, repeated, tag = "1")]
    pub pods: Vec<PodSandbox>,
    #[prost(message, repeated, tag = "2")]
    pub containers: Vec<Container>,
    #[prost(bool, tag = "3")]
    pub more: bool,
}

/// What a plugin wants changed in it.
#[derive(Clone, PartialEq, Message)]
pub struct SynchronizeResponse {
    #[prost(message, repeated, tag = "1")]
    pub update: Vec<ContainerUpdate>,
    #[prost(bool, tag = "2")]
    pub more: bool,
}

/// Something happens to a pod.
#[derive(Clone, PartialEq, Message)]
pub struct PodEvent {
    #[prost(message, optional, tag = "1")]
    pub pod: Option<PodSandbox>,
}

/// A pod's limits change.
#[derive(Clone, PartialEq, Message)]
pub struct UpdatePodSandboxRequest {
    #[prost(message, optional, tag = "1")]
    pub pod: Option<PodSandbox>,
    #[prost(message, optional, tag = "2")]
    pub overhead_linux_resources: Option<LinuxResources>,
    #[prost(message, optional, tag = "3")]
    pub linux_resources: Option<LinuxResources>,
}

/// Something happens to a container.
#[derive(Clone, PartialEq, Message)]
pub struct ContainerEvent {
    #[prost(message, optional, tag = "1")]
    pub pod: Option<PodSandbox>,
    #[prost(message, optional, tag = "2")]
    pub container: Option<Container>,
}

/// What a plugin wants changed because a container is created.
#[derive(Clone, PartialEq, Message)]
pub struct CreateContainerResponse {
    #[prost(message, optional, tag = "1")]
    pub adjust: Option<ContainerAdjustment>,
    #[prost(message, repeated, tag = "2")]
    pub update: Vec<ContainerUpdate>,
    #[prost(message, repeated, tag = "3")]
    pub evict: Vec<ContainerEviction>,
}

/// A container's limits change, to these.
#[derive(Clone, PartialEq, Message)]
pub struct UpdateContainerRequest {
    #[prost(message, optional, tag = "1")]
    pub pod: Option<PodSandbox>,
    #[prost(message, optional, tag = "2")]
    pub container: Option<Container>,
    #[prost(message, optional, tag = "3")]
    pub linux_resources: Option<LinuxResources>,
}

/// What a plugin wants changed because of it.
#[derive(Clone, PartialEq, Message)]
pub struct UpdateContainerResponse {
    #[prost(message, repeated, tag = "1")]
    pub update: Vec<ContainerUpdate>,
    #[prost(message, repeated, tag = "2")]
    pub evict: Vec<ContainerEviction>,
}

/// What a plugin wants changed because a container has ended.
#[derive(Clone, PartialEq, Message)]
pub struct StopContainerResponse {
    #[prost(message, repeated, tag = "1")]
    pub update: Vec<ContainerUpdate>,
}

/// How plugins before NRI 0.10 are told what asks nothing of them.
#[derive(Clone, PartialEq, Message)]
pub struct StateChangeEvent {
    #[prost(enumeration = "Event", tag = "1")]
    pub event: i32,
    #[prost(message, optional, tag = "2")]
    pub pod: Option<PodSandbox>,
    #[prost(message, optional, tag = "3")]
    pub container: Option<Container>,
}

/// What a plugin wants changed of its own accord.
#[derive(Clone, PartialEq, Message)]
pub struct UpdateContainersRequest {
    #[prost(message, repeated, tag = "1")]
    pub update: Vec<ContainerUpdate>,
    #[prost(message, repeated, tag = "2")]
    pub evict: Vec<ContainerEviction>,
}

/// What of it could not be done.
#[derive(Clone, PartialEq, Message)]
pub struct UpdateContainersResponse {
    #[prost(message, repeated, tag = "1")]
    pub failed: Vec<ContainerUpdate>,
}

/// A container that is being created, what all plugins want changed in it, and who wants what.
#[derive(Clone, PartialEq, Message)]
pub struct ValidateContainerAdjustmentRequest {
    #[prost(message, optional, tag = "1")]
    pub pod: Option<PodSandbox>,
    #[prost(message, optional, tag = "2")]
    pub container: Option<Container>,
    #[prost(message, optional, tag = "3")]
    pub adjust: Option<ContainerAdjustment>,
    #[prost(message, repeated, tag = "4")]
    pub update: Vec<ContainerUpdate>,
    #[prost(message, optional, tag = "5")]
    pub owners: Option<OwningPlugins>,
    #[prost(message, repeated, tag = "6")]
    pub plugins: Vec<PluginInstance>,
}

/// A plugin that was asked.
#[derive(Clone, PartialEq, Message)]
pub struct PluginInstance {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub index: String,
}

/// Whether it may be so.
#[derive(Clone, PartialEq, Message)]
pub struct ValidateContainerAdjustmentResponse {
    #[prost(bool, tag = "1")]
    pub reject: bool,
    #[prost(string, tag = "2")]
    pub reason: String,
}

/// Nothing to say.
#[derive(Clone, PartialEq, Message)]
pub struct Empty {}
