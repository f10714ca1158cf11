//! Secrets that a class names, by templates that a claim fills in.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt as _;
use serde_json::{Value, json};

/// What a secret is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Provision,
    ControllerPublish,
    NodeStage,
    NodePublish,
    ControllerExpand,
    NodeExpand,
    ControllerModify,
}

impl Use {
    /// As it is called in parameters, and as it was before parameters had a prefix.
    fn keys(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Provision => ("provisioner-", Some("csiProvisionerSecret")),
            Self::ControllerPublish => ("controller-publish-", Some("csiControllerPublishSecret")),
            Self::NodeStage => ("node-stage-", Some("csiNodeStageSecret")),
            Self::NodePublish => ("node-publish-", Some("csiNodePublishSecret")),
            Self::ControllerExpand => ("controller-expand-", None),
            Self::NodeExpand => ("node-expand-", None),
            Self::ControllerModify => ("controller-modify-", None),
        }
    }
}

/// All parameters that name secrets, without their prefix.
pub(super) fn is_parameter(key: &str) -> bool {
    let uses = [
        "",
        "provisioner-",
        "controller-publish-",
        "node-stage-",
        "node-publish-",
        "controller-expand-",
        "node-expand-",
        "controller-modify-",
    ];
    let of = key.strip_suffix("secret-name").or_else(|| key.strip_suffix("secret-namespace"));
    of.is_some_and(|of| uses.contains(&of))
}

/// A secret's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Reference {
    pub(super) fn json(&self) -> Value {
        json!({"name": self.name, "namespace": self.namespace})
    }
}

/// The secret that a class names for a use, or for all that it says nothing else of.
pub(super) fn reference(
    of: Use,
    parameters: &BTreeMap<String, String>,
    volume: &str,
    claim: &PersistentVolumeClaim,
) -> Result<Option<Reference>, String> {
    let (key, old) = of.keys();
    let found = match templates(parameters, key, old)? {
        Some(found) => Some(found),
        None => templates(parameters, "", None)?,
    };
    let Some((name, namespace)) = found else { return Ok(None) };
    let of_claim = claim.namespace().unwrap_or_default();
    // What the user of a claim can choose must not choose the namespace: but for the claim's own.
    let chosen = |token: &str| match token {
        "pv.name" => Some(volume.to_owned()),
        "pvc.namespace" => Some(of_claim.clone()),
        _ => None,
    };
    let namespace = checked("namespace", namespace, &filled(namespace, chosen)?, is_label)?;
    let named = |token: &str| match token {
        "pvc.name" => Some(claim.name_any()),
        _ => chosen(token).or_else(|| {
            let key = token.strip_prefix("pvc.annotations['")?.strip_suffix("']")?;
            claim.annotations().get(key).cloned()
        }),
    };
    let name = checked("secret name", name, &filled(name, named)?, is_subdomain)?;
    Ok(Some(Reference { namespace, name }))
}

/// Templates of the name and the namespace.
fn templates<'a>(
    parameters: &'a BTreeMap<String, String>,
    key: &str,
    old: Option<&str>,
) -> Result<Option<(&'a str, &'a str)>, String> {
    let one = |end: &str, old_end: &str| {
        let key = format!("{}{key}secret-{end}", super::request::PREFIX);
        let new = parameters.get(&key);
        let old_key = old.map(|old| format!("{old}{old_end}"));
        match (new, old_key.as_ref().and_then(|key| parameters.get(key))) {
            (Some(_), Some(_)) => Err(format!(
                "the class names the same secret by both {key:?} and {:?}: leave out the second",
                old_key.unwrap_or_default()
            )),
            (new, old) => Ok(new.or(old)),
        }
    };
    match (one("name", "Name")?, one("namespace", "Namespace")?) {
        (None, None) => Ok(None),
        (Some(name), Some(namespace)) if !name.is_empty() && !namespace.is_empty() => {
            Ok(Some((name, namespace)))
        }
        _ => {
            let key = format!("{}{key}secret-", super::request::PREFIX);
            Err(format!("the class has one of \"{key}name\" and \"{key}namespace\" only: both are needed"))
        }
    }
}

