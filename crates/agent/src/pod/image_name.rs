//! Whether an image's name is one: no runtime need be asked about what none can have.

/// What is wrong with a name, in the words that a kubelet has for it.
pub(super) fn fault(image: &str) -> Option<String> {
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    let path_at = name.rfind('/').map_or(0, |at| at + 1);
    let (name, tag) = match name[path_at..].split_once(':') {
        Some((last, tag)) => (&name[..path_at + last.len()], Some(tag)),
        None => (name, None),
    };
    let is_upper = |text: &str| text.contains(|letter: char| letter.is_ascii_uppercase());
    // What comes first is a host where it can be nothing else.
    let (host, path) = match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" || is_upper(host) => {
            (Some(host), path)
        }
        _ => (None, name),
    };
    if is_upper(path) {
        return Some(format!("invalid reference format: repository name ({path}) must be lowercase"));
    }
    let is_host = |host: &str| {
        let (name, port) = host.rsplit_once(':').unwrap_or((host, "0"));
        let is_name = |part: &str| {
            !part.is_empty() && part.chars().all(|one| one.is_ascii_alphanumeric() || one == '-')
        };
        let is_number = |text: &str| !text.is_empty() && text.chars().all(|one| one.is_ascii_digit());
        is_number(port) && (name.starts_with('[') && name.ends_with(']') || name.split('.').all(is_name))
    };
    let is_tag = |tag: &str| {
        let is_of = |one: char| one.is_ascii_alphanumeric() || matches!(one, '_' | '.' | '-');
        (1..=128).contains(&tag.len()) && tag.chars().all(is_of) && !tag.starts_with(['.', '-'])
    };
    let is_digest = |digest: &str| {
        let parts = digest.split_once(':');
        parts.is_some_and(|(algorithm, hex)| {
            !algorithm.is_empty() && hex.len() >= 32 && hex.chars().all(|one| one.is_ascii_hexdigit())
        })
    };
    let is_right = host.is_none_or(is_host)
        && path.split('/').all(is_component)
        && tag.is_none_or(is_tag)
        && digest.is_none_or(is_digest);
    (!is_right).then(|| "invalid reference format".into())
}

/// Small letters and digits, with a dot, one or two underscores or any dashes between them.
fn is_component(part: &str) -> bool {
    let is_plain = |one: char| one.is_ascii_lowercase() || one.is_ascii_digit();
    let is_right = part.chars().all(|one| is_plain(one) || matches!(one, '.' | '_' | '-'));
    let mut between = part.split(is_plain).filter(|text| !text.is_empty());
    let is_between = |text: &str| matches!(text, "." | "_" | "__") || text.chars().all(|one| one == '-');
    is_right && part.starts_with(is_plain) && part.ends_with(is_plain) && between.all(is_between)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules_of_references() {
        let digest = format!("a@sha256:{}", "0a".repeat(32));
        let right = [
            "a",
            "a:1",
            "h:5000/a/b",
            "h.example/a__b:Tag.1",
            "localhost/a--b",
            "127.0.0.1:1/none:1",
            &digest,
        ];
        for name in right {
            assert_eq!(fault(name), None, "{name}");
        }
        let plain = "invalid reference format";
        for name in ["", "a b", "a:", ":1", "a/", "-a", "a..b", "a@sha256:0", "http://h/a", "a:.1", "h:x/a"] {
            assert_eq!(fault(name).as_deref(), Some(plain), "{name}");
        }
        let upper = "invalid reference format: repository name (Web) must be lowercase";
        assert_eq!(fault("Library/Web:1").as_deref(), Some(upper));
        assert_eq!(fault("Web").as_deref(), Some(upper));
    }
}
