//! A rule of a role.

use serde_json::{Map, Value};

use super::super::{Attributes, ResourceAttributes};

/// What a rule allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) verbs: Vec<String>,
    pub(crate) groups: Vec<String>,
    pub(crate) resources: Vec<String>,
    pub(crate) names: Vec<String>,
    pub(crate) urls: Vec<String>,
}

impl Rule {
    /// Rules that allow everything.
    pub(super) fn everything() -> [Rule; 2] {
        [
            serde_json::json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}),
            serde_json::json!({"nonResourceURLs": ["*"], "verbs": ["*"]}),
        ]
        .map(|rule| Rule::read(&rule))
    }

    /// A rule of a role's `rules`.
    pub(crate) fn read(value: &Value) -> Rule {
        let list = |name: &str| -> Vec<String> {
            let list = value.get(name).and_then(Value::as_array).into_iter().flatten();
            list.filter_map(|item| item.as_str().map(str::to_owned)).collect()
        };
        Rule {
            verbs: list("verbs"),
            groups: list("apiGroups"),
            resources: list("resources"),
            names: list("resourceNames"),
            urls: list("nonResourceURLs"),
        }
    }

    /// The same as a role has it.
    pub(crate) fn to_value(&self) -> Value {
        let mut map = Map::new();
        let mut put = |name: &str, list: &[String]| {
            if !list.is_empty() {
                map.insert(name.to_owned(), list.to_vec().into());
            }
        };
        put("apiGroups", &self.groups);
        put("resources", &self.resources);
        put("resourceNames", &self.names);
        put("nonResourceURLs", &self.urls);
        map.insert("verbs".to_owned(), self.verbs.clone().into());
        Value::Object(map)
    }

    /// Whether it allows what is wanted.
    pub(crate) fn allows(&self, wanted: &Attributes) -> bool {
        match wanted {
            Attributes::Resource(wanted) => self.allows_resource(wanted),
            Attributes::Path { verb, path } => {
                has(&self.verbs, verb) && self.urls.iter().any(|url| url_covers(url, path))
            }
        }
    }

    fn allows_resource(&self, wanted: &ResourceAttributes) -> bool {
        has(&self.verbs, &wanted.verb)
            && has(&self.groups, &wanted.group)
            && self.resources.iter().any(|resource| resource_covers(resource, &wanted.full_resource()))
            && (self.names.is_empty() || self.names.contains(&wanted.name))
    }

    /// Whether it allows all that `part` does, a rule of one of each at most.
    fn covers(&self, part: &Rule) -> bool {
        part.verbs.iter().all(|verb| has(&self.verbs, verb))
            && part.groups.iter().all(|group| has(&self.groups, group))
            && part
                .resources
                .iter()
                .all(|wanted| self.resources.iter().any(|own| resource_covers(own, wanted)))
            && part.urls.iter().all(|wanted| self.urls.iter().any(|own| url_covers(own, wanted)))
            && (self.names.is_empty()
                || !part.names.is_empty() && part.names.iter().all(|name| self.names.contains(name)))
    }

    /// Rules of one verb, one group, one resource and one name that allow the same.
    fn parts(&self) -> Vec<Rule> {
        let mut parts = Vec::new();
        let one = |text: &String| vec![text.clone()];
        let names: Vec<Vec<String>> =
            if self.names.is_empty() { vec![Vec::new()] } else { self.names.iter().map(one).collect() };
        for group in &self.groups {
            for resource in &self.resources {
                for verb in &self.verbs {
                    parts.extend(names.iter().map(|names| Rule {
                        verbs: one(verb),
                        groups: one(group),
                        resources: one(resource),
                        names: names.clone(),
                        urls: Vec::new(),
                    }));
                }
            }
        }
        for url in &self.urls {
            parts.extend(self.verbs.iter().map(|verb| Rule {
                verbs: one(verb),
                urls: one(url),
                ..Rule::default()
            }));
        }
        parts
    }

    /// As refusals show it: `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`.
    fn text(&self) -> String {
        let list = |name: &str, list: &[String]| {
            let quoted: Vec<String> = list.iter().map(|text| crate::contract::field::quoted(text)).collect();
            format!("{name}:[{}]", quoted.join(" "))
        };
        let all = [
            ("APIGroups", &self.groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.urls),
            ("ResourceNames", &self.names),
            ("Verbs", &self.verbs),
        ];
        let told: Vec<String> = all
            .iter()
            .filter(|(_, items)| !items.is_empty())
            .map(|(name, items)| list(name, items))
            .collect();
        format!("{{{}}}", told.join(", "))
    }
}

