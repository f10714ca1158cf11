//! delete and deletecollection.

use super::change::{ATTEMPTS, MODIFIED};
use super::options::{DeleteOptions, ListOptions, Propagation};
use super::selection::Selection;
use super::target::{Answer, Target, View};
use super::{Context, Registry, document, meta, rules, unavailable, view};
use crate::admission::{Operation, Request};
use crate::contract::names::{FOREGROUND, ORPHAN};
use crate::contract::{Object, Result, Status};
use crate::store::{self, Expect, Stored};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::collections::HashSet;

/// What a deletion came to.
struct Deleted {
    object: Object,
    /// Whether it is gone, and not only marked.
    gone: bool,
}

impl Registry {
    /// Deletes an object, or marks it as one that is being deleted where something holds it.
    ///
    /// # Errors
    /// 404, 409 where a precondition does not hold, and what admission says.
    pub async fn delete(
        &self,
        context: &Context,
        target: &Target,
        options: &DeleteOptions,
        form: View,
    ) -> Result<Answer> {
        let deleted = self.delete_one(context, target, options).await?;
        let code = if !deleted.gone && options.orphan == Some(false) { 202 } else { 200 };
        let names = &target.resource.names;
        if deleted.gone && !rules::answers_deleted(&target.resource) {
            let mut details = json!({"name": target.name, "kind": names.plural, "uid": deleted.object.uid()});
            if !names.group.is_empty() {
                details["group"] = names.group.as_ref().into();
            }
            return Ok(Answer { code, json: success(&details) });
        }
        let json = document::json(&deleted.object);
        Ok(Answer { code, json: view::one(&target.resource, json, form)? })
    }

    /// Deletes all objects that the options select, and answers the list of them.
    ///
    /// # Errors
    /// As of list and of the first deletion that fails; what was deleted before that stays so.
    pub async fn delete_collection(
        &self,
        context: &Context,
        target: &Target,
        list: &ListOptions,
        options: &DeleteOptions,
        form: View,
    ) -> Result<Answer> {
        let selection = Selection::new(target, list)?;
        let listed = self.listed(&selection, list)?;
        for stored in &listed.items {
            let one = Target {
                namespace: stored.key.namespace.clone(),
                name: stored.key.name.clone(),
                ..target.clone()
            };
            match self.delete_one(context, &one, options).await {
                Err(status) if status.code == 404 => {}
                other => drop(other?),
            }
        }
        Ok(Answer { code: 200, json: super::list::written(&selection, &listed, form)?.into() })
    }

    async fn delete_one(
        &self,
        context: &Context,
        target: &Target,
        options: &DeleteOptions,
    ) -> Result<Deleted> {
        let context = &Context { dry_run: context.dry_run || options.dry_run, ..context.clone() };
        if options.propagation.is_none()
            && options.orphan.is_none()
            && let Some(warning) = rules::deletion_warning(&target.resource)
        {
            context.warnings.add(warning);
        }
        for _ in 0..ATTEMPTS {
            let stored = self.stored(target)?.ok_or_else(|| target.not_found())?;
            let live = document::open(&target.resource, &stored.json)?;
            preconditions(target, options, &live)?;
            let mut request = Request::new(self, context, Operation::Delete, target, "");
            request.old = Some(&live);
            self.admit(&mut request).await?;
            self.validate(&request).await?;
            if let Some(deleted) = self.take(context, target, options, &stored, live.clone()).await? {
                return Ok(deleted);
            }
        }
        Err(target.conflict(MODIFIED))
    }

    /// Keeps what a deletion has written into an object; its revision. Also what goes at once is kept, so that watchers see
    /// that its deletion was asked for, and how. `None` when somebody has changed it meanwhile.
    async fn told(&self, target: &Target, stored: &Stored, object: &mut Object) -> Result<Option<u64>> {
        match self.put(target, Expect::Revision(stored.revision), object).await {
            Ok(revision) => {
                object.metadata_mut().insert("resourceVersion".to_owned(), revision.to_string().into());
                Ok(Some(revision))
            }
            Err(store::Error::Unexpected { .. }) => Ok(None),
            Err(error) => Err(unavailable(error)),
        }
    }

    /// One attempt; `None` when somebody has changed the object meanwhile.
    async fn take(
        &self,
        context: &Context,
        target: &Target,
        options: &DeleteOptions,
        stored: &Stored,
        live: Object,
    ) -> Result<Option<Deleted>> {
        let resource = &target.resource;
        let mut object = live.clone();
        let grace = if resource.stored_as == "pods" { graceful(&mut object, options)? } else { Grace::None };
        if matches!(grace, Grace::Pending) {
            return Ok(Some(Deleted { object, gone: false }));
        }
        if rules::collected(resource) {
            set_propagation(&mut object, options, rules::orphans_by_default(resource));
        }
        if resource.stored_as == "customresourcedefinitions.apiextensions.k8s.io" && !live.is_terminating() {
            crate::crd::status::deleted(&mut object, &super::now_text());
        }
        let held = object.finalizers().next().is_some() || meta::namespace_held(resource, &live);
        let waits = matches!(grace, Grace::Seconds(seconds) if seconds > 0);
        if !held && !waits {
            let at_once = matches!(grace, Grace::Seconds(_)) && !context.dry_run;
            let revision = stored.revision;
            let last = if at_once { self.told(target, stored, &mut object).await? } else { Some(revision) };
            let Some(last) = last else { return Ok(None) };
            let gone = self.remove(context, target, &stored.key, last).await?;
            return Ok(gone.then_some(Deleted { object, gone: true }));
        }
        if matches!(grace, Grace::None) {
            meta::mark_deleted(&mut object, resource);
        }
        if resource.stored_as == "namespaces" {
            object.make(&["status"]).insert("phase".to_owned(), "Terminating".into());
        }
        if object == live || context.dry_run {
            return Ok(Some(Deleted { object, gone: false }));
        }
        let kept = self.told(target, stored, &mut object).await?;
        Ok(kept.map(|_| Deleted { object, gone: false }))
    }
}

