use super::*;

const WHOLE: &str = r#"
pools:
- name: lab
  addresses: ["10.0.0.240-10.0.0.250", "10.1.0.0/28", "fd00::/64"]
  namespaces: [default, shop]
  serviceSelector: {matchLabels: {tier: front}}
  priority: 1
  links: [eth0, bond0.7]
- name: asked-for
  addresses: [192.0.2.0/24]
  autoAssign: false
  avoidNetworkAddresses: true
instances:
- name: node-1
  id: rack-1/7
  addresses: [{type: InternalIP, address: 10.0.0.1}, {type: Hostname, address: node-1}]
  type: r640
  zone: rack-1
  region: cellar
  labels: {example.com/disk: nvme}
- {name: node-2, shutdown: true}
nodeRoutes: true
"#;

#[test]
fn a_whole_file_is_read() {
    let config = Config::parse(WHOLE).unwrap();
    let [lab, asked] = config.pools.as_slice() else { panic!("{config:?}") };
    assert!(lab.auto_assign && !lab.avoid_network_addresses && lab.priority == Some(1));
    assert_eq!(
        (lab.links.as_slice(), lab.namespaces.len()),
        (&["eth0".to_owned(), "bond0.7".to_owned()][..], 2)
    );
    assert_eq!(lab.labels["tier"], "front");
    assert!(lab.contains("10.0.0.250".parse().unwrap()) && !lab.contains("10.0.0.251".parse().unwrap()));
    assert!(lab.contains("fd00::ffff".parse().unwrap()) && lab.contains("10.1.0.0".parse().unwrap()));
    assert!(!asked.auto_assign && !asked.contains("192.0.2.0".parse().unwrap()));
    assert_eq!(
        config.pool_of("192.0.2.1".parse().unwrap()).map(|pool| pool.name.as_str()),
        Some("asked-for")
    );
    let instances = config.instances.as_ref().unwrap();
    assert_eq!(
        (instances[0].id.as_str(), instances[0].addresses.len(), instances[0].kind.as_str()),
        ("rack-1/7", 2, "r640")
    );
    assert_eq!((instances[1].id.as_str(), instances[1].shutdown), ("node-2", true));
    assert_eq!((&config.node_routes, &Config::default().node_routes), (&NodeRoutes::All, &NodeRoutes::None));
}

#[test]
fn routes_lead_to_pods_of_networks_that_are_named() {
    let of = |text: &str| Config::parse(text).unwrap().node_routes;
    let admits = |routes: &NodeRoutes, range: &str| routes.admit(&range.parse().unwrap());
    let none = of("nodeRoutes: false");
    assert!(!none.are_wanted() && !admits(&none, "10.64.1.0/24"));
    let all = of("nodeRoutes: true");
    assert!(all.are_wanted() && admits(&all, "10.64.1.0/24") && admits(&all, "fd64::/64"));
    let within = of("nodeRoutes: [10.64.0.0/16, 'fd64::/48']");
    assert!(within.are_wanted());
    for range in ["10.64.1.0/24", "10.64.0.0/16", "fd64:0:0:7::/64"] {
        assert!(admits(&within, range), "{range}");
    }
    for range in ["10.65.1.0/24", "10.64.0.0/15", "8.8.8.0/24", "fd65::/64", "::/0"] {
        assert!(!admits(&within, range), "{range}");
    }
}

