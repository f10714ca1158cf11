use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::ended;
use crate::cli::DeleteArgs;
use crate::failure::{Failure, Result};
use crate::objects::apply::{in_order, place};
use crate::objects::{Call, JSON, Kind, Kinds, Server, documents, list, named, text};
use crate::output::line;

/// How often is looked whether an object is gone.
const PAUSE: Duration = Duration::from_millis(50);

/// One that is to go.
struct Target {
    name: String,
    path: String,
    /// Of what was found; what has the name later is another.
    uid: Option<String>,
}

/// `sextant delete`
pub(crate) fn run(data_dir: &Path, args: &DeleteArgs) -> Result<()> {
    let namespace = args.within.namespace.as_deref();
    // What is wrong with files is told before anybody is asked.
    let mut documents = if args.files.files.is_empty() {
        Vec::new()
    } else {
        documents::read(&args.files.files, args.files.recursive)?
    };
    let server = Server::find(data_dir, &args.within.server, namespace)?;
    let kinds = server.kinds()?;
    let (mut targets, mut failures) = (Vec::new(), Vec::new());
    // What was applied last goes first.
    in_order(&mut documents);
    for document in documents.iter().rev() {
        match place(&server, &kinds, document, namespace) {
            Ok((kind, path)) => targets.push(Target { name: kind.of(document.name()), path, uid: None }),
            // A definition that is gone took its objects along.
            Err(_)
                if args.ignore_not_found
                    && kinds.of_object(document.api_version(), document.kind()).is_none() => {}
            Err(why) => failures.push(Failure::new(format!(
                "cannot delete {} {:?} ({}): {why}",
                document.kind(),
                document.name(),
                document.place
            ))),
        }
    }
    if documents.is_empty() {
        targets = by_words(&server, &kinds, args)?;
    }
    let mut gone = Vec::new();
    for mut target in targets {
        match delete(&server, args, &target.path) {
            Ok(answer) => {
                line(format_args!("{} deleted", target.name));
                let uid = ["/metadata/uid", "/details/uid"].map(|place| text(&answer, place));
                target.uid = uid.into_iter().find(|uid| !uid.is_empty()).map(str::to_owned);
                gone.push(target);
            }
            Err(refused) if refused.is_missing() && args.ignore_not_found => {}
            Err(refused) => failures.push(Failure::new(format!("cannot delete {}: {refused}", target.name))),
        }
    }
    if !args.no_wait {
        let until = Instant::now() + args.patience.timeout;
        failures.extend(gone.iter().filter_map(|target| wait(&server, target, until).err()));
    }
    ended(failures)
}

fn by_words(server: &Server, kinds: &Kinds, args: &DeleteArgs) -> Result<Vec<Target>> {
    let mut targets = Vec::new();
    let selects = args.all || !args.selector.is_empty();
    for one in named(kinds, &args.words)? {
        let path = one.kind.path(Some(&server.namespace));
        match &one.name {
            Some(_) if selects => {
                return Err(Failure::new(
                    "cannot delete by name and by --all or -l at once: leave one of them out",
                ));
            }
            Some(name) => targets.push(target(&one.kind, name, &path)),
            None if !selects => {
                return Err(Failure::new(format!(
                    "cannot delete {} without a name: give NAME, -l LABELS, or --all",
                    one.kind.plural
                )));
            }
            None => {
                let found = server.ask(Call::get(&path, JSON).with("labelSelector", &args.selector))?;
                let names = list(&found, "/items").iter().map(|item| text(item, "/metadata/name"));
                targets.extend(names.map(|name| target(&one.kind, name, &path)));
            }
        }
    }
    Ok(targets)
}

fn target(kind: &Kind, name: &str, path: &str) -> Target {
    Target { name: kind.of(name), path: format!("{path}/{name}"), uid: None }
}

fn delete(server: &Server, args: &DeleteArgs, path: &str) -> Result<Value, crate::objects::Refused> {
    let mut options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"});
    let grace = args.grace_period.or(args.force.then_some(0));
    if let Some(seconds) = grace {
        options["gracePeriodSeconds"] = seconds.into();
    }
    server.ask(Call::delete(path, options))
}

/// Until it is gone, or another has its name.
fn wait(server: &Server, target: &Target, until: Instant) -> Result<()> {
    loop {
        match server.find_at(&target.path)? {
            None => return Ok(()),
            Some(object)
                if target.uid.as_deref().is_some_and(|uid| text(&object, "/metadata/uid") != uid) =>
            {
                return Ok(());
            }
            Some(object) if Instant::now() > until => {
                let finalizers = list(&object, "/metadata/finalizers");
                let why: Vec<&str> = finalizers.iter().filter_map(Value::as_str).collect();
                let why =
                    if why.is_empty() { String::new() } else { format!(": it waits for {}", why.join(", ")) };
                return Err(Failure::new(format!("{} is not gone yet{why}", target.name)));
            }
            Some(_) => std::thread::sleep(PAUSE),
        }
    }
}
