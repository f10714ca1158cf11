//! What every command here begins with: the client for a registry, and the image that is meant.

use std::sync::Arc;
use std::time::Duration;

use oci_image::reference::Reference;
use oci_image::registry::client::{Client, Config, Patience};
use oci_image::registry::credentials::Credential;
use oci_image::store::{Error, Image, Store};

use crate::failure::{Failure, Result};

/// A client as the environment configures it; `creds` is `USER:PASSWORD` and stands before what is stored.
pub(super) fn client(plain_http: bool, creds: Option<&str>) -> Result<Client> {
    with_patience(plain_http, creds, Patience::default())
}

/// One that gives up when nothing has come for so long. One try gets half of that, so that there is another.
pub(super) fn patient_client(plain_http: bool, creds: Option<&str>, give_up: Duration) -> Result<Client> {
    let usual = Patience::default();
    let [headers, stall] = [usual.headers, usual.stall].map(|time| time.min(give_up / 2));
    with_patience(plain_http, creds, Patience { give_up, headers, stall, ..usual })
}

fn with_patience(plain_http: bool, creds: Option<&str>, patience: Patience) -> Result<Client> {
    let warnings = |url: &str, text: &str| eprintln!("sextant: warning: {url}: {text}");
    let config = Config { plain_http, patience, warnings: Some(Arc::new(warnings)), ..Config::default() };
    let client = Client::new(config);
    let Some(creds) = creds else { return Ok(client) };
    let (username, password) = creds
        .split_once(':')
        .filter(|(username, _)| !username.is_empty())
        .ok_or_else(|| Failure::new("cannot use --creds: it takes USER:PASSWORD"))?;
    let credential = Credential::Basic { username: username.to_owned(), password: password.to_owned() };
    Ok(client.with_credential(credential))
}

/// The image that a person means, or how to get it.
pub(super) fn find(store: &Store, text: &str) -> Result<Image> {
    store.find(text).map_err(|error| match error {
        Error::NoImage(_) if Reference::parse(text).is_ok() => Failure::new(format!(
            "cannot find image {text:?}: get it with `sextant pull {text}`, or see `sextant images`"
        )),
        Error::NoImage(_) => {
            Failure::new(format!("cannot find image {text:?}: see `sextant images` for those that are here"))
        }
        other => other.into(),
    })
}

/// One failure of several, each on a line of its own.
pub(super) fn all(failures: Vec<Failure>) -> Result<()> {
    let text: Vec<String> = failures.iter().map(Failure::to_string).collect();
    match text.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(text.join("\nsextant: "))),
    }
}
