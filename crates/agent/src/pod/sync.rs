//! One look at a pod: what is next is done, until nothing is; then its status is written.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use client::queue::Next;
use cri::contract::v1::{
    RemoveContainerRequest, RemovePodSandboxRequest, RunPodSandboxRequest, StopPodSandboxRequest,
};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use tokio::time::Instant;

use super::admission;
use super::backoff::since;
use super::memory::Waiting;
use super::plan::{Step, is_finished, plan, time};
use super::probes::{self, Asked};
use super::spec::{Part, grace, is_over, parts};
use super::start::start;
use super::told::write_status;
use super::{ending, resize, sandbox, users, words};
use crate::agent::Agent;
use crate::collect::remove_log;
use crate::names::Key;
use crate::observed::{Observed, is_exited, name_of};
use crate::runtime::cause;
use crate::volumes::{self, Volumes};

/// How many things a look does; then others have their turn.
const STEPS: usize = 50;
/// When what failed for a reason outside is tried again.
const LATER: Duration = Duration::from_secs(10);
/// How long a volume may not be there yet before that is told.
const SOON: Duration = Duration::from_secs(5);

/// One look.
pub(crate) async fn look(agent: Arc<Agent>, key: Key) -> Next {
    let pod = agent.pod(&key);
    let is_static = pod.is_some() && agent.statics.get(&key.name).is_some();
    // Who does not know all that the API server has does not know that a pod is gone; it is looked at again when that is known.
    let is_known = is_static || agent.statics.knows(&key);
    // Only one that is there waits: others whose file has gone since end beside each other.
    if !is_known || pod.is_some() && agent.statics.waits(&key) {
        return Next::Done;
    }
    let Some(pod) = pod else { return ending::orphan(&agent, &key).await };
    if pod.metadata.deletion_timestamp.is_some() {
        return ending::delete(&agent, &key, &pod).await;
    }
    agent.remember(&key, &pod);
    let pod = resize::admit(&agent, &key, pod);
    let is_evicted = || agent.with_memory(&key, |memory| memory.evicted.is_some()) == Some(true);
    let was_evicted = is_evicted();
    let goes = |now: Option<&Pod>| {
        now.is_none_or(|now| now.metadata.deletion_timestamp.is_some()) || !was_evicted && is_evicted()
    };
    let looking = async {
        let looking = Looking { agent: &agent, key: &key, pod: &pod, again: None };
        match looking.run().await {
            Ok(None) => Next::Done,
            Ok(Some(wait)) => Next::After(wait),
            Err(why) => {
                agent.events.warning(&*pod, "FailedSync", format!("error syncing pod: {why}"));
                Next::Again
            }
        }
    };
    tokio::select! {
        next = looking => next,
        // Nothing that it waits for, an image or a hook, holds up a pod that is to go.
        () = agent.until(&key, goes) => Next::After(Duration::ZERO),
    }
}

/// What a look has tried: it does not do so twice.
#[derive(Default)]
struct Tried {
    /// Starts, as indices of the pod's parts.
    starts: BTreeSet<usize>,
    /// A resize.
    resize: bool,
}

struct Looking<'a> {
    agent: &'a Arc<Agent>,
    key: &'a Key,
    pod: &'a Arc<Pod>,
    again: Option<Duration>,
}