#[test]
fn json_is_read_and_nothing_is_enough() {
    assert_eq!(Config::parse("{}"), Ok(Config::default()));
    let config = Config::parse(r#"{"pools": [{"name": "a", "addresses": ["10.0.0.1"]}]}"#).unwrap();
    assert_eq!(config.pools[0].addresses[0].size(), 1);
}

#[test]
fn what_cannot_work_is_refused_by_its_field() {
    let pool = |rest: &str| format!("pools: [{{name: a, {rest}}}]");
    let two = |one: &str, other: &str| {
        format!("pools: [{{name: a, addresses: [{one:?}]}}, {{name: b, addresses: [{other:?}]}}]")
    };
    let instance = |rest: &str| format!("instances: [{{name: a, {rest}}}]");
    for (text, field, words) in [
        ("", "it is empty", "write {}"),
        ("pool: []", "pool", "unknown field"),
        ("pools: [{name: a}]", "pools[0]", "missing field `addresses`"),
        (pool("addresses: []").as_str(), "pools[0].addresses:", "name a range"),
        (
            &pool("addresses: [10.0.0.9-10.0.0.1]"),
            "pools[0].addresses[0]",
            "\"10.0.0.9-10.0.0.1\" goes backwards",
        ),
        (&pool("addresses: [10.0.0.1], autoassign: true"), "pools[0].autoassign", "unknown field"),
        (&pool("addresses: [10.0.0.1], priority: 0"), "pools[0].priority", "the first is 1"),
        (&pool("addresses: [10.0.0.1], priority: -1"), "pools[0].priority", "-1"),
        (&pool("addresses: [10.0.0.1], links: [a/b]"), "pools[0].links[0]", "\"a/b\" is no link's name"),
        (&pool("addresses: [10.0.0.1], links: [a, a]"), "pools[0].links[1]", "twice"),
        (&pool("addresses: [10.0.0.1], namespaces: [A]"), "pools[0].namespaces[0]", "is no name"),
        (&pool("addresses: [10.0.0.0], avoidNetworkAddresses: true"), "pools[0].addresses:", "of networks"),
        (
            &pool("addresses: [10.0.0.255-10.0.1.0], avoidNetworkAddresses: true"),
            "pools[0].addresses:",
            "of networks",
        ),
        (&pool("addresses: ['fd00::']"), "pools[0].addresses:", "of networks"),
        (
            &pool("addresses: [10.0.0.1], serviceSelector: {matchLabels: {a b: c}}"),
            "matchLabels",
            "no label's name",
        ),
        (
            &pool("addresses: [10.0.0.1], serviceSelector: {matchExpressions: []}"),
            "matchExpressions",
            "unknown field",
        ),
        (
            &pool("addresses: [10.0.0.1, 10.0.0.0/24]"),
            "pools[0].addresses[0]",
            "pools[0].addresses[1] (10.0.0.0/24)",
        ),
        (&two("10.0.0.0/24", "10.0.0.7"), "pools[1].addresses[0]", "pools[0].addresses[0] (10.0.0.0/24)"),
        (&two("10.0.0.1-10.0.0.9", "10.0.0.9-10.0.0.12"), "pools[1].addresses[0]", "name each address once"),
        (
            "pools: [{name: a, addresses: [10.0.0.1]}, {name: a, addresses: [10.0.0.2]}]",
            "pools[1].name",
            "pools[0]",
        ),
        ("pools: [{name: a, name: b, addresses: [10.0.0.1]}]", "name", "duplicate"),
        ("pools: [{name: A, addresses: [10.0.0.1]}]", "pools[0].name", "is no name"),
        ("instances: []", "instances", "leave it out"),
        ("instances: [{name: a}, {name: b, id: a}]", "instances[1].id", "instances[0]"),
        ("instances: [{name: a}, {name: a, id: b}]", "instances[1].name", "instances[0]"),
        (&instance("id: 7"), "instances[0].id", "write it in quotes"),
        (&instance("id: \"a b\""), "instances[0].id", "cannot be an id"),
        (&instance("zone: \"a b\""), "instances[0].zone", "label's value"),
        (&instance("labels: {a: \"-\"}"), "instances[0].labels[\"a\"]", "label's value"),
        (
            &instance("addresses: [{type: IP, address: 10.0.0.1}]"),
            "instances[0].addresses[0].type",
            "InternalIP",
        ),
        (
            &instance("addresses: [{type: InternalIP, address: a}]"),
            "instances[0].addresses[0].address",
            "no address",
        ),
        (
            &instance("addresses: [{type: InternalIP, address: 127.0.0.1}]"),
            "addresses[0].address",
            "127.0.0.1",
        ),
        ("nodeRoutes: 1", "nodeRoutes: \"1\"", "neither true or false nor networks"),
        ("nodeRoutes: []", "nodeRoutes", "is empty"),
        ("nodeRoutes: [10.64.0.0/16, 10.64.0.0]", "nodeRoutes[1]", "\"10.64.0.0\" is no network of pods"),
        ("nodeRoutes: [7]", "nodeRoutes[0]", "\"7\" is no network of pods"),
        ("nodeRoutes: [0.0.0.0/0]", "nodeRoutes[0]", "is no network of pods"),
        ("{", "configuration", ""),
    ] {
        let error = Config::parse(text).unwrap_err().to_string();
        assert!(error.contains(field) && error.contains(words) && !error.contains('\n'), "{text}: {error}");
    }
}

#[test]
fn a_file_is_named_where_it_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metal.yaml");
    let error = Config::read(&path).unwrap_err().to_string();
    assert!(error.starts_with("cannot read ") && error.contains("metal.yaml"), "{error}");
    std::fs::write(&path, "pools: [{name: a, addresses: [::1]}]").unwrap();
    let error = Config::read(&path).unwrap_err().to_string();
    assert!(error.contains("pools[0].addresses[0]") && error.contains("metal.yaml"), "{error}");
    std::fs::write(&path, WHOLE).unwrap();
    assert_eq!(Config::read(&path), Config::parse(WHOLE));
}
