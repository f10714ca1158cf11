//! Names of images, as far as a default depends on them.

/// How long a name with its registry may be.
const NAME_MAX: usize = 255;

/// `Always` of the tag `latest`, which is also the one that is not told; else `IfNotPresent`, even where the name is none.
pub(super) fn pull_policy(image: &str) -> &'static str {
    if tag(image) == Some("latest") { "Always" } else { "IfNotPresent" }
}

/// The tag of an image: `latest` where neither tag nor digest is told. `None`: a digest alone, or no name of an image.
fn tag(image: &str) -> Option<&str> {
    let (rest, digest) = match image.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (image, None),
    };
    // A colon before the last slash is that of a port.
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    if !is_name(name) || !tag.is_none_or(is_tag) || !digest.is_none_or(is_digest) {
        return None;
    }
    match (tag, digest) {
        (None, None) => Some("latest"),
        (tag, _) => tag,
    }
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=128).contains(&tag.len())
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
}

fn is_digest(digest: &str) -> bool {
    digest.split_once(':').is_some_and(|(algorithm, hex)| {
        algorithm.starts_with(|first: char| first.is_ascii_alphabetic())
            && hex.len() >= 32
            && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

fn is_name(name: &str) -> bool {
    let (domain, path) = match name.split_once('/') {
        Some((first, rest)) if is_domain(first) => (Some(first), rest),
        _ => (None, name),
    };
    let hex = name.len() == 64 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let whole = match domain {
        Some(_) => name.len(),
        None if path.contains('/') => "docker.io/".len() + path.len(),
        None => "docker.io/library/".len() + path.len(),
    };
    !hex && whole <= NAME_MAX && domain.is_none_or(well_formed_domain) && path.split('/').all(is_component)
}

/// The first part is a registry where it looks like a host.
fn is_domain(part: &str) -> bool {
    part.contains(['.', ':']) || part == "localhost" || part.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn well_formed_domain(domain: &str) -> bool {
    let (host, port) = match domain.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (domain, None),
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = bracketed.map_or_else(
        || host.split('.').all(label),
        |host| host.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':'),
    );
    host && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Runs of lower case letters and digits with a dot, one or two underscores, or dashes between.
fn is_component(component: &str) -> bool {
    let mut separator = String::new();
    let mut started = false;
    for character in component.chars() {
        if character.is_ascii_lowercase() || character.is_ascii_digit() {
            let dashes = separator.bytes().all(|byte| byte == b'-');
            if !dashes && !matches!(separator.as_str(), "." | "_" | "__")
                || (!started && !separator.is_empty())
            {
                return false;
            }
            separator.clear();
            started = true;
        } else if matches!(character, '.' | '_' | '-') {
            separator.push(character);
        } else {
            return false;
        }
    }
    started && separator.is_empty()
}

#[cfg(test)]
mod tests {
    use super::pull_policy;

    #[test]
    fn the_latest_is_always_pulled() {
        for image in ["busybox", "a.b:5000/c", "docker.io/library/busybox:latest", "localhost/x"] {
            assert_eq!(pull_policy(image), "Always", "{image}");
        }
    }

    #[test]
    fn what_is_told_or_no_name_is_not() {
        let digest = "busybox@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        let long = "a".repeat(238);
        assert_eq!(pull_policy(&long), "IfNotPresent");
        assert_eq!(pull_policy(&long[1..]), "Always");
        for image in ["busybox:1.36", "a.b:5000/c:1", digest, "", "Bad Image", "a//b", "-a", "UPPER"] {
            assert_eq!(pull_policy(image), "IfNotPresent", "{image}");
        }
    }
}
