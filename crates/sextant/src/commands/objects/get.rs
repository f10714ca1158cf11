use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use api::serve::yaml;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::rows::{Columns, Rows};
use super::{ended, wanted};
use crate::cli::{GetArgs, Shown};
use crate::failure::{Context, Failure, Result};
use crate::objects::{Call, JSON, Kind, Named, Server, TABLE, list, text};

/// Between two watches.
const PAUSE: Duration = Duration::from_millis(200);

/// `sextant get`
pub(crate) fn run(data_dir: &Path, args: &GetArgs) -> Result<()> {
    let server = Server::find(data_dir, &args.of.within.server, args.of.within.namespace.as_deref())?;
    let all = wanted(&server.kinds()?, &args.words, &args.of, &args.field_selector)?;
    if args.watch {
        let [one] = &all[..] else {
            return Err(Failure::new("cannot watch several at once: give one TYPE, or one TYPE/NAME"));
        };
        return watch(&server, args, one);
    }
    match args.output {
        Shown::Table | Shown::Wide => tables(&server, args, &all),
        Shown::Name | Shown::Json | Shown::Yaml => objects(&server, args, &all),
    }
}

/// Where what is named is.
fn path(server: &Server, args: &GetArgs, one: &Named) -> String {
    let namespace = (!args.of.all_namespaces).then_some(server.namespace.as_str());
    let path = one.kind.path(namespace);
    one.name.as_ref().map_or_else(|| path.clone(), |name| format!("{path}/{name}"))
}

fn call<'a>(args: &GetArgs, one: &Named, path: &'a str, accept: &'a str) -> Call<'a> {
    let call = Call::get(path, accept);
    if one.name.is_some() {
        return call;
    }
    call.with("labelSelector", &args.of.selector).with("fieldSelector", &args.field_selector)
}

fn columns(args: &GetArgs, one: &Kind, several: bool) -> Columns {
    Columns {
        wide: args.output == Shown::Wide,
        namespace: args.of.all_namespaces && one.is_namespaced,
        kind: several,
    }
}

/// Each kind's objects in a table of its own.
fn tables(server: &Server, args: &GetArgs, all: &[Named]) -> Result<()> {
    let several = all.iter().any(|one| one.kind != all[0].kind);
    let mut failures = Vec::new();
    let mut tables: Vec<(&Kind, Value)> = Vec::new();
    for one in all {
        let path = path(server, args, one);
        match server.ask(call(args, one, &path, TABLE)) {
            Err(refused) => failures.push(refused.into()),
            Ok(table) if list(&table, "/rows").is_empty() => {}
            Ok(table) => match tables.last_mut() {
                // Objects that were named one by one stand below each other.
                Some((kind, first)) if **kind == one.kind => {
                    if let Some(rows) = first["rows"].as_array_mut() {
                        rows.extend_from_slice(list(&table, "/rows"));
                    }
                }
                _ => tables.push((&one.kind, table)),
            },
        }
    }
    for (at, (kind, table)) in tables.iter().enumerate() {
        if at > 0 && !args.no_headers {
            println!();
        }
        let mut rows = Rows::new(columns(args, kind, several));
        rows.lines(kind, table, !args.no_headers).iter().for_each(|line| println!("{line}"));
    }
    if tables.is_empty() && failures.is_empty() {
        let is_namespaced = all.iter().any(|one| one.kind.is_namespaced) && !args.of.all_namespaces;
        match is_namespaced {
            true => eprintln!("No resources found in {} namespace.", server.namespace),
            false => eprintln!("No resources found"),
        }
    }
    ended(failures)
}

/// The objects themselves.
fn objects(server: &Server, args: &GetArgs, all: &[Named]) -> Result<()> {
    let mut found = Vec::new();
    let mut failures = Vec::new();
    for one in all {
        let path = path(server, args, one);
        match server.ask(call(args, one, &path, JSON)) {
            Ok(object) if one.name.is_some() => found.push((&one.kind, object)),
            Ok(several) => {
                let items =
                    list(&several, "/items").iter().map(|item| (&one.kind, with_kind(&one.kind, item)));
                found.extend(items);
            }
            Err(refused) => failures.push(refused.into()),
        }
    }
    if args.output == Shown::Name {
        for (kind, object) in &found {
            println!("{}", kind.of(text(object, "/metadata/name")));
        }
        return ended(failures);
    }
    let is_one = all.len() == 1 && all[0].name.is_some();
    if !is_one || !found.is_empty() {
        let mut objects: Vec<Value> = found.into_iter().map(|(_, object)| object).collect();
        let whole = match is_one {
            true => objects.remove(0),
            false => {
                json!({"apiVersion": "v1", "items": objects, "kind": "List", "metadata": {"resourceVersion": ""}})
            }
        };
        print(args.output, whole)?;
    }
    ended(failures)
}

