//! The definitions of SMI's kinds, made where a server has none.
//!
//! What somebody else has made stays as it is, and so does what a newer one than this has made: each that was made here says as which of those that
//! there were.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use kube::api::{Api, ApiResource, DynamicObject, PostParams};
use kube::{Client, Error, ResourceExt as _};
use smi::contract::{CRDS, Crd, Kind};
use tokio::time::{Instant, sleep};

use super::kinds;

/// So long nobody follows anything for them; what is not done by then is done beside it.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);
/// Where a definition says that it was made here, and as which.
const REVISION: &str = "mesh.sextant.dev/definitions";
/// The number of those that are made now: whoever changes one of them raises it.
const PRESENT: u32 = 1;
/// Who writes.
const FIELDS: &str = "sextant-mesh";
/// After the server has not answered.
const AGAIN: Duration = Duration::from_millis(500);
/// How often it is asked whether it serves what it has taken.
const SOON: Duration = Duration::from_millis(20);
/// How long it may take for that.
const SERVED: Duration = Duration::from_secs(10);

/// Sees that the server has them, and waits a while until it serves them: who follows the kinds then finds them at once. What it refuses is told, and left.
pub(super) async fn ensure(client: &Client) {
    let definitions: Api<DynamicObject> = Api::all_with(client.clone(), &resource());
    let all = CRDS.iter().copied().map(|crd| make(&definitions, crd));
    let mut taken: Vec<Crd> = join_all(all).await.into_iter().flatten().collect();
    let until = Instant::now() + SERVED;
    loop {
        if let Ok(served) = kinds::served(client, &BTreeSet::new()).await {
            taken.retain(|crd| !served.iter().any(|(kind, _)| is_of(*crd, *kind)));
        }
        if taken.is_empty() {
            return;
        }
        if Instant::now() > until {
            break;
        }
        sleep(SOON).await;
    }
    for crd in taken {
        eprintln!("sextant control: warning: mesh: definition {} is not served yet", crd.name);
    }
}

/// Makes a definition, or renews it, however long that takes; none where the server has refused it.
async fn make(definitions: &Api<DynamicObject>, crd: Crd) -> Option<Crd> {
    let mut told = false;
    loop {
        let Err(error) = put(definitions, crd).await else { return Some(crd) };
        let is_refused = is_refused(&error);
        if is_refused || !std::mem::replace(&mut told, true) {
            let then = if is_refused { "leaves it to others" } else { "tries again" };
            let cause = client::causes(&error);
            eprintln!("sextant control: warning: mesh: cannot make definition {}: {cause}; {then}", crd.name);
        }
        if is_refused {
            return None;
        }
        sleep(AGAIN).await;
    }
}

/// Tries it once.
async fn put(definitions: &Api<DynamicObject>, crd: Crd) -> kube::Result<()> {
    // Each of them can be read: the tests see to that.
    let Some(wanted) = wanted(crd) else { return Ok(()) };
    let params = PostParams { field_manager: Some(FIELDS.into()), ..PostParams::default() };
    loop {
        let done = match definitions.get_opt(crd.name).await? {
            None => definitions.create(&params, &wanted).await,
            Some(there) => match renewed(there, &wanted, PRESENT) {
                Some(renewed) => definitions.replace(crd.name, &params, &renewed).await,
                None => return Ok(()),
            },
        };
        match done {
            // It has come, gone or changed since: it is looked at again.
            Err(Error::Api(status)) if status.code == 409 => sleep(SOON).await,
            done => return done.map(drop),
        }
    }
}

/// A definition as it is made.
fn wanted(crd: Crd) -> Option<DynamicObject> {
    let mut definition: DynamicObject = serde_json::from_value(crd.to_json().ok()?).ok()?;
    definition.annotations_mut().insert(REVISION.into(), PRESENT.to_string());
    Some(definition)
}

/// What is there, with what there is to be, if an older one than `present` was made here.
fn renewed(mut there: DynamicObject, wanted: &DynamicObject, present: u32) -> Option<DynamicObject> {
    let revision: u32 = there.annotations().get(REVISION)?.parse().ok()?;
    if revision >= present {
        return None;
    }
    let spec = wanted.data.get("spec")?.clone();
    there.data.as_object_mut()?.insert("spec".into(), spec);
    there.annotations_mut().insert(REVISION.into(), present.to_string());
    Some(there)
}

/// Whether a definition is that of a kind.
fn is_of(crd: Crd, kind: Kind) -> bool {
    crd.name.split_once('.') == Some((kind.plural(), kind.group()))
}

/// Whether the server has said that it will not, rather than that it cannot now.
fn is_refused(error: &Error) -> bool {
    matches!(error, Error::Api(status) if matches!(status.code, 400..500) && !matches!(status.code, 408 | 429))
}

fn resource() -> ApiResource {
    ApiResource {
        group: "apiextensions.k8s.io".into(),
        version: "v1".into(),
        api_version: "apiextensions.k8s.io/v1".into(),
        kind: "CustomResourceDefinition".into(),
        plural: "customresourcedefinitions".into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sha2::{Digest as _, Sha256};

    use super::*;

    #[test]
    fn whoever_changes_a_definition_raises_the_number() {
        let mut digest = Sha256::new();
        for crd in CRDS {
            digest.update(crd.yaml.as_bytes());
        }
        let digest: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        // As `cat crates/smi/crds/*.yaml | sha256sum` has it.
        let known = (1, "c26fbf71301ec68137ad065f5e832db02af909524811138e89918f134d48e1de");
        assert_eq!((PRESENT, digest.as_str()), known, "raise PRESENT, and write down both");
    }

    #[test]
    fn each_definition_is_that_of_a_kind() {
        for crd in CRDS {
            assert_eq!(Kind::all().filter(|kind| is_of(*crd, *kind)).count(), 1, "{}", crd.name);
        }
    }

    #[test]
    fn what_others_and_newer_ones_have_made_stays() {
        for crd in CRDS {
            let made = wanted(*crd).unwrap();
            assert_eq!(made.name_any(), crd.name);
            let is_renewed = |revision: Option<&str>| {
                let mut there = made.clone();
                there.data["spec"] = json!({"group": "theirs"});
                there.metadata.resource_version = Some("7".into());
                there.annotations_mut().remove(REVISION);
                if let Some(revision) = revision {
                    there.annotations_mut().insert(REVISION.into(), revision.into());
                }
                renewed(there, &made, 3)
            };
            for stays in [None, Some("3"), Some("4"), Some("mine"), Some("")] {
                assert_eq!(is_renewed(stays), None, "{stays:?}");
            }
            let renewed = is_renewed(Some("2")).unwrap();
            assert_eq!(renewed.data["spec"], made.data["spec"]);
            assert_eq!(renewed.annotations()[REVISION], "3");
            // Whoever has changed it since is not overwritten.
            assert_eq!(renewed.metadata.resource_version.as_deref(), Some("7"));
        }
    }

    #[test]
    fn what_a_server_will_not_do_is_not_asked_for_again() {
        let said = |code: u16| {
            let status = serde_json::from_value(json!({"code": code, "message": "no"})).unwrap();
            is_refused(&Error::Api(Box::new(status)))
        };
        assert!(said(403) && said(404) && said(422));
        assert!(!said(408) && !said(429) && !said(500) && !said(503));
    }
}
