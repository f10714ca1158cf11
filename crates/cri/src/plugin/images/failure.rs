//! Why a pull failed, as the kubelet tells its users.

use oci_image::pull;
use oci_image::registry::client;
use oci_image::store;

use crate::contract::{Code, Error};

/// With this in front, the kubelet gives the pod's container the waiting reason `RegistryUnavailable`.
const UNAVAILABLE: &str = "RegistryUnavailable: ";

/// What `image` could not be pulled for.
pub(super) fn of_pull(image: &str, error: &pull::Error) -> Error {
    let code = match error {
        pull::Error::Resolve(source) | pull::Error::Download { source, .. } => of_source(source),
        pull::Error::Stalled { .. } => Code::Unavailable,
        pull::Error::Platform { .. } => Code::NotFound,
        pull::Error::MediaType { .. } => Code::FailedPrecondition,
        pull::Error::Mismatch { .. }
        | pull::Error::Size { .. }
        | pull::Error::Document { .. }
        | pull::Error::Count { .. }
        | pull::Error::DiffId { .. }
        | pull::Error::Unpack { .. } => Code::DataLoss,
        pull::Error::Keep { source, .. } => of_disk(source),
        pull::Error::Store(store::Error::Io { source, .. }) => of_disk(source),
        pull::Error::Store(_) | pull::Error::Thread(_) => Code::Internal,
        pull::Error::Cancelled => Code::Cancelled,
    };
    told(image, code, error)
}

/// What the registry of `image` could not be asked for.
pub(super) fn of_registry(image: &str, error: &client::Error) -> Error {
    told(image, of_client(error), error)
}

fn told(image: &str, code: Code, error: &dyn std::error::Error) -> Error {
    let prefix = if code == Code::Unavailable { UNAVAILABLE } else { "" };
    Error::new(code, format!("{prefix}cannot pull image {image:?}: {error}"))
}

fn of_disk(error: &std::io::Error) -> Code {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Code::ResourceExhausted,
        _ => Code::Internal,
    }
}

fn of_source(error: &pull::SourceError) -> Code {
    match error.source.downcast_ref::<client::Error>() {
        Some(error) => of_client(error),
        // What is no answer of a registry is a connection that was cut.
        None => Code::Unavailable,
    }
}

fn of_client(error: &client::Error) -> Code {
    match error {
        client::Error::Unreachable { .. } | client::Error::Body { .. } => Code::Unavailable,
        client::Error::Refused { status, .. } => of_status(*status),
        client::Error::Token { transient, .. } if *transient => Code::Unavailable,
        client::Error::Token { .. } => Code::Unauthenticated,
        client::Error::Digest { .. } | client::Error::TooLarge { .. } => Code::DataLoss,
        client::Error::Answer { .. } => Code::Unknown,
        // The registry itself is asked last, and what it says counts for more than what a mirror has not.
        client::Error::Everywhere { failures, .. } => {
            failures.last().map_or(Code::Unknown, |(_, error)| of_client(error))
        }
        client::Error::Hosts(_) | client::Error::Credentials(_) | client::Error::NoEndpoint { .. } => {
            Code::FailedPrecondition
        }
        client::Error::Local { .. } => Code::Internal,
    }
}

fn of_status(status: u16) -> Code {
    match status {
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 | 410 => Code::NotFound,
        408 | 429 | 500..=599 => Code::Unavailable,
        _ => Code::Unknown,
    }
}