/// A template with what its `${...}` stand for.
fn filled(template: &str, value: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("${") {
        let (token, end) = after
            .split_once('}')
            .ok_or_else(|| format!("the class's template {template:?} has a ${{ without an end"))?;
        let value = value(token)
            .ok_or_else(|| format!("nothing is ${{{token}}} here, of the class's template {template:?}"))?;
        out.push_str(before);
        out.push_str(&value);
        rest = end;
    }
    out.push_str(rest);
    Ok(out)
}

fn checked(what: &str, template: &str, text: &str, is: fn(&str) -> bool) -> Result<String, String> {
    match is(text) {
        true => Ok(text.to_owned()),
        false if text == template => Err(format!("{text:?} is no valid {what}")),
        false => Err(format!("{text:?}, of the class's template {template:?}, is no valid {what}")),
    }
}

fn is_label(text: &str) -> bool {
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty()
        && text.len() <= 63
        && text.chars().all(inside)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_subdomain(text: &str) -> bool {
    // A part may be longer than a label.
    let part = |part: &str| {
        part.as_bytes()
            .chunks(63)
            .all(|chunk| chunk.iter().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == b'-'))
            && !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim() -> PersistentVolumeClaim {
        serde_json::from_value(json!({"metadata": {
            "name": "data", "namespace": "shop", "uid": "0123", "annotations": {"example.com/key": "blue"},
        }}))
        .unwrap()
    }

    fn asked(parameters: &[(&str, &str)]) -> Result<Option<Reference>, String> {
        let parameters =
            parameters.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        reference(Use::NodeStage, &parameters, "pvc-0123", &claim())
    }

    fn place(namespace: &str, name: &str) -> Result<Option<Reference>, String> {
        Ok(Some(Reference { namespace: namespace.into(), name: name.into() }))
    }

    const NAME: &str = "csi.storage.k8s.io/node-stage-secret-name";
    const NAMESPACE: &str = "csi.storage.k8s.io/node-stage-secret-namespace";

    #[test]
    fn templates_are_filled_in() {
        assert_eq!(asked(&[]), Ok(None));
        assert_eq!(asked(&[(NAME, "key"), (NAMESPACE, "keys")]), place("keys", "key"));
        assert_eq!(
            asked(&[(NAME, "${pvc.namespace}.${pvc.name}.${pv.name}"), (NAMESPACE, "${pvc.namespace}")]),
            place("shop", "shop.data.pvc-0123")
        );
        assert_eq!(
            asked(&[(NAME, "k-${pvc.annotations['example.com/key']}"), (NAMESPACE, "keys")]),
            place("keys", "k-blue")
        );
    }

    #[test]
    fn a_secret_for_everything_is_the_last_choice() {
        let all =
            [("csi.storage.k8s.io/secret-name", "all"), ("csi.storage.k8s.io/secret-namespace", "keys")];
        assert_eq!(asked(&all), place("keys", "all"));
        assert_eq!(asked(&[all[0], all[1], (NAME, "one"), (NAMESPACE, "keys")]), place("keys", "one"));
        assert_eq!(
            asked(&[("csiNodeStageSecretName", "old"), ("csiNodeStageSecretNamespace", "keys")]),
            place("keys", "old")
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases: [(&[(&str, &str)], &str); 7] = [
            (&[(NAME, "key")], "both are needed"),
            (&[(NAME, ""), (NAMESPACE, "keys")], "both are needed"),
            (&[(NAME, "key"), (NAMESPACE, "${pvc.name}")], "nothing is ${pvc.name} here"),
            (
                &[(NAME, "${pvc.annotations['none']}"), (NAMESPACE, "keys")],
                "nothing is ${pvc.annotations['none']}",
            ),
            (&[(NAME, "${pvc.name"), (NAMESPACE, "keys")], "without an end"),
            (&[(NAME, "Key"), (NAMESPACE, "keys")], "\"Key\" is no valid secret name"),
            (&[(NAME, "a"), (NAMESPACE, "b"), ("csiNodeStageSecretName", "c")], "leave out the second"),
        ];
        for (parameters, words) in cases {
            let error = asked(parameters).unwrap_err();
            assert!(error.contains(words), "{parameters:?}: {error}");
        }
    }
}