/// Items of lists do not say what they are.
fn with_kind(kind: &Kind, item: &Value) -> Value {
    let mut object = json!({"apiVersion": kind.api_version(), "kind": kind.name});
    for (key, value) in item.as_object().into_iter().flatten() {
        object[key] = value.clone();
    }
    object
}

/// Who last set which field is for programs alone.
fn print(output: Shown, mut object: Value) -> Result<()> {
    let remove = |object: &mut Value| {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
    };
    remove(&mut object);
    object.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten().for_each(remove);
    let text = match output {
        Shown::Yaml => yaml::write(&object),
        _ => serde_json::to_string_pretty(&object).context(|| "write the object".into())? + "\n",
    };
    Ok(io::stdout().lock().write_all(text.as_bytes())?)
}

/// What is there, and then each change.
fn watch(server: &Server, args: &GetArgs, one: &Named) -> Result<()> {
    let is_table = matches!(args.output, Shown::Table | Shown::Wide);
    let accept = if is_table { TABLE } else { JSON };
    let collection = Named { kind: one.kind.clone(), name: None };
    let path = path(server, args, &collection);
    let fields =
        one.name.as_ref().map_or_else(|| args.field_selector.clone(), |name| format!("metadata.name={name}"));
    let ask =
        || Call::get(&path, accept).with("labelSelector", &args.of.selector).with("fieldSelector", &fields);
    let mut rows = Rows::new(columns(args, &one.kind, false));
    let first = server.ask(ask())?;
    if is_table {
        rows.lines(&one.kind, &first, !args.no_headers).iter().for_each(|line| println!("{line}"));
    } else {
        for item in list(&first, "/items") {
            show(args.output, &one.kind, with_kind(&one.kind, item))?;
        }
    }
    let mut version = text(&first, "/metadata/resourceVersion").to_owned();
    loop {
        // Bookmarks tell how far it is where nothing that is shown changes: what is older may be forgotten by then.
        let call =
            ask().with("watch", "true").with("allowWatchBookmarks", "true").with("resourceVersion", &version);
        server.wait(follow(server, call, |event| {
            let object = &event["object"];
            if text(event, "/type") == "ERROR" {
                return Err(Failure::new(text(object, "/message")));
            }
            let seen = text(object, "/metadata/resourceVersion");
            let in_row = text(object, "/rows/0/object/metadata/resourceVersion");
            if let Some(seen) = [seen, in_row].into_iter().find(|seen| !seen.is_empty()) {
                seen.clone_into(&mut version);
            }
            if text(event, "/type") == "BOOKMARK" {
                return Ok(());
            }
            if is_table {
                rows.lines(&one.kind, object, !args.no_headers).iter().for_each(|line| println!("{line}"));
                return Ok(io::stdout().flush()?);
            }
            show(args.output, &one.kind, object.clone())
        }))?;
        // A server that ends watches early is not asked without a pause; it goes on from what was told last.
        std::thread::sleep(PAUSE);
    }
}

fn show(output: Shown, kind: &Kind, object: Value) -> Result<()> {
    if output == Shown::Name {
        println!("{}", kind.of(text(&object, "/metadata/name")));
        return Ok(());
    }
    if output == Shown::Yaml {
        println!("---");
    }
    print(output, object)
}

/// Each event of a watch, a line each, until the server ends it.
async fn follow(server: &Server, call: Call<'_>, mut event: impl FnMut(&Value) -> Result<()>) -> Result<()> {
    let mut body = call.send(server).await?.into_body();
    let mut pending = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| Failure::new(format!("cannot watch on: {}", client::causes(&error))))?;
        pending.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            let value: Value =
                serde_json::from_slice(&line).context(|| "read an event of the watch".into())?;
            event(&value)?;
        }
    }
    Ok(())
}
