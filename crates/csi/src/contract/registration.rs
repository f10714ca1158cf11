//! How a plugin makes itself known to a kubelet: `pluginregistration.v1`, whose package has no version on the wire.

/// What a CSI driver gives as its [`type`](PluginInfo::type).
pub const CSI_PLUGIN: &str = "CSIPlugin";
/// The versions of CSI that drivers register with: the kubelet knows this one.
pub const VERSION: &str = "1.0.0";
/// The service's name.
pub const SERVICE: &str = "pluginregistration.Registration";

/// Whether a driver may be called so (spec, GetPluginInfo): 63 letters, digits, dashes and dots at most, a letter or a digit first and
/// last. Names of files are made of it.
#[must_use]
pub fn is_driver_name(name: &str) -> bool {
    let ends = |end: Option<&u8>| end.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    let is_one = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    bytes.len() <= 63 && ends(bytes.first()) && ends(bytes.last()) && bytes.iter().all(is_one)
}

/// Asks GetInfo.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct InfoRequest {}

/// Answers GetInfo: who the plugin is.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PluginInfo {
    /// What kind of plugin it is, [`CSI_PLUGIN`] for instance.
    #[prost(string, tag = "1")]
    pub r#type: String,
    /// Its name: the driver's.
    #[prost(string, tag = "2")]
    pub name: String,
    /// The socket that it serves on, as the kubelet sees it; none if it is the one that it registers with.
    #[prost(string, tag = "3")]
    pub endpoint: String,
    /// Versions of its interface.
    #[prost(string, repeated, tag = "4")]
    pub supported_versions: Vec<String>,
}

/// Asks NotifyRegistrationStatus: what came of it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RegistrationStatus {
    /// Whether the plugin is registered.
    #[prost(bool, tag = "1")]
    pub plugin_registered: bool,
    /// Why it is not.
    #[prost(string, tag = "2")]
    pub error: String,
}

/// Answers NotifyRegistrationStatus.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct RegistrationStatusResponse {}
