//! Tokens of service accounts: bound to their account and to what they were asked for, signed by this server.

mod key;
mod request;
pub(crate) mod secrets;
mod verify;

use std::path::Path;

use serde_json::{Map, Value, json};

use super::authority::Error;
use crate::resource::Asker;
use crate::store::Store;
use key::Key;

/// Signs and verifies.
pub struct Tokens {
    key: Key,
    issuer: String,
    audiences: Vec<String>,
    /// Not the registry, which holds this: the two would keep each other for ever.
    store: Store,
}

/// What a token was good for.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Whom it stands for.
    pub asker: Asker,
    /// Those of the audiences asked for that it is meant for.
    pub audiences: Vec<String>,
}

/// To what a token is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// `Pod`, `Secret` or `Node`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// The account of a token, and how it is bound.
pub(crate) struct Grant<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) account: &'a str,
    pub(crate) uid: &'a str,
    pub(crate) audiences: &'a [String],
    pub(crate) bound: Option<&'a Bound>,
    /// Of a token bound to a pod: the node on which it runs.
    pub(crate) node: Option<&'a Bound>,
    pub(crate) seconds: i64,
}

impl Tokens {
    /// Tokens signed with the key in `folder`, which is made if it is not there. `issuer` is an address that only names
    /// this server: nobody calls it.
    ///
    /// # Errors
    /// A key that cannot be read or written.
    pub fn open(folder: &Path, issuer: &str, store: Store) -> Result<Tokens, Error> {
        let key = Key::open(&folder.join("service-account.key"))?;
        Ok(Tokens { key, issuer: issuer.to_owned(), audiences: vec![issuer.to_owned()], store })
    }

    /// What `/.well-known/openid-configuration` answers.
    pub(crate) fn configuration(&self) -> Value {
        json!({
            "issuer": self.issuer,
            "jwks_uri": format!("{}/openid/v1/jwks", self.issuer.trim_end_matches('/')),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    /// What `/openid/v1/jwks` answers.
    pub(crate) fn keys(&self) -> Value {
        json!({"keys": [self.key.public()]})
    }

    /// A token, and the second at which it ends.
    pub(crate) fn issue(&self, grant: &Grant<'_>) -> Option<(String, i64)> {
        let now = jiff::Timestamp::now().as_second();
        let end = now + grant.seconds;
        let mut private = Map::new();
        private.insert("namespace".to_owned(), grant.namespace.into());
        if let Some(node) = grant.node {
            private.insert("node".to_owned(), json!({"name": node.name, "uid": node.uid}));
        }
        if let Some(bound) = grant.bound {
            let told = json!({"name": bound.name, "uid": bound.uid});
            private.insert(bound.kind.to_ascii_lowercase(), told);
        }
        private.insert("serviceaccount".to_owned(), json!({"name": grant.account, "uid": grant.uid}));
        let claims = json!({
            "aud": grant.audiences,
            "exp": end,
            "iat": now,
            "iss": self.issuer,
            "jti": crate::registry::uid(),
            "kubernetes.io": private,
            "nbf": now,
            "sub": format!("system:serviceaccount:{}:{}", grant.namespace, grant.account),
        });
        Some((self.key.sign(&claims)?, end))
    }

    /// A token without an end, for a secret of type `kubernetes.io/service-account-token`: good while the secret is.
    pub(crate) fn issue_for_secret(
        &self,
        namespace: &str,
        secret: &str,
        account: &str,
        uid: &str,
    ) -> Option<String> {
        self.key.sign(&json!({
            "iss": verify::LEGACY,
            "kubernetes.io/serviceaccount/namespace": namespace,
            "kubernetes.io/serviceaccount/secret.name": secret,
            "kubernetes.io/serviceaccount/service-account.name": account,
            "kubernetes.io/serviceaccount/service-account.uid": uid,
            "sub": format!("system:serviceaccount:{namespace}:{account}"),
        }))
    }
}
