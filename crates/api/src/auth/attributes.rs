//! What somebody wants to do, as an authorizer is asked.

use crate::contract::Status;
use crate::resource::Asker;

/// What is wanted: something of a resource, or a path that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attributes {
    /// Of a resource.
    Resource(ResourceAttributes),
    /// A path such as `/metrics`.
    Path {
        /// The lower-case HTTP method.
        verb: String,
        /// The path.
        path: String,
    },
}

/// What is wanted of which resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceAttributes {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, or another.
    pub verb: String,
    /// Empty: the core group.
    pub group: String,
    /// `v1`.
    pub version: String,
    /// `pods`.
    pub resource: String,
    /// `log`; may be empty.
    pub subresource: String,
    /// Empty: the whole cluster.
    pub namespace: String,
    /// Empty: no single object.
    pub name: String,
}

impl ResourceAttributes {
    /// `pods`, or `pods/log`.
    #[must_use]
    pub fn full_resource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }
}

/// What an authorizer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes, and why.
    Allow(String),
    /// Nobody says yes; why, which may be empty.
    NoOpinion(String),
}

impl Decision {
    /// Whether it is a yes.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        matches!(self, Decision::Allow(_))
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Decision::Allow(reason) | Decision::NoOpinion(reason) => reason,
        }
    }
}

impl Attributes {
    /// The refusal of `asker`, in Kubernetes' words.
    #[must_use]
    pub fn forbidden(&self, asker: &Asker, reason: &str) -> Status {
        let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        let user = crate::contract::field::quoted(&asker.user);
        match self {
            Attributes::Path { verb, path } => {
                let path = crate::contract::field::quoted(path);
                Status::forbidden("", "", "", &format!("User {user} cannot {verb} path {path}{because}"))
            }
            Attributes::Resource(what) => {
                let place = if what.namespace.is_empty() {
                    "at the cluster scope".to_owned()
                } else {
                    format!("in the namespace {:?}", what.namespace)
                };
                let cause = format!(
                    "User {user} cannot {} resource {:?} in API group {:?} {place}{because}",
                    what.verb,
                    what.full_resource(),
                    what.group
                );
                Status::forbidden(&what.group, &what.resource, &what.name, &cause)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_kubernetes_words() {
        let asker = Asker { user: "jane".to_owned(), ..Asker::default() };
        let mut what = ResourceAttributes {
            verb: "get".to_owned(),
            version: "v1".to_owned(),
            resource: "pods".to_owned(),
            subresource: "log".to_owned(),
            namespace: "default".to_owned(),
            name: "web".to_owned(),
            ..ResourceAttributes::default()
        };
        let status = Attributes::Resource(what.clone()).forbidden(&asker, "");
        assert_eq!(
            status.message,
            "pods \"web\" is forbidden: User \"jane\" cannot get resource \"pods/log\" in API group \"\" in the \
             namespace \"default\""
        );
        what = ResourceAttributes {
            verb: "list".to_owned(),
            group: "apps".to_owned(),
            resource: "deployments".to_owned(),
            ..ResourceAttributes::default()
        };
        assert_eq!(
            Attributes::Resource(what).forbidden(&asker, "").message,
            "deployments.apps is forbidden: User \"jane\" cannot list resource \"deployments\" in API group \"apps\" \
             at the cluster scope"
        );
        let path = Attributes::Path { verb: "get".to_owned(), path: "/metrics".to_owned() };
        let status = path.forbidden(&asker, "");
        assert_eq!(status.message, "forbidden: User \"jane\" cannot get path \"/metrics\"");
        assert_eq!(status.to_value()["details"], serde_json::json!({}));
    }
}
