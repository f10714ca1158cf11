//! Documents of OpenAPI v3 that are of no group version: which groups and versions there are, and who the server is.

use super::definitions::{Definitions, Dialect, META};
use super::{paths, v3_document};
use crate::resource::Resource;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

const INFO: &str = "io.k8s.apimachinery.pkg.version.Info";

/// Something that the server tells about itself.
struct Place {
    /// Where its document is: `apis/apps`.
    at: String,
    /// Where it is told: `/apis/apps/`.
    path: String,
    tag: String,
    id: String,
    about: &'static str,
    /// The type of the answer; empty: a text.
    answer: String,
}

/// All places that have a document, those of group versions too.
pub(super) fn all(resources: &[Resource]) -> Vec<String> {
    let mut all: Vec<String> = general(resources).into_iter().map(|place| place.at).collect();
    let versions: BTreeSet<(&str, &str)> =
        resources.iter().map(|resource| (&*resource.names.group, &*resource.names.version)).collect();
    all.extend(versions.into_iter().map(|(group, version)| paths::base(group, version)[1..].to_owned()));
    all.sort();
    all
}

/// The document of a place that is no group version.
pub(super) fn document(source: &Map<String, Value>, resources: &[Resource], at: &str) -> Option<Value> {
    let place = general(resources).into_iter().find(|place| place.at == at)?;
    let (schema, names) = match &*place.answer {
        "" => (json!({"type": "string"}), Vec::new()),
        name => (Dialect::V3.reference(name), vec![name]),
    };
    let media = if place.answer.is_empty() || place.answer == INFO {
        &["application/json"][..]
    } else {
        paths::ANSWERS
    };
    let told = json!({place.path: {"get": {
        "tags": [place.tag],
        "description": place.about,
        "operationId": place.id,
        "responses": {
            "200": {"description": "OK", "content": paths::content(media, &schema)},
            "401": {"description": "Unauthorized"},
        },
    }}});
    Some(v3_document(told, Definitions::named_alone(source, &names).told(Dialect::V3)))
}

fn general(resources: &[Resource]) -> Vec<Place> {
    let place = |at: &str, tag: &str, id: String, about, answer: &str| Place {
        at: at.to_owned(),
        path: format!("/{at}/"),
        tag: tag.to_owned(),
        id,
        about,
        answer: answer.to_owned(),
    };
    let meta = |name: &str| format!("{META}{name}");
    let mut all = vec![
        place(
            "api",
            "core",
            "getCoreAPIVersions".into(),
            "The versions of the core group.",
            &meta("APIVersions"),
        ),
        place("apis", "apis", "getAPIVersions".into(), "The other groups.", &meta("APIGroupList")),
        place("version", "version", "getCodeVersion".into(), "Which version the server is.", INFO),
        place(
            ".well-known/openid-configuration",
            "WellKnown",
            "getServiceAccountIssuerOpenIDConfiguration".into(),
            "Who issues the tokens of service accounts, and where its keys are.",
            "",
        ),
        place(
            "openid/v1/jwks",
            "openid",
            "getServiceAccountIssuerOpenIDKeyset".into(),
            "The keys of tokens of service accounts.",
            "",
        ),
    ];
    let groups: BTreeSet<&str> = resources.iter().map(|resource| &*resource.names.group).collect();
    for group in groups.into_iter().filter(|group| !group.is_empty()) {
        let words = paths::words(group);
        let (at, tag) = (format!("apis/{group}"), paths::lower(&words));
        let id = format!("get{words}APIGroup");
        all.push(place(&at, &tag, id, "The versions of this group.", &meta("APIGroup")));
    }
    all
}
