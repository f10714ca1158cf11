use serde_json::Value;

use super::call::Call;
use super::{Refused, Server, list, text};

/// Discovery in one answer for all groups.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// A kind of objects, as a server has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Kind {
    /// Empty for the first one.
    pub(crate) group: String,
    pub(crate) version: String,
    /// `pods`, as in paths.
    pub(crate) plural: String,
    pub(crate) singular: String,
    /// `Pod`.
    pub(crate) name: String,
    pub(crate) short: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) verbs: Vec<String>,
    pub(crate) is_namespaced: bool,
    /// Whether its objects have a status that is written apart from them.
    pub(crate) has_status: bool,
}

impl Kind {
    /// `apps/v1`.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `deployments.apps`.
    pub(crate) fn full(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// `deployment.apps/web`, as kubectl has it.
    pub(crate) fn of(&self, name: &str) -> String {
        let group = if self.group.is_empty() { String::new() } else { format!(".{}", self.group) };
        format!("{}{group}/{name}", self.singular)
    }

    /// Where its objects are: those of one namespace, or all.
    pub(crate) fn path(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() { "/api/" } else { "/apis/" };
        let within = match namespace.filter(|_| self.is_namespaced) {
            Some(namespace) => format!("namespaces/{namespace}/"),
            None => String::new(),
        };
        format!("{root}{}/{within}{}", self.api_version(), self.plural)
    }

    pub(crate) fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|one| one == verb)
    }

    /// Whether a person who writes `word` may mean it.
    fn is_called(&self, word: &str) -> bool {
        let is_same = |name: &str| name.eq_ignore_ascii_case(word);
        is_same(&self.plural)
            || is_same(&self.singular)
            || is_same(&self.name)
            || self.short.iter().any(|s| is_same(s))
    }
}

/// All kinds of a server, in its order: of several groups that have a kind of one name the first is meant.
#[derive(Debug)]
pub(crate) struct Kinds(Vec<Kind>);

impl Kinds {
    pub(super) fn ask(server: &Server) -> Result<Self, Refused> {
        let mut all = Vec::new();
        for root in ["/api", "/apis"] {
            all.extend(read(&server.ask(Call::get(root, AGGREGATED))?));
        }
        Ok(Self(all))
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Kind> {
        self.0.iter()
    }

    /// The one that an object says it is.
    pub(crate) fn of_object(&self, api_version: &str, kind: &str) -> Option<&Kind> {
        self.0.iter().find(|one| one.name == kind && one.api_version() == api_version)
    }

    /// The kinds that `word` means: `pods`, `po`, `Pod`, `deployments.apps`, `deployments.v1.apps`, or a category (`all`).
    pub(crate) fn find(&self, word: &str) -> Vec<&Kind> {
        let (name, place) = word.split_once('.').unwrap_or((word, ""));
        let is_there = |kind: &&Kind| {
            let versioned = format!("{}.{}", kind.version, kind.group);
            place.is_empty() || place == kind.group || place == versioned.trim_end_matches('.')
        };
        if let Some(found) = self.0.iter().find(|kind| kind.is_called(name) && is_there(kind)) {
            return vec![found];
        }
        let of_category = |kind: &&Kind| kind.categories.iter().any(|one| one == word) && kind.can("list");
        let mut found: Vec<&Kind> = self.0.iter().filter(of_category).collect();
        // Of a group's versions the preferred one alone.
        let mut seen = Vec::new();
        found.retain(|kind| {
            let full = kind.full();
            let is_new = !seen.contains(&full);
            seen.push(full);
            is_new
        });
        found
    }
}

/// One of the answers of aggregated discovery.
fn read(answer: &Value) -> Vec<Kind> {
    let mut all = Vec::new();
    for group in list(answer, "/items") {
        for version in list(group, "/versions") {
            for resource in list(version, "/resources") {
                all.push(kind(text(group, "/metadata/name"), text(version, "/version"), resource));
            }
        }
    }
    all
}

fn kind(group: &str, version: &str, resource: &Value) -> Kind {
    let words =
        |pointer: &str| list(resource, pointer).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let name = text(resource, "/responseKind/kind").to_owned();
    let singular = match text(resource, "/singularResource") {
        "" => name.to_lowercase(),
        singular => singular.to_owned(),
    };
    let is_status = |below: &Value| text(below, "/subresource") == "status";
    Kind {
        group: group.to_owned(),
        version: version.to_owned(),
        plural: text(resource, "/resource").to_owned(),
        singular,
        name,
        short: words("/shortNames"),
        categories: words("/categories"),
        verbs: words("/verbs"),
        is_namespaced: text(resource, "/scope") == "Namespaced",
        has_status: list(resource, "/subresources").iter().any(is_status),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kinds() -> Kinds {
        let of = |resource: &str, kind: &str, short: &str, categories: &[&str], scope: &str| {
            json!({"resource": resource, "responseKind": {"kind": kind}, "scope": scope, "singularResource": kind.to_lowercase(),
                   "shortNames": [short], "categories": categories, "verbs": ["get", "list"]})
        };
        let core = json!({"items": [{"metadata": {}, "versions": [{"version": "v1", "resources": [
            of("pods", "Pod", "po", &["all"], "Namespaced"), of("nodes", "Node", "no", &[], "Cluster"),
            of("events", "Event", "ev", &[], "Namespaced")]}]}]});
        let groups = json!({"items": [
            {"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [of("deployments", "Deployment", "deploy", &["all"], "Namespaced")]}]},
            {"metadata": {"name": "events.k8s.io"}, "versions": [{"version": "v1", "resources": [of("events", "Event", "ev", &[], "Namespaced")]}]},
        ]});
        Kinds(read(&core).into_iter().chain(read(&groups)).collect())
    }

    #[test]
    fn a_kind_goes_by_each_of_its_names() {
        let kinds = kinds();
        for word in
            ["deploy", "Deployment", "deployments", "deployments.apps", "deployment.v1.apps", "DEPLOY"]
        {
            let found = kinds.find(word);
            assert!(found.len() == 1 && found[0].plural == "deployments", "{word}: {found:?}");
        }
        let group = |word: &str| kinds.find(word)[0].group.clone();
        assert_eq!((group("events"), group("ev.events.k8s.io")), (String::new(), "events.k8s.io".to_owned()));
        let all: Vec<String> = kinds.find("all").iter().map(|kind| kind.of("x")).collect();
        assert_eq!(all, ["pod/x", "deployment.apps/x"]);
        assert!(kinds.find("pods.apps").is_empty() && kinds.find("things").is_empty());
    }

    #[test]
    fn paths_are_of_a_namespace_or_of_all() {
        let kinds = kinds();
        let path = |word: &str, namespace| kinds.find(word)[0].path(namespace);
        assert_eq!(path("po", Some("a")), "/api/v1/namespaces/a/pods");
        assert_eq!(path("deploy", None), "/apis/apps/v1/deployments");
        assert_eq!(path("no", Some("a")), "/api/v1/nodes");
    }
}
