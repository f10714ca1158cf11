//! `hosts.toml` as containerd reads it: top-level keys for the registry itself, one table for each mirror.

use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{API_ROOT, Capabilities, Endpoint, HostsError, Scheme};

/// The endpoints that `text` names, the registry itself (`base`, changed by the top-level keys) last.
///
/// `file` is for messages, and its folder the one relative certificate paths start from.
pub fn parse(text: &str, file: &Path, base: Endpoint) -> Result<Vec<Endpoint>, HostsError> {
    let document = Document { text, file };
    let table = DeTable::parse(text).map_err(|error| document.syntax(&error))?;
    let mut mirrors = Vec::new();
    let mut origin = Endpoint { origin: Some(file.to_owned()), ..base };
    if let Some(server) = table.get_ref().get("server") {
        let key = Key { document: &document, tables: "", name: "server" };
        let server = key.string(server)?;
        if !server.is_empty() {
            key.set_url(&mut origin, server)?;
        }
    }
    for (name, value) in in_order(table.get_ref()) {
        match name {
            "server" => {}
            "host" => mirrors = hosts(&document, value, &origin)?,
            name => Key { document: &document, tables: "", name }.apply(&mut origin, value)?,
        }
    }
    finish_path(&mut origin, table.get_ref());
    mirrors.push(origin);
    Ok(mirrors)
}

fn hosts(
    document: &Document<'_>,
    value: &Spanned<DeValue<'_>>,
    base: &Endpoint,
) -> Result<Vec<Endpoint>, HostsError> {
    let key = Key { document, tables: "", name: "host" };
    let mut mirrors = Vec::new();
    for (url, value) in in_order(key.table(value)?) {
        let tables = format!("host.{url:?}.");
        let key = Key { document, tables: "host.", name: url };
        let table = key.table(value)?;
        let mut mirror = Endpoint {
            tls: super::TlsFiles::default(),
            headers: Vec::new(),
            dial_timeout: None,
            capabilities: Capabilities::ALL,
            path: API_ROOT.to_owned(),
            http_fallback: false,
            mirror: true,
            ..base.clone()
        };
        key.set_url(&mut mirror, url).map_err(|error| at(error, document, value))?;
        for (name, value) in in_order(table) {
            Key { document, tables: &tables, name }.apply(&mut mirror, value)?;
        }
        finish_path(&mut mirror, table);
        mirrors.push(mirror);
    }
    Ok(mirrors)
}

/// Tables are sorted maps; the spans of the keys keep the order of the file, which is the order to try.
fn in_order<'t, 'i>(table: &'t DeTable<'i>) -> Vec<(&'t str, &'t Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries.into_iter().map(|(key, value)| (key.get_ref().as_ref(), value)).collect()
}

/// Unless `override_path` is set the API root is `/v2` below the URL's path.
fn finish_path(endpoint: &mut Endpoint, table: &DeTable<'_>) {
    let overridden = table.get("override_path").and_then(|value| value.get_ref().as_bool()).unwrap_or(false);
    let path = endpoint.path.trim_end_matches('/');
    endpoint.path = match path {
        path if overridden || path.ends_with(API_ROOT) => path.to_owned(),
        path => format!("{path}{API_ROOT}"),
    };
}

fn at(error: HostsError, document: &Document<'_>, value: &Spanned<DeValue<'_>>) -> HostsError {
    match error {
        HostsError::Value { path, key, value: shown, message, .. } => {
            HostsError::Value { path, line: document.line(value.span().start), key, value: shown, message }
        }
        other => other,
    }
}

struct Document<'a> {
    text: &'a str,
    file: &'a Path,
}

impl Document<'_> {
    fn line(&self, at: usize) -> usize {
        self.text.as_bytes().iter().take(at).filter(|b| **b == b'\n').count() + 1
    }

    fn syntax(&self, error: &toml::de::Error) -> HostsError {
        let line = error.span().map_or(1, |span| self.line(span.start));
        HostsError::Syntax { path: self.file.to_owned(), line, message: error.message().to_owned() }
    }
}

struct Key<'a> {
    document: &'a Document<'a>,
    tables: &'a str,
    name: &'a str,
}

