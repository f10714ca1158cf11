//! Redirects are followed by us, so that credentials stay with the host they are for.

use ureq::http::Uri;

use super::call::Reply;

pub(super) const HOPS_MAX: usize = 10;

/// Scheme, host and port of a URL; what must be equal for credentials to be sent along.
pub(super) fn origin(url: &str) -> Option<(String, String, u16)> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str()?.to_owned();
    let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    Some((scheme, uri.host()?.to_ascii_lowercase(), port))
}

/// Where a reply points to, if it is a redirect; an error for one that cannot be followed.
pub(super) fn location(reply: &Reply) -> Option<Result<String, String>> {
    if !matches!(reply.response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let Some(location) = reply.header("location") else {
        return Some(Err("a redirect without Location".to_owned()));
    };
    Some(resolve(&reply.url, location).ok_or_else(|| format!("cannot follow a redirect to {location:?}")))
}

/// A `Location` against the URL it came from (RFC 3986, 5.2, as far as registries use it).
pub(super) fn resolve(base: &str, location: &str) -> Option<String> {
    let base: Uri = base.parse().ok()?;
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    let location = location.split('#').next().unwrap_or_default();
    let whole = if location.starts_with("http://") || location.starts_with("https://") {
        location.to_owned()
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.contains("://") {
        return None;
    } else {
        let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    let uri: Uri = whole.parse().ok()?;
    // Credentials inside a URL are nobody's friend.
    (uri.host().is_some() && !uri.authority()?.as_str().contains('@')).then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolves_and_compares() {
        let base = "https://r.example:5000/v2/a/blobs/uploads/";
        for (location, expected) in [
            ("https://s3.example/x?sig=1", Some("https://s3.example/x?sig=1")),
            ("//s3.example/x", Some("https://s3.example/x")),
            ("/v2/b?_state=1", Some("https://r.example:5000/v2/b?_state=1")),
            ("uuid#f", Some("https://r.example:5000/v2/a/blobs/uploads/uuid")),
            ("ftp://x/y", None),
            ("https://u:p@x/y", None),
            ("https:///y", None),
        ] {
            assert_eq!(resolve(base, location).as_deref(), expected, "{location}");
        }
        assert_eq!(origin("https://R.example/x"), origin("https://r.example:443/"));
        assert_ne!(origin("https://r.example/x"), origin("http://r.example:443/"));
    }
}
