use std::path::Path;

use serde_json::json;

use super::ended;
use crate::cli::ScaleArgs;
use crate::failure::{Failure, Result};
use crate::objects::{Call, Server, named, number, text};
use crate::output::line;

const MERGE: &str = "application/merge-patch+json";

/// `sextant scale`
pub(crate) fn run(data_dir: &Path, args: &ScaleArgs) -> Result<()> {
    let server = Server::find(data_dir, &args.within.server, args.within.namespace.as_deref())?;
    let mut failures = Vec::new();
    for one in named(&server.kinds()?, &args.words)? {
        let name = one.name.ok_or_else(|| Failure::new("cannot scale all of a kind: give TYPE/NAME"))?;
        let title = one.kind.of(&name);
        let path = format!("{}/{name}/scale", one.kind.path(Some(&server.namespace)));
        match scale(&server, &path, args) {
            Ok(()) => line(format_args!("{title} scaled")),
            Err(why) => failures.push(Failure::new(format!("cannot scale {title}: {why}"))),
        }
    }
    ended(failures)
}

fn scale(server: &Server, path: &str, args: &ScaleArgs) -> Result<()> {
    let mut change = json!({"spec": {"replicas": args.replicas}});
    if let Some(current) = args.current_replicas {
        let now = server.get(path)?;
        let has = number(&now, "/spec/replicas");
        if has != i64::from(current) {
            return Err(Failure::new(format!("it is to have {has} replicas, and not {current}")));
        }
        change["metadata"] = json!({"resourceVersion": text(&now, "/metadata/resourceVersion")});
    }
    server.ask(Call::patch(path, MERGE, change).with("fieldManager", "sextant"))?;
    Ok(())
}
