//! The parameters of a list, a line each, the token to go on with among them: no panic; an answer is JSON, and the tokens
//! that are given out lead to the end.

use std::cell::OnceCell;
use std::sync::Arc;

use api::registry::options::{ListOptions, WriteOptions};
use api::registry::{Body, Context, Registry, Settings, Target, View};
use api::store::{Options, Store};
use serde_json::{Value, json};

const MAPS: usize = 5;

struct Rig {
    runtime: tokio::runtime::Runtime,
    registry: Registry,
    target: Target,
}

impl Rig {
    fn new() -> Rig {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let place = std::env::temp_dir().join(format!("api_list-{}", std::process::id()));
        let store = Store::open(&place, Options::default()).expect("an empty folder");
        let registry = Registry::new(store, api::kinds::builtin(), Vec::new(), Settings::default());
        let resource = registry.resources().find("", "v1", "configmaps").expect("it is built in");
        let target =
            Target { resource: Arc::clone(&resource), namespace: "a".to_owned(), name: String::new() };
        let context = Context::of_system("fuzz");
        for number in 0..MAPS {
            let map =
                json!({"metadata": {"name": format!("m{number}"), "labels": {"n": number.to_string()}}});
            let map = api::contract::Object::from_value(map).expect("it is an object");
            let made = registry.create(&context, &target, Body::Object(map), View::Full);
            runtime.block_on(made).expect("it is created");
        }
        Rig { runtime, registry, target }
    }

    fn list(&self, query: &[(String, String)]) -> Option<Value> {
        let options = ListOptions::from_query(query).ok()?;
        let context = Context::of_system("fuzz");
        let answer = self.registry.list(&context, &self.target, &options, View::Full);
        let answer = self.runtime.block_on(answer).ok()?;
        Some(serde_json::from_slice(&answer.json).expect("an answer is JSON"))
    }
}

thread_local!(static RIG: OnceCell<Rig> = const { OnceCell::new() });

pub fn run(text: &str) {
    let split = |line: &str| line.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    let mut query: Vec<(String, String)> = text.lines().filter_map(split).collect();
    for verb in [api::registry::options::Verb::Create, api::registry::options::Verb::Update] {
        let _ = WriteOptions::from_query(verb, &query);
    }
    RIG.with(|rig| {
        let rig = rig.get_or_init(Rig::new);
        let mut pages = 0;
        while let Some(list) = rig.list(&query) {
            let items = list["items"].as_array().expect("a list has items");
            assert!(items.len() <= MAPS);
            pages += 1;
            assert!(pages <= MAPS + 2, "a list without an end: {query:?}");
            let Some(token) = list["metadata"]["continue"].as_str() else { return };
            query.retain(|(key, _)| {
                !matches!(key.as_str(), "continue" | "resourceVersion" | "resourceVersionMatch")
            });
            query.push(("continue".to_owned(), token.to_owned()));
        }
    });
}
