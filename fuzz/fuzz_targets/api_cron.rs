//! A schedule, and on the line after it a time zone, of a CronJob: taken or refused, never a panic; what is taken for a new
//! one is taken again.

use std::sync::LazyLock;

use api::contract::Object;
use api::resource::{Part, Resource};
use serde_json::json;

static CRON_JOBS: LazyLock<Resource> = LazyLock::new(|| {
    let kind = |resource: &Resource| resource.names.kind == "CronJob";
    api::kinds::builtin().into_iter().find(kind).expect("it is built in")
});

pub fn run(text: &str) {
    let (schedule, zone) =
        text.split_once('\n').map_or((text, None), |(schedule, zone)| (schedule, Some(zone)));
    let containers = json!([{"name": "a", "image": "b"}]);
    let template = json!({"spec": {"containers": containers, "restartPolicy": "Never"}});
    let job = json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "a", "namespace": "b"},
        "spec": {"schedule": schedule, "timeZone": zone, "jobTemplate": {"spec": {"template": template}}},
    });
    let mut job = Object::from_value(job).expect("it is an object");
    CRON_JOBS.strategy.default(&mut job);
    let errors = CRON_JOBS.strategy.validate(&job);
    let again = CRON_JOBS.strategy.validate_update(Part::Main, &job, &job);
    assert!(!errors.is_empty() || again.is_empty(), "{schedule:?} is taken, and then not");
}
