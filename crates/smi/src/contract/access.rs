//! `access.smi-spec.io`: who may call whom. v1alpha1 to v1alpha3, and the draft of v1alpha4.
//!
//! Nothing that cannot be read makes a policy allow more: a source that is wrong is nobody, a rule that is wrong is no request, a
//! port that is wrong is no port. So is one with a field that is not known, since that may have been meant to say less. A destination
//! that is wrong makes the whole policy nothing, since it is not known of whom it speaks.

use std::collections::BTreeMap;

use serde_json::Value;

use super::finding::Reason;
use super::meta::{Meta, Name};
use super::part::{Field, Notes, Part, cut};
use super::specs::{Ports, Transport};

/// TrafficTarget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficTarget {
    /// Its name.
    pub meta: Meta,
    /// Who is called; `None` where that cannot be told.
    pub destination: Option<Subject>,
    /// Ports of the destination, which older versions name there.
    pub ports: Ports,
    /// What may be asked: any of these.
    pub rules: Vec<Rule>,
    /// Who may ask: any of these.
    pub sources: Vec<Subject>,
}

/// Who.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// Pods with this service account.
    ServiceAccount(Name),
    /// Whom an IdentityBinding binds.
    IdentityBinding(Name),
}

impl Subject {
    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        match self {
            Self::ServiceAccount(name) | Self::IdentityBinding(name) => &name.namespace,
        }
    }
}

/// What may be asked, by the name of a route in the policy's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// Requests of an HTTPRouteGroup; all of its matches, or those with these names.
    Http {
        /// The group's name.
        group: String,
        /// `None` is all.
        matches: Option<Vec<String>>,
        /// The rule in the object.
        field: String,
    },
    /// Ports of a TCPRoute or UDPRoute.
    Ports {
        /// Which of the two.
        transport: Transport,
        /// The route's name.
        route: String,
        /// The rule in the object.
        field: String,
    },
    /// One that cannot be read. It allows nothing, and still narrows what the others allow as it would if it could be: beside a TCPRoute
    /// it may have said which requests, beside an HTTPRouteGroup which ports.
    Nothing {
        /// Of what it would have listed ports; `None` where it would have been about requests, or about nobody knows what.
        transport: Option<Transport>,
    },
}

impl TrafficTarget {
    pub(super) fn read(meta: Meta, value: &Value, notes: &mut Notes) -> Self {
        let mut target =
            Self { meta, destination: None, ports: Ports::All, rules: Vec::new(), sources: Vec::new() };
        let Some(whole) = Part::whole(value) else { return target };
        let spec = match whole.get("spec") {
            Some(field) => field.part(notes),
            // v1alpha1 has it all at the top.
            None if whole.get("destination").is_some() => Some(whole),
            None => {
                let advice = "must be there; this object says nothing about anybody without it";
                notes.say(Reason::Missing, "spec", "", advice);
                None
            }
        };
        let Some(spec) = spec else { return target };
        if !spec.path.is_empty() {
            spec.only(&["destination", "rules", "sources", "specs"], notes);
        }
        target.read_destination(&spec, notes);
        target.read_rules(&spec, notes);
        for source in spec.list("sources", notes) {
            let Some(part) = source.part(notes) else { continue };
            let understood = part.understood(&SUBJECT, "nobody is let in by this source", notes);
            let subject = subject(&part, &target.meta, notes).filter(|_| understood);
            target.sources.extend(subject);
        }
        if target.sources.is_empty() {
            let advice = "nobody may call the destination by this object; name at least one source";
            notes.say(Reason::Missing, spec.at("sources"), "", advice);
        }
        target
    }