impl Key<'_> {
    fn wrong(&self, value: &Spanned<DeValue<'_>>, message: &str) -> HostsError {
        let shown: String =
            self.document.text.get(value.span()).unwrap_or_default().chars().take(120).collect();
        self.error(self.document.line(value.span().start), shown, message)
    }

    fn error(&self, line: usize, value: String, message: &str) -> HostsError {
        HostsError::Value {
            path: self.document.file.to_owned(),
            line,
            key: format!("{}{}", self.tables, self.name),
            value,
            message: message.to_owned(),
        }
    }

    fn apply(&self, endpoint: &mut Endpoint, value: &Spanned<DeValue<'_>>) -> Result<(), HostsError> {
        match self.name {
            "capabilities" => endpoint.capabilities = self.capabilities(value)?,
            "ca" => endpoint.tls.ca = self.strings(value)?.into_iter().map(|path| self.path(path)).collect(),
            "client" => endpoint.tls.client = self.client(value)?,
            "skip_verify" => endpoint.tls.skip_verify = self.boolean(value)?,
            "header" => endpoint.headers = self.headers(value)?,
            "override_path" => _ = self.boolean(value)?,
            "dial_timeout" => endpoint.dial_timeout = Some(self.duration(value)?),
            // Unknown keys are of a newer containerd: refusing them would make a shared file unusable.
            _ => {}
        }
        if matches!(self.name, "ca" | "client" | "skip_verify") {
            endpoint.http_fallback = false;
        }
        Ok(())
    }

    fn string<'v>(&self, value: &'v Spanned<DeValue<'_>>) -> Result<&'v str, HostsError> {
        value.get_ref().as_str().ok_or_else(|| self.wrong(value, "must be a string"))
    }

    fn boolean(&self, value: &Spanned<DeValue<'_>>) -> Result<bool, HostsError> {
        value.get_ref().as_bool().ok_or_else(|| self.wrong(value, "must be true or false"))
    }

    fn table<'v, 'i>(&self, value: &'v Spanned<DeValue<'i>>) -> Result<&'v DeTable<'i>, HostsError> {
        value.get_ref().as_table().ok_or_else(|| self.wrong(value, "must be a table"))
    }

    /// A string, or a list of strings.
    fn strings<'v>(&self, value: &'v Spanned<DeValue<'_>>) -> Result<Vec<&'v str>, HostsError> {
        match value.get_ref().as_array() {
            Some(list) => list.iter().map(|item| self.string(item)).collect(),
            None => Ok(vec![self.string(value)?]),
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.document.file.parent().unwrap_or(Path::new("/")).join(path)
    }

    fn capabilities(&self, value: &Spanned<DeValue<'_>>) -> Result<Capabilities, HostsError> {
        let mut may = Capabilities { pull: false, resolve: false, push: false };
        for word in self.strings(value)? {
            match word {
                "pull" => may.pull = true,
                "resolve" => may.resolve = true,
                "push" => may.push = true,
                // Referrers are pulled.
                "referrers" => {}
                _ => return Err(self.wrong(value, "knows pull, resolve, push and referrers")),
            }
        }
        Ok(may)
    }

    /// A file, a list of files, or a list of [certificate, key].
    fn client(&self, value: &Spanned<DeValue<'_>>) -> Result<Vec<(PathBuf, Option<PathBuf>)>, HostsError> {
        let Some(list) = value.get_ref().as_array() else {
            return Ok(vec![(self.path(self.string(value)?), None)]);
        };
        let mut pairs = Vec::new();
        for item in list.iter() {
            let files = self.strings(item)?;
            match files.as_slice() {
                [certificate] => pairs.push((self.path(certificate), None)),
                [certificate, ""] => pairs.push((self.path(certificate), None)),
                [certificate, key] => pairs.push((self.path(certificate), Some(self.path(key)))),
                _ => return Err(self.wrong(item, "must be [certificate, key]")),
            }
        }
        Ok(pairs)
    }

    fn headers(&self, value: &Spanned<DeValue<'_>>) -> Result<Vec<(String, String)>, HostsError> {
        let mut headers = Vec::new();
        for (name, value) in in_order(self.table(value)?) {
            let well_formed = ureq::http::HeaderName::from_bytes(name.as_bytes()).is_ok();
            for text in self.strings(value)? {
                if !well_formed || ureq::http::HeaderValue::from_str(text).is_err() {
                    return Err(
                        self.wrong(value, &format!("{name:?} cannot be sent as a header with this value"))
                    );
                }
                headers.push((name.to_owned(), text.to_owned()));
            }
        }
        Ok(headers)
    }

    fn duration(&self, value: &Spanned<DeValue<'_>>) -> Result<Duration, HostsError> {
        let wrong = || self.wrong(value, "must be a duration such as \"500ms\", \"10s\" or \"1m30s\"");
        go_duration(self.string(value)?).filter(|duration| !duration.is_zero()).ok_or_else(wrong)
    }

    /// Scheme, authority and path of `server` or of a host's table name; https where no scheme is given.
    fn set_url(&self, endpoint: &mut Endpoint, url: &str) -> Result<(), HostsError> {
        let line = self.document.text.find(url).map_or(1, |start| self.document.line(start));
        let wrong = |message| self.error(line, format!("{url:?}"), message);
        let (scheme, rest) = match url.split_once("://") {
            Some(("https", rest)) => (Scheme::Https, rest),
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(_) => return Err(wrong("the scheme must be http or https")),
            None => (Scheme::Https, url),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let parsed = authority.parse::<ureq::http::uri::Authority>();
        if authority.is_empty() || authority.contains('@') || parsed.is_err() {
            return Err(wrong("must be a URL with a host, such as https://mirror.example:5000"));
        }
        if format!("http://h{path}").parse::<ureq::http::Uri>().is_err() || path.contains(['?', '#']) {
            return Err(wrong("the path cannot be part of a URL"));
        }
        endpoint.scheme = scheme;
        endpoint.authority = authority.to_owned();
        endpoint.path = path.to_owned();
        endpoint.http_fallback = false;
        Ok(())
    }
}

/// Go's `time.ParseDuration`, whole numbers and decimals, of ms, s, m and h.
fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * seconds;
        rest = tail;
    }
    Duration::try_from_secs_f64(total).ok()
}
