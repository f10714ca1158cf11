//! Messages that must not be printed whole.

use std::fmt;

use super::v1::AuthConfig;

impl fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |secret: &str| if secret.is_empty() { "" } else { "(hidden)" };
        f.debug_struct("AuthConfig")
            .field("username", &self.username)
            .field("password", &hidden(&self.password))
            .field("auth", &hidden(&self.auth))
            .field("server_address", &self.server_address)
            .field("identity_token", &hidden(&self.identity_token))
            .field("registry_token", &hidden(&self.registry_token))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::v1::PullImageRequest;

    #[test]
    fn secrets_are_not_printed() {
        let secret = || "hunter2".to_owned();
        let auth = AuthConfig {
            username: "me".into(),
            password: secret(),
            auth: secret(),
            server_address: "registry".into(),
            identity_token: secret(),
            registry_token: secret(),
        };
        let printed = format!("{:?}", PullImageRequest { auth: Some(auth), ..PullImageRequest::default() });
        assert!(printed.contains("me") && printed.contains("registry"), "{printed}");
        assert!(!printed.contains("hunter2"), "{printed}");
    }
}
