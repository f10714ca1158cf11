//! Images that containers are made from: there, or pulled, or why not.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cri::contract::v1::{
    AuthConfig, Image, ImageSpec, ImageStatusRequest, PodSandboxConfig, PullImageRequest,
};
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::image_name;
use super::memory::Waiting;
use crate::agent::Agent;
use crate::events::PartOf;
use crate::names::Key;
use crate::runtime::cause;

/// An image that is not to be had now.
#[derive(Debug)]
pub(crate) struct Missing {
    /// What the status says.
    pub(crate) waiting: Waiting,
    /// When it is tried again; never where nothing would change.
    pub(crate) again: Option<Duration>,
}

/// What has to be there, and for whom.
pub(crate) struct Wanted<'a> {
    /// The agent.
    pub(crate) agent: &'a Agent,
    /// The pod.
    pub(crate) pod: &'a Pod,
    /// What of it the image is for.
    pub(crate) of: PartOf,
    /// Its sandbox.
    pub(crate) sandbox: &'a PodSandboxConfig,
    /// The image, as the spec names it.
    pub(crate) image: &'a str,
    /// `Always`, `IfNotPresent` or `Never`; by the image's name where it is missing.
    pub(crate) policy: Option<&'a str>,
}

impl Wanted<'_> {
    /// The image, once it is there.
    pub(crate) async fn have(&self) -> Result<Image, Missing> {
        let had = self.find().await;
        if let Err(missing) = &had {
            self.agent.events.warning(&self.of, "Failed", format!("Error: {}", missing.waiting.reason));
        }
        had
    }

    async fn find(&self) -> Result<Image, Missing> {
        if let Some(why) = image_name::fault(self.image) {
            let name = self.image;
            let words = format!(
                "Failed to apply default image tag {name:?}: couldn't parse image name {name:?}: {why}"
            );
            return Err(self.not_inspected("InvalidImageName", words));
        }
        let there = self.look().await?;
        let policy = self.policy.unwrap_or_else(|| default_policy(self.image));
        match (policy, there) {
            ("Never", None) => {
                let words =
                    format!("Container image {:?} is not present with pull policy of Never", self.image);
                self.agent.events.warning(&self.of, "ErrImageNeverPull", words.clone());
                Err(Missing { waiting: Waiting::new("ErrImageNeverPull", words), again: None })
            }
            ("Never" | "IfNotPresent", Some(image)) => {
                let words = format!(
                    "Container image {:?} already present on machine and can be accessed by the pod",
                    self.image
                );
                self.agent.events.normal(&self.of, "Pulled", words);
                Ok(image)
            }
            _ => self.pull().await,
        }
    }

    fn spec(&self) -> ImageSpec {
        ImageSpec {
            image: self.image.into(),
            user_specified_image: self.image.into(),
            ..ImageSpec::default()
        }
    }

    async fn look(&self) -> Result<Option<Image>, Missing> {
        let asked = async {
            let request = ImageStatusRequest { image: Some(self.spec()), verbose: false };
            self.agent.runtime.client().await?.image_status(request).await
        };
        match asked.await {
            Ok(answer) => Ok(answer.image),
            Err(error) => {
                let words = format!("Failed to inspect image {:?}: {}", self.image, cause(&error));
                Err(self.not_inspected("ImageInspectError", words))
            }
        }
    }

    fn not_inspected(&self, reason: &str, words: String) -> Missing {
        self.agent.events.warning(&self.of, "InspectFailed", words.clone());
        Missing { waiting: Waiting::new(reason, words), again: Some(Duration::from_secs(10)) }
    }

    async fn pull(&self) -> Result<Image, Missing> {
        let key = Key::of(self.pod);
        self.held(&key).await?;
        self.agent.events.normal(&self.of, "Pulling", format!("Pulling image {:?}", self.image));
        let began = Instant::now();
        let failed = match self.pull_with_secrets(&key).await {
            Ok(()) => match self.look().await? {
                Some(image) => {
                    let time = began.elapsed();
                    let (time, size) =
                        (time - Duration::from_nanos((time.subsec_nanos() % 1_000_000).into()), image.size);
                    let words = format!(
                        "Successfully pulled image {:?} in {time:?} ({time:?} including waiting). Image size: {size} bytes.",
                        self.image
                    );
                    self.agent.events.normal(&self.of, "Pulled", words);
                    self.agent.with_memory(&key, |memory| memory.pull_failures.remove(self.image));
                    return Ok(image);
                }
                None => "the runtime has pulled it and has not got it".into(),
            },
            Err(why) => why,
        };
        let words = format!("Failed to pull image {:?}: {failed}", self.image);
        self.agent.events.warning(&self.of, "Failed", words);
        let waiting = self.why(failed);
        let now = Timestamp::now();
        self.agent.with_memory(&key, |memory| {
            memory.pulls.next(self.image, now, now);
            memory.pull_failures.insert(self.image.into(), (now, waiting.clone()));
        });
        // The back-off is told at the next look, and that comes soon.
        Err(Missing { waiting, again: Some(Duration::from_secs(1)) })
    }

    /// Whether it failed a short while ago, and waits.
    async fn held(&self, key: &Key) -> Result<(), Missing> {
        let now = Timestamp::now();
        let held = self.agent.with_memory(key, |memory| {
            let (at, why) = memory.pull_failures.get(self.image)?.clone();
            let (_, left) = memory.pulls.wait(self.image, at, now)?;
            Some((left, why))
        });
        let Some((left, why)) = held.flatten() else { return Ok(()) };
        let words = format!("Back-off pulling image {:?}", self.image);
        self.agent.events.normal(&self.of, "BackOff", words.clone());
        let message = format!("{words}: {}: {}", why.reason, why.message);
        Err(Missing { waiting: Waiting::new("ImagePullBackOff", message), again: Some(left) })
    }

    /// What a container waits for whose image could not be pulled. Two reasons are the runtime's own.
    fn why(&self, failed: String) -> Waiting {
        for (reason, what) in [
            ("RegistryUnavailable", "the registry is unavailable"),
            ("SignatureValidationFailed", "the signature validation failed"),
        ] {
            if let Some(why) = failed.strip_prefix(reason) {
                return Waiting::new(
                    reason,
                    format!("image pull failed for {} because {what}{why}", self.image),
                );
            }
        }
        Waiting::new("ErrImagePull", failed)
    }

    /// With each of the credentials that fit, and without where there is none.
    async fn pull_with_secrets(&self, key: &Key) -> Result<(), String> {
        let (mut secrets, mut missing) = (Vec::new(), Vec::new());
        let named = self.pod.spec.as_ref().and_then(|spec| spec.image_pull_secrets.as_ref());
        for one in named.into_iter().flatten() {
            // One that is not there is as if it was not named: what it is for may need none.
            match self.agent.secrets.get(key, &one.name).await? {
                Some(secret) => secrets.push(secret),
                None => missing.push(one.name.as_str()),
            }
        }
        if !missing.is_empty() {
            let words = format!(
                "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                missing.join(", ")
            );
            self.agent.events.warning(self.pod, "FailedToRetrieveImagePullSecret", words);
        }
        let mut all: Vec<Option<AuthConfig>> =
            secrets.iter().flat_map(|secret| credentials(secret, self.image)).map(Some).collect();
        if all.is_empty() {
            all.push(None);
        }
        let mut failed = String::new();
        for auth in all {
            let request = PullImageRequest {
                image: Some(self.spec()),
                auth,
                sandbox_config: Some(self.sandbox.clone()),
            };
            let client = self.agent.runtime.endless().await.map_err(|error| cause(&error))?;
            match client.pull_image(request).await {
                Ok(_) => return Ok(()),
                Err(error) => failed = in_words(&error),
            }
        }
        Err(failed)
    }
}

