//! Filters of HTTPRoutes and GRPCRoutes.

use super::{Fault, RouteKind, Wrong, service};
use crate::contract::http::{Filter, HeaderEdit, Mirror, PathEdit, Redirect, Rewrite};
use crate::contract::part::{Notes, Part};
use crate::contract::specs::http_name;

const STATUSES: [u64; 5] = [301, 302, 303, 307, 308];

/// A rule's filters, or a backend's. One that cannot be done has the requests answered 500: without it they would reach somebody. A mirror to nobody is
/// left out: what is asked is answered as it would be with it.
pub(super) fn read(
    part: &Part<'_>,
    kind: RouteKind,
    namespace: &str,
    wrong: &mut Wrong,
    notes: &mut Notes,
) -> Vec<Filter> {
    let mut filters = Vec::new();
    for item in part.list("filters", notes) {
        let Some(part) = item.part(notes) else { continue };
        match filter(&part, kind, namespace, notes) {
            Ok(Ok(filter)) => filters.push(filter),
            Ok(Err(fault)) => {
                wrong.mirrors.get_or_insert(fault);
            }
            Err(message) => wrong.answer(message),
        }
    }
    filters
}

/// A filter, or why a mirror has nobody.
type Read = Result<Filter, Fault>;

fn filter(part: &Part<'_>, kind: RouteKind, namespace: &str, notes: &mut Notes) -> Result<Read, String> {
    let name = part.text("type", notes).unwrap_or_default();
    let detail = |name: &str, notes: &mut Notes| {
        part.part(name, notes).ok_or_else(|| format!("{} must be there", part.at(name)))
    };
    let is_http = kind == RouteKind::Http;
    match name {
        "RequestHeaderModifier" => {
            let edit = headers(&detail("requestHeaderModifier", notes)?, notes)?;
            Ok(Ok(Filter::RequestHeaders(edit)))
        }
        "ResponseHeaderModifier" => {
            let edit = headers(&detail("responseHeaderModifier", notes)?, notes)?;
            Ok(Ok(Filter::ResponseHeaders(edit)))
        }
        "RequestRedirect" if is_http => {
            let redirect = redirect(&detail("requestRedirect", notes)?, notes)?;
            Ok(Ok(Filter::Redirect(redirect)))
        }
        "URLRewrite" if is_http => {
            let part = detail("urlRewrite", notes)?;
            let hostname = hostname(&part, notes)?;
            Ok(Ok(Filter::Rewrite(Rewrite { hostname, path: path(&part, notes)? })))
        }
        "RequestMirror" => mirror(&detail("requestMirror", notes)?, namespace, notes),
        other => Err(format!(
            "{}: {other:?} is no filter of this mesh; there are RequestHeaderModifier, ResponseHeaderModifier, \
             RequestMirror, and in an HTTPRoute RequestRedirect and URLRewrite",
            part.at("type")
        )),
    }
}

fn headers(part: &Part<'_>, notes: &mut Notes) -> Result<HeaderEdit, String> {
    let pairs = |list: &str, notes: &mut Notes| {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for item in part.list(list, notes) {
            let part = item.part(notes).ok_or_else(|| format!("{} is no header", item.path))?;
            let name = header_name(part.text("name", notes).unwrap_or_default(), &part.at("name"))?;
            let value = part.text("value", notes).unwrap_or_default();
            if !value.bytes().all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f)) {
                return Err(format!("{}: {value:?} is no value of a header", part.at("value")));
            }
            // Of two with one name the first counts.
            if pairs.iter().all(|(before, _)| *before != name) {
                pairs.push((name, value.to_owned()));
            }
        }
        Ok(pairs)
    };
    let (set, add) = (pairs("set", notes)?, pairs("add", notes)?);
    let mut remove = Vec::new();
    for item in part.list("remove", notes) {
        remove.push(header_name(item.text(notes).unwrap_or_default(), &item.path)?);
    }
    Ok(HeaderEdit { set, add, remove })
}

fn header_name(text: &str, field: &str) -> Result<String, String> {
    http_name(text).ok_or_else(|| format!("{field}: {text:?} is no name of a header"))
}

fn redirect(part: &Part<'_>, notes: &mut Notes) -> Result<Redirect, String> {
    let scheme = part.text("scheme", notes).map(str::to_owned);
    if let Some(other) = scheme.as_deref().filter(|scheme| !["http", "https"].contains(scheme)) {
        return Err(format!("{}: {other:?}: write http or https", part.at("scheme")));
    }
    let status = match part.get("statusCode") {
        None => 302,
        Some(field) => {
            let status = field.value.as_u64().filter(|status| STATUSES.contains(status));
            status.ok_or_else(|| format!("{}: {}: write one of {STATUSES:?}", field.path, field.value))?
        }
    };
    let port = match part.get("port") {
        None => None,
        Some(field) => {
            Some(field.port(notes).ok_or_else(|| format!("{}: {} is no port", field.path, field.value))?)
        }
    };
    let status = u16::try_from(status).unwrap_or(302);
    Ok(Redirect { scheme, hostname: hostname(part, notes)?, path: path(part, notes)?, port, status })
}

fn hostname(part: &Part<'_>, notes: &mut Notes) -> Result<Option<String>, String> {
    part.optional_name("hostname", notes)
        .map_err(|()| format!("{} is no name of a host", part.at("hostname")))
}

fn path(part: &Part<'_>, notes: &mut Notes) -> Result<Option<PathEdit>, String> {
    let Some(part) = part.part("path", notes) else { return Ok(None) };
    let text = |name: &str, notes: &mut Notes| {
        let text = part.text(name, notes).unwrap_or_default();
        // A path goes into a request's first line, and into Location.
        if text.bytes().any(|byte| byte <= b' ' || byte == 0x7f || byte == b'?' || byte == b'#') {
            return Err(format!(
                "{}: {text:?} is no path; blanks, '?' and '#' are not in one",
                part.at(name)
            ));
        }
        Ok(text.to_owned())
    };
    match part.text("type", notes) {
        Some("ReplaceFullPath") => Ok(Some(PathEdit::Full(text("replaceFullPath", notes)?))),
        Some("ReplacePrefixMatch") => Ok(Some(PathEdit::Prefix(text("replacePrefixMatch", notes)?))),
        other => Err(format!(
            "{}: {:?}: write ReplaceFullPath or ReplacePrefixMatch",
            part.at("type"),
            other.unwrap_or_default()
        )),
    }
}

fn mirror(part: &Part<'_>, namespace: &str, notes: &mut Notes) -> Result<Read, String> {
    let backend =
        part.part("backendRef", notes).ok_or_else(|| format!("{} must be there", part.at("backendRef")))?;
    let to = service(&backend, namespace, notes);
    let number = |part: &Part<'_>, name: &str, default: u64| -> Result<u32, String> {
        let value = part.get(name).map_or(Some(default), |field| field.value.as_u64());
        let number = value.and_then(|value| u32::try_from(value).ok());
        number.ok_or_else(|| format!("{} is no number from 0 up", part.at(name)))
    };
    let (numerator, denominator) = match (part.part("fraction", notes), part.get("percent")) {
        (Some(fraction), _) => (number(&fraction, "numerator", 0)?, number(&fraction, "denominator", 100)?),
        (None, Some(_)) => (number(part, "percent", 100)?, 100),
        (None, None) => (1, 1),
    };
    if denominator == 0 || numerator > denominator {
        return Err(format!("{}: {numerator} of {denominator} is no fraction of all", part.path));
    }
    Ok(to.map(|(service, port)| Filter::Mirror(Mirror { service, port, numerator, denominator })))
}
