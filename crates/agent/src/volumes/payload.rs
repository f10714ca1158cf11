//! What is in the files of volumes that are made from objects.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, ServiceAccount, ServiceAccountTokenProjection,
    Volume,
};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::PostParams;

use super::writer::{Content, Payload};
use crate::agent::Agent;
use crate::names::Key;
use crate::pod::backoff::since;
use crate::pod::fields;

/// The mode of a file that has none.
const MODE: i32 = 0o644;
/// How long a token is good for that does not say.
const TOKEN: i64 = 3600;
/// After so long a token is renewed at the latest.
const TOKEN_OLD: Duration = Duration::from_secs(24 * 3600);
/// A token that was refused is asked for again after this long, while the old one is good.
const TOKEN_AGAIN: Duration = Duration::from_secs(30);

/// Tokens of pods, by uid and what they are for. One that is lost is asked for anew.
#[derive(Debug, Default)]
pub(crate) struct Tokens(Mutex<BTreeMap<(String, String, i64), Token>>);

#[derive(Clone, Debug)]
struct Token {
    text: String,
    /// When a new one is to be had.
    renew: Timestamp,
    /// When it is good for nothing.
    end: Timestamp,
}

impl Tokens {
    /// Forgets those of a pod.
    pub(crate) fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(of, ..), _| of != uid);
    }
}

/// The files of a volume.
///
/// # Errors
/// What it is made from is not there: in a kubelet's words.
pub(super) async fn of(
    agent: &Agent,
    key: &Key,
    pod: &Pod,
    volume: &Volume,
    again: &mut Option<Duration>,
) -> Result<Payload, String> {
    let mut files = Payload::new();
    if let Some(map) = &volume.config_map {
        let mode = map.default_mode.unwrap_or(MODE);
        let object = agent.config_maps.get(key, &map.name).await?;
        let object = needed(object, map.optional, || format!("configmap {:?} not found", map.name))?;
        from_config_map(&mut files, object.as_deref(), map.items.as_deref(), mode, map.optional)?;
    } else if let Some(secret) = &volume.secret {
        let mode = secret.default_mode.unwrap_or(MODE);
        let name = secret.secret_name.as_deref().unwrap_or_default();
        let object = agent.secrets.get(key, name).await?;
        let object = needed(object, secret.optional, || format!("secret {name:?} not found"))?;
        from_secret(&mut files, object.as_deref(), secret.items.as_deref(), mode, secret.optional)?;
    } else if let Some(down) = &volume.downward_api {
        from_pod(&mut files, agent, pod, down.items.as_deref(), down.default_mode.unwrap_or(MODE))?;
    } else if let Some(projected) = &volume.projected {
        let mode = projected.default_mode.unwrap_or(MODE);
        for source in projected.sources.iter().flatten() {
            if let Some(map) = &source.config_map {
                let object = agent.config_maps.get(key, &map.name).await?;
                let object = needed(object, map.optional, || format!("configmap {:?} not found", map.name))?;
                from_config_map(&mut files, object.as_deref(), map.items.as_deref(), mode, map.optional)?;
            } else if let Some(secret) = &source.secret {
                let object = agent.secrets.get(key, &secret.name).await?;
                let object =
                    needed(object, secret.optional, || format!("secret {:?} not found", secret.name))?;
                from_secret(&mut files, object.as_deref(), secret.items.as_deref(), mode, secret.optional)?;
            } else if let Some(down) = &source.downward_api {
                from_pod(&mut files, agent, pod, down.items.as_deref(), mode)?;
            } else if let Some(wish) = &source.service_account_token {
                let token = token(agent, key, pod, wish).await?;
                let left = since(Timestamp::now(), token.renew).max(Duration::from_secs(1));
                *again = Some(again.map_or(left, |again| again.min(left)));
                files.insert(wish.path.clone(), token_file(pod, &token, mode));
            } else {
                return Err("projected.sources: sextant agent knows configMap, secret, downwardAPI and \
                            serviceAccountToken alone"
                    .into());
            }
        }
    }
    Ok(files)
}