    fn read_destination(&mut self, spec: &Part<'_>, notes: &mut Notes) {
        let Some(field) = spec.get("destination") else {
            let advice = "must be there; this object says nothing about anybody without it";
            return notes.say(Reason::Missing, spec.at("destination"), "", advice);
        };
        let Some(part) = field.part(notes) else { return };
        if let Some(port) = part.get("port") {
            let advice = "was taken out in v1alpha3 and is still obeyed; name the ports in a TCPRoute";
            notes.say(Reason::Tolerated, &port.path, port.value.to_string(), advice);
            self.ports = port.port(notes).map_or_else(Ports::none, |port| Ports::Listed(vec![port]));
        }
        // Whom it closes is known all the same.
        if !part.understood(&SUBJECT, "this object allows no port until it is taken away", notes) {
            self.ports = Ports::none();
        }
        let Some(subject) = subject(&part, &self.meta, notes) else { return };
        if subject.namespace() != self.meta.name.namespace {
            // Otherwise whoever may write in one namespace opened pods of another to himself.
            let advice = format!(
                "a policy speaks for its own namespace, {}, alone; move it to the destination's",
                self.meta.name.namespace
            );
            let namespace = format!("{:?}", subject.namespace());
            return notes.say(Reason::InvalidValue, part.at("namespace"), namespace, advice);
        }
        self.destination = Some(subject);
    }

    fn read_rules(&mut self, spec: &Part<'_>, notes: &mut Notes) {
        let name = if spec.get("rules").is_none() && spec.get("specs").is_some() { "specs" } else { "rules" };
        for item in spec.list(name, notes) {
            self.rules.push(rule(&item, notes));
        }
        if self.rules.is_empty() {
            let advice = "nothing may be asked by this object; name at least one route";
            notes.say(Reason::Missing, spec.at(name), "", advice);
        }
    }
}

/// The fields of who.
const SUBJECT: [&str; 6] = ["kind", "name", "namespace", "port", "group", "apiGroup"];

fn subject(part: &Part<'_>, meta: &Meta, notes: &mut Notes) -> Option<Subject> {
    let kind = part.required("kind", notes)?;
    let name = part.name("name", notes)?;
    let namespace = part.optional_name("namespace", notes).ok()?;
    let name = Name::new(namespace.unwrap_or_else(|| meta.name.namespace.clone()), name);
    match kind {
        "ServiceAccount" => Some(Subject::ServiceAccount(name)),
        "IdentityBinding" => Some(Subject::IdentityBinding(name)),
        other => {
            let advice = "is nobody's kind and was left out; write ServiceAccount or IdentityBinding";
            notes.say(Reason::InvalidValue, part.at("kind"), format!("{other:?}"), advice);
            None
        }
    }
}

fn rule(item: &Field<'_>, notes: &mut Notes) -> Rule {
    let Some(part) = item.part(notes) else { return Rule::Nothing { transport: None } };
    let understood = part.understood(&["kind", "name", "matches"], "nothing is allowed by this rule", notes);
    let kind = part.required("kind", notes);
    let transport = match kind {
        Some("TCPRoute") => Some(Transport::Tcp),
        Some("UDPRoute") => Some(Transport::Udp),
        _ => None,
    };
    let nothing = Rule::Nothing { transport };
    let Some(kind) = kind else { return nothing };
    if transport.is_none() && kind != "HTTPRouteGroup" {
        let advice = "allows nothing; write HTTPRouteGroup, TCPRoute or UDPRoute";
        notes.say(Reason::InvalidValue, part.at("kind"), format!("{kind:?}"), advice);
        return nothing;
    }
    let Some(name) = part.name("name", notes).filter(|_| understood) else { return nothing };
    let field = item.path.clone();
    if let Some(transport) = transport {
        if let Some(matches) = part.get("matches") {
            let advice = "only an HTTPRouteGroup has named matches; take it away";
            notes.say(Reason::Ignored, matches.path, matches.value.to_string(), advice);
        }
        return Rule::Ports { transport, route: name, field };
    }
    let matches = part.get("matches").map(|field| {
        let items = field.items(notes);
        items.iter().filter_map(|item| Some(item.text(notes)?.to_owned())).collect::<Vec<_>>()
    });
    // An empty list is as good as none; one of which nothing could be read names nothing.
    let is_all = part.get("matches").is_none_or(|field| field.value.as_array().is_some_and(Vec::is_empty));
    Rule::Http { group: name, matches: if is_all { None } else { matches }, field }
}

