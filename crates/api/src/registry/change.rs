//! update, and what every change of an object that is there goes through.

use super::document;
use super::target::{Answer, Body, Target, View};
use super::{Context, Registry, meta, rules, unavailable, view};
use crate::admission::{Operation, Request, quota};
use crate::contract::field::{FieldError, Path, quoted};
use crate::contract::names;
use crate::contract::{Object, Reason, Result, Status};
use crate::decode::{self, Expected, FieldValidation, Media};
use crate::merge::managed::{self, Manager, Owned};
use crate::resource::{Part, Resource};
use crate::schema;
use crate::store::{self, Expect, Stored, Write};

/// Why an update of an older version is refused.
pub(super) const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";
/// So often a change is tried again that does not say which version it means.
pub(super) const ATTEMPTS: usize = 100;

/// What a write makes of the object that is there, or of none; it is asked again when somebody else was faster.
pub(super) type Make<'a> = &'a (dyn Fn(Option<&Object>) -> Result<Object> + Send + Sync);

impl Registry {
    /// Replaces an object, or the part of it; creates it where the kind allows that.
    ///
    /// # Errors
    /// 404, 409 where it has been changed meanwhile, 422 for what is wrong with it, and what admission says.
    pub async fn update(
        &self,
        context: &Context,
        target: &Target,
        part: Part,
        body: Body,
        form: View,
    ) -> Result<Answer> {
        if part == Part::Scale {
            return self.update_scale(context, target, body, form).await;
        }
        let resource = &target.resource;
        let mut object = decoded(context, resource, body)?;
        meta::says_name(&object, target)?;
        meta::in_namespace(&mut object, target)?;
        meta::with_name(&mut object, target)?;
        resource.strategy.default(&mut object);
        meta::unique_owners(&mut object, context);
        let make = |live: Option<&Object>| {
            let mut new = object.clone();
            if new.text(&["metadata", "creationTimestamp"]).is_empty()
                && let Some(created) = live.and_then(|live| live.at(&["metadata", "creationTimestamp"]))
            {
                new.metadata_mut().insert("creationTimestamp".to_owned(), created.clone());
            }
            own(context, resource, part, live, &mut new);
            Ok(new)
        };
        let creates = rules::created_by_update(resource) && part == Part::Main;
        let uid = object.uid().to_owned();
        let (code, changed) = self.change(context, target, part, creates, &uid, &make).await?;
        Ok(Answer { code, json: view::one(resource, document::json(&changed), form)? })
    }

    /// Changes the object to what `make` makes of it. `uid`, where not empty, has to be the object's.
    pub(super) async fn change(
        &self,
        context: &Context,
        target: &Target,
        part: Part,
        creates: bool,
        uid: &str,
        make: Make<'_>,
    ) -> Result<(u16, Object)> {
        for _ in 0..ATTEMPTS {
            let Some(stored) = self.stored(target)? else {
                if !creates {
                    return Err(target.not_found());
                }
                context.may_create.ask()?;
                let mut object = make(None)?;
                meta::in_namespace(&mut object, target)?;
                meta::with_name(&mut object, target)?;
                if !object.uid().is_empty() {
                    let cause = format!(
                        "uid mismatch: the provided object specified uid {}, and no existing object was found",
                        object.uid()
                    );
                    return Err(target.conflict(&cause));
                }
                match self.create_prepared(context, target, object).await {
                    Err(refused) if refused.reason == Reason::AlreadyExists => continue,
                    created => return created.map(|object| (201, object)),
                }
            };
            let live = document::open(&target.resource, &stored.json)?;
            if !uid.is_empty() && uid != live.uid() {
                return Err(target.conflict(&uid_differs(target, uid, live.uid())));
            }
            let new = make(Some(&live))?;
            if let Some(changed) = self.replace(context, target, part, &stored, &live, new).await? {
                return Ok((200, changed));
            }
        }
        Err(target.conflict(MODIFIED))
    }

