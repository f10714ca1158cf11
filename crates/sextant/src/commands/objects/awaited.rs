use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use crate::cli::{Event, WaitArgs};
use crate::failure::{Failure, Result};
use crate::objects::ready::{self, Readiness};
use crate::objects::{Server, condition, list, named, number, text};

/// How often an object is looked at.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

/// `sextant wait --for`
pub(crate) fn run(data_dir: &Path, args: &WaitArgs) -> Result<()> {
    let event = args.event.as_ref().unwrap_or(&Event::Ready);
    let server = Server::find(data_dir, &args.within.server, args.within.namespace.as_deref())?;
    let until = Instant::now() + args.timeout;
    for one in named(&server.kinds()?, &args.names)? {
        let Some(name) = &one.name else {
            return Err(Failure::new("cannot wait for all of a kind: give TYPE NAME, or TYPE/NAME"));
        };
        let path = format!("{}/{name}", one.kind.path(Some(&server.namespace)));
        let title = one.kind.of(name);
        loop {
            let object = server.find_at(&path)?;
            if let Some(done) = has_come(event, object.as_ref(), &title)? {
                println!("{title} {done}");
                break;
            }
            if Instant::now() > until {
                let what = told(event);
                return Err(Failure::new(format!("timed out waiting for {what} on {title}")));
            }
            std::thread::sleep(PAUSE);
        }
    }
    Ok(())
}

fn told(event: &Event) -> String {
    match event {
        Event::Condition { kind, .. } => format!("the condition {kind}"),
        Event::Created => "its creation".into(),
        Event::Deleted => "its deletion".into(),
        Event::Ready => "readiness".into(),
    }
}

/// What is said once it is so.
fn has_come(event: &Event, object: Option<&Value>, title: &str) -> Result<Option<&'static str>> {
    let missing = || Failure::new(format!("{title} is not there"));
    match event {
        Event::Deleted => Ok(object.is_none().then_some("condition met")),
        Event::Created => Ok(object.is_some().then_some("condition met")),
        Event::Ready => match ready::of(object.ok_or_else(missing)?) {
            Readiness::Ready => Ok(Some("is ready")),
            Readiness::Waits(_) => Ok(None),
            Readiness::Failed(why) => Err(Failure::new(format!("{title} has failed: {why}"))),
        },
        Event::Condition { kind, status } => {
            let object = object.ok_or_else(missing)?;
            let is_so = |one: &Value| text(one, "/status").eq_ignore_ascii_case(status);
            // Names of conditions are written in any case on command lines.
            let exact = condition(object, kind);
            let all = list(object, "/status/conditions");
            let found =
                exact.or_else(|| all.iter().find(|one| text(one, "/type").eq_ignore_ascii_case(kind)));
            // One that was said of the object as it was before says nothing of it now.
            let seen = |one: &Value| one.get("observedGeneration").and_then(Value::as_i64);
            let of_all = object.pointer("/status/observedGeneration").and_then(Value::as_i64);
            let generation = number(object, "/metadata/generation");
            let is_old = |one: &Value| seen(one).or(of_all).is_some_and(|seen| seen < generation);
            Ok(found.filter(|one| is_so(one) && !is_old(one)).map(|_| "condition met"))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_condition_of_an_older_object_has_not_come() {
        let event = |status: &str| Event::Condition { kind: "available".into(), status: status.into() };
        let object = |condition: Option<i64>, status: Option<i64>| {
            json!({"metadata": {"generation": 2}, "status": {"observedGeneration": status, "conditions": [
                {"type": "Available", "status": "True", "observedGeneration": condition}]}})
        };
        let come = |object: &Value| has_come(&event("true"), Some(object), "x").unwrap().is_some();
        assert!(!come(&object(None, Some(1))) && !come(&object(Some(1), Some(2))));
        assert!(come(&object(None, Some(2))) && come(&object(Some(2), Some(1))) && come(&object(None, None)));
        assert!(has_come(&event("False"), Some(&object(None, None)), "x").unwrap().is_none());
        assert!(has_come(&event("True"), None, "x").unwrap_err().to_string().contains("not there"));
    }
}