/// IdentityBinding: who is who, by any of its schemes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityBinding {
    /// Its name. It binds pods of its namespace alone.
    pub meta: Meta,
    /// Pods with these labels; `None` says nothing.
    pub pod_labels: Option<BTreeMap<String, String>>,
    /// Pods with this service account.
    pub service_account: Option<String>,
    /// Whoever proves to be one of these, `spiffe://DOMAIN/PATH`.
    pub spiffe: Vec<String>,
}

impl IdentityBinding {
    pub(super) fn read(meta: Meta, value: &Value, notes: &mut Notes) -> Self {
        let mut binding = Self { meta, pod_labels: None, service_account: None, spiffe: Vec::new() };
        let spec = Part::whole(value).and_then(|whole| whole.part("spec", notes));
        let Some(schemes) = spec.and_then(|spec| spec.part("schemes", notes)) else {
            let advice = "must be there; this object binds nobody without it";
            notes.say(Reason::Missing, "spec.schemes", "", advice);
            return binding;
        };
        schemes.only(&["podLabelSelector", "serviceAccount", "spiffeIdentities"], notes);
        binding.service_account =
            schemes.get("serviceAccount").and_then(|_| schemes.name("serviceAccount", notes));
        if let Some(field) = schemes.get("podLabelSelector") {
            if schemes.get("serviceAccount").is_some() {
                let advice = "it excludes serviceAccount, which counts; take one of them away";
                notes.say(Reason::Conflicted, field.path, "", advice);
            } else {
                binding.pod_labels = field.part(notes).and_then(|part| labels(&part, notes));
            }
        }
        for item in schemes.list("spiffeIdentities", notes) {
            let Some(text) = item.text(notes) else { continue };
            if is_spiffe(text) {
                binding.spiffe.push(text.to_owned());
                continue;
            }
            let whole = format!("spiffe://{text}");
            if is_spiffe(&whole) {
                let advice =
                    format!("was read as {}, as the draft's example has it; write that", cut(&whole));
                notes.say(Reason::Tolerated, &item.path, format!("{text:?}"), advice);
                binding.spiffe.push(whole);
            } else {
                let advice = "is no SPIFFE identity and was left out; write spiffe://DOMAIN/PATH";
                notes.say(Reason::InvalidValue, &item.path, format!("{text:?}"), advice);
            }
        }
        if binding.pod_labels.is_none() && binding.service_account.is_none() && binding.spiffe.is_empty() {
            let advice = "this object binds nobody; name labels, a service account or SPIFFE identities";
            notes.say(Reason::Missing, &schemes.path, "", advice);
        }
        binding
    }
}

/// An empty selector would be every pod, which nobody writes by intent: it is nobody.
fn labels(part: &Part<'_>, notes: &mut Notes) -> Option<BTreeMap<String, String>> {
    // Without what is not known (matchExpressions among it) more pods would be meant than by the whole.
    if !part.understood(&["matchLabels"], "the selector selects nobody with it", notes) {
        return None;
    }
    let matches = part.part("matchLabels", notes)?;
    let mut labels = BTreeMap::new();
    for name in matches.map.keys() {
        let field = Field { value: &matches.map[name], path: matches.at(name) };
        labels.insert(name.clone(), field.text(notes)?.to_owned());
    }
    if labels.is_empty() {
        notes.say(Reason::Missing, &matches.path, "", "selects nobody; name at least one label");
        return None;
    }
    Some(labels)
}

/// SPIFFE-ID, sections 2.1 to 2.3.
fn is_spiffe(text: &str) -> bool {
    let Some((domain, path)) = text.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/')) else {
        return false;
    };
    let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
    let segment = |text: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        !matches!(text, "" | "." | "..") && text.bytes().all(fits)
    };
    text.len() <= 2048 && !domain.is_empty() && domain.bytes().all(lower) && path.split('/').all(segment)
}