/// What of `wanted` nothing of `own` covers, as refusals show it; empty: nothing.
pub(super) fn missing(own: &[Rule], wanted: &[Rule]) -> Vec<String> {
    let parts = wanted.iter().flat_map(Rule::parts).filter(|part| !own.iter().any(|rule| rule.covers(part)));
    let mut left: Vec<Rule> = Vec::new();
    for part in parts {
        // Rules that differ in their verbs alone are shown as one.
        let same = left.iter_mut().find(|rule| {
            part.urls.is_empty()
                && rule.urls.is_empty()
                && rule.groups == part.groups
                && rule.resources == part.resources
                && rule.names == part.names
        });
        match same {
            Some(rule) => rule.verbs.extend(part.verbs),
            None => left.push(part),
        }
    }
    let mut texts: Vec<String> = left.iter().map(Rule::text).collect();
    texts.sort();
    texts.dedup();
    texts
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|own| own == "*" || own == wanted)
}

fn resource_covers(own: &str, wanted: &str) -> bool {
    own == "*"
        || own == wanted
        || own
            .strip_prefix("*/")
            .is_some_and(|sub| wanted.split_once('/').is_some_and(|(_, found)| found == sub))
}

fn url_covers(own: &str, wanted: &str) -> bool {
    own == wanted
        || own.strip_suffix('*').is_some_and(|begin| wanted.starts_with(begin.trim_end_matches('*')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rule(value: Value) -> Rule {
        Rule::read(&value)
    }

    fn wanted(verb: &str, group: &str, resource: &str, subresource: &str, name: &str) -> Attributes {
        Attributes::Resource(ResourceAttributes {
            verb: verb.to_owned(),
            group: group.to_owned(),
            version: "v1".to_owned(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            namespace: String::new(),
            name: name.to_owned(),
        })
    }

    #[test]
    fn verbs_groups_resources_and_names_all_have_to_match() {
        let pods =
            rule(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}));
        assert!(pods.allows(&wanted("get", "", "pods", "", "a")));
        assert!(!pods.allows(&wanted("get", "", "pods", "", "b")));
        assert!(!pods.allows(&wanted("list", "", "pods", "", "")));
        assert!(!pods.allows(&wanted("get", "apps", "pods", "", "a")));
        assert!(!pods.allows(&wanted("get", "", "pods", "log", "a")));
        let scale = rule(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*/scale"]}));
        assert!(scale.allows(&wanted("update", "apps", "deployments", "scale", "x")));
        assert!(!scale.allows(&wanted("update", "apps", "deployments", "", "x")));
    }

    #[test]
    fn paths_match_whole_or_by_their_beginning() {
        let rule = rule(json!({"verbs": ["get"], "nonResourceURLs": ["/healthz", "/openapi/*"]}));
        let path = |path: &str| Attributes::Path { verb: "get".to_owned(), path: path.to_owned() };
        assert!(rule.allows(&path("/healthz")));
        assert!(rule.allows(&path("/openapi/v2")));
        assert!(!rule.allows(&path("/openapi")));
        assert!(!rule.allows(&path("/healthz/ping")));
    }

    #[test]
    fn what_is_missing_is_shown_as_kubernetes_shows_it() {
        let own = [rule(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}))];
        let given = [
            rule(
                json!({"verbs": ["get", "list", "watch"], "apiGroups": [""], "resources": ["pods", "secrets"]}),
            ),
            rule(json!({"verbs": ["get"], "nonResourceURLs": ["/metrics"]})),
        ];
        assert_eq!(
            missing(&own, &given),
            [
                "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"list\" \"watch\"]}",
                "{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"list\" \"watch\"]}",
                "{NonResourceURLs:[\"/metrics\"], Verbs:[\"get\"]}",
            ]
        );
        let all = [rule(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}))];
        assert_eq!(missing(&all, &given).len(), 1);
        let named = [rule(
            json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}),
        )];
        assert_eq!(missing(&named, &own).len(), 1);
        assert!(missing(&own, &named).is_empty());
    }
}