/// A failed pull as a kubelet tells it: with the code, where that says something.
fn in_words(error: &grpc::Error) -> String {
    match error.code() {
        grpc::Code::Unknown => cause(error),
        code => format!("rpc error: code = {code} desc = {}", cause(error)),
    }
}

/// As the API server has it where nothing is said.
fn default_policy(image: &str) -> &'static str {
    let last = image.rsplit('/').next().unwrap_or(image);
    let is_fixed = image.contains('@') || last.split_once(':').is_some_and(|(_, tag)| tag != "latest");
    if is_fixed { "IfNotPresent" } else { "Always" }
}

/// What a secret holds for the image's registry.
fn credentials(secret: &Secret, image: &str) -> Vec<AuthConfig> {
    let data = secret.data.as_ref();
    let of =
        |key: &str| data.and_then(|data| data.get(key)).and_then(|text| serde_json::from_slice(&text.0).ok());
    let new: Option<Value> = of(".dockerconfigjson");
    let auths = match new {
        Some(mut config) => config.get_mut("auths").map(Value::take),
        None => of(".dockercfg"),
    };
    let auths: BTreeMap<String, Value> =
        auths.and_then(|auths| serde_json::from_value(auths).ok()).unwrap_or_default();
    let mut fitting: Vec<(&String, &Value)> =
        auths.iter().filter(|(server, _)| fits(server, image)).collect();
    // The longest path says most.
    fitting.sort_by_key(|(server, _)| std::cmp::Reverse(server.len()));
    fitting.into_iter().filter_map(|(_, auth)| credential(auth)).collect()
}

