//! `sextant describe`: an object for people, with what happened to it.

mod node;
mod object;
mod pod;
mod service;
mod sheet;

use std::path::Path;

use serde_json::Value;
use sheet::Sheet;

use super::{ended, wanted};
use crate::cli::DescribeArgs;
use crate::failure::Result;
use crate::objects::{Call, JSON, Kind, Refused, Server, age, asked_to_end, list, number, text};

/// `sextant describe`
pub(crate) fn run(data_dir: &Path, args: &DescribeArgs) -> Result<()> {
    let server = Server::find(data_dir, &args.of.within.server, args.of.within.namespace.as_deref())?;
    let (mut failures, mut is_first) = (Vec::new(), true);
    for one in wanted(&server.kinds()?, &args.words, &args.of, "")? {
        let path = one.kind.path((!args.of.all_namespaces).then_some(server.namespace.as_str()));
        let found = match &one.name {
            Some(name) => server.get(&format!("{path}/{name}")).map(|object| vec![object]),
            None => server
                .ask(Call::get(&path, JSON).with("labelSelector", &args.of.selector))
                .map(|found| list(&found, "/items").to_vec()),
        };
        match found {
            Ok(objects) => {
                for object in objects {
                    if !std::mem::take(&mut is_first) {
                        println!("\n");
                    }
                    print!("{}", describe(&server, &one.kind, &object)?);
                }
            }
            Err(refused) => failures.push(refused.into()),
        }
    }
    ended(failures)
}

/// One object.
fn describe(server: &Server, kind: &Kind, object: &Value) -> Result<String> {
    let mut sheet = Sheet::default();
    head(&mut sheet, kind, object);
    match (kind.group.as_str(), kind.name.as_str()) {
        ("", "Pod") => pod::describe(&mut sheet, object),
        ("", "Node") => node::describe(&mut sheet, server, object)?,
        ("", "Service") => service::describe(&mut sheet, server, object)?,
        _ => object::describe(&mut sheet, kind, object),
    }
    tell_events(&mut sheet, &events(server, &kind.name, object)?);
    Ok(sheet.text())
}

/// What every object has.
fn head(sheet: &mut Sheet, kind: &Kind, object: &Value) {
    sheet.field("Name", text(object, "/metadata/name"));
    if kind.is_namespaced {
        sheet.field("Namespace", text(object, "/metadata/namespace"));
    }
    sheet.pairs("Labels", object.pointer("/metadata/labels"), "=");
    // What `kubectl apply` keeps there is the whole object, a Secret's data with it.
    let mut annotations = object.pointer("/metadata/annotations").cloned().unwrap_or_default();
    if let Some(map) = annotations.as_object_mut() {
        map.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    sheet.pairs("Annotations", Some(&annotations), ": ");
    let created = text(object, "/metadata/creationTimestamp");
    sheet.field("Created", &format!("{created} ({} ago)", age(created)));
    if !text(object, "/metadata/deletionTimestamp").is_empty() {
        sheet.field("Deletion", &format!("asked for {} ago", asked_to_end(object)));
        let finalizers = list(object, "/metadata/finalizers").iter().filter_map(Value::as_str);
        sheet.field("Finalizers", &or_none(&finalizers.collect::<Vec<_>>().join(", ")));
    }
    for owner in list(object, "/metadata/ownerReferences") {
        if owner.get("controller") == Some(&Value::Bool(true)) {
            sheet.field("Controlled By", &format!("{}/{}", text(owner, "/kind"), text(owner, "/name")));
        }
    }
}

fn or_none(text: &str) -> String {
    if text.is_empty() { "<none>".into() } else { text.into() }
}

/// The conditions, as a table.
fn conditions(sheet: &mut Sheet, object: &Value) {
    let all = list(object, "/status/conditions");
    if all.is_empty() {
        return;
    }
    let rows = all.iter().map(|one| {
        ["/type", "/status", "/reason", "/message"].map(|place| text(one, place).to_owned()).to_vec()
    });
    sheet.table("Conditions", &["Type", "Status", "Reason", "Message"], rows.collect());
}

/// What happened to an object, oldest first.
pub(crate) fn events(server: &Server, kind: &str, object: &Value) -> Result<Vec<Value>, Refused> {
    let namespace = match text(object, "/metadata/namespace") {
        // Where those of objects without one are.
        "" => "default",
        namespace => namespace,
    };
    let path = format!("/api/v1/namespaces/{namespace}/events");
    let name = text(object, "/metadata/name");
    let fields = format!("involvedObject.kind={kind},involvedObject.name={name}");
    let found = server.ask(Call::get(&path, JSON).with("fieldSelector", &fields))?;
    let uid = text(object, "/metadata/uid");
    // What had the name before is another; a kubelet's events of its node have the name for a uid.
    let is_its = |event: &&Value| [uid, name, ""].contains(&text(event, "/involvedObject/uid"));
    let mut all: Vec<Value> = list(&found, "/items").iter().filter(is_its).cloned().collect();
    all.sort_by_key(|event| last_seen(event).to_owned());
    Ok(all)
}

/// When an event was last seen.
pub(crate) fn last_seen(event: &Value) -> &str {
    let places = ["/series/lastObservedTime", "/lastTimestamp", "/eventTime", "/metadata/creationTimestamp"];
    places.into_iter().map(|place| text(event, place)).find(|time| !time.is_empty()).unwrap_or_default()
}

fn tell_events(sheet: &mut Sheet, events: &[Value]) {
    if events.is_empty() {
        sheet.field("Events", "<none>");
        return;
    }
    let rows = events.iter().map(|event| {
        let count = number(event, "/count").max(number(event, "/series/count"));
        let first = ["/firstTimestamp", "/eventTime"].map(|place| text(event, place));
        let first = first.into_iter().find(|time| !time.is_empty()).unwrap_or_default();
        let last = age(last_seen(event));
        let when = if count > 1 { format!("{last} (x{count} over {})", age(first)) } else { last };
        let from = ["/source/component", "/reportingComponent"].map(|place| text(event, place));
        let from = from.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
        vec![
            text(event, "/type").to_owned(),
            text(event, "/reason").to_owned(),
            when,
            from.to_owned(),
            match text(event, "/involvedObject/fieldPath") {
                "" => text(event, "/message").trim().to_owned(),
                part => format!("{part}: {}", text(event, "/message").trim()),
            },
        ]
    });
    sheet.table("Events", &["Type", "Reason", "Age", "From", "Message"], rows.collect());
}
