//! The start of one container.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cri::contract::v1::{
    CreateContainerRequest, Image, Mount, RemoveContainerRequest, StartContainerRequest,
};
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::jiff::Timestamp;

use super::containers::{self, Given};
use super::env::{self, Sources};
use super::hooks::{Act, Whom, act};
use super::images::Wanted;
use super::memory::Waiting;
use super::plan::time;
use super::spec::{Part, is_on_host};
use super::{ending, status, sync, told, users};
use crate::agent::Agent;
use crate::collect::links;
use crate::names::Key;
use crate::observed::{Observed, attempt, is_exited, restarts};
use crate::runtime::cause;
use crate::volumes::{self, Volumes};

/// When a container that could not be made is tried again.
const LATER: Duration = Duration::from_secs(10);
/// How long a hook after the start may take.
const HOOK: Duration = Duration::from_secs(600);

/// Why a container was not started, as its status says it.
struct Failed {
    waiting: Waiting,
    again: Option<Duration>,
}

impl Failed {
    fn new(reason: &str, message: impl Into<String>) -> Self {
        Self { waiting: Waiting::new(reason, message), again: Some(LATER) }
    }
}

/// Starts a container; the error is when it is tried again.
pub(crate) async fn start(
    agent: &Arc<Agent>,
    pod: &Arc<Pod>,
    part: &Part<'_>,
    observed: &Observed,
    volumes: &Volumes,
) -> Result<(), Duration> {
    let key = Key::of(pod);
    let name = &part.container.name;
    let now = Timestamp::now();
    if let Some(last) = observed.container(name).filter(|one| is_exited(one)) {
        let ended = time(last.finished_at).unwrap_or(now);
        agent.with_memory(&key, |memory| memory.crashes.next(name, ended, now));
    }
    let starting = Starting { agent, key: &key, pod, part, observed };
    match starting.run(volumes).await {
        Ok(()) => {
            agent.with_memory(&key, |memory| memory.waiting.remove(name));
            Ok(())
        }
        Err(failed) => {
            let is_new = agent.with_memory(&key, |memory| {
                memory.waiting.insert(name.clone(), failed.waiting.clone()).as_ref() != Some(&failed.waiting)
            });
            // Those of images and hooks are told where they fail.
            let is_told = !matches!(
                failed.waiting.reason.as_str(),
                "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError"
            );
            if is_new == Some(true) && !is_told {
                agent.events.warning(&part.of(pod), "Failed", format!("Error: {}", failed.waiting.message));
            }
            // Without a time it waits for somebody to change something.
            Err(failed.again.unwrap_or(Duration::from_secs(300)))
        }
    }
}

struct Starting<'a> {
    agent: &'a Arc<Agent>,
    key: &'a Key,
    pod: &'a Arc<Pod>,
    part: &'a Part<'a>,
    observed: &'a Observed,
}

