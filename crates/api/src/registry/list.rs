//! list, in one piece or in several.

use super::options::{ListOptions, VersionMatch};
use super::read::parsed;
use super::resources::is_kept_version;
use super::selection::Selection;
use super::target::{Answer, Target, View};
use super::token::Token;
use super::{Context, Registry, document, too_large, unavailable, view};
use crate::contract::{Result, Status};
use crate::store::{self, Key, Stored};
use serde_json::{Map, Value};

/// Objects of a collection as of one revision.
pub(super) struct Listed {
    pub(super) items: Vec<Stored>,
    pub(super) revision: u64,
    /// Where the list goes on, and how many there are behind where that is known.
    next: Option<(Token, Option<usize>)>,
}

impl Registry {
    /// The collection, or a piece of it.
    ///
    /// # Errors
    /// 400 for selectors and tokens that are none; 410 for versions that are gone, 504 for those that are yet to come.
    pub async fn list(
        &self,
        _context: &Context,
        target: &Target,
        options: &ListOptions,
        form: View,
    ) -> Result<Answer> {
        let selection = Selection::new(target, options)?;
        let listed = self.listed(&selection, options)?;
        Ok(Answer { code: 200, json: written(&selection, &listed, form)?.into() })
    }

    /// The objects that a list tells.
    pub(super) fn listed(&self, selection: &Selection, options: &ListOptions) -> Result<Listed> {
        let start = self.start(options)?;
        if let Some(name) = selection.name()
            && (selection.scope.namespace.is_some() || !selection.resource.namespaced)
        {
            return self.single(selection, name);
        }
        let limit = (options.limit > 0).then_some(options.limit);
        let within = selection.scope.namespace.clone();
        let key = |(namespace, name): &(String, String)| Key {
            resource: selection.scope.resource.clone(),
            namespace: within.clone().unwrap_or_else(|| namespace.clone()),
            name: name.clone(),
        };
        let mut after = start.after.as_ref().map(key);
        let mut at = start.revision;
        let mut items = Vec::new();
        loop {
            let page = self
                .store()
                .list(&selection.scope, after.as_ref(), limit, at)
                .map_err(|error| expired(error, options, after.as_ref()))?;
            let last = page.items.last().map(|stored| stored.key.clone());
            for stored in page.items {
                if selection.means(&stored.json)? {
                    items.push(stored);
                }
                if limit == Some(items.len()) {
                    break;
                }
            }
            let full = limit == Some(items.len());
            let cut = items.last().map(|stored| stored.key.clone());
            let seen_all = page.more.is_none() && (!full || cut == last);
            if seen_all {
                return Ok(Listed { items, revision: page.revision, next: None });
            }
            if full {
                let counted = selection.is_everything().then_some(page.more).flatten();
                let last = cut.expect("a full list has a last item");
                let namespace = if within.is_some() { String::new() } else { last.namespace };
                let token = Token { revision: Some(page.revision), after: (namespace, last.name) };
                return Ok(Listed { items, revision: page.revision, next: Some((token, counted)) });
            }
            (after, at) = (last, Some(page.revision));
        }
    }

    /// The collection of at most one object.
    fn single(&self, selection: &Selection, name: &str) -> Result<Listed> {
        let revision = self.store().revision();
        let key = Key {
            resource: selection.scope.resource.clone(),
            namespace: selection.scope.namespace.clone().unwrap_or_default(),
            name: name.to_owned(),
        };
        let mut items = Vec::new();
        if let Some(stored) = self.store().get(&key).map_err(unavailable)?
            && selection.means(&stored.json)?
        {
            items.push(stored);
        }
        let revision = items.first().map_or(revision, |stored| stored.revision.max(revision));
        Ok(Listed { items, revision, next: None })
    }

