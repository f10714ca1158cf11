//! Where the authority is kept: a Secret, which one process changes and all read, and a ConfigMap with the certificates alone, for whoever has to trust.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::cache::{Cache, Name};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use kube::{Client, Error};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::authority::{Authority, Pair, Roots};
use super::{NAMESPACE, ROOTS, SECRET};

/// How often it is looked whether something is due.
const LOOK: Duration = Duration::from_mins(1);
/// After the server has not answered.
const AGAIN: Duration = Duration::from_secs(5);
/// Who writes.
const FIELDS: &str = "sextant-mesh";

/// The entries of the Secret.
mod entry {
    pub(super) const CERTIFICATE: &str = "ca.crt";
    pub(super) const KEY: &str = "ca.key";
    pub(super) const NEXT_CERTIFICATE: &str = "next.crt";
    pub(super) const NEXT_KEY: &str = "next.key";
    pub(super) const NEXT_SINCE: &str = "next.since";
    pub(super) const OLD_CERTIFICATE: &str = "old.crt";
    pub(super) const OLD_UNTIL: &str = "old.until";
}

/// The authority, as it is in the cluster.
pub(super) struct Keeper {
    client: Client,
    secrets: Arc<Cache<Secret>>,
    changed: Arc<Notify>,
    authority: Arc<watch::Sender<Option<Arc<Authority>>>>,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").finish_non_exhaustive()
    }
}

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    Timestamp::now().as_second()
}

impl Keeper {
    /// Follows the Secret, whoever writes it.
    pub(super) fn start(client: &Client) -> Self {
        let named = watcher::Config::default().fields(&format!("metadata.name={SECRET}"));
        let secrets = Cache::follow(Api::namespaced(client.clone(), NAMESPACE), named);
        let changed = Arc::new(Notify::new());
        let authority = Arc::new(watch::Sender::new(None));
        let (tell, put) = (changed.clone(), authority.clone());
        secrets.listen(move |change: &client::cache::Change<Secret>| {
            tell.notify_one();
            let Some(secret) = &change.new else { return };
            match read(secret).and_then(|roots| Authority::of(&roots)) {
                Ok(authority) => drop(put.send_replace(Some(Arc::new(authority)))),
                Err(why) => eprintln!("sextant control: warning: {}", unusable(&why)),
            }
        });
        Self { client: client.clone(), secrets, changed, authority }
    }

    /// The authority, and what becomes of it; none before there is one.
    pub(super) fn authority(&self) -> watch::Receiver<Option<Arc<Authority>>> {
        self.authority.subscribe()
    }

    /// Makes the authority if there is none, and does with its roots what is due, for as long as it is polled. One process may.
    pub(super) async fn lead(&self) {
        self.secrets.filled().await;
        let mut told = String::new();
        loop {
            let wait = match self.look().await {
                Ok(()) => {
                    told.clear();
                    LOOK
                }
                Err(why) => {
                    if told != why {
                        eprintln!("sextant control: warning: {why}; tries again");
                        told = why;
                    }
                    AGAIN
                }
            };
            let _due = timeout(wait, self.changed.notified()).await;
            // Who has changed it several times is answered once.
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn look(&self) -> Result<(), String> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), NAMESPACE);
        let failed = |act: &str, error: &Error| {
            format!("cannot {act} secret {NAMESPACE}/{SECRET}: {}", client::causes(error))
        };
        let Some(secret) = self.secrets.get(&Name::new(NAMESPACE, SECRET)) else {
            let roots = Roots::new(now())?;
            return match secrets.create(&PostParams::default(), &made(&roots)).await {
                Ok(_) => {
                    eprintln!(
                        "sextant control: has made the mesh's certificate authority, secret {NAMESPACE}/{SECRET}"
                    );
                    Ok(())
                }
                // Another process was first: it comes.
                Err(Error::Api(status)) if status.code == 409 => Ok(()),
                Err(error) => Err(failed("make", &error)),
            };
        };
        // What cannot be read is somebody's, and is left alone: a new one would end all trust.
        let roots = read(&secret).map_err(|why| unusable(&why))?;
        Authority::of(&roots).map_err(|why| unusable(&why))?;
        if let Some(next) = roots.step(now())? {
            let patch = json!({"metadata": {"resourceVersion": secret.metadata.resource_version}, "data": data(&next)});
            match secrets.patch(SECRET, &PatchParams::default(), &Patch::Merge(patch)).await {
                Ok(_) => eprintln!("sextant control: the mesh's roots have changed: {}", said(&roots, &next)),
                // It has changed since, and comes.
                Err(Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(failed("write", &error)),
            }
            return Ok(());
        }
        self.publish(&roots).await
    }

    /// Has the ConfigMap say whom to trust.
    async fn publish(&self, roots: &Roots) -> Result<(), String> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), NAMESPACE);
        let failed =
            |error: &Error| format!("cannot write config map {NAMESPACE}/{ROOTS}: {}", client::causes(error));
        let wanted = BTreeMap::from([("roots.pem".to_owned(), roots.trusted())]);
        match maps.get_opt(ROOTS).await {
            Ok(Some(there)) if there.data.as_ref() == Some(&wanted) => Ok(()),
            Ok(Some(_)) => {
                let patch = Patch::Merge(json!({"data": wanted}));
                maps.patch(ROOTS, &PatchParams::default(), &patch)
                    .await
                    .map(drop)
                    .map_err(|error| failed(&error))
            }
            Ok(None) => {
                let mut map = ConfigMap { data: Some(wanted), ..ConfigMap::default() };
                map.metadata.name = Some(ROOTS.into());
                let params = PostParams { field_manager: Some(FIELDS.into()), ..PostParams::default() };
                match maps.create(&params, &map).await {
                    Err(Error::Api(status)) if status.code == 409 => Ok(()),
                    made => made.map(drop).map_err(|error| failed(&error)),
                }
            }
            Err(error) => Err(failed(&error)),
        }
    }
}

