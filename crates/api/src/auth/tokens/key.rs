//! JSON web tokens signed with ECDSA on P-256 (`ES256`, RFC 7518).

use std::path::Path;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::super::authority::{Error, read, replace};

/// Tokens are about 1 KiB; longer ones are not looked at.
const TOKEN_MAX: usize = 16 * 1024;

/// The key of one server.
pub(super) struct Key {
    pair: EcdsaKeyPair,
    id: String,
}

impl Key {
    /// The key in the file, made where there is none.
    pub(super) fn open(path: &Path) -> Result<Key, Error> {
        let unusable = |cause: String| Error::Unusable {
            path: path.to_owned(),
            folder: path.parent().unwrap_or(path).to_owned(),
            cause,
        };
        let pair = if path.exists() {
            rcgen::KeyPair::from_pem(&read(path)?).map_err(|e| unusable(e.to_string()))?
        } else {
            let made = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
                .map_err(|e| unusable(e.to_string()))?;
            replace(path, made.serialize_pem().as_bytes(), 0o600)?;
            made
        };
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pair.serialized_der())
            .map_err(|e| unusable(e.to_string()))?;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, pair.public_key().as_ref());
        let id = URL_SAFE_NO_PAD.encode(digest.as_ref());
        Ok(Key { pair, id })
    }

    /// A token of these claims.
    pub(super) fn sign(&self, claims: &Value) -> Option<String> {
        let head = json!({"alg": "ES256", "kid": self.id}).to_string();
        let mut token = URL_SAFE_NO_PAD.encode(head);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims.to_string(), &mut token);
        let signature = self.pair.sign(&SystemRandom::new(), token.as_bytes()).ok()?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature.as_ref(), &mut token);
        Some(token)
    }

    /// The claims of a token that this key has signed.
    pub(super) fn verify(&self, token: &str) -> Option<Value> {
        if token.len() > TOKEN_MAX {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (head, claims) = signed.split_once('.')?;
        let head: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(head).ok()?).ok()?;
        if head.get("alg")? != "ES256" || head.get("kid")?.as_str()? != self.id {
            return None;
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key().as_ref())
            .verify(signed.as_bytes(), &signature)
            .ok()?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
    }

    /// The public key as others read it (RFC 7517).
    pub(super) fn public(&self) -> Value {
        // Uncompressed: 4, then both coordinates.
        let point = self.pair.public_key().as_ref();
        let (x, y) = point.get(1..).unwrap_or_default().split_at(point.len().saturating_sub(1) / 2);
        json!({
            "use": "sig",
            "kty": "EC",
            "kid": self.id,
            "alg": "ES256",
            "crv": "P-256",
            "x": URL_SAFE_NO_PAD.encode(x),
            "y": URL_SAFE_NO_PAD.encode(y),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_this_key_signed_is_verified() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("service-account.key");
        let key = Key::open(&path).unwrap();
        let claims = json!({"sub": "x"});
        let token = key.sign(&claims).unwrap();
        assert_eq!(Key::open(&path).unwrap().verify(&token), Some(claims));
        let other = Key::open(&dir.path().join("other.key")).unwrap();
        assert_eq!(other.verify(&token), None);
        let (signed, _) = token.rsplit_once('.').unwrap();
        let (head, _) = signed.split_once('.').unwrap();
        let forged = URL_SAFE_NO_PAD.encode("{\"sub\":\"y\"}");
        let signature = token.rsplit('.').next().unwrap();
        assert_eq!(key.verify(&format!("{head}.{forged}.{signature}")), None);
        let none = URL_SAFE_NO_PAD.encode("{\"alg\":\"none\"}");
        for wrong in [format!("{none}.{forged}."), String::new(), "a.b.c".to_owned(), ".".repeat(20_000)] {
            assert_eq!(key.verify(&wrong), None, "{wrong}");
        }
    }
}
