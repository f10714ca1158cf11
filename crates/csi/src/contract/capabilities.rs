//! Capabilities as they are put together, without the three messages that each is wrapped in.

use super::v1::{
    ControllerServiceCapability, GroupControllerServiceCapability, NodeServiceCapability, PluginCapability,
    controller_service_capability as controller, group_controller_service_capability as group,
    node_service_capability as node, plugin_capability as plugin,
};

impl PluginCapability {
    /// A service that the driver has.
    #[must_use]
    pub fn service(kind: plugin::service::Type) -> Self {
        Self { r#type: Some(plugin::Type::Service(plugin::Service { r#type: kind.into() })) }
    }

    /// How volumes are expanded.
    #[must_use]
    pub fn expansion(kind: plugin::volume_expansion::Type) -> Self {
        Self { r#type: Some(plugin::Type::VolumeExpansion(plugin::VolumeExpansion { r#type: kind.into() })) }
    }
}

macro_rules! of_a_call {
    ($($capability:ident in $service:ident)*) => {
        $(impl $capability {
            /// A call that the service has.
            #[must_use]
            pub fn of(call: $service::rpc::Type) -> Self {
                Self { r#type: Some($service::Type::Rpc($service::Rpc { r#type: call.into() })) }
            }
        })*
    };
}

of_a_call! {
    ControllerServiceCapability in controller
    GroupControllerServiceCapability in group
    NodeServiceCapability in node
}
