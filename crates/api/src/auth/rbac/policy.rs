//! Roles and bindings, found by those whom they are about.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;

use super::super::{Attributes, Decision, MASTERS};
use super::Rule;
use crate::contract::Object;
use crate::resource::Asker;

/// Namespace (empty: of the cluster) and name.
pub(super) type Name = (String, String);

/// All roles and bindings.
#[derive(Default)]
pub(super) struct Policy {
    roles: HashMap<Name, Arc<[Rule]>>,
    bindings: HashMap<Name, Binding>,
    /// Bindings by subject, see [`keys`].
    subjects: HashMap<String, BTreeSet<Name>>,
}

struct Binding {
    /// How each subject is found, with its text in reasons.
    subjects: Vec<(String, String)>,
    role: Reference,
}

/// To which role a binding refers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    /// `Role` or `ClusterRole`.
    pub(super) kind: String,
    pub(super) name: String,
}

impl Reference {
    /// The `roleRef` of a binding.
    pub(super) fn of(binding: &Object) -> Reference {
        let text = |field: &str| binding.text(&["roleRef", field]).to_owned();
        Reference { kind: text("kind"), name: text("name") }
    }

    fn resolved(&self, namespace: &str) -> Name {
        let namespace = if self.kind == "Role" { namespace } else { "" };
        (namespace.to_owned(), self.name.clone())
    }
}

impl Policy {
    /// A role is as in `object` now; without one it is gone.
    pub(super) fn set_role(&mut self, name: Name, object: Option<&Object>) {
        match object {
            Some(object) => {
                let rules = object.0.get("rules").and_then(Value::as_array).into_iter().flatten();
                self.roles.insert(name, rules.map(Rule::read).collect());
            }
            None => {
                self.roles.remove(&name);
            }
        }
    }

    /// A binding is as in `object` now; without one it is gone.
    pub(super) fn set_binding(&mut self, name: Name, object: Option<&Object>) {
        if let Some(old) = self.bindings.remove(&name) {
            for (key, _) in &old.subjects {
                if let Some(names) = self.subjects.get_mut(key) {
                    names.remove(&name);
                    if names.is_empty() {
                        self.subjects.remove(key);
                    }
                }
            }
        }
        let Some(object) = object else { return };
        let subjects = object.0.get("subjects").and_then(Value::as_array).into_iter().flatten();
        let subjects: Vec<(String, String)> =
            subjects.filter_map(|subject| found_as(subject, &name.0)).collect();
        for (key, _) in &subjects {
            self.subjects.entry(key.clone()).or_default().insert(name.clone());
        }
        self.bindings.insert(name, Binding { subjects, role: Reference::of(object) });
    }

    /// The roles (or bindings) of the cluster (or of namespaces) that are not among `names`.
    pub(super) fn others(&self, roles: bool, of_cluster: bool, names: &HashSet<Name>) -> Vec<Name> {
        let is_other = |name: &&Name| name.0.is_empty() == of_cluster && !names.contains(*name);
        if roles {
            self.roles.keys().filter(is_other).cloned().collect()
        } else {
            self.bindings.keys().filter(is_other).cloned().collect()
        }
    }

    /// The rules of a role that a binding in `namespace` refers to.
    pub(super) fn rules_of(&self, reference: &Reference, namespace: &str) -> Option<Arc<[Rule]>> {
        self.roles.get(&reference.resolved(namespace)).cloned()
    }

    /// Every rule that holds for `asker` in `namespace`, and which roles are missing.
    pub(super) fn rules_for(&self, asker: &Asker, namespace: &str) -> (Vec<Rule>, Vec<String>) {
        let (mut rules, mut missing) = (Vec::new(), Vec::new());
        self.visit(asker, namespace, |_, _, found| {
            match found {
                Ok(found) => rules.extend(found.iter().cloned()),
                Err(cause) => missing.push(cause),
            }
            None::<()>
        });
        (rules, missing)
    }

    /// Whether `asker` may do what is wanted.
    pub(super) fn decide(&self, asker: &Asker, wanted: &Attributes) -> Decision {
        if asker.groups.iter().any(|group| group == MASTERS) {
            return Decision::Allow(String::new());
        }
        let namespace = match wanted {
            Attributes::Resource(wanted) => wanted.namespace.as_str(),
            Attributes::Path { .. } => "",
        };
        let mut missing: Vec<String> = Vec::new();
        let allowed = self.visit(asker, namespace, |name, subject, found| match found {
            Ok(rules) if rules.iter().any(|rule| rule.allows(wanted)) => Some(self.because(name, subject)),
            Ok(_) => None,
            Err(cause) => {
                missing.push(cause);
                None
            }
        });
        match allowed {
            Some(reason) => Decision::Allow(reason),
            None if missing.is_empty() => Decision::NoOpinion(String::new()),
            None => Decision::NoOpinion(format!("RBAC: {}", one_or_all(&missing))),
        }
    }

