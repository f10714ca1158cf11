//! Objects of a mesh, JSON, one a line: each is read or refused, and what they come to is a model whose patterns can all be executed and
//! that survives being sent. Whatever is in them, they come to the same at once and one after the other.

use serde_json::{Value, json};
use smi::compile::{Change, Compiler, Pod, Service, ServiceKind, ServicePort, Settings, compile};
use smi::contract::{Name, read};
use smi::gate::Gate;
use smi::matching::Matcher;
use smi::model::{Delta, Entry, Model, Routing, Transport};

/// A Service and a pod under names that the seeds use.
fn world() -> Vec<Change> {
    let port =
        |port| ServicePort { name: String::new(), port, transport: Transport::Tcp, app_protocol: None };
    let service = Service {
        kind: ServiceKind::ClusterIp(vec![[10, 96, 0, 1].into()]),
        ports: vec![port(80), port(81)],
    };
    let pod = Pod {
        service_account: "a".into(),
        labels: [("a".to_owned(), "b".to_owned())].into(),
        addresses: vec![[10, 0, 0, 1].into()],
        node: None,
        host_network: false,
    };
    vec![Change::Service(Name::new("a", "a"), Some(service)), Change::Pod(Name::new("a", "a"), Some(pod))]
}

pub fn run(text: &str) {
    let mut changes = world();
    let mut compiler = Compiler::new(Settings::default());
    changes.iter().cloned().for_each(|change| compiler.enter(change));
    // So many that each pair of kinds can meet, and no more.
    for line in text.lines().take(16) {
        let Ok(mut value) = serde_json::from_str::<Value>(line) else { continue };
        if let (Some(object), false) = (value.as_object_mut(), line.contains("\"metadata\"")) {
            object.insert("metadata".into(), json!({"name": "a", "namespace": "a"}));
        }
        let Ok(read) = read(&value) else { continue };
        for finding in &read.findings {
            assert!(!finding.field.is_empty() && !finding.advice.is_empty(), "{finding:?}");
        }
        let change = Change::Object(read.object.id(), Some(read));
        compiler.enter(change.clone());
        compiler.compile();
        changes.push(change);
    }
    // Once more for a text of which no line was an object.
    compiler.compile();
    let (model, reports) = compile(Settings::default(), changes);
    assert_eq!((&model, &reports), (compiler.model(), compiler.reports()));
    for (key, entry) in model.iter() {
        match &**entry {
            Entry::Frontend(frontend) => {
                if let Routing::Http(http) = &frontend.routing {
                    let requests = http.matches.iter().map(|matched| &matched.requests);
                    assert!(Matcher::new(requests).is_ok(), "{key}");
                    assert!(http.matches.iter().all(|matched| matched.rule < http.rules.len()), "{key}");
                }
            }
            Entry::Policy(policy) => assert!(Gate::new([policy]).is_ok(), "{key}"),
            Entry::Endpoints(_) | Entry::Workload(_) => {}
        }
    }
    let sent = serde_json::to_vec(&model.whole()).expect("it can be written");
    let mut told = Model::default();
    told.apply(serde_json::from_slice::<Delta>(&sent).expect("it is read again"));
    assert_eq!(told, model);
}
