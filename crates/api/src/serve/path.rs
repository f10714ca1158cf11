//! What a path means.

/// A path of a resource: `/api/v1/...` or `/apis/GROUP/VERSION/...`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResourcePath {
    /// Empty: the core group.
    pub(crate) group: String,
    pub(crate) version: String,
    /// Empty: none.
    pub(crate) namespace: String,
    pub(crate) resource: String,
    /// Empty: the collection.
    pub(crate) name: String,
    /// Empty: the object itself.
    pub(crate) subresource: String,
    /// What follows the subresource (of proxies), without its leading slash.
    pub(crate) rest: String,
    /// Whether it is one of the old paths of watches (`/api/v1/watch/...`).
    pub(crate) watch: bool,
}

/// What a path means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Something of a resource.
    Resource(ResourcePath),
    /// `/api`.
    Legacy,
    /// `/apis`.
    Groups,
    /// `/apis/GROUP`.
    Group(String),
    /// `/api/v1` or `/apis/GROUP/VERSION`.
    Version(String, String),
    /// Anything else.
    Other,
}

/// Reads a path. `None` where its escapes are none.
pub(crate) fn read(path: &str) -> Option<Meaning> {
    let mut parts: Vec<String> = Vec::new();
    for part in path.split('/') {
        // An empty namespace means all of them; other slashes that are twice mean nothing.
        let is_namespace = matches!(
            parts.iter().map(String::as_str).collect::<Vec<_>>()[..],
            ["api", _, "namespaces"] | ["apis", _, _, "namespaces"]
        );
        if !part.is_empty() || is_namespace {
            parts.push(unescape(part)?);
        }
    }
    let mut parts = parts.into_iter();
    Some(match (parts.next().as_deref(), parts.next()) {
        (Some("api"), None) => Meaning::Legacy,
        (Some("api"), Some(version)) => resource(String::new(), version, parts),
        (Some("apis"), None) => Meaning::Groups,
        (Some("apis"), Some(group)) => match parts.next() {
            None => Meaning::Group(group),
            Some(version) => resource(group, version, parts),
        },
        _ => Meaning::Other,
    })
}

fn resource(group: String, version: String, parts: impl Iterator<Item = String>) -> Meaning {
    let mut parts = parts.peekable();
    let mut path = ResourcePath { group, version, ..ResourcePath::default() };
    path.watch = parts.next_if(|part| part == "watch").is_some();
    let Some(first) = parts.next() else {
        return Meaning::Version(path.group, path.version);
    };
    match (first.as_str(), parts.next()) {
        ("namespaces", Some(namespace)) if namespace.is_empty() => {
            path.resource = parts.next().unwrap_or(first);
            path.name = parts.next().unwrap_or_default();
            path.subresource = parts.next().unwrap_or_default();
        }
        ("namespaces", Some(namespace)) => {
            path.namespace.clone_from(&namespace);
            match parts.next() {
                // These two are of the namespace itself; everything else lies in it.
                None => (path.resource, path.name) = (first, namespace),
                Some(part) if part == "status" || part == "finalize" => {
                    (path.resource, path.name, path.subresource) = (first, namespace, part);
                }
                Some(part) => {
                    path.resource = part;
                    path.name = parts.next().unwrap_or_default();
                    path.subresource = parts.next().unwrap_or_default();
                }
            }
        }
        (_, name) => {
            path.resource = first;
            path.name = name.unwrap_or_default();
            path.subresource = parts.next().unwrap_or_default();
        }
    }
    path.rest = parts.collect::<Vec<_>>().join("/");
    Meaning::Resource(path)
}

/// The pairs of a query, decoded, in their order. `None` where an escape is none.
pub(crate) fn query(text: &str) -> Option<Vec<(String, String)>> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((unescape(&name.replace('+', " "))?, unescape(&value.replace('+', " "))?))
        })
        .collect()
}

/// Undoes `%XX`.
fn unescape(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> ResourcePath {
        match read(text) {
            Some(Meaning::Resource(path)) => path,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn objects_collections_and_subresources_are_told_apart() {
        let pod = path("/api/v1/namespaces/default/pods/web/log");
        assert_eq!(
            (pod.namespace.as_str(), pod.resource.as_str(), pod.name.as_str(), pod.subresource.as_str()),
            ("default", "pods", "web", "log")
        );
        let namespace = path("/api/v1/namespaces/default");
        assert_eq!(
            (namespace.resource.as_str(), namespace.name.as_str(), namespace.namespace.as_str()),
            ("namespaces", "default", "default")
        );
        assert_eq!(path("/api/v1/namespaces/default/finalize").subresource, "finalize");
        assert_eq!(path("/api/v1/namespaces").resource, "namespaces");
        let all = path("/apis/apps/v1/deployments");
        assert_eq!((all.group.as_str(), all.namespace.as_str(), all.name.as_str()), ("apps", "", ""));
        assert!(path("/api/v1/watch/namespaces/default/pods").watch);
        let every = path("/api/v1/namespaces//pods");
        assert_eq!(
            (every.namespace.as_str(), every.resource.as_str(), every.name.as_str()),
            ("", "pods", "")
        );
        assert_eq!(path("/api/v1/namespaces/").resource, "namespaces");
        assert_eq!(path("//api//v1/namespaces/a//pods//b").name, "b");
        assert_eq!(path("/api/v1/nodes/n1/proxy/a/b").rest, "a/b");
        assert_eq!(path("/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode").name, "system:node");
    }

    #[test]
    fn discovery_has_paths_of_its_own() {
        assert_eq!(read("/api"), Some(Meaning::Legacy));
        assert_eq!(read("/api/v1"), Some(Meaning::Version(String::new(), "v1".to_owned())));
        assert_eq!(read("/apis/"), Some(Meaning::Groups));
        assert_eq!(read("/apis/apps"), Some(Meaning::Group("apps".to_owned())));
        assert_eq!(read("/version"), Some(Meaning::Other));
        assert_eq!(read("/api/v1/pods/%zz"), None);
    }

    #[test]
    fn queries_are_decoded() {
        let pairs = query("labelSelector=a%3Db&watch&x=1+2").unwrap();
        let expected = [("labelSelector", "a=b"), ("watch", ""), ("x", "1 2")];
        assert_eq!(pairs, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
        assert_eq!(query("a=%f"), None);
    }
}
