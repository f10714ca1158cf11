//! Lists as they are told: what stands before their items, the items, and what stands behind them.

use super::list::Listed;
use super::selection::Selection;
use super::target::View;
use super::token::Token;
use super::{document, view};
use crate::contract::Result;
use crate::resource::Resource;
use crate::store::Stored;
use serde_json::{Map, Value};

/// What ends a list.
pub(super) const TAIL: &[u8] = b"]}";

/// Everything before the first item.
pub(super) fn head(
    resource: &Resource,
    form: View,
    revision: u64,
    next: Option<&(Token, Option<usize>)>,
    out: &mut Vec<u8>,
) {
    let metadata = Value::Object(metadata(revision, next));
    let text = match form {
        View::Full => {
            let names = &resource.names;
            let (kind, version) = (Value::from(names.list_kind.as_ref()), Value::from(names.api_version()));
            format!("{{\"kind\":{kind},\"apiVersion\":{version},\"metadata\":{metadata},\"items\":[")
        }
        View::Metadata(meta) => {
            let version = meta.api_version();
            format!(
                "{{\"kind\":\"PartialObjectMetadataList\",\"apiVersion\":\"{version}\",\"metadata\":{metadata},\
                 \"items\":["
            )
        }
        View::Table(_, meta) => {
            let (columns, version) = (view::columns(resource), meta.api_version());
            format!(
                "{{\"kind\":\"Table\",\"apiVersion\":\"{version}\",\"metadata\":{metadata},\
                 \"columnDefinitions\":{columns},\"rows\":["
            )
        }
    };
    out.extend_from_slice(text.as_bytes());
}

/// An item, or a row of a table.
pub(super) fn item(resource: &Resource, form: View, stored: &Stored, out: &mut Vec<u8>) -> Result<()> {
    match form {
        View::Full => whole(resource, stored, out)?,
        View::Metadata(meta) => {
            out.extend_from_slice(&view::metadata(&document::open(resource, &stored.json)?, meta));
        }
        View::Table(include, meta) => {
            let object = document::open(resource, &stored.json)?;
            out.extend_from_slice(&view::row(resource, &object, include, meta));
        }
    }
    Ok(())
}

/// As it is kept; those of built-in kinds without kind and version, as Kubernetes sends them.
fn whole(resource: &Resource, stored: &Stored, out: &mut Vec<u8>) -> Result<()> {
    let (json, begin) = if document::is_as_kept(resource, &stored.json) {
        (stored.json.clone(), document::head(resource))
    } else {
        let names = &resource.names;
        let (kind, version) = (Value::from(names.kind.as_ref()), Value::from(names.api_version()));
        let begin = format!("{{\"kind\":{kind},\"apiVersion\":{version}");
        (document::json(&document::open(resource, &stored.json)?), begin)
    };
    match json.strip_prefix(begin.as_bytes()).and_then(|rest| rest.strip_prefix(b",")) {
        Some(rest) if !resource.is_custom() => {
            out.push(b'{');
            out.extend_from_slice(rest);
        }
        _ => out.extend_from_slice(&json),
    }
    Ok(())
}

fn metadata(revision: u64, next: Option<&(Token, Option<usize>)>) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert("resourceVersion".to_owned(), revision.to_string().into());
    if let Some((token, remaining)) = next {
        map.insert("continue".to_owned(), token.text().into());
        if let Some(remaining) = remaining {
            map.insert("remainingItemCount".to_owned(), (*remaining).into());
        }
    }
    map
}

/// A whole list.
pub(super) fn written(selection: &Selection, listed: &Listed, form: View) -> Result<Vec<u8>> {
    let resource = &selection.resource;
    let size: usize = listed.items.iter().map(|stored| stored.json.len() + 1).sum();
    let mut out = Vec::with_capacity(size + 256);
    head(resource, form, listed.revision, listed.next.as_ref(), &mut out);
    for (index, stored) in listed.items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        item(resource, form, stored, &mut out)?;
    }
    out.extend_from_slice(TAIL);
    Ok(out)
}
