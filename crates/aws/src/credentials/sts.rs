//! Roles that are taken on, by a token or by who may.

use std::path::Path;
use std::time::Duration;

use super::{Credentials, filled};
use crate::api::exchange::Outcome;
use crate::api::{Call, Exchange, Failed, Form, pause, xml};
use crate::config::Service;

/// A token is no longer than this, in bytes.
const LONGEST: usize = 20_000;
const PATIENCE: Duration = Duration::from_secs(10);
const TRIES: u32 = 3;

pub(super) async fn by_token(
    exchange: &Exchange,
    region: &str,
    role: &str,
    file: &Path,
    session: &str,
) -> Result<Credentials, String> {
    // It is replaced from time to time.
    let token = tokio::fs::read_to_string(file).await;
    let token = token.map_err(|e| format!("cannot read {}: {e}", file.display()))?;
    let token = token.trim();
    if token.is_empty() || token.len() > LONGEST {
        return Err(format!("{} has {} bytes, which is no token", file.display(), token.len()));
    }
    let form =
        Form::new().with("RoleArn", role).with("RoleSessionName", session).with("WebIdentityToken", token);
    taken(exchange, region, "AssumeRoleWithWebIdentity", form, None).await
}

pub(super) async fn by_others(
    exchange: &Exchange,
    region: &str,
    role: &str,
    external_id: Option<&str>,
    session: &str,
    base: &Credentials,
) -> Result<Credentials, String> {
    let mut form = Form::new().with("RoleArn", role).with("RoleSessionName", session);
    if let Some(id) = external_id {
        form = form.with("ExternalId", id);
    }
    taken(exchange, region, "AssumeRole", form, Some(base)).await
}

async fn taken(
    exchange: &Exchange,
    region: &str,
    action: &str,
    form: Form,
    base: Option<&Credentials>,
) -> Result<Credentials, String> {
    let call = Call { service: Service::Sts, action, form: &form };
    let mut why = String::new();
    for tried in 0..TRIES {
        if tried > 0 {
            tokio::time::sleep(pause(tried)).await;
        }
        match exchange.send(call, region, base, PATIENCE).await? {
            Outcome::Answered(text) => return role(&text, action),
            Outcome::Refused(refusal, status, _) => {
                why = Failed::refused(&call.right(), &refusal, status, "who takes on the role").to_string();
                if status < 500 && status != 429 {
                    break;
                }
            }
            Outcome::Lost(lost) => why = lost,
        }
    }
    Err(why)
}

/// Reads the credentials of a role.
pub(crate) fn role(text: &str, action: &str) -> Result<Credentials, String> {
    xml::read(text, |root| {
        let told = root.child(&format!("{action}Result")).child("Credentials");
        let token = told.text("SessionToken");
        let expires = told.text("Expiration");
        filled(&told.text("AccessKeyId"), &told.text("SecretAccessKey"), Some(&token), Some(&expires))
    })
    // The text has secrets in it: where it is wrong is not told.
    .map_err(|_| format!("the answer to sts:{action} is no XML"))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_read() {
        let text = "<AssumeRoleResponse xmlns=\"q\"><AssumeRoleResult><Credentials><AccessKeyId>A</AccessKeyId>\
                    <SecretAccessKey>S</SecretAccessKey><SessionToken>T</SessionToken><Expiration>2030-01-01T00:00:00.123Z</Expiration>\
                    </Credentials></AssumeRoleResult></AssumeRoleResponse>";
        let found = role(text, "AssumeRole").unwrap();
        assert_eq!((found.access_key.as_str(), found.token.as_deref()), ("A", Some("T")));
        assert!(found.expires.is_some());
        assert!(role("<a/>", "AssumeRole").is_err());
        assert_eq!(role("hush", "AssumeRole").unwrap_err(), "the answer to sts:AssumeRole is no XML");
    }
}
