//! The one user a registry may ask for.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, HeaderMap};

use super::Shared;
use super::reply::{Code, Failure};

pub(super) fn check(shared: &Shared, headers: &HeaderMap) -> Result<(), Failure> {
    let Some((user, password)) = &shared.user else { return Ok(()) };
    let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"));
    let decoded = given.and_then(|(_, encoded)| STANDARD.decode(encoded.trim()).ok()).unwrap_or_default();
    let wanted = format!("{user}:{password}");
    verify_slices_are_equal(&decoded, wanted.as_bytes()).map_err(|_| {
        let failure =
            Failure::new(StatusCode::UNAUTHORIZED, Code::Unauthorized, "user and password are needed");
        failure.with("www-authenticate", "Basic realm=\"sextant registry\"")
    })
}