    fn start(&self, options: &ListOptions) -> Result<Start> {
        if !options.token.is_empty() {
            let token = Token::parse(&options.token)?;
            if !options.is_from_any() {
                return Err(Status::bad_request(
                    "specifying resource version is not allowed when using continue",
                ));
            }
            return Ok(Start { revision: token.revision, after: Some(token.after) });
        }
        let asked = parsed(&options.version)
            .map_err(|status| Status::bad_request(format!("invalid resource version: {}", status.message)))?;
        let current = self.store().revision();
        if asked > current {
            return Err(too_large(asked, current));
        }
        let exact = match options.version_match {
            Some(wanted) => wanted == VersionMatch::Exact,
            None => options.limit > 0 && asked > 0,
        };
        Ok(Start { revision: exact.then_some(asked), after: None })
    }
}

struct Start {
    revision: Option<u64>,
    after: Option<(String, String)>,
}

/// What a list at a revision that is gone is told.
fn expired(error: store::Error, options: &ListOptions, after: Option<&Key>) -> Status {
    if !matches!(error, store::Error::Compacted { .. }) || options.token.is_empty() || after.is_none() {
        return unavailable(error);
    }
    Status::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list \
         without the continue parameter.",
    )
}

/// The list as JSON.
pub(super) fn written(selection: &Selection, listed: &Listed, form: View) -> Result<Vec<u8>> {
    let resource = &selection.resource;
    let metadata = Value::Object(metadata(listed)).to_string();
    let size: usize = listed.items.iter().map(|stored| stored.json.len() + 1).sum();
    let mut out = Vec::with_capacity(size + 256);
    match form {
        View::Full => {
            let names = &resource.names;
            let (kind, version) = (Value::from(names.list_kind.as_ref()), Value::from(names.api_version()));
            out.extend_from_slice(
                format!("{{\"kind\":{kind},\"apiVersion\":{version},\"metadata\":{metadata},\"items\":[")
                    .as_bytes(),
            );
            items(selection, listed, &mut out)?;
        }
        View::Metadata => {
            out.extend_from_slice(
                format!(
                    "{{\"kind\":\"PartialObjectMetadataList\",\"apiVersion\":\"meta.k8s.io/v1\",\
                     \"metadata\":{metadata},\"items\":["
                )
                .as_bytes(),
            );
            for (index, stored) in listed.items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(&view::metadata(&document::open(resource, &stored.json)?));
            }
        }
        View::Table(include) => {
            let columns = view::columns(resource);
            out.extend_from_slice(
                format!(
                    "{{\"kind\":\"Table\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":{metadata},\
                     \"columnDefinitions\":{columns},\"rows\":["
                )
                .as_bytes(),
            );
            for (index, stored) in listed.items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                let object = document::open(resource, &stored.json)?;
                out.extend_from_slice(&view::row(resource, &object, include));
            }
        }
    }
    out.extend_from_slice(b"]}");
    Ok(out)
}

/// Items of a list: as they are kept; those of built-in kinds without kind and version, as Kubernetes sends them.
fn items(selection: &Selection, listed: &Listed, out: &mut Vec<u8>) -> Result<()> {
    let resource = &selection.resource;
    let kept = is_kept_version(resource);
    let custom = resource.is_custom();
    let head = if kept {
        document::head(resource)
    } else {
        let names = &resource.names;
        format!(
            "{{\"kind\":{},\"apiVersion\":{}",
            Value::from(names.kind.as_ref()),
            Value::from(names.api_version())
        )
    };
    for (index, stored) in listed.items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let json = if document::is_as_kept(resource, &stored.json) {
            stored.json.clone()
        } else {
            document::json(&document::open(resource, &stored.json)?)
        };
        match json.strip_prefix(head.as_bytes()).and_then(|rest| rest.strip_prefix(b",")) {
            Some(rest) if !custom => {
                out.push(b'{');
                out.extend_from_slice(rest);
            }
            _ => out.extend_from_slice(&json),
        }
    }
    Ok(())
}

fn metadata(listed: &Listed) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert("resourceVersion".to_owned(), listed.revision.to_string().into());
    if let Some((token, remaining)) = &listed.next {
        map.insert("continue".to_owned(), token.text().into());
        if let Some(remaining) = remaining {
            map.insert("remainingItemCount".to_owned(), (*remaining).into());
        }
    }
    map
}