    /// Puts `new` where `live` is; `None` when somebody else was faster.
    async fn replace(
        &self,
        context: &Context,
        target: &Target,
        part: Part,
        stored: &Stored,
        live: &Object,
        mut new: Object,
    ) -> Result<Option<Object>> {
        let resource = &target.resource;
        meta::in_namespace(&mut new, target)?;
        meta::with_name(&mut new, target)?;
        let mut request = Request::new(self, context, Operation::Update, target, rules::part_name(part));
        request.object = Some(new);
        request.old = Some(live);
        self.admit(&mut request).await?;
        let mut new = request.object.take().unwrap_or_default();
        meta::unique_owners(&mut new, context);
        self.versioned(target, &mut new, live)?;
        let promise = self.0.services.update(self, context, target, part, &mut new, live)?;
        meta::keep(&mut new, live);
        resource.strategy.prepare_update(part, &mut new, live);
        if !resource.is_custom() {
            decode::settle(&mut new, resource.strategy.schema());
        }
        meta::count(&mut new, live, resource, part);
        let mut errors = names::meta_update_errors(&new, live);
        // Kubernetes looks twice, for all kinds and for this one, and tells both.
        errors.extend(errors.clone());
        errors.extend(resource.strategy.validate_update(part, &new, live));
        if !errors.is_empty() {
            return Err(invalid(resource, new.name(), &errors));
        }
        context.warnings.extend(resource.strategy.warnings(&new, Some(live)));
        request.object = Some(new);
        self.validate(&request).await?;
        let new = request.object.take().unwrap_or_default();
        if managed::is_same_but_for_times(&new, live) {
            return Ok(Some(live.clone()));
        }
        if meta::is_gone(&new, live, resource) {
            let gone = self.remove(context, target, &stored.key, stored.revision).await?;
            return Ok(gone.then_some(new));
        }
        request.object = Some(new);
        if context.dry_run {
            self.reserve(&request).await?;
            return Ok(request.object);
        }
        let kept = self.put_admitted(&request, target, Expect::Revision(stored.revision)).await?;
        let mut new = request.object.take().unwrap_or_default();
        if quota::gives_back(resource, live, &new) {
            self.0.quotas.free(&target.namespace);
        }
        drop(promise);
        match kept {
            Ok(revision) => {
                new.metadata_mut().insert("resourceVersion".to_owned(), revision.to_string().into());
                Ok(Some(new))
            }
            Err(store::Error::Unexpected { .. }) => Ok(None),
            Err(error) => Err(unavailable(error)),
        }
    }

    /// Checks the version that the client means; one that means none gets the one that is there, where the kind allows it.
    fn versioned(&self, target: &Target, new: &mut Object, live: &Object) -> Result<()> {
        let given = new.resource_version();
        if given.is_empty() || given == "0" {
            if !rules::unconditional(&target.resource) {
                let names = &target.resource.names;
                let path = Path::new("metadata").child("resourceVersion");
                let errors = vec![FieldError::invalid(&path, 0, "must be specified for an update")];
                return Err(Status::invalid(&names.group, &names.plural, &target.name, &errors));
            }
            let version = live.resource_version();
            new.metadata_mut().insert("resourceVersion".to_owned(), version.into());
            return Ok(());
        }
        if given.parse::<u64>().is_err() {
            let message = format!("strconv.ParseUint: parsing {}: invalid syntax", quoted(given));
            return Err(Status::new(500, Reason::Unknown, message));
        }
        if given == live.resource_version() { Ok(()) } else { Err(target.conflict(MODIFIED)) }
    }

    /// Keeps an object.
    pub(super) async fn put(
        &self,
        target: &Target,
        expect: Expect,
        object: &Object,
    ) -> std::result::Result<u64, store::Error> {
        let prepared = prepared(target, object).map_err(|status| store::Error::Write(status.message))?;
        let (key, document) = prepared?;
        self.store().commit(vec![Write { key, expect, value: Some(document) }]).await
    }

    /// The write that puts `changed` in the place of an object as it was read, of a kind in the version in which it is kept.
    pub(crate) fn rewritten(&self, stored_as: &str, read: &Object, changed: &Object) -> Result<Write> {
        let revision = read.resource_version().parse().map_err(Status::internal)?;
        let key = store::Key {
            resource: stored_as.to_owned(),
            namespace: read.namespace().to_owned(),
            name: read.name().to_owned(),
        };
        let document = document::as_kept(changed);
        Ok(Write { key, expect: Expect::Revision(revision), value: Some(document) })
    }

