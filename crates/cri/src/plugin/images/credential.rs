//! Who a pull is: what AuthConfig says.

use oci_image::reference::Reference;
use oci_image::registry::credentials::{Credential, registry_of};

use crate::contract::Error;
use crate::contract::v1::AuthConfig;

/// The credential for the registry of `reference`; `None` if there is none for it.
pub(super) fn credential(
    auth: Option<&AuthConfig>,
    reference: &Reference,
) -> Result<Option<Credential>, Error> {
    let Some(auth) = auth else { return Ok(None) };
    if !auth.server_address.is_empty() && registry_of(&auth.server_address) != reference.registry() {
        return Ok(None);
    }
    if !auth.username.is_empty() {
        let (username, password) = (auth.username.clone(), auth.password.clone());
        return Ok(Some(Credential::Basic { username, password }));
    }
    if !auth.identity_token.is_empty() {
        return Ok(Some(Credential::Identity(auth.identity_token.clone())));
    }
    if !auth.registry_token.is_empty() {
        return Ok(Some(Credential::Bearer(auth.registry_token.clone())));
    }
    if auth.auth.is_empty() {
        return Ok(None);
    }
    let decoded = Credential::from_auth(&auth.auth);
    decoded.map(Some).ok_or_else(|| Error::invalid("auth.auth", "is not base64 of user:password"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(image: &str, auth: AuthConfig) -> Result<Option<Credential>, Error> {
        credential(Some(&auth), &Reference::parse(image).unwrap())
    }

    fn basic(username: &str, password: &str) -> Option<Credential> {
        Some(Credential::Basic { username: username.into(), password: password.into() })
    }

    #[test]
    fn each_kind_is_understood() {
        let auth = AuthConfig { username: "me".into(), password: "secret".into(), ..AuthConfig::default() };
        assert_eq!(of("busybox", auth).unwrap(), basic("me", "secret"));
        // me:se:cret
        let auth = AuthConfig { auth: "bWU6c2U6Y3JldA==".into(), ..AuthConfig::default() };
        assert_eq!(of("busybox", auth).unwrap(), basic("me", "se:cret"));
        let auth = AuthConfig { identity_token: "i".into(), auth: "?".into(), ..AuthConfig::default() };
        assert_eq!(of("busybox", auth).unwrap(), Some(Credential::Identity("i".into())));
        let auth = AuthConfig { registry_token: "r".into(), ..AuthConfig::default() };
        assert_eq!(of("busybox", auth).unwrap(), Some(Credential::Bearer("r".into())));
        assert_eq!(of("busybox", AuthConfig::default()).unwrap(), None);
        let error = of("busybox", AuthConfig { auth: "bWU=".into(), ..AuthConfig::default() }).unwrap_err();
        assert_eq!(error.field.as_deref(), Some("auth.auth"));
    }

    #[test]
    fn they_go_to_the_registry_they_are_for_alone() {
        let for_server = |server: &str| AuthConfig {
            username: "me".into(),
            server_address: server.into(),
            ..AuthConfig::default()
        };
        for (server, image, goes) in [
            ("https://index.docker.io/v1/", "busybox", true),
            ("https://index.docker.io/v1/", "quay.io/busybox", false),
            ("quay.io", "quay.io/x/busybox", true),
            ("https://quay.io/x", "quay.io/x/busybox", true),
            ("quay.io:5000", "quay.io/x/busybox", false),
            ("io", "quay.io/x/busybox", false),
            ("http://localhost:5000", "localhost:5000/busybox", true),
            ("", "quay.io/x/busybox", true),
        ] {
            assert_eq!(of(image, for_server(server)).unwrap().is_some(), goes, "{server} {image}");
        }
    }
}
