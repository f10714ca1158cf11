//! Who sends a request: certificates, tokens, and those that somebody may act as.

use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::tokens::Tokens;
use super::{AUTHENTICATED, Attributes, Authorizer, ResourceAttributes, UNAUTHENTICATED, anonymous};
use crate::contract::{Result, Status};
use crate::resource::Asker;

/// A check of the health of what decides: its name, and what is wrong.
pub type Check = (&'static str, Box<dyn Fn() -> std::result::Result<(), String> + Send + Sync>);

/// Who asks and what they may.
pub struct Access {
    /// Says what somebody may.
    pub authorizer: Arc<dyn Authorizer>,
    /// Tokens of service accounts; without it no token is good.
    pub tokens: Option<Arc<Tokens>>,
    /// Who a request without credentials comes from; nobody set: the anonymous user. Only for tests and for sockets that
    /// only their owner can open.
    pub trusted: Option<Asker>,
    /// What has to be so for decisions to be right.
    pub health: Vec<Check>,
}

impl Access {
    /// Everybody is `asker`, who may do everything.
    #[must_use]
    pub fn trusting(asker: Asker) -> Access {
        Access {
            authorizer: Arc::new(super::AllowAll),
            tokens: None,
            trusted: Some(asker),
            health: Vec::new(),
        }
    }

    /// Who sends a request with these headers over a connection whose client is `certified`.
    ///
    /// # Errors
    /// 401 for credentials that are no good.
    pub(crate) fn authenticate(&self, headers: &HeaderMap, certified: Option<&Asker>) -> Result<Asker> {
        if let Some(asker) = certified {
            return Ok(authenticated(asker.clone()));
        }
        // What is no bearer's token is nothing that anybody here looks at, as in Kubernetes.
        let Some(token) = headers.get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes())) else {
            return Ok(self.trusted.clone().unwrap_or_else(anonymous));
        };
        let token = std::str::from_utf8(token).map_err(|_| Status::unauthorized())?;
        let tokens = self.tokens.as_ref().ok_or_else(Status::unauthorized)?;
        tokens
            .verify(token, &[])
            .map(|verified| authenticated(verified.asker))
            .map_err(|_| Status::unauthorized())
    }

    /// As whom the request is meant (`Impersonate-User` and its like), and who it really comes from if that is another.
    ///
    /// # Errors
    /// 403 where `asker` may not act as that.
    pub(crate) fn impersonate(&self, asker: Asker, headers: &HeaderMap) -> Result<(Asker, Option<Asker>)> {
        let Some(wanted) = Wanted::read(headers)? else {
            return Ok((asker, None));
        };
        for attributes in wanted.attributes() {
            let attributes = Attributes::Resource(attributes);
            let decision = self.authorizer.authorize(&asker, &attributes);
            if !decision.is_allowed() {
                return Err(attributes.forbidden(&asker, decision.reason()));
            }
        }
        Ok((wanted.asker(), Some(asker)))
    }
}

/// The token of `Bearer TOKEN`.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let mut parts = value.trim_ascii().splitn(2, |byte| *byte == b' ');
    let (scheme, token) = (parts.next()?, parts.next()?.trim_ascii());
    (scheme.eq_ignore_ascii_case(b"bearer") && !token.is_empty()).then_some(token)
}

/// With the group of those who proved who they are.
fn authenticated(mut asker: Asker) -> Asker {
    if !asker.groups.iter().any(|group| group == AUTHENTICATED) {
        asker.groups.push(AUTHENTICATED.to_owned());
    }
    asker
}

/// As whom somebody wants to act.
struct Wanted {
    user: String,
    uid: String,
    groups: Vec<String>,
    extra: Vec<(String, Vec<String>)>,
}

impl Wanted {
    fn read(headers: &HeaderMap) -> Result<Option<Wanted>> {
        // A header that cannot be read must not vanish: the request would be done as who sent it.
        let all = |name: &str| -> Result<Vec<String>> {
            let texts = headers.get_all(name).iter().map(|value| {
                let text = std::str::from_utf8(value.as_bytes()).map(str::to_owned);
                text.map_err(|_| Status::bad_request(format!("header {name} is not UTF-8")))
            });
            texts.collect()
        };
        let (users, groups, uids) =
            (all("impersonate-user")?, all("impersonate-group")?, all("impersonate-uid")?);
        let mut extra: Vec<(String, Vec<String>)> = Vec::new();
        for name in headers.keys() {
            if let Some(key) = name.as_str().strip_prefix("impersonate-extra-") {
                extra.push((key.replace("%2f", "/").replace("%2F", "/"), all(name.as_str())?));
            }
        }
        match users.into_iter().next().filter(|user| !user.is_empty()) {
            Some(user) => {
                let uid = uids.into_iter().next().unwrap_or_default();
                Ok(Some(Wanted { user, uid, groups, extra }))
            }
            None if groups.is_empty() && extra.is_empty() && uids.is_empty() => Ok(None),
            None => Err(Status::internal("requested groups, extra or uid without impersonating a user")),
        }
    }

