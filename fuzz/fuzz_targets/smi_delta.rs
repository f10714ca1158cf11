//! A delta of a model, as a node is sent one: taken or refused, and what is taken can be used or says why not.

use smi::gate::Gate;
use smi::matching::Matcher;
use smi::model::{Delta, Entry, Model, Routing};

pub fn run(bytes: &[u8]) {
    let Ok(delta) = serde_json::from_slice::<Delta>(bytes) else { return };
    let mut model = Model::default();
    model.apply(delta.clone());
    for (_, entry) in model.iter() {
        match &**entry {
            Entry::Frontend(frontend) => {
                if let Routing::Http(http) = &frontend.routing {
                    assert!(http.matches.iter().all(|matched| matched.rule < http.rules.len()));
                    let _ = Matcher::new(http.matches.iter().map(|matched| &matched.requests));
                }
            }
            Entry::Policy(policy) => {
                let _ = Gate::new([policy]);
            }
            Entry::Endpoints(_) | Entry::Workload(_) => {}
        }
    }
    let before = model.clone();
    model.apply(delta);
    assert_eq!(model, before, "a change may come twice");
}
