//! Which controllers run, as Kubernetes' managers are told it.

use std::str::FromStr;

/// The controllers by their names, each with the older one that Kubernetes takes, too.
const NAMES: [[&str; 2]; 5] = [
    ["cloud-node-controller", "cloud-node"],
    ["cloud-node-lifecycle-controller", "cloud-node-lifecycle"],
    ["service-lb-controller", "service"],
    ["node-route-controller", "route"],
    ["node-ipam-controller", "nodeipam"],
];

/// Which controllers of clouds run. All do that nobody has said otherwise of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Controllers {
    /// Nodes that join are initialized, and their addresses kept.
    pub node: bool,
    /// Nodes whose instances are gone or stopped are looked after.
    pub lifecycle: bool,
    /// Services get load balancers.
    pub service: bool,
    /// Nodes' pods are routed to.
    pub route: bool,
    /// Nodes get ranges for their pods.
    pub ipam: bool,
}

impl Default for Controllers {
    fn default() -> Self {
        Self { node: true, lifecycle: true, service: true, route: true, ipam: true }
    }
}

impl FromStr for Controllers {
    type Err = String;

    /// As `--controllers` of Kubernetes' managers: names with commas between them; `*` is all, `-NAME` is not that one. What is said first
    /// of one holds.
    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split(',').map(str::trim).collect();
        for word in &words {
            let name = word.strip_prefix('-').unwrap_or(word);
            if *word != "*" && !NAMES.iter().flatten().any(|one| *one == name) {
                let names: Vec<&str> = NAMES.iter().map(|[name, _]| *name).collect();
                return Err(format!(
                    "{word:?} is no controller: write *, or names of {} with commas between them, and -NAME for all but that one",
                    names.join(", ")
                ));
            }
        }
        let [node, lifecycle, service, route, ipam] = NAMES.map(|names| runs(&words, names));
        Ok(Self { node, lifecycle, service, route, ipam })
    }
}

fn runs(words: &[&str], names: [&str; 2]) -> bool {
    let said = words.iter().find_map(|word| match word.strip_prefix('-') {
        Some(name) => names.contains(&name).then_some(false),
        None => names.contains(word).then_some(true),
    });
    said.unwrap_or_else(|| words.contains(&"*"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::time::Duration;

    use cpi::contract::CloudProvider;
    use serde_json::json;

    use super::super::tests::stand::{Server, Told};
    use super::super::{Masks, UNINITIALIZED, run};
    use super::*;

    /// TestIsControllerEnabled, with these controllers' names.
    #[test]
    fn what_is_said_first_of_a_controller_holds() {
        let of = |text: &str| {
            let all: Controllers = text.parse().unwrap();
            [all.node, all.lifecycle, all.service, all.route, all.ipam]
        };
        for (text, want) in [
            ("*", [true; 5]),
            ("*,-route", [true, true, true, false, true]),
            ("-node-route-controller,*", [true, true, true, false, true]),
            ("cloud-node", [true, false, false, false, false]),
            ("service-lb-controller, nodeipam", [false, false, true, false, true]),
            ("-service", [false; 5]),
            ("service,-service,*", [true; 5]),
            ("-service,service", [false; 5]),
            ("*,-cloud-node-lifecycle-controller,-cloud-node", [false, false, true, true, true]),
        ] {
            assert_eq!(of(text), want, "{text}");
        }
        assert_eq!("*".parse(), Ok(Controllers::default()));
        for text in ["", "all", "*,", "--route", "Route", "*,-nobody"] {
            let error = text.parse::<Controllers>().unwrap_err();
            assert!(error.contains("is no controller") && error.contains("node-ipam-controller"), "{error}");
        }
    }

    /// What is asked of a provider, by the words of its calls, within a while in which each controller looks.
    async fn asked(chosen: &str) -> (BTreeSet<String>, bool) {
        let taint = json!({"key": UNINITIALIZED, "effect": "NoSchedule"});
        let down = json!([{"type": "Ready", "status": "False"}]);
        let server = Server::with([
            json!({"metadata": {"name": "new"}, "spec": {"taints": [taint], "podCIDRs": ["10.120.9.0/24"]}}),
            json!({"metadata": {"name": "down"}, "status": {"conditions": down}}),
        ]);
        let mut context = server.context().await;
        let setup = &mut Arc::get_mut(&mut context).unwrap().setup;
        (setup.controllers, setup.masks) = (chosen.parse().unwrap(), Some(Masks::default()));
        let provider = Arc::new(Told::default());
        let find = async || Ok::<Arc<dyn CloudProvider>, String>(provider.clone());
        tokio::select! {
            ended = run(context, Some(find)) => panic!("it goes on until it is dropped: {ended:?}"),
            () = tokio::time::sleep(Duration::from_secs(60)) => {}
        }
        let calls = provider.calls();
        let words = calls.iter().filter_map(|call| call.split(' ').next()).map(str::to_owned).collect();
        let has_range = server.node("down").unwrap()["spec"]["podCIDR"].is_string();
        (words, has_range)
    }

    #[tokio::test(start_paused = true)]
    async fn controllers_that_are_chosen_run_and_no_others() {
        for (chosen, want, gets_range) in [
            ("*", &["create", "exists", "list", "metadata", "shutdown"][..], true),
            ("cloud-node-controller", &["metadata"], false),
            ("cloud-node-lifecycle", &["exists", "shutdown"], false),
            ("node-route-controller", &["create", "list"], false),
            ("*,-cloud-node,-cloud-node-lifecycle,-route", &[], true),
        ] {
            let (words, has_range) = asked(chosen).await;
            assert_eq!(words.iter().map(String::as_str).collect::<Vec<_>>(), want, "{chosen}");
            assert_eq!(has_range, gets_range, "{chosen}");
        }
    }
}