    /// What has to be allowed.
    fn attributes(&self) -> Vec<ResourceAttributes> {
        let of = |group: &str, resource: &str, name: &str| ResourceAttributes {
            verb: "impersonate".to_owned(),
            group: group.to_owned(),
            version: "v1".to_owned(),
            resource: resource.to_owned(),
            name: name.to_owned(),
            ..ResourceAttributes::default()
        };
        let mut list = vec![match service_account(&self.user) {
            Some((namespace, name)) => {
                ResourceAttributes { namespace: namespace.to_owned(), ..of("", "serviceaccounts", name) }
            }
            None => of("", "users", &self.user),
        }];
        list.extend(self.groups.iter().map(|group| of("", "groups", group)));
        if !self.uid.is_empty() {
            list.push(of("authentication.k8s.io", "uids", &self.uid));
        }
        for (key, values) in &self.extra {
            list.extend(values.iter().map(|value| ResourceAttributes {
                subresource: key.clone(),
                ..of("authentication.k8s.io", "userextras", value)
            }));
        }
        list
    }

    fn asker(self) -> Asker {
        let mut groups = self.groups;
        if groups.is_empty()
            && let Some((namespace, _)) = service_account(&self.user)
        {
            groups = service_account_groups(namespace);
        }
        let group = if self.user == super::ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED };
        let is_told = groups.iter().any(|told| told == AUTHENTICATED || told == UNAUTHENTICATED);
        if !is_told {
            groups.push(group.to_owned());
        }
        Asker { user: self.user, groups, extra: self.extra, uid: self.uid }
    }
}

/// Namespace and name of the service account that a user name stands for.
pub(super) fn service_account(user: &str) -> Option<(&str, &str)> {
    user.strip_prefix("system:serviceaccount:")?.split_once(':').filter(|(_, name)| !name.contains(':'))
}

/// The groups of every service account of a namespace.
pub(super) fn service_account_groups(namespace: &str) -> Vec<String> {
    vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Decision;

    /// Allows to impersonate users, and nothing else.
    struct Users;

    impl Authorizer for Users {
        fn authorize(&self, _: &Asker, attributes: &Attributes) -> Decision {
            match attributes {
                Attributes::Resource(what) if what.resource == "users" => Decision::Allow(String::new()),
                _ => Decision::NoOpinion(String::new()),
            }
        }
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, http::HeaderValue::from_static(value));
        }
        headers
    }

    fn access() -> Access {
        Access { authorizer: Arc::new(Users), tokens: None, trusted: None, health: Vec::new() }
    }

    #[test]
    fn names_are_not_dropped_for_their_letters() {
        let of = |bytes: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert("impersonate-user", http::HeaderValue::from_bytes(bytes).unwrap());
            Wanted::read(&headers)
        };
        assert_eq!(of("jürgen".as_bytes()).unwrap().map(|wanted| wanted.user), Some("jürgen".to_owned()));
        assert!(of(b"j\xffrgen").is_err());
    }

    #[test]
    fn without_credentials_one_is_anonymous_and_with_bad_ones_nobody() {
        let found = access().authenticate(&HeaderMap::new(), None).unwrap();
        assert_eq!(
            (found.user.as_str(), found.groups.as_slice()),
            ("system:anonymous", &[UNAUTHENTICATED.to_owned()][..])
        );
        for value in ["Bearer x", "bearer  x y"] {
            let refused = access().authenticate(&headers(&[("authorization", value)]), None).unwrap_err();
            assert_eq!(refused.code, 401);
        }
        for value in ["Basic x", "Bearer", "Bearer  "] {
            let found = access().authenticate(&headers(&[("authorization", value)]), None).unwrap();
            assert_eq!(found.user, "system:anonymous");
        }
    }

    #[test]
    fn a_certificate_makes_one_authenticated() {
        let jane = Asker { user: "jane".to_owned(), ..Asker::default() };
        let found = access().authenticate(&HeaderMap::new(), Some(&jane)).unwrap();
        assert_eq!(found.groups, [AUTHENTICATED]);
    }

    #[test]
    fn one_acts_as_others_only_where_that_is_allowed() {
        let jane = || Asker { user: "jane".to_owned(), ..Asker::default() };
        let (asker, real) = access().impersonate(jane(), &headers(&[("impersonate-user", "bob")])).unwrap();
        assert_eq!((asker.user.as_str(), real.unwrap().user.as_str()), ("bob", "jane"));
        let both = headers(&[("impersonate-user", "bob"), ("impersonate-group", "dev")]);
        assert_eq!(
            access().impersonate(jane(), &both).unwrap_err().message,
            "groups \"dev\" is forbidden: User \"jane\" cannot impersonate resource \"groups\" in API group \"\" at the \
             cluster scope"
        );
        let account = headers(&[("impersonate-user", "system:serviceaccount:ns:sa")]);
        assert!(
            access().impersonate(jane(), &account).unwrap_err().message.contains("in the namespace \"ns\"")
        );
        assert_eq!(
            access().impersonate(jane(), &headers(&[("impersonate-group", "dev")])).unwrap_err().code,
            500
        );
    }
}
