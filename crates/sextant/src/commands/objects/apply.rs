use std::path::Path;
use std::time::Duration;

use super::ended;
use crate::cli::ApplyArgs;
use crate::failure::{Failure, Result};
use crate::objects::apply::{self, Applied, Wishes};
use crate::objects::{Server, documents, ready};
use crate::output::line;

/// `sextant apply`
pub(crate) fn run(data_dir: &Path, args: &ApplyArgs) -> Result<()> {
    let documents = documents::read(&args.files.files, args.files.recursive)?;
    let namespace = args.within.namespace.as_deref();
    let server = Server::find(data_dir, &args.within.server, namespace)?;
    let wishes = Wishes { namespace, force: args.force_conflicts, dry_run: args.dry_run };
    let ending = if args.dry_run { " (dry run)" } else { "" };
    let (done, failures) =
        apply::apply(&server, documents, wishes, |one| line(format_args!("{}{ending}", tell(one))))?;
    if args.wait && failures.is_empty() && !args.dry_run {
        return until_ready(&server, &done, args.patience.timeout);
    }
    ended(failures)
}

/// `deployment.apps/web created`
pub(crate) fn tell(applied: &Applied) -> String {
    format!("{} {}", applied.name(), applied.outcome.word())
}

fn until_ready(server: &Server, done: &[Applied], patience: Duration) -> Result<()> {
    let paths: Vec<(String, String)> = done.iter().map(|one| (one.name(), one.path.clone())).collect();
    ready::wait(server, &paths, patience, |name, state| {
        if let ready::Readiness::Waits(why) = state {
            line(format_args!("{name} waits: {why}"));
        }
        Ok::<_, Failure>(())
    })
}
