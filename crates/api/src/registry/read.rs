//! get.

use super::document;
use super::target::{Answer, Target, View};
use super::{Context, Registry, scale, too_large, view};
use crate::contract::field::quoted;
use crate::contract::{Object, Reason, Result, Status};
use crate::resource::Part;

impl Registry {
    /// The object, or the part of it.
    ///
    /// # Errors
    /// 404 where it is not there; 504 where `version` is yet to come.
    pub async fn get(
        &self,
        _context: &Context,
        target: &Target,
        part: Part,
        version: &str,
        form: View,
    ) -> Result<Answer> {
        self.not_yet(version)?;
        let stored = self.stored(target)?.ok_or_else(|| target.not_found())?;
        let resource = &target.resource;
        if part == Part::Scale {
            let object = document::open(resource, &stored.json)?;
            let scaled = scale::of(&object, resource)?;
            return Ok(Answer { code: 200, json: scale::told(&scaled, form) });
        }
        let json = if document::is_as_kept(resource, &stored.json) {
            stored.json
        } else {
            document::json(&document::open(resource, &stored.json)?)
        };
        Ok(Answer { code: 200, json: view::one(resource, json, form)? })
    }

    /// The object in the version of the request.
    ///
    /// # Errors
    /// 404 where it is not there.
    pub fn object(&self, target: &Target) -> Result<Object> {
        let stored = self.stored(target)?.ok_or_else(|| target.not_found())?;
        document::open(&target.resource, &stored.json)
    }

    /// Refuses a version that is yet to come.
    fn not_yet(&self, version: &str) -> Result<()> {
        let asked = parsed(version)?;
        let current = self.store().revision();
        if asked > current { Err(too_large(asked, current)) } else { Ok(()) }
    }
}

/// A resource version as a number; none is 0.
pub(super) fn parsed(version: &str) -> Result<u64> {
    if version.is_empty() {
        return Ok(0);
    }
    version.parse().map_err(|_| {
        let text = quoted(version);
        let message = format!(
            "resourceVersion: Invalid value: {text}: strconv.ParseUint: parsing {text}: invalid syntax"
        );
        Status::new(500, Reason::Unknown, message)
    })
}