fn needed<T>(
    object: Option<T>,
    optional: Option<bool>,
    words: impl FnOnce() -> String,
) -> Result<Option<T>, String> {
    match object {
        None if optional != Some(true) => Err(words()),
        object => Ok(object),
    }
}

fn mode(mode: i32) -> u32 {
    mode.unsigned_abs() & 0o7777
}

/// All keys, or those that are named.
fn pick(
    files: &mut Payload,
    all: BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    default_mode: i32,
    optional: Option<bool>,
    missing: &str,
) -> Result<(), String> {
    let content =
        |bytes, own: Option<i32>| Content { bytes, mode: mode(own.unwrap_or(default_mode)), owner: None };
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        files.extend(all.into_iter().map(|(name, bytes)| (name, content(bytes, None))));
        return Ok(());
    };
    for item in items {
        match all.get(&item.key) {
            Some(bytes) => {
                plain(&item.path)?;
                files.insert(item.path.clone(), content(bytes.clone(), item.mode));
            }
            None if optional == Some(true) => {}
            None => return Err(format!("{missing} key: {}", item.key)),
        }
    }
    Ok(())
}

/// A path that stays below.
fn plain(path: &str) -> Result<(), String> {
    let is_bad = path.is_empty()
        || path.starts_with('/')
        || path.split('/').any(|part| part == ".." || part.is_empty());
    if is_bad || path.starts_with("..") { Err(format!("invalid path: {path:?}")) } else { Ok(()) }
}

fn from_config_map(
    files: &mut Payload,
    map: Option<&ConfigMap>,
    items: Option<&[KeyToPath]>,
    mode: i32,
    optional: Option<bool>,
) -> Result<(), String> {
    let Some(map) = map else { return Ok(()) };
    let text = map.data.iter().flatten().map(|(key, text)| (key.clone(), text.clone().into_bytes()));
    let binary = map.binary_data.iter().flatten().map(|(key, bytes)| (key.clone(), bytes.0.clone()));
    let missing = "configmap references non-existent config";
    pick(files, text.chain(binary).collect(), items, mode, optional, missing)
}

fn from_secret(
    files: &mut Payload,
    secret: Option<&Secret>,
    items: Option<&[KeyToPath]>,
    mode: i32,
    optional: Option<bool>,
) -> Result<(), String> {
    let Some(secret) = secret else { return Ok(()) };
    let all = secret.data.iter().flatten().map(|(key, bytes)| (key.clone(), bytes.0.clone()));
    pick(files, all.collect(), items, mode, optional, "references non-existent secret")
}

fn from_pod(
    files: &mut Payload,
    agent: &Agent,
    pod: &Pod,
    items: Option<&[DownwardAPIVolumeFile]>,
    default_mode: i32,
) -> Result<(), String> {
    let addresses: Vec<String> = Vec::new();
    let here = agent.here(&addresses);
    for item in items.unwrap_or_default() {
        plain(&item.path)?;
        let text = if let Some(field) = &item.field_ref {
            fields::field(pod, &field.field_path, &here)?
        } else if let Some(resource) = &item.resource_field_ref {
            let name = resource.container_name.as_deref().unwrap_or_default();
            let container = fields::container(pod, name).ok_or_else(|| format!("no container {name:?}"))?;
            fields::resource(container, &resource.resource, resource.divisor.as_ref(), &here)?
        } else {
            return Err(format!("downwardAPI item {:?} names neither a field nor a resource", item.path));
        };
        let own = mode(item.mode.unwrap_or(default_mode));
        files.insert(item.path.clone(), Content { bytes: text.into_bytes(), mode: own, owner: None });
    }
    Ok(())
}

