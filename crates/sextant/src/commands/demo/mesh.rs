//! The mesh: a Service of two versions, of which the new one gets more and more while somebody asks for it, and one who may not ask.

use std::time::{Duration, Instant};

use cri::contract::v1::ExecSyncRequest;
use serde_json::json;

use super::load::Tally;
use super::place::Place;
use super::show::{MERGE, PATIENCE, applied};
use super::{Story, app, examples};
use crate::cli::CriArgs;
use crate::failure::{Context, Failure, Result};
use crate::objects::apply::Applied;
use crate::objects::{Call, JSON, Server, list, ready, text};
use crate::pods::Runtime;

/// The split, which is changed.
const SPLIT: &str = "/apis/split.smi-spec.io/v1alpha4/namespaces/canary/trafficsplits/web";
/// Its pods.
const PODS: &str = "/api/v1/namespaces/canary/pods";
/// So many requests are looked at, and so many of a hundred may the tenth be that is to go to the new version.
const MANY: u64 = 300;
const TENTH: std::ops::RangeInclusive<u64> = 2..=25;
/// So many requests in a row go to the new version alone once all are to.
const ROW: u64 = 30;
/// How often it is asked what was answered.
const PAUSE: Duration = Duration::from_millis(50);

/// Applies the examples and shows what comes of them; what was applied.
pub(super) fn tell(story: &mut Story, place: &Place, server: &Server) -> Result<Vec<Applied>> {
    let applied = applied(story, place, server, ("SMI", "mesh"), &examples::MESH)?;
    let begun = Instant::now();
    for one in applied.iter().filter(|one| one.name().starts_with("deployment.")) {
        ready::wait(server, &[(one.name(), one.path.clone())], PATIENCE, |_, _| story.check())?;
    }
    story.note("SMI", "two versions of a Service, a customer and a stranger are ready", begun.elapsed());
    let customer = Customer::find(server)?;
    split(story, &customer)?;
    shift(story, server, &customer)?;
    deny(story, place, server)?;
    // Nobody else is worse off for that.
    customer.take(story)?.is_well()?;
    Ok(applied)
}

/// The pod whose requests are counted.
struct Customer(String);

impl Customer {
    fn find(server: &Server) -> Result<Self> {
        let pod = pod(server, "customer")?;
        Ok(Self(format!("{}:{}", text(&pod, "/status/podIP"), app::PORT)))
    }

    /// What came of its requests since this was asked the last time.
    fn take(&self, story: &Story) -> Result<Tally> {
        Ok(serde_json::from_str(&self.ask(story, "/take")?)?)
    }

    /// Counts the requests alone that begin from now on.
    fn forget(&self, story: &Story) -> Result<()> {
        self.ask(story, "/forget").map(drop)
    }

    /// A connection to a pod ends where that is taken into the mesh: it is asked again.
    fn ask(&self, story: &Story, path: &str) -> Result<String> {
        let begun = Instant::now();
        loop {
            match app::ask("POST", &self.0, path, "") {
                Err(_) if begun.elapsed() < PATIENCE => story.check()?,
                answer => return answer.context(|| "ask the customer what was answered".into()),
            }
            std::thread::sleep(PAUSE);
        }
    }
}

impl Tally {
    fn is_well(&self) -> Result<()> {
        match self.failed {
            0 => Ok(()),
            failed => Err(Failure::new(format!("{failed} requests have failed: {}", self.why))),
        }
    }
}

/// The pod of this deployment.
fn pod(server: &Server, app: &str) -> Result<serde_json::Value> {
    let pods = server.ask(Call::get(PODS, JSON).with("labelSelector", &format!("app={app}")))?;
    let pod = list(&pods, "/items").first().cloned();
    pod.ok_or_else(|| Failure::new(format!("the deployment {app} has no pod")))
}

/// Waits until requests go as the split says. Before the mesh serves all of these pods some fail, and some go as the Service alone would have it.
fn split(story: &mut Story, customer: &Customer) -> Result<()> {
    let begun = Instant::now();
    let mut all = Tally::default();
    customer.forget(story)?;
    loop {
        all.add(customer.take(story)?);
        let (new, total) = (all.of("v2"), all.total());
        if all.failed == 0 && total >= MANY && TENTH.contains(&(new * 100 / total)) {
            let what = format!(
                "split 90 to 10: of {total} requests {} went to the old version, {new} to the new",
                all.of("v1")
            );
            story.note("SMI", what, begun.elapsed());
            return Ok(());
        }
        story.check()?;
        if begun.elapsed() > PATIENCE {
            return Err(Failure::new(format!("requests do not go as the split says: {all:?}")));
        }
        if all.failed > 0 || total >= MANY {
            all = Tally::default();
            customer.forget(story)?;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Has all go to the new version, while the customer goes on asking.
fn shift(story: &mut Story, server: &Server, customer: &Customer) -> Result<()> {
    let begun = Instant::now();
    let backends = json!([{"service": "web-v1", "weight": 0}, {"service": "web-v2", "weight": 100}]);
    server.ask(Call::patch(SPLIT, MERGE, json!({"spec": {"backends": backends}})))?;
    let (mut all, mut row) = (Tally::default(), 0);
    while row < ROW {
        story.check()?;
        if begun.elapsed() > PATIENCE {
            return Err(Failure::new(format!("requests still go to the old version: {all:?}")));
        }
        std::thread::sleep(PAUSE);
        let taken = customer.take(story)?;
        taken.is_well()?;
        row = if taken.of("v1") == 0 { row + taken.of("v2") } else { 0 };
        all.add(taken);
    }
    let what =
        format!("split shifted to 0 to 100 under load: {} requests meanwhile, none failed", all.total());
    story.note("SMI", what, begun.elapsed());
    Ok(())
}

/// Who runs as another account is told that it may not ask.
fn deny(story: &mut Story, place: &Place, server: &Server) -> Result<()> {
    let begun = Instant::now();
    let pod = pod(server, "stranger")?;
    let runtime = Runtime::connect(&place.run, &CriArgs { cri: None })?;
    let name = format!("canary/{}", text(&pod, "/metadata/name"));
    let container_id = runtime.container_of(&name, Some("main"), false)?.id;
    let cmd = [app::PATH, "get", "web/version"].map(str::to_owned).to_vec();
    let request = ExecSyncRequest { container_id, cmd, timeout: 60 };
    loop {
        let asked = request.clone();
        let ran = runtime.ask("run a program in the pod", async |c| c.exec_sync(asked).await)?;
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        if ran.exit_code != 0 && said.contains(" 403 ") {
            story.note("SMI", "a stranger, whom no TrafficTarget names, is answered 403", begun.elapsed());
            return Ok(());
        }
        story.check()?;
        if begun.elapsed() > PATIENCE {
            return Err(Failure::new(format!("the stranger is not told that it may not ask: {said:?}")));
        }
        std::thread::sleep(PAUSE);
    }
}
