use std::path::Path;

use oci_image::reference::Reference;
use oci_image::registry::client::Step;
use serde_json::{Value, json};

use super::source;
use crate::cli::{OutputArgs, Registry, RegistryCommand};
use crate::failure::Result;
use crate::output::{self, Table};

/// `sextant registry`.
pub(crate) fn registry(args: &Registry) -> Result<()> {
    match &args.command {
        RegistryCommand::Explain { output, plain_http, image } => explain(image, *plain_http, *output),
    }
}

/// Shows the hosts that would be asked for an image, in order. Secrets are not shown.
fn explain(image: &str, plain_http: bool, output: OutputArgs) -> Result<()> {
    let reference = Reference::parse(image)?;
    let explanation = source::client(plain_http, None)?.explain(&reference)?;
    if output.json() {
        let hosts: Vec<Value> = explanation.steps.iter().map(document).collect();
        return Ok(output::json(&json!({ "reference": reference.to_string(), "hosts": hosts }))?);
    }
    println!("{reference}\n");
    let mut table = Table::new(["", "HOST", "SCHEME", "CAPABILITIES", "CREDENTIALS", "CA", "PROXY", "FROM"]);
    for (number, step) in explanation.steps.iter().enumerate() {
        let endpoint = &step.endpoint;
        table.row([
            (number + 1).to_string(),
            format!("{}{}", endpoint.authority, endpoint.path),
            scheme(step),
            endpoint.capabilities.to_string(),
            step.credential.clone(),
            authorities(step),
            step.proxy.clone().unwrap_or_else(|| "-".to_owned()),
            endpoint.origin.as_deref().map_or_else(|| "default".to_owned(), path),
        ]);
    }
    Ok(table.print()?)
}

fn scheme(step: &Step) -> String {
    match step.endpoint.http_fallback {
        true => format!("{}, then http (loopback)", step.endpoint.scheme),
        false => step.endpoint.scheme.to_string(),
    }
}

/// Whose certificates are accepted.
fn authorities(step: &Step) -> String {
    let tls = &step.endpoint.tls;
    if tls.skip_verify {
        return "any (skip_verify)".to_owned();
    }
    let own: Vec<String> = tls.ca.iter().map(|p| path(p)).collect();
    match own.is_empty() {
        true => "system".to_owned(),
        false => format!("system, {}", own.join(", ")),
    }
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

fn document(step: &Step) -> Value {
    let endpoint = &step.endpoint;
    let capability = |may: bool, word: &'static str| may.then_some(word);
    let may = endpoint.capabilities;
    let capabilities: Vec<_> =
        [capability(may.pull, "pull"), capability(may.resolve, "resolve"), capability(may.push, "push")]
            .into_iter()
            .flatten()
            .collect();
    json!({
        "url": endpoint.url(),
        "scheme": endpoint.scheme.to_string(),
        "httpFallback": endpoint.http_fallback,
        "capabilities": capabilities,
        "credential": step.credential,
        "proxy": step.proxy,
        "ca": endpoint.tls.ca.iter().map(|p| path(p)).collect::<Vec<_>>(),
        "clientCertificates": endpoint.tls.client.iter().map(|(p, _)| path(p)).collect::<Vec<_>>(),
        "skipVerify": endpoint.tls.skip_verify,
        "mirrorOf": endpoint.namespace,
        // Values may be secrets.
        "headers": endpoint.headers.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        "from": endpoint.origin.as_deref().map(path),
    })
}