    /// Keeps the object of a request, and with it what admission wants to be kept; the outcome is that of the object.
    pub(super) async fn put_admitted(
        &self,
        request: &Request<'_>,
        target: &Target,
        expect: Expect,
    ) -> Result<store::Result<u64>> {
        let Some(object) = &request.object else {
            return Err(Status::internal("there is no object to keep"));
        };
        let (key, document) = match prepared(target, object)? {
            Ok(prepared) => prepared,
            Err(error) => return Ok(Err(error)),
        };
        loop {
            let reserved = self.reserve(request).await?;
            let mut writes = vec![Write { key: key.clone(), expect, value: Some(document.clone()) }];
            writes.extend(reserved.writes);
            match self.store().commit(writes).await {
                // What was to be kept with it has changed meanwhile.
                Err(store::Error::Unexpected { index: 1.., .. }) => {}
                other => return Ok(other),
            }
        }
    }

    /// Takes an object away for good; false when somebody has changed it meanwhile.
    pub(super) async fn remove(
        &self,
        context: &Context,
        target: &Target,
        key: &store::Key,
        revision: u64,
    ) -> Result<bool> {
        if context.dry_run {
            return Ok(true);
        }
        let write = Write { key: key.clone(), expect: Expect::Revision(revision), value: None };
        match self.store().commit(vec![write]).await {
            Ok(_) => {
                self.0.quotas.free(&target.namespace);
                Ok(true)
            }
            Err(store::Error::Unexpected { found: None, .. }) => Err(target.not_found()),
            Err(store::Error::Unexpected { .. }) => Ok(false),
            Err(error) => Err(unavailable(error)),
        }
    }
}

/// Under which key an object is kept, and as what, unless it is larger than it may be.
fn prepared(target: &Target, object: &Object) -> Result<store::Result<(store::Key, store::Document)>> {
    let document = document::document(&target.resource, object)?;
    let (bytes, most) = (document.json.len(), rules::most_bytes(&target.resource));
    if bytes > most {
        return Ok(Err(store::Error::Large { bytes, most }));
    }
    let key = store::Key { name: object.name().to_owned(), ..target.key() };
    Ok(Ok((key, document)))
}

/// Reads what a client sent by the rules of the resource.
pub(super) fn decoded(context: &Context, resource: &Resource, body: Body) -> Result<Object> {
    let (bytes, media) = match body {
        Body::Object(mut object) => {
            let names = &resource.names;
            object.0.entry("kind").or_insert_with(|| names.kind.as_ref().into());
            object.0.entry("apiVersion").or_insert_with(|| names.api_version().into());
            return Ok(object);
        }
        Body::Bytes(bytes, media) => (bytes, media),
    };
    if resource.is_custom() {
        custom(context, resource, &bytes, media)
    } else {
        built_in(context, resource, &bytes, media)
    }
}

fn built_in(context: &Context, resource: &Resource, bytes: &[u8], media: Media) -> Result<Object> {
    let api_version = resource.names.api_version();
    let expected = Expected {
        api_version: &api_version,
        kind: &resource.names.kind,
        schema: resource.strategy.schema(),
    };
    let decoded = decode::object(bytes, media, &expected, context.validation)?;
    context.warnings.extend(decoded.warnings);
    Ok(decoded.object)
}

/// Reads an object of a kind that has no resource of its own.
pub(super) fn decoded_as(
    context: &Context,
    body: Body,
    api_version: &str,
    kind: &str,
    type_name: &str,
) -> Result<Object> {
    let (bytes, media) = match body {
        Body::Object(object) => return Ok(object),
        Body::Bytes(bytes, media) => (bytes, media),
    };
    let schema = schema::builtin(type_name)
        .ok_or_else(|| Status::internal(format!("there is no schema of {type_name}")))?;
    let decoded = decode::object(&bytes, media, &Expected { api_version, kind, schema }, context.validation)?;
    context.warnings.extend(decoded.warnings);
    Ok(decoded.object)
}

fn custom(context: &Context, resource: &Resource, bytes: &[u8], media: Media) -> Result<Object> {
    let api_version = resource.names.api_version();
    let expected = Expected {
        api_version: &api_version,
        kind: &resource.names.kind,
        schema: resource.strategy.schema(),
    };
    // What its metadata does not know is told together with what its definition does not; of YAML what is there twice has
    // words of its own.
    let validation = match (context.validation, media) {
        (FieldValidation::Strict, Media::Json) => FieldValidation::Warn,
        (validation, _) => validation,
    };
    let decoded = decode::object(bytes, media, &expected, validation)?;
    let mut object = decoded.object;
    pruned(context, resource, &mut object, decoded.warnings)?;
    Ok(object)
}