fn unusable(why: &str) -> String {
    format!(
        "cannot use the mesh's certificate authority, secret {NAMESPACE}/{SECRET}: {why}; correct it, or delete it, and all certificates are made anew"
    )
}

/// What a step was, for people.
fn said(before: &Roots, after: &Roots) -> &'static str {
    match (&before.next, &after.next) {
        (None, Some(_)) => "the next one is told, and signs in a day",
        (Some(_), None) => "the next one signs, and the one before is trusted for another day",
        _ => "the one before is trusted no more",
    }
}

fn made(roots: &Roots) -> Secret {
    let there = data(roots).into_iter().filter(|(_, value)| !value.is_null());
    let bytes =
        there.filter_map(|(name, value)| Some((name.to_owned(), serde_json::from_value(value).ok()?)));
    let mut secret =
        Secret { data: Some(bytes.collect::<BTreeMap<String, ByteString>>()), ..Secret::default() };
    secret.metadata.name = Some(SECRET.into());
    secret.type_ = Some("Opaque".into());
    secret
}

/// All entries as they are written; those that are not to be there are null.
fn data(roots: &Roots) -> BTreeMap<&'static str, Value> {
    let text = |text: &str| json!(ByteString(text.as_bytes().to_vec()));
    let some = |value: Option<&str>| value.map_or(Value::Null, text);
    let next = roots.next.as_ref();
    let (since, until) =
        (next.map(|(_, at)| at.to_string()), roots.old.as_ref().map(|(_, at)| at.to_string()));
    BTreeMap::from([
        (entry::CERTIFICATE, text(&roots.signing.certificate)),
        (entry::KEY, text(&roots.signing.key)),
        (entry::NEXT_CERTIFICATE, some(next.map(|(pair, _)| pair.certificate.as_str()))),
        (entry::NEXT_KEY, some(next.map(|(pair, _)| pair.key.as_str()))),
        (entry::NEXT_SINCE, some(since.as_deref())),
        (entry::OLD_CERTIFICATE, some(roots.old.as_ref().map(|(certificate, _)| certificate.as_str()))),
        (entry::OLD_UNTIL, some(until.as_deref())),
    ])
}

fn read(secret: &Secret) -> Result<Roots, String> {
    let data = secret.data.as_ref();
    let text = |name: &str| -> Result<Option<String>, String> {
        let Some(ByteString(bytes)) = data.and_then(|data| data.get(name)) else { return Ok(None) };
        String::from_utf8(bytes.clone()).map(Some).map_err(|_| format!("{name} is no text"))
    };
    let needed =
        |name: &str| -> Result<String, String> { text(name)?.ok_or_else(|| format!("{name} is missing")) };
    let time = |name: &str| -> Result<i64, String> {
        let value = needed(name)?;
        value.trim().parse::<i64>().map_err(|_| format!("{name} is {value:?}; it must be seconds since 1970"))
    };
    let next = match text(entry::NEXT_CERTIFICATE)? {
        Some(certificate) => {
            Some((Pair { certificate, key: needed(entry::NEXT_KEY)? }, time(entry::NEXT_SINCE)?))
        }
        None => None,
    };
    let old = match text(entry::OLD_CERTIFICATE)? {
        Some(certificate) => Some((certificate, time(entry::OLD_UNTIL)?)),
        None => None,
    };
    Ok(Roots {
        signing: Pair { certificate: needed(entry::CERTIFICATE)?, key: needed(entry::KEY)? },
        next,
        old,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server keeps of what is written.
    fn kept(roots: &Roots) -> Secret {
        made(roots)
    }

    #[test]
    fn what_is_written_is_read_again() {
        let pair = |name: &str| Pair { certificate: format!("{name}.crt"), key: format!("{name}.key") };
        let one = Roots { signing: pair("a"), next: None, old: None };
        let all = Roots { signing: pair("a"), next: Some((pair("b"), 7)), old: Some(("c".into(), 9)) };
        for roots in [&one, &all] {
            assert_eq!(read(&kept(roots)).as_ref(), Ok(roots));
        }
        // What is there no more is taken away by name: a merge leaves alone what it does not name.
        let names = |roots: &Roots| data(roots).into_keys().collect::<Vec<_>>();
        assert_eq!(names(&one), names(&all));
        assert_eq!(data(&one)[entry::NEXT_KEY], Value::Null);
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut secret = kept(&Roots::new(0).unwrap());
        let missing = |secret: &Secret| read(secret).unwrap_err();
        let put = |secret: &mut Secret, name: &str, value: &str| {
            secret.data.get_or_insert_default().insert(name.into(), ByteString(value.into()));
        };
        put(&mut secret, entry::OLD_CERTIFICATE, "x");
        assert_eq!(missing(&secret), "old.until is missing");
        put(&mut secret, entry::OLD_UNTIL, "soon");
        assert_eq!(missing(&secret), "old.until is \"soon\"; it must be seconds since 1970");
        secret.data.get_or_insert_default().remove(entry::KEY);
        put(&mut secret, entry::OLD_UNTIL, "5");
        assert_eq!(missing(&secret), "ca.key is missing");
        assert_eq!(missing(&Secret::default()), "ca.crt is missing");
    }

    #[test]
    fn nobody_is_shown_a_key() {
        let roots = Roots::new(1_700_000_000).unwrap();
        let shown = format!("{roots:?} {:?}", Authority::of(&roots).unwrap());
        assert!(!shown.contains("PRIVATE") && !shown.contains(roots.signing.key.trim()), "{shown}");
    }
}