    /// Shows the rules of each binding of `asker`, those of the cluster first, until `look` returns something.
    fn visit<T>(
        &self,
        asker: &Asker,
        namespace: &str,
        mut look: impl FnMut(&Name, &str, Result<Arc<[Rule]>, String>) -> Option<T>,
    ) -> Option<T> {
        let keys = keys(asker);
        let places: &[&str] = if namespace.is_empty() { &[""] } else { &["", namespace] };
        for place in places {
            let mut seen: BTreeSet<&Name> = BTreeSet::new();
            for key in &keys {
                for name in self.subjects.get(key).into_iter().flatten() {
                    if name.0 != *place || !seen.insert(name) {
                        continue;
                    }
                    let Some(binding) = self.bindings.get(name) else { continue };
                    let subject = binding.subjects.iter().find(|(found, _)| found == key);
                    let text = subject.map_or("", |(_, text)| text.as_str());
                    let rules = self.rules_of(&binding.role, place).ok_or_else(|| {
                        let resource = if binding.role.kind == "Role" { "role" } else { "clusterrole" };
                        format!("{resource}.rbac.authorization.k8s.io {:?} not found", binding.role.name)
                    });
                    if let Some(found) = look(name, text, rules) {
                        return Some(found);
                    }
                }
            }
        }
        None
    }

    fn because(&self, name: &Name, subject: &str) -> String {
        let (kind, shown) = if name.0.is_empty() {
            ("ClusterRoleBinding", name.1.clone())
        } else {
            ("RoleBinding", format!("{}/{}", name.1, name.0))
        };
        let role = self.bindings.get(name).map(|binding| &binding.role);
        let (role_kind, role_name) = role.map_or(("", ""), |role| (role.kind.as_str(), role.name.as_str()));
        format!("RBAC: allowed by {kind} {shown:?} of {role_kind} {role_name:?} to {subject}")
    }
}

fn one_or_all(texts: &[String]) -> String {
    match texts {
        [one] => one.clone(),
        _ => format!("[{}]", texts.join(", ")),
    }
}

/// How a subject of a binding is found, and its text in reasons.
fn found_as(subject: &Value, namespace: &str) -> Option<(String, String)> {
    let text = |field: &str| subject.get(field).and_then(Value::as_str).unwrap_or_default();
    let (kind, name) = (text("kind"), text("name"));
    match kind {
        "User" => Some((format!("u:{name}"), format!("User {name:?}"))),
        "Group" => Some((format!("g:{name}"), format!("Group {name:?}"))),
        "ServiceAccount" => {
            let own = text("namespace");
            let namespace = if own.is_empty() { namespace } else { own };
            if namespace.is_empty() {
                return None;
            }
            let user = format!("system:serviceaccount:{namespace}:{name}");
            Some((format!("u:{user}"), format!("ServiceAccount \"{name}/{namespace}\"")))
        }
        _ => None,
    }
}

/// Under what the bindings of `asker` are found.
fn keys(asker: &Asker) -> Vec<String> {
    let mut keys = vec![format!("u:{}", asker.user)];
    keys.extend(asker.groups.iter().map(|group| format!("g:{group}")));
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::ResourceAttributes;
    use serde_json::json;

    fn object(value: Value) -> Object {
        Object::from_value(value).unwrap()
    }

    fn name(namespace: &str, name: &str) -> Name {
        (namespace.to_owned(), name.to_owned())
    }

    fn get_pod(namespace: &str) -> Attributes {
        Attributes::Resource(ResourceAttributes {
            verb: "get".to_owned(),
            resource: "pods".to_owned(),
            namespace: namespace.to_owned(),
            name: "web".to_owned(),
            ..ResourceAttributes::default()
        })
    }

    fn policy() -> Policy {
        let mut policy = Policy::default();
        let rules = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]);
        policy.set_role(name("", "reader"), Some(&object(json!({"rules": rules}))));
        let binding = json!({
            "roleRef": {"kind": "ClusterRole", "name": "reader"},
            "subjects": [{"kind": "Group", "name": "dev"}, {"kind": "ServiceAccount", "name": "bot"}],
        });
        policy.set_binding(name("default", "b"), Some(&object(binding)));
        policy
    }

    #[test]
    fn a_binding_in_a_namespace_holds_there_alone() {
        let policy = policy();
        let jane = Asker { user: "jane".to_owned(), groups: vec!["dev".to_owned()], ..Asker::default() };
        assert_eq!(
            policy.decide(&jane, &get_pod("default")),
            Decision::Allow(
                "RBAC: allowed by RoleBinding \"b/default\" of ClusterRole \"reader\" to Group \"dev\""
                    .into()
            )
        );
        assert!(!policy.decide(&jane, &get_pod("other")).is_allowed());
        assert!(!policy.decide(&jane, &get_pod("")).is_allowed());
        let bot = Asker { user: "system:serviceaccount:default:bot".to_owned(), ..Asker::default() };
        assert!(policy.decide(&bot, &get_pod("default")).is_allowed());
        let root = Asker { groups: vec![MASTERS.to_owned()], ..Asker::default() };
        assert!(policy.decide(&root, &get_pod("other")).is_allowed());
    }

    #[test]
    fn what_is_deleted_allows_nothing() {
        let mut policy = policy();
        let jane = Asker { groups: vec!["dev".to_owned()], ..Asker::default() };
        policy.set_role(name("", "reader"), None);
        assert_eq!(
            policy.decide(&jane, &get_pod("default")).reason(),
            "RBAC: clusterrole.rbac.authorization.k8s.io \"reader\" not found"
        );
        policy.set_binding(name("default", "b"), None);
        assert_eq!(policy.decide(&jane, &get_pod("default")), Decision::NoOpinion(String::new()));
        assert!(policy.subjects.is_empty());
    }
}
