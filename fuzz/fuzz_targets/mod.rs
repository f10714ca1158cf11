//! The targets, each a function `run` of bytes or of text in a file of its own, and seeds in `fuzz/seeds`.

/// What a target does with an input.
pub type Run = fn(&[u8]);

/// An input as a target takes it.
trait Input<'a> {
    fn of(bytes: &'a [u8]) -> Self;
}

impl<'a> Input<'a> for &'a [u8] {
    fn of(bytes: &'a [u8]) -> Self {
        bytes
    }
}

/// As much as is text.
impl<'a> Input<'a> for &'a str {
    fn of(bytes: &'a [u8]) -> Self {
        bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid())
    }
}

/// Each target's module, and all of them by name.
macro_rules! targets {
    ($($name:ident,)*) => {
        $(mod $name;)*
        pub const TARGETS: &[(&str, Run)] = &[$((stringify!($name), |bytes| $name::run(Input::of(bytes)))),*];
    };
}

targets! {
    announce_packets,
    api_cel,
    api_crd,
    api_cron,
    api_decode_json,
    api_decode_yaml,
    api_json_patch,
    api_kinds,
    api_list,
    api_patches,
    api_protobuf,
    api_quantity,
    api_request,
    api_selector,
    archive,
    aws_answers,
    cdi,
    cni_cache,
    cni_call,
    cni_conf,
    cni_dhcp,
    cni_leases,
    cni_result,
    cni_sandbox,
    command_line,
    cpi_provider,
    credentials,
    cri_request,
    csi_config,
    csi_quantity,
    csi_records,
    csi_request,
    csi_secrets,
    dbus_message,
    dns_message,
    dns_request,
    grpc_authority,
    grpc_wire,
    hosts_toml,
    layer,
    locate,
    manifest,
    mesh_body,
    mesh_csr,
    mesh_h2_frames,
    mesh_hpack,
    mesh_identity,
    mesh_metrics,
    mesh_records,
    mesh_request,
    mesh_response,
    mesh_update,
    metal_config,
    netlink,
    nri_wire,
    oci_spec,
    planted,
    reference,
    registry_answers,
    registry_requests,
    resolver_files,
    seccomp,
    seccomp_profile,
    shim_frames,
    shim_told,
    smi_delta,
    smi_objects,
    spdy_frames,
    tar,
    websocket_frames,
    www_authenticate,
}
