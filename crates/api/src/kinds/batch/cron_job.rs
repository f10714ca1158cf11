//! CronJob.

use super::spec;
use crate::contract::Object;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::kinds::base::{Defaults, Fields, Kind, check, table};
use crate::kinds::inside::Inside;
use crate::kinds::{shown, template};
use crate::resource::{Column, Part};
use cron::{Schedule, zone};
use serde_json::{Map, Value, json};

/// A CronJob's jobs are called by its name and eleven bytes more.
const NAME_MAX: usize = 52;

pub(super) fn kind() -> Kind {
    Kind::new("batch", "v1", "CronJob", "cronjobs", "io.k8s.api.batch.v1.CronJob")
        .short(&["cj"])
        .categories(&["all"])
        .parts(&[Part::Status])
        .default(default)
        .prepare_create(|object| drop(object.0.insert("status".to_owned(), json!({}))))
        .validate(validate)
        .validate_update(validate_update)
        .warnings(warnings)
        .table(columns, row)
}

fn default(object: &mut Object) {
    let cron = object.make(&["spec"]);
    cron.fill_text("concurrencyPolicy", "Allow");
    cron.fill("suspend", false);
    cron.fill("successfulJobsHistoryLimit", 3);
    cron.fill("failedJobsHistoryLimit", 1);
    if let Some(template) = cron.inside("jobTemplate") {
        template.inside("metadata");
        if let Some(job) = template.inside("spec") {
            spec::default(job);
        }
    }
}

fn validate(object: &Object) -> FieldErrors {
    let mut errors = spec_errors(object, None);
    if object.name().len() > NAME_MAX {
        let detail = format!("must be no more than {NAME_MAX} characters");
        errors.push(FieldError::invalid(&Path::new("metadata").child("name"), object.name(), detail));
    }
    errors
}

fn validate_update(part: Part, object: &Object, old: &Object) -> FieldErrors {
    if part == Part::Status { FieldErrors::new() } else { spec_errors(object, Some(old)) }
}

fn spec_errors(object: &Object, old: Option<&Object>) -> FieldErrors {
    let (spec, path) = (object.spec(), Path::new("spec"));
    let old = old.map(|old| old.spec());
    let mut errors = FieldErrors::new();
    let at = path.child("schedule");
    match spec.text("schedule") {
        "" => errors.push(FieldError::required(&at, "")),
        schedule => {
            let may_name_zone = old.is_some_and(|old| old.text("schedule").contains("TZ"));
            schedule_errors(&mut errors, schedule, may_name_zone, spec.has("timeZone"), &at);
        }
    }
    let deadline = spec.int("startingDeadlineSeconds");
    check::not_negative(&mut errors, &path.child("startingDeadlineSeconds"), deadline);
    if let Some(name) =
        spec.maybe("timeZone").filter(|name| old.is_none_or(|old| old.maybe("timeZone") != Some(name)))
    {
        zone_errors(&mut errors, name, &path.child("timeZone"));
    }
    let at = path.child("concurrencyPolicy");
    check::one_of(&mut errors, &at, spec.text("concurrencyPolicy"), &["Allow", "Forbid", "Replace"]);
    template_errors(&mut errors, spec.under("jobTemplate").under("spec"), &path);
    for field in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        check::not_negative(&mut errors, &path.child(field), spec.int(field));
    }
    errors
}

fn schedule_errors(errors: &mut FieldErrors, text: &str, may_name_zone: bool, has_zone: bool, path: &Path) {
    if let Err(cause) = Schedule::parse(text) {
        errors.push(FieldError::invalid(path, text, cause));
    }
    if !text.contains("TZ") {
        return;
    }
    if !may_name_zone {
        let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        errors.push(FieldError::invalid(path, text, detail));
    } else if has_zone {
        let detail = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
        errors.push(FieldError::invalid(path, text, detail));
    }
}

fn zone_errors(errors: &mut FieldErrors, name: &str, path: &Path) {
    if name.is_empty() {
        errors.push(FieldError::invalid(path, name, "timeZone must be nil or non-empty string"));
        return;
    }
    if !name.split('/').all(zone::is_part) {
        errors.push(FieldError::invalid(path, name, format!("unknown time zone {name}")));
        return;
    }
    if name.eq_ignore_ascii_case("local") {
        let detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.push(FieldError::invalid(path, name, detail));
    }
    if let Err(cause) = zone::check(name) {
        errors.push(FieldError::invalid(path, name, cause));
    }
}

fn template_errors(errors: &mut FieldErrors, job: Option<&Map<String, Value>>, path: &Path) {
    let path = path.child("jobTemplate").child("spec");
    errors.extend(spec::errors(job, &path));
    if let Some(selector) = job.field("selector") {
        let detail = "`selector` will be auto-generated";
        errors.push(shown::invalid(&path.child("selector"), shown::selector(Some(selector)), detail));
    }
    if job.is("manualSelector") {
        errors.push(FieldError::not_supported(&path.child("manualSelector"), true, &["nil", "false"]));
    }
}

fn warnings(object: &Object, old: Option<&Object>) -> Vec<String> {
    let mut warnings: Vec<String> = template::name_warning(object, old).into_iter().collect();
    let job = |object: &Object| object.at(&["spec", "jobTemplate", "spec"]).cloned();
    let path = Path::new("spec").child("jobTemplate").child("spec");
    if old.is_none_or(|old| job(old) != job(object)) {
        warnings.extend(spec::warnings(job(object).as_ref().and_then(Value::as_object), &path));
    }
    warnings.extend(template::warnings(object, old, &["spec", "jobTemplate", "spec", "template"]));
    if old.is_some() && object.spec().text("schedule").contains("TZ") {
        warnings.push(
            "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see \
             https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
                .to_owned(),
        );
    }
    warnings
}

fn columns() -> Vec<Column> {
    let column = table::column;
    let own = [
        table::name(),
        column("Schedule", "string", "When its jobs begin."),
        column("Timezone", "string", "In which time zone that is."),
        column("Suspend", "boolean", "Whether no jobs begin for now."),
        column("Active", "integer", "How many of its jobs run."),
        column("Last Schedule", "string", "How long ago a job last began."),
        table::age(),
    ];
    own.into_iter().chain(table::template_columns("Which pods belong to its jobs.")).collect()
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    let (spec, status) = (object.spec(), object.status());
    let job = spec.under("jobTemplate").under("spec");
    let pod = job.under("template").under("spec");
    let (containers, images) = table::containers(pod);
    let last = status.maybe("lastScheduleTime").map(|time| table::since(time, now));
    let suspend = match spec.flag("suspend") {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    };
    let none = || "<none>".to_owned();
    vec![
        object.name().into(),
        spec.text("schedule").into(),
        spec.maybe("timeZone").map_or_else(none, str::to_owned).into(),
        suspend.into(),
        status.items("active").len().into(),
        last.unwrap_or_else(none).into(),
        table::age_of(object, now),
        containers.into(),
        images.into(),
        table::selector(job.under("selector")).into(),
    ]
}