fn credential(auth: &Value) -> Option<AuthConfig> {
    let text = |key: &str| auth.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (mut username, mut password) = (text("username"), text("password"));
    if let Ok(both) = STANDARD.decode(text("auth"))
        && let Some((user, word)) = String::from_utf8(both).ok()?.split_once(':')
    {
        (username, password) = (user.to_owned(), word.trim_end_matches('\0').to_owned());
    }
    let (identity_token, registry_token) = (text("identitytoken"), text("registrytoken"));
    let is_empty = username.is_empty() && identity_token.is_empty() && registry_token.is_empty();
    (!is_empty).then(|| AuthConfig {
        username,
        password,
        identity_token,
        registry_token,
        ..AuthConfig::default()
    })
}

/// Whether credentials for `server` are for the registry, and the path, of the image.
fn fits(server: &str, image: &str) -> bool {
    let server = server.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let server = server.strip_suffix("/v1").or(server.strip_suffix("/v2")).unwrap_or(server);
    let first = image.split('/').next().unwrap_or_default();
    let has_host = image.contains('/') && (first.contains(['.', ':']) || first == "localhost");
    let image = if has_host { image.to_owned() } else { format!("index.docker.io/{image}") };
    let (host, path) = server.split_once('/').unwrap_or((server, ""));
    let (image_host, image_path) = image.split_once('/').unwrap_or((&image, ""));
    let docker = |host: &str| matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io");
    let same = host == image_host || docker(host) && docker(image_host) || wild(host, image_host);
    same && (path.is_empty() || image_path.starts_with(path))
}

/// `*.example.com`: a star stands for one label.
fn wild(pattern: &str, host: &str) -> bool {
    let (pattern, host): (Vec<&str>, Vec<&str>) = (pattern.split('.').collect(), host.split('.').collect());
    pattern.len() == host.len() && pattern.iter().zip(&host).all(|(one, other)| *one == "*" || one == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_follow_names() {
        for (image, policy) in [
            ("a", "Always"),
            ("a:latest", "Always"),
            ("h:5000/a", "Always"),
            ("a:1", "IfNotPresent"),
            ("h:5000/a:1", "IfNotPresent"),
            ("a@sha256:0", "IfNotPresent"),
        ] {
            assert_eq!(default_policy(image), policy, "{image}");
        }
    }

    #[test]
    fn credentials_are_for_their_registry_alone() {
        for (server, image, is) in [
            ("https://index.docker.io/v1/", "busybox", true),
            ("docker.io", "docker.io/library/busybox:1", true),
            ("r.example.com", "r.example.com/a/b", true),
            ("r.example.com/a", "r.example.com/a/b", true),
            ("r.example.com/c", "r.example.com/a/b", false),
            ("*.example.com", "r.example.com/a", true),
            ("*.example.com", "r.s.example.com/a", false),
            ("r.example.com", "busybox", false),
            ("h:5000", "h:5000/a", true),
        ] {
            assert_eq!(fits(server, image), is, "{server} {image}");
        }
        let auth = serde_json::json!({"auth": STANDARD.encode("u:p:w")});
        let found = credential(&auth).unwrap();
        assert_eq!((found.username.as_str(), found.password.as_str()), ("u", "p:w"));
    }
}
