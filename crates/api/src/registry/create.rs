//! create.

use super::change::{decoded, invalid, own, without_version};
use super::target::{Answer, Body, Target, View};
use super::{Context, Registry, document, meta, unavailable, view};
use crate::admission::{Operation, Request};
use crate::contract::names;
use crate::contract::{Details, Object, Reason, Result, Status};
use crate::controllers::definitions::creatable;
use crate::decode;
use crate::resource::Part;
use crate::store::{self, Expect};

/// So many names are tried for a `generateName`.
const NAMES: usize = 8;

impl Registry {
    /// Creates an object; one that is never kept is answered by who reviews it.
    ///
    /// # Errors
    /// 400 for what is no such object, 409 where there is one of that name, 422 for what is wrong with it, and what
    /// admission says.
    pub async fn create(&self, context: &Context, target: &Target, body: Body, form: View) -> Result<Answer> {
        let resource = &target.resource;
        let mut object = decoded(context, resource, body)?;
        meta::in_namespace(&mut object, target)?;
        if !target.name.is_empty() {
            meta::with_name(&mut object, target)?;
        }
        if !resource.verbs.read {
            let reviewed = self.review(context, target, object).await?;
            return Ok(Answer { code: 201, json: document::json(&reviewed) });
        }
        let created = self.create_new(context, target, object).await?;
        Ok(Answer { code: 201, json: view::one(resource, document::json(&created), form)? })
    }

    /// Creates a decoded object.
    pub(super) async fn create_new(
        &self,
        context: &Context,
        target: &Target,
        mut object: Object,
    ) -> Result<Object> {
        let resource = &target.resource;
        if resource.is_custom() {
            creatable(self, &resource.stored_as, object.name())?;
        }
        resource.strategy.default(&mut object);
        meta::unique_owners(&mut object, context);
        without_version(&object)?;
        own(context, resource, Part::Main, None, &mut object);
        self.create_prepared(context, target, object).await
    }

    /// Creates an object that has its defaults and its managers.
    pub(super) async fn create_prepared(
        &self,
        context: &Context,
        target: &Target,
        mut object: Object,
    ) -> Result<Object> {
        let is_generated = meta::is_nameless(&object);
        meta::begin(&mut object);
        let mut request = Request::new(self, context, Operation::Create, target, "");
        request.object = Some(object);
        self.admit(&mut request).await?;
        let mut object = request.object.take().unwrap_or_default();
        meta::in_namespace(&mut object, target)?;
        meta::unique_owners(&mut object, context);
        let mut refused = None;
        for attempt in 0..if is_generated { NAMES } else { 1 } {
            if attempt > 0 {
                meta::name_anew(&mut object);
            }
            match self.attempt(context, target, &mut request, object.clone()).await {
                Err(status) if status.reason == Reason::AlreadyExists => refused = Some(status),
                other => return other,
            }
        }
        let refused = refused.unwrap_or_else(|| Status::internal("no name was tried"));
        Err(if is_generated || !object.text(&["metadata", "generateName"]).is_empty() {
            no_unique_name(refused)
        } else {
            refused
        })
    }

    async fn attempt(
        &self,
        context: &Context,
        target: &Target,
        request: &mut Request<'_>,
        mut object: Object,
    ) -> Result<Object> {
        let resource = &target.resource;
        let strategy = &resource.strategy;
        let promise = self.0.services.create(self, context, target, &mut object)?;
        context.warnings.extend(strategy.early_warnings(&object));
        strategy.prepare_create(&mut object);
        strategy.signed_by(&mut object, &context.asker);
        if !resource.is_custom() {
            decode::settle(&mut object, strategy.schema());
        }
        if strategy.has_generation() {
            object.metadata_mut().insert("generation".to_owned(), 1.into());
        }
        let mut errors = names::meta_errors(&object, resource.namespaced, |name, prefix| {
            strategy.name_errors(name, prefix)
        });
        errors.extend(strategy.validate(&object));
        if !errors.is_empty() {
            return Err(invalid(resource, object.name(), &errors));
        }
        context.warnings.extend(strategy.warnings(&object, None));
        request.object = Some(object);
        self.validate(request).await?;
        let object = request.object.take().unwrap_or_default();
        let made = target.named(object.name());
        if context.dry_run {
            request.object = Some(object);
            self.reserve(request).await?;
            return match self.stored(&made)? {
                Some(found) => Err(taken(&made, &found)),
                None => Ok(request.object.take().unwrap_or_default()),
            };
        }
        request.object = Some(object);
        let kept = self.put_admitted(request, &made, Expect::Absent).await?;
        let mut object = request.object.take().unwrap_or_default();
        drop(promise);
        match kept {
            Ok(revision) => {
                object.metadata_mut().insert("resourceVersion".to_owned(), revision.to_string().into());
                Ok(object)
            }
            Err(store::Error::Unexpected { found: Some(found), .. }) => Err(taken(&made, &found)),
            Err(error) => Err(unavailable(error)),
        }
    }

    /// Answers an object that is never kept.
    async fn review(&self, context: &Context, target: &Target, mut object: Object) -> Result<Object> {
        let resource = &target.resource;
        resource.strategy.default(&mut object);
        own(context, resource, Part::Main, None, &mut object);
        resource.strategy.prepare_create(&mut object);
        let errors = resource.strategy.validate(&object);
        if !errors.is_empty() {
            // Kubernetes names neither the kind nor the object here.
            return Err(Status::invalid(&resource.names.group, "", "", &errors));
        }
        self.reviewer(&resource.names.kind)?.review(context, object).await
    }
}

/// 409 of a name that is taken.
fn taken(target: &Target, found: &store::Stored) -> Status {
    let names = &target.resource.names;
    let mut status = Status::already_exists(&names.group, &names.plural, &target.name);
    if document::parse(&found.json).is_ok_and(|object| object.is_terminating()) {
        status.message = format!("object is being deleted: {}", status.message);
    }
    status
}

/// The same of names that the server has picked.
fn no_unique_name(mut status: Status) -> Status {
    status.message.push_str(", the server was not able to generate a unique name for the object");
    status.details.get_or_insert_with(|| Box::new(Details::default())).retry_after_seconds = 1;
    status
}
