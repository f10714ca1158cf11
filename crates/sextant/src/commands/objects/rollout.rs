use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::revisions;
use crate::cli::{RolloutArgs, RolloutCommand, RolloutNamesArgs};
use crate::failure::{Failure, Result};
use crate::objects::ready::{self, Readiness};
use crate::objects::{Call, Kind, Server, named};
use crate::output::{line, timestamp};

const STRATEGIC: &str = "application/strategic-merge-patch+json";

/// `sextant rollout`
pub(crate) fn run(data_dir: &Path, args: &RolloutArgs) -> Result<()> {
    match &args.command {
        RolloutCommand::Status(args) => {
            let (server, all) = find(data_dir, &args.names)?;
            for Rolling { kind, name, path } in all {
                let what = kind.singular.clone();
                ready::wait(&server, &[(kind.of(&name), path)], args.timeout, |_, state| {
                    match state {
                        Readiness::Waits(why) => {
                            println!("Waiting for {what} {name:?} rollout to finish: {why}...");
                        }
                        Readiness::Ready => println!("{what} {name:?} successfully rolled out"),
                        Readiness::Failed(_) => {}
                    }
                    Ok(())
                })?;
            }
            Ok(())
        }
        RolloutCommand::Restart(args) => {
            let (server, all) = find(data_dir, args)?;
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            let stamp = json!({"kubectl.kubernetes.io/restartedAt": timestamp(now)});
            for Rolling { kind, name, path } in all {
                let body = json!({"spec": {"template": {"metadata": {"annotations": stamp}}}});
                server.ask(Call::patch(&path, STRATEGIC, body).with("fieldManager", "sextant"))?;
                line(format_args!("{} restarted", kind.of(&name)));
            }
            Ok(())
        }
        RolloutCommand::History(args) => {
            let (server, all) = find(data_dir, &args.names)?;
            all.iter().try_for_each(|one| revisions::history(&server, one, args.revision))
        }
        RolloutCommand::Undo(args) => {
            let (server, all) = find(data_dir, &args.names)?;
            all.iter().try_for_each(|one| revisions::undo(&server, one, args.to_revision))
        }
    }
}

/// One that rolls out.
pub(super) struct Rolling {
    pub(super) kind: Kind,
    pub(super) name: String,
    /// Where it is.
    pub(super) path: String,
}

/// What is named, with where it is.
fn find(data_dir: &Path, args: &RolloutNamesArgs) -> Result<(Server, Vec<Rolling>)> {
    let server = Server::find(data_dir, &args.within.server, args.within.namespace.as_deref())?;
    let mut all = Vec::new();
    for one in named(&server.kinds()?, &args.words)? {
        if !matches!(one.kind.name.as_str(), "Deployment" | "StatefulSet" | "DaemonSet") {
            return Err(Failure::new(format!(
                "cannot roll out a {}: Deployments, StatefulSets and DaemonSets are",
                one.kind.name
            )));
        }
        let name = one.name.ok_or_else(|| Failure::new("cannot roll out all of a kind: give TYPE/NAME"))?;
        let path = format!("{}/{name}", one.kind.path(Some(&server.namespace)));
        all.push(Rolling { kind: one.kind, name, path });
    }
    Ok((server, all))
}