/// Checks what a patch made of a custom resource as if it had been sent as a whole.
pub(super) fn custom_again(context: &Context, resource: &Resource, object: &mut Object) -> Result<()> {
    let json = serde_json::to_vec(&object.0).map_err(Status::internal)?;
    *object = custom(context, resource, &json, Media::Json)?;
    Ok(())
}

/// Drops what a custom resource does not know, and tells it as the client wishes, after what has been `told` of it.
fn pruned(context: &Context, resource: &Resource, object: &mut Object, mut told: Vec<String>) -> Result<()> {
    let names = &resource.names;
    let refused = |cause: String| {
        Status::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: {cause}",
            names.kind, names.version, names.kind
        ))
    };
    let unknown = resource.strategy.prune(object).unwrap_or_default();
    told.extend(unknown.iter().map(|path| format!("unknown field {path:?}")));
    told.extend(resource.strategy.coerce(object).map_err(refused)?);
    match context.validation {
        FieldValidation::Ignore => {}
        FieldValidation::Warn => context.warnings.extend(told),
        FieldValidation::Strict if told.is_empty() => {}
        FieldValidation::Strict => {
            return Err(refused(format!("strict decoding error: {}", told.join(", "))));
        }
    }
    Ok(())
}

/// Writes into `new` who manages which of its fields.
pub(super) fn own(
    context: &Context,
    resource: &Resource,
    part: Part,
    old: Option<&Object>,
    new: &mut Object,
) {
    let manager = manager(context, resource, part, managed::Operation::Update);
    managed::record(old, new, resource.strategy.schema(), &manager, owned(resource, part));
}

/// The manager that a request acts for.
pub(super) fn manager(
    context: &Context,
    resource: &Resource,
    part: Part,
    operation: managed::Operation,
) -> Manager {
    Manager {
        name: context.manager.clone(),
        operation,
        api_version: resource.names.api_version(),
        subresource: rules::part_name(part).to_owned(),
        // As Kubernetes has it: writes through a scale are owned since no time.
        time: if part == Part::Scale { String::new() } else { meta::now_text() },
    }
}

/// Which fields can be set through a part.
pub(super) fn owned(resource: &Resource, part: Part) -> Owned<'static> {
    match part {
        Part::Main if rules::resets_spec(resource) => Owned::Without(&[&["spec"], &["status"]]),
        Part::Status | Part::Approval => Owned::Without(&[&["spec"]]),
        Part::Main if resource.strategy.parts().contains(&Part::Status) => Owned::Without(&[&["status"]]),
        _ => Owned::All,
    }
}

/// 422 of validation.
pub(super) fn invalid(
    resource: &Resource,
    name: &str,
    errors: &crate::contract::field::FieldErrors,
) -> Status {
    let own = (&*resource.names.group, &*resource.names.kind);
    let (group, kind) = resource.strategy.refused_as().unwrap_or(own);
    Status::invalid(group, kind, name, errors)
}

/// What Kubernetes' store says of a uid that is another.
fn uid_differs(target: &Target, asked: &str, found: &str) -> String {
    let resource = &target.resource;
    let mut key = String::from("/registry/");
    if &*resource.stored_as == "services" {
        // Beside them Kubernetes keeps their endpoints.
        key.push_str("services/specs");
    } else if resource.is_custom() {
        key.push_str(&resource.names.group);
        key.push('/');
        key.push_str(&resource.names.plural);
    } else {
        key.push_str(&resource.names.plural);
    }
    if !target.namespace.is_empty() {
        key.push('/');
        key.push_str(&target.namespace);
    }
    format!(
        "StorageError: invalid object, Code: 4, Key: {key}/{}, ResourceVersion: 0, AdditionalErrorMsg: Precondition \
         failed: UID in precondition: {asked}, UID in object meta: {found}",
        target.name
    )
}

/// Refuses a resource version on an object that is to be created.
pub(super) fn without_version(object: &Object) -> Result<()> {
    match object.resource_version().parse::<u64>() {
        Ok(1..) => {
            let message = "resourceVersion should not be set on objects to be created";
            Err(Status::new(500, Reason::Unknown, message))
        }
        // What is no number is dropped.
        _ => Ok(()),
    }
}