impl Looking<'_> {
    async fn run(mut self) -> Result<Option<Duration>, String> {
        let parts = parts(self.pod);
        let mut tried = Tried::default();
        let mut volumes = None;
        for _ in 0..STEPS {
            let observed = self.observe().await?;
            self.watch_over(&parts, &observed);
            self.deadline();
            if let Some(again) = admission::judge(self.agent, self.key, self.pod, &observed).await? {
                soonest(&mut self.again, again);
                return Ok(self.again);
            }
            let is_failed = self.agent.with_memory(self.key, |memory| memory.failed.is_some()) == Some(true);
            if is_over(self.pod) || is_failed {
                return self.finish(&observed).await;
            }
            let is_up = observed.sandbox().is_some() || observed.running().next().is_some();
            let has_ended = !is_up && is_finished(self.pod, &parts, &observed);
            self.agent.note_end(self.key, has_ended);
            self.note(&observed)?;
            if volumes.is_none() && !is_finished(self.pod, &parts, &observed) {
                volumes = self.volumes(&observed).await?;
                if volumes.is_none() {
                    return Ok(self.again);
                }
            }
            let step = self.next(&parts, &observed, &tried);
            if step == Step::Rest {
                if let Err(waits) = resize::settle(self.agent, self.key, self.pod, &observed) {
                    soonest(&mut self.again, waits);
                }
                write_status(self.agent, self.key, self.pod, &observed).await?;
                return Ok(self.again);
            }
            // What is so far is told while the next thing is done.
            let telling = write_status(self.agent, self.key, self.pod, &observed);
            let (agent, key, pod) = (self.agent, self.key, self.pod);
            let mut again = self.again;
            let doing = async {
                let none = Volumes::default();
                match step {
                    Step::Start(wanted) => {
                        // Those before may have had less.
                        resize::room(agent, key, pod, &observed)?;
                        for at in wanted {
                            tried.starts.insert(at);
                            let done =
                                start(agent, pod, &parts[at], &observed, volumes.as_ref().unwrap_or(&none));
                            if let Err(waits) = done.await {
                                soonest(&mut again, waits);
                            }
                        }
                        Ok(())
                    }
                    Step::Resize(ids) => {
                        tried.resize = true;
                        let here = parts
                            .iter()
                            .filter_map(|part| Some((part, observed.here(&part.container.name)?)));
                        let wanted: Vec<_> = here.filter(|(_, one)| ids.contains(&one.id)).collect();
                        if let Err(waits) = resize::resize(agent, key, pod, &wanted, &observed).await {
                            soonest(&mut again, waits);
                        }
                        Ok(())
                    }
                    step => act(agent, key, pod, &parts, &observed, step).await,
                }
            };
            let (told, done) = futures_util::join!(telling, doing);
            self.again = again;
            done.and(told)?;
        }
        Ok(Some(Duration::ZERO))
    }

    async fn observe(&self) -> Result<Observed, String> {
        let observed = self.agent.runtime.observe(&self.key.uid).await.map_err(|error| error.to_string())?;
        words::collect(self.agent, self.key, &observed);
        self.agent.with_memory(self.key, |memory| memory.forget(&observed));
        Ok(observed)
    }

    /// Writes down that a pod of a file is begun: nothing of it begins without that. One that runs is looked after all the same.
    fn note(&self, observed: &Observed) -> Result<(), String> {
        let of_file = self.agent.statics.get(&self.key.name).filter(|pod| Key::of(pod) == *self.key);
        let Some(pod) = of_file else { return Ok(()) };
        let failed = self.agent.statics.note(&self.agent.setup.folder, &pod).err();
        let before = self
            .agent
            .with_memory(self.key, |memory| std::mem::replace(&mut memory.unnoted, failed.clone()))
            .flatten();
        let Some(why) = failed else { return Ok(()) };
        if before.as_ref() != Some(&why) {
            eprintln!("sextant agent: warning: pod {}: {why}", self.key.words());
        }
        let runs = observed.sandbox().is_some() || observed.running().next().is_some();
        if runs { Ok(()) } else { Err(why) }
    }

    /// The next thing; who waits for its time is noted, and told of once.
    fn next(&mut self, parts: &[Part<'_>], observed: &Observed, tried: &Tried) -> Step {
        let now = Timestamp::now();
        let (agent, key, pod) = (self.agent, self.key, self.pod);
        let plan = agent.with_memory(key, |memory| {
            let plan = plan(pod, parts, observed, memory, now);
            for (name, whole, left) in &plan.held {
                soonest(&mut self.again, *left);
                let message = format!(
                    "back-off {} restarting failed container={name} pod={}",
                    in_words(*whole),
                    key.words()
                );
                let new = Waiting::new("CrashLoopBackOff", message);
                if memory.waiting.insert(name.clone(), new.clone()).as_ref() != Some(&new) {
                    let text = format!("Back-off restarting failed container {name} in pod {}", key.words());
                    let part = parts.iter().find(|part| part.container.name == *name);
                    part.into_iter()
                        .for_each(|part| agent.events.warning(&part.of(pod), "BackOff", text.clone()));
                }
            }
            plan
        });
        let Some(plan) = plan else { return Step::Rest };
        let step = match plan.step {
            Step::Start(mut wanted) => {
                wanted.retain(|at| !tried.starts.contains(at));
                if wanted.is_empty() { Step::Rest } else { Step::Start(wanted) }
            }
            step => step,
        };
        let resizes = step == Step::Rest && !plan.small.is_empty() && !tried.resize;
        if resizes { Step::Resize(plan.small) } else { step }
    }

    /// The pod's volumes; `None` where they cannot be had now.
    async fn volumes(&mut self, observed: &Observed) -> Result<Option<Volumes>, String> {
        match volumes::prepare(self.agent, self.pod).await {
            Ok(volumes) => {
                if let Some(again) = volumes.again {
                    soonest(&mut self.again, again);
                }
                self.tell_of_volumes(volumes.stale.as_ref());
                Ok(Some(volumes))
            }
            Err(failed) => {
                self.tell_of_volumes(Some(&failed));
                write_status(self.agent, self.key, self.pod, observed).await?;
                Ok(None)
            }
        }
    }

    /// Says once of a volume that it cannot be had, and looks again.
    fn tell_of_volumes(&mut self, failed: Option<&volumes::Failed>) {
        let Some(failed) = failed else {
            self.agent.with_memory(self.key, |memory| (memory.told, memory.without) = (None, None));
            return;
        };
        let is_young = self.agent.with_memory(self.key, |memory| {
            let since = memory.without.get_or_insert_with(Instant::now);
            failed.waits && since.elapsed() < SOON
        });
        if is_young == Some(true) {
            soonest(&mut self.again, SOON);
            return;
        }
        let words = Some(failed.words.clone());
        let before =
            self.agent.with_memory(self.key, |memory| std::mem::replace(&mut memory.told, words.clone()));
        if before != Some(words) {
            self.agent.events.warning(&**self.pod, failed.reason, failed.words.clone());
        }
        soonest(&mut self.again, LATER);
    }

    /// Probes are asked of all that run.
    fn watch_over(&self, parts: &[Part<'_>], observed: &Observed) {
        let Some(address) = observed.sandbox().map(|_| observed.addresses()) else { return };
        let address = address.first().cloned().unwrap_or_else(|| self.agent.machine.address.clone());
        let now = Timestamp::now();
        for part in parts {
            let Some(container) = observed.here(&part.container.name) else { continue };
            if is_exited(container) {
                continue;
            }
            let age = time(container.started_at).map(|from| since(from, now)).unwrap_or_default();
            self.agent.with_memory(self.key, |memory| {
                let is_started = memory.is_started(part, container);
                for asked in Asked::ALL {
                    // The first one comes alone: the others wait for it.
                    let id = (container.id.clone(), asked);
                    if (asked == Asked::Startup) == is_started || memory.probing.contains_key(&id) {
                        continue;
                    }
                    let probing =
                        probes::start(self.agent, self.pod, part, &container.id, &address, asked, age);
                    memory.probing.extend(probing.map(|probing| (id, probing)));
                }
            });
        }
    }

    /// `activeDeadlineSeconds`
    fn deadline(&mut self) {
        // What has come to its end stays there, as has what ends for another reason.
        let is_failed = self.agent.with_memory(self.key, |memory| memory.failed.is_some()) == Some(true);
        if is_failed || resize::is_over_as_told(self.agent, self.pod) {
            return;
        }
        let limit = self.pod.spec.as_ref().and_then(|spec| spec.active_deadline_seconds);
        let begun = self.pod.status.as_ref().and_then(|status| status.start_time.as_ref());
        let (Some(limit), Some(begun)) = (limit.and_then(|limit| u64::try_from(limit).ok()), begun) else {
            return;
        };
        let left = Duration::from_secs(limit).saturating_sub(since(begun.0, Timestamp::now()));
        if left.is_zero() {
            let words = "Pod was active on the node longer than the specified deadline";
            let failed = Waiting::new("DeadlineExceeded", words);
            let before = self.agent.with_memory(self.key, |memory| memory.failed.replace(failed));
            if before == Some(None) {
                self.agent.events.normal(&**self.pod, "DeadlineExceeded", words);
            }
        } else {
            soonest(&mut self.again, left);
        }
    }

    /// The pod has come to its end: nothing of it runs on.
    async fn finish(&self, observed: &Observed) -> Result<Option<Duration>, String> {
        let mut observed = observed.clone();
        if observed.sandbox().is_some() || observed.running().next().is_some() {
            let own = Duration::from_secs(u64::try_from(grace(self.pod)).unwrap_or_default());
            let time = self.agent.with_memory(self.key, |memory| memory.grace).flatten().unwrap_or(own);
            let stopped = ending::stop_all(self.agent, self.pod, &observed, time).await;
            stopped.map_err(|error| error.to_string())?;
            observed = self.observe().await?;
        }
        write_status(self.agent, self.key, self.pod, &observed).await?;
        // Others may wait for them.
        volumes::csi::release(self.agent, &self.key.uid).await?;
        self.agent.cgroups.clear(&self.key.uid).await?;
        self.agent.retry_resizes();
        // Who was refused had none.
        if self.agent.with_memory(self.key, |memory| memory.admitted) == Some(true) {
            self.agent.retry_ports();
        }
        Ok(None)
    }
}

/// The sooner of both.
fn soonest(again: &mut Option<Duration>, other: Duration) {
    *again = Some(again.map_or(other, |again| again.min(other)));
}

/// As Go writes it: `1m20s`.
fn in_words(time: Duration) -> String {
    let (minutes, seconds) = (time.as_secs() / 60, time.as_secs() % 60);
    if minutes == 0 { format!("{seconds}s") } else { format!("{minutes}m{seconds}s") }
}

/// One thing that is no start.
async fn act(
    agent: &Agent,
    key: &Key,
    pod: &Pod,
    parts: &[Part<'_>],
    observed: &Observed,
    step: Step,
) -> Result<(), String> {
    match step {
        Step::Remove(ids) => {
            let client = agent.runtime.client().await.map_err(|error| error.to_string())?;
            for container_id in ids {
                let one = observed.containers.iter().find(|one| one.id == container_id);
                let log = one.map(|one| one.log_path.clone()).filter(|path| !path.is_empty());
                let removed = client.remove_container(RemoveContainerRequest { container_id }).await;
                removed.map_err(|error| error.to_string())?;
                // It never ran: its log counts for no start.
                log.iter().for_each(|path| remove_log(Path::new(path)));
            }
            Ok(())
        }
        Step::Kill(wanted) => {
            let address =
                observed.addresses().first().cloned().unwrap_or_else(|| agent.machine.address.clone());
            let time = Duration::from_secs(u64::try_from(grace(pod)).unwrap_or_default());
            let kills = wanted.iter().filter_map(|(id, why)| {
                let one = observed.containers.iter().find(|one| one.id == *id)?;
                let part = parts.iter().find(|part| part.container.name == name_of(one));
                Some(ending::kill(agent, pod, part, one, &address, why, time))
            });
            let killed = futures_util::future::join_all(kills).await;
            killed.into_iter().collect::<Result<(), _>>().map_err(|error| error.to_string())
        }
        Step::Sandbox(attempt) => make_sandbox(agent, key, pod, observed, attempt).await,
        Step::Finish => {
            let time = Duration::from_secs(u64::try_from(grace(pod)).unwrap_or_default());
            ending::stop_all(agent, pod, observed, time).await.map_err(|error| error.to_string())
        }
        Step::Start(_) | Step::Resize(_) | Step::Rest => Ok(()),
    }
}

async fn make_sandbox(
    agent: &Agent,
    key: &Key,
    pod: &Pod,
    observed: &Observed,
    attempt: u32,
) -> Result<(), String> {
    if attempt > 0 {
        let words = "Pod sandbox changed, it will be killed and re-created.";
        agent.events.normal(pod, "SandboxChanged", words);
    }
    let client = agent.runtime.within(Duration::from_secs(120)).await.map_err(|error| error.to_string())?;
    for (index, old) in observed.sandboxes.iter().enumerate() {
        let stop = StopPodSandboxRequest { pod_sandbox_id: old.id.clone() };
        client.stop_pod_sandbox(stop).await.map_err(|error| error.to_string())?;
        // The last one's containers tell what was before.
        if index > 0 {
            let remove = RemovePodSandboxRequest { pod_sandbox_id: old.id.clone() };
            client.remove_pod_sandbox(remove).await.map_err(|error| error.to_string())?;
        }
    }
    let made = async {
        agent.cgroups.make(pod)?;
        let logs = key.logs(&agent.setup.logs);
        std::fs::create_dir_all(&logs).map_err(|error| format!("cannot make {}: {error}", logs.display()))?;
        let config = config(agent, pod, attempt)?;
        let runtime_handler = handler(agent, pod).await?;
        let request = RunPodSandboxRequest { config: Some(config), runtime_handler };
        client.run_pod_sandbox(request).await.map(drop).map_err(|error| cause(&error))
    };
    let made = made.await;
    if let Err(why) = &made {
        let words = format!("Failed to create pod sandbox: {why}");
        agent.events.warning(pod, "FailedCreatePodSandBox", words);
    }
    made
}

/// The pod's sandbox as it was, or is to be, asked for.
pub(crate) fn config(
    agent: &Agent,
    pod: &Pod,
    attempt: u32,
) -> Result<cri::contract::v1::PodSandboxConfig, String> {
    let resolver = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let users = users::of(agent, pod)?;
    Ok(sandbox::config(&agent.setup, pod, attempt, agent.cgroups.parent(pod), &resolver, users))
}

/// The handler of the pod's runtime class.
async fn handler(agent: &Agent, pod: &Pod) -> Result<String, String> {
    use k8s_openapi::api::node::v1::RuntimeClass;
    let named = pod.spec.as_ref().and_then(|spec| spec.runtime_class_name.as_deref());
    let Some(name) = named.filter(|name| !name.is_empty()) else { return Ok(String::new()) };
    let class = Api::<RuntimeClass>::all(agent.client.clone()).get_opt(name).await;
    let class = class.map_err(|error| client::causes(&error))?;
    class.map(|class| class.handler).ok_or_else(|| format!("RuntimeClass {name:?} not found"))
}