/// A token can be read by the user who all containers run as, or else by everybody in the pod.
fn token_file(pod: &Pod, token: &Token, default_mode: i32) -> Content {
    let spec = pod.spec.as_ref();
    let group = spec.and_then(|spec| spec.security_context.as_ref()).and_then(|context| context.fs_group);
    let users = spec.into_iter().flat_map(|spec| {
        let of_pod = spec.security_context.as_ref().and_then(|context| context.run_as_user);
        let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        all.map(move |one| one.security_context.as_ref().and_then(|context| context.run_as_user).or(of_pod))
    });
    let users: std::collections::BTreeSet<Option<i64>> = users.collect();
    let only = users.first().copied().flatten().filter(|_| users.len() == 1);
    let owner = only.and_then(|user| u32::try_from(user).ok()).filter(|_| group.is_none());
    let mode = match (group, owner) {
        (None, Some(_)) => 0o600,
        _ => mode(default_mode),
    };
    Content { bytes: token.text.clone().into_bytes(), mode, owner }
}

/// A token of the pod's account for somebody else, and when it ends.
///
/// # Errors
/// The API server gives none: in a kubelet's words.
pub(super) async fn token_for(
    agent: &Agent,
    key: &Key,
    pod: &Pod,
    audience: &str,
    expiration_seconds: Option<i64>,
) -> Result<(String, Timestamp), String> {
    let audience = Some(audience.to_owned());
    let wish = ServiceAccountTokenProjection { audience, expiration_seconds, path: String::new() };
    token(agent, key, pod, &wish).await.map(|token| (token.text, token.end))
}

async fn token(
    agent: &Agent,
    key: &Key,
    pod: &Pod,
    wish: &ServiceAccountTokenProjection,
) -> Result<Token, String> {
    let seconds = wish.expiration_seconds.unwrap_or(TOKEN);
    let audience = wish.audience.clone().unwrap_or_default();
    let id = (key.uid.clone(), audience.clone(), seconds);
    let now = Timestamp::now();
    let there = agent.tokens.0.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
    if let Some(token) = there.as_ref().filter(|token| now < token.renew) {
        return Ok(token.clone());
    }
    match fetch(agent, key, pod, audience, seconds, now).await {
        Ok(token) => {
            agent.tokens.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id, token.clone());
            Ok(token)
        }
        // The old one is still good, and it is tried again soon.
        Err(why) => {
            let mut old = there.filter(|token| now < token.end).ok_or(why)?;
            old.renew = now.checked_add(TOKEN_AGAIN).unwrap_or(old.end).min(old.end);
            agent.tokens.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id, old.clone());
            Ok(old)
        }
    }
}

async fn fetch(
    agent: &Agent,
    key: &Key,
    pod: &Pod,
    audience: String,
    seconds: i64,
    now: Timestamp,
) -> Result<Token, String> {
    let spec = pod.spec.as_ref();
    let account = spec.and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
    let bound = BoundObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        name: Some(key.name.name.clone()),
        uid: Some(key.uid.clone()),
    };
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: Some(audience).filter(|one| !one.is_empty()).map(|one| vec![one]),
            bound_object_ref: Some(bound),
            expiration_seconds: Some(seconds),
        }),
        ..TokenRequest::default()
    };
    let api: Api<ServiceAccount> = Api::namespaced(agent.client.clone(), &key.name.namespace);
    let answer = api.create_token_request(account, &PostParams::default(), &request).await;
    let status = answer.map_err(|error| format!("failed to fetch token: {}", client::causes(&error)))?.status;
    let given = status.and_then(|status| status.token.zip(status.expiration_timestamp));
    let (text, end) = given.ok_or("failed to fetch token: the API server gave none")?;
    let end = end.0;
    // At four fifths of its life.
    let life = since(now, end);
    let renew = now.checked_add((life * 4 / 5).min(TOKEN_OLD)).unwrap_or(end);
    Ok(Token { text, renew, end })
}