/// A `Status` of success.
fn success(details: &Value) -> Bytes {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
    });
    Bytes::from(status.to_string())
}

fn preconditions(target: &Target, options: &DeleteOptions, live: &Object) -> Result<()> {
    let names = &target.resource.names;
    let refuse = |cause: String| Err(Status::conflict(&names.group, &names.kind, &target.name, &cause));
    if let Some(uid) = &options.preconditions.uid
        && uid != live.uid()
    {
        return refuse(format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been \
             deleted and then recreated",
            live.uid()
        ));
    }
    if let Some(version) = &options.preconditions.version
        && version != live.resource_version()
    {
        return refuse(format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({}). \
             The object might have been modified",
            live.resource_version()
        ));
    }
    Ok(())
}

/// What becomes of a pod's time to end.
enum Grace {
    /// The kind has none.
    None,
    /// It has been told before, and nothing changes.
    Pending,
    /// So many seconds, from now on.
    Seconds(i64),
}

/// Writes a pod's time to end into its metadata.
fn graceful(pod: &mut Object, options: &DeleteOptions) -> Result<Grace> {
    let asked = options.grace.map(|seconds| if seconds < 0 { 1 } else { seconds });
    let held = pod.at(&["metadata", "deletionGracePeriodSeconds"]).and_then(Value::as_i64);
    if pod.is_terminating() {
        let Some(held) = held.filter(|seconds| *seconds != 0) else { return Ok(Grace::None) };
        let held = if held < 0 { 1 } else { held };
        let Some(asked) = asked.filter(|asked| *asked < held) else { return Ok(Grace::Pending) };
        return shortened(pod, held, asked);
    }
    let own = pod.at(&["spec", "terminationGracePeriodSeconds"]).and_then(Value::as_i64);
    let mut seconds = asked.or(own).unwrap_or(0);
    let ended = matches!(pod.text(&["status", "phase"]), "Failed" | "Succeeded");
    if pod.text(&["spec", "nodeName"]).is_empty() || ended {
        seconds = 0;
    }
    if seconds < 0 {
        seconds = 1;
    }
    let generation = pod.generation();
    let ends = Timestamp::now().checked_add(SignedDuration::from_secs(seconds)).map_err(Status::internal)?;
    let metadata = pod.metadata_mut();
    metadata.insert("deletionTimestamp".to_owned(), meta::time_text(ends).into());
    metadata.insert("deletionGracePeriodSeconds".to_owned(), seconds.into());
    if generation > 0 {
        metadata.insert("generation".to_owned(), (generation + 1).into());
    }
    Ok(Grace::Seconds(seconds))
}

/// Brings the end of a pod forward that is ending already.
fn shortened(pod: &mut Object, held: i64, asked: i64) -> Result<Grace> {
    let now = Timestamp::now();
    let told: Timestamp = pod.text(&["metadata", "deletionTimestamp"]).parse().map_err(Status::internal)?;
    let mut ends =
        told.checked_add(SignedDuration::from_secs(asked.saturating_sub(held))).map_err(Status::internal)?;
    let mut seconds = asked;
    if ends < now {
        ends = now;
        seconds = asked.min(1);
    }
    let metadata = pod.metadata_mut();
    metadata.insert("deletionTimestamp".to_owned(), meta::time_text(ends).into());
    metadata.insert("deletionGracePeriodSeconds".to_owned(), seconds.into());
    Ok(Grace::Seconds(seconds))
}

/// Writes what is to become of those that the object owns into its finalizers, for the garbage collector.
fn set_propagation(object: &mut Object, options: &DeleteOptions, orphans_by_default: bool) {
    let held: Vec<String> = object.finalizers().map(str::to_owned).collect();
    let orphan = match (options.orphan, options.propagation) {
        (Some(orphan), _) => orphan,
        (None, Some(asked)) => asked == Propagation::Orphan,
        (None, None) => held
            .iter()
            .find(|name| [ORPHAN, FOREGROUND].contains(&name.as_str()))
            .map_or(orphans_by_default, |name| name == ORPHAN),
    };
    let foreground = match (options.orphan, options.propagation) {
        (Some(_), _) => false,
        (None, Some(asked)) => asked == Propagation::Foreground,
        (None, None) => held
            .iter()
            .find(|name| [ORPHAN, FOREGROUND].contains(&name.as_str()))
            .is_some_and(|name| name == FOREGROUND),
    };
    let mut wanted: Vec<String> =
        held.iter().filter(|name| ![ORPHAN, FOREGROUND].contains(&name.as_str())).cloned().collect();
    wanted.extend(orphan.then(|| ORPHAN.to_owned()));
    wanted.extend(foreground.then(|| FOREGROUND.to_owned()));
    let known: HashSet<&String> = held.iter().collect();
    let same = wanted.len() == held.len() && wanted.iter().all(|name| known.contains(name));
    if same {
        return;
    }
    if wanted.is_empty() {
        object.metadata_mut().remove("finalizers");
    } else {
        object.metadata_mut().insert("finalizers".to_owned(), wanted.into());
    }
}