impl Starting<'_> {
    async fn run(&self, volumes: &Volumes) -> Result<(), Failed> {
        let (agent, pod, container) = (self.agent, self.pod, &*self.part.container);
        let wrong = |why: String| Failed::new("CreateContainerConfigError", why);
        let sandbox = self.observed.sandbox().ok_or_else(|| wrong("the pod has no sandbox".into()))?;
        let sandbox_config = sync::config(agent, pod, attempt(sandbox)).map_err(wrong)?;
        let image = container.image.as_deref().unwrap_or_default();
        let policy = container.image_pull_policy.as_deref();
        let of = self.part.of(pod);
        let wanted = Wanted { agent, pod, of: of.clone(), sandbox: &sandbox_config, image, policy };
        let image = wanted
            .have()
            .await
            .map_err(|missing| Failed { waiting: missing.waiting, again: missing.again })?;
        let config = self.config(&image, volumes).await.map_err(wrong)?;
        let log = config.log_path.clone();
        let resources = config.linux.as_ref().and_then(|linux| linux.resources.clone());
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.id.clone(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        let not_made = |error: grpc::Error| Failed::new("CreateContainerError", cause(&error));
        let client = agent.runtime.client().await.map_err(not_made)?;
        let id = client.create_container(request).await.map_err(not_made)?.container_id;
        agent.with_memory(self.key, |memory| memory.enacted.extend(resources.map(|all| (id.clone(), all))));
        agent.events.normal(&of, "Created", "Container created");
        if let Err(error) = client.start_container(StartContainerRequest { container_id: id.clone() }).await {
            let failed = Failed::new("RunContainerError", cause(&error));
            // It stays: its end counts, and is told. One that the runtime has not ended is removed by the next step.
            self.prune().await;
            return Err(failed);
        }
        agent.events.normal(&of, "Started", "Container started");
        let log = self.key.logs(&agent.setup.logs).join(log);
        if let Err(why) = links::make(&agent.setup.log_links, self.key, &container.name, &id, &log) {
            eprintln!("sextant agent: warning: {why}");
        }
        self.prune().await;
        self.after(&id).await
    }

    /// The container, as the runtime is asked for it.
    async fn config(
        &self,
        image: &Image,
        volumes: &Volumes,
    ) -> Result<cri::contract::v1::ContainerConfig, String> {
        let (agent, pod, container) = (self.agent, self.pod, &*self.part.container);
        let addresses = self.observed.addresses();
        let sources = self.sources(container).await?;
        let env = env::of(pod, container, &agent.here(&addresses), &sources)?;
        let mut mounts = volumes::mounts(agent, pod, container, volumes, &env)?;
        let devices = volumes::devices(container, volumes)?;
        self.own_mounts(container, &addresses, &mut mounts).map_err(|error| error.to_string())?;
        let users = users::of(agent, pod)?;
        if let Some(first) = users {
            users::map(&mut mounts, first);
        }
        let target = containers::target(pod, &container.name);
        let target = target.and_then(|name| self.observed.here(name)).map(|one| one.id.clone());
        let given = Given {
            restarts: self.restarts(),
            image,
            env,
            mounts,
            devices,
            target,
            users,
            memory: agent.machine.memory,
        };
        containers::config(&agent.setup, pod, self.part, given)
    }

    /// How often it was started before: by the runtime or, of one that it has forgotten, by what was told last and by the logs that are
    /// there, which another start must not overwrite.
    fn restarts(&self) -> u32 {
        let name = &self.part.container.name;
        if let Some(last) = self.observed.container(name) {
            return restarts(last) + 1;
        }
        let told = told::told(self.agent, self.key, self.pod);
        let told = told.as_ref().and_then(|old| status::past(old, name)).map(status::next_restart);
        let told = told.and_then(|count| u32::try_from(count).ok()).unwrap_or_default();
        told.max(next_log(&self.key.logs(&self.agent.setup.logs).join(name)))
    }

    /// The pod's hosts, and a place for its last words.
    fn own_mounts(
        &self,
        container: &Container,
        addresses: &[String],
        mounts: &mut Vec<Mount>,
    ) -> std::io::Result<()> {
        let mut add = |path: &str, host: std::path::PathBuf| {
            if !mounts.iter().any(|mount| mount.container_path == path) {
                mounts.push(Mount {
                    container_path: path.into(),
                    host_path: host.display().to_string(),
                    ..Mount::default()
                });
            }
        };
        let has_aliases = self.pod.spec.as_ref().is_some_and(|spec| spec.host_aliases.is_some());
        if !is_on_host(self.pod) || has_aliases {
            add("/etc/hosts", volumes::hosts(self.agent, self.pod, addresses)?);
        }
        let path = container.termination_message_path.as_deref().unwrap_or("/dev/termination-log");
        add(path, volumes::last_words(self.agent, &self.key.uid, &container.name)?);
        Ok(())
    }

    /// Everything that its environment names.
    async fn sources(&self, container: &Container) -> Result<Sources, String> {
        let mut sources = Sources { services: self.agent.services.all(), ..Sources::default() };
        let (mut maps, mut secrets) = (BTreeSet::new(), BTreeSet::new());
        for from in container.env_from.iter().flatten() {
            maps.extend(from.config_map_ref.as_ref().map(|one| one.name.clone()));
            secrets.extend(from.secret_ref.as_ref().map(|one| one.name.clone()));
        }
        for from in container.env.iter().flatten().filter_map(|one| one.value_from.as_ref()) {
            maps.extend(from.config_map_key_ref.as_ref().map(|one| one.name.clone()));
            secrets.extend(from.secret_key_ref.as_ref().map(|one| one.name.clone()));
        }
        for name in maps {
            if let Some(map) = self.agent.config_maps.get(self.key, &name).await? {
                sources.config_maps.insert(name, map);
            }
        }
        for name in secrets {
            if let Some(secret) = self.agent.secrets.get(self.key, &name).await? {
                sources.secrets.insert(name, secret);
            }
        }
        Ok(sources)
    }

    /// Removes containers of this name but for the last one before, whose log can be asked for.
    async fn prune(&self) {
        let old = self.observed.named(&self.part.container.name).skip(1).filter(|one| is_exited(one));
        let old: Vec<_> = old.collect();
        for one in &old {
            let Ok(client) = self.agent.runtime.client().await else { return };
            // What stays goes the next time, or with the pod.
            let _ = client.remove_container(RemoveContainerRequest { container_id: one.id.clone() }).await;
            crate::collect::remove_log(Path::new(&one.log_path));
        }
        if !old.is_empty() {
            let (all, logs) = (self.agent.setup.log_links.clone(), self.key.logs(&self.agent.setup.logs));
            // Links that stay are looked at again when the pod goes.
            let _ = ending::aside(move || {
                links::tidy(&all, &logs);
                Ok(())
            })
            .await;
        }
    }

    /// The hook after the start; a container whose hook fails is ended.
    async fn after(&self, id: &str) -> Result<(), Failed> {
        let container = &*self.part.container;
        let hook = container.lifecycle.as_ref().and_then(|all| all.post_start.as_ref());
        let Some(what) = hook.and_then(Act::of_hook) else { return Ok(()) };
        let addresses = self.observed.addresses();
        let address = addresses.first().map_or(self.agent.machine.address.as_str(), String::as_str);
        let whom = Whom { runtime: &self.agent.runtime, id, container, address };
        let Err(why) = act(&whom, &what, HOOK).await else { return Ok(()) };
        // What it said is in the status alone, as with a kubelet: it may be secret, and more people read events.
        self.agent.events.warning(&self.part.of(self.pod), "FailedPostStartHook", "PostStartHook failed");
        self.agent
            .with_memory(self.key, |memory| memory.doomed.insert(id.into(), "FailedPostStartHook".into()));
        let message = what.failed(&container.name, &self.key.words(), &why);
        Err(Failed::new("PostStartHookError", message))
    }
}

/// The number behind that of the last log in a container's folder: `2` where `1.log` is there, or what it has become.
fn next_log(folder: &Path) -> u32 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let numbers = names.filter_map(|name| name.split_once(".log")?.0.parse::<u32>().ok());
    numbers.max().map_or(0, |last| last.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_goes_on_behind_the_logs_that_are_there() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!((next_log(folder.path()), next_log(&folder.path().join("none"))), (0, 0));
        for name in ["0.log.20260102-030405.gz", "2.log", "x.log", "7.txt"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(next_log(folder.path()), 3);
    }
}
