//! Objects that are sent to a part of another and never kept, as admission sees them.

use super::{Context, Registry, Target, meta};
use crate::admission::{Operation, Request};
use crate::contract::{Object, Result, Status};
use crate::merge::managed::{self, Manager, Owned};
use crate::schema;

impl Registry {
    /// What admission makes of an object that is created through a part (an eviction, a binding, a request for a token).
    pub(super) async fn admitted_part(
        &self,
        context: &Context,
        target: &Target,
        part: &str,
        shown_as: (&'static str, &'static str),
        mut object: Object,
    ) -> Result<Object> {
        if object.namespace().is_empty() && !target.namespace.is_empty() {
            object.metadata_mut().insert("namespace".to_owned(), target.namespace.as_str().into());
        }
        self.admitted_as(context, target, Operation::Create, part, shown_as, object).await
    }

    /// Asks admission whether somebody may connect to a part (exec, attach, port-forward), with the options that he gave.
    ///
    /// # Errors
    /// What admission says.
    pub async fn connect(
        &self,
        context: &Context,
        target: &Target,
        part: &str,
        kind: &'static str,
        options: Object,
    ) -> Result<()> {
        self.admitted_as(context, target, Operation::Connect, part, ("v1", kind), options).await.map(drop)
    }

    async fn admitted_as(
        &self,
        context: &Context,
        target: &Target,
        operation: Operation,
        part: &str,
        shown_as: (&'static str, &'static str),
        mut object: Object,
    ) -> Result<Object> {
        object.0.insert("apiVersion".to_owned(), shown_as.0.into());
        object.0.insert("kind".to_owned(), shown_as.1.into());
        let mut request = Request::new(self, context, operation, target, part);
        request.shown_as = Some(shown_as);
        request.object = Some(object);
        self.admit(&mut request).await?;
        self.validate(&request).await?;
        Ok(request.object.take().unwrap_or_default())
    }
}

/// Writes into an object of a part who set which of its fields.
pub(super) fn own_part(
    context: &Context,
    part: &str,
    (api_version, type_name): (&str, &str),
    object: &mut Object,
) -> Result<()> {
    let schema = schema::builtin(type_name);
    let schema = schema.ok_or_else(|| Status::internal(format!("there is no schema of {type_name}")))?;
    let manager = Manager {
        name: context.manager.clone(),
        operation: managed::Operation::Update,
        api_version: api_version.to_owned(),
        subresource: part.to_owned(),
        time: meta::now_text(),
    };
    managed::record(None, object, schema, &manager, Owned::All);
    Ok(())
}
