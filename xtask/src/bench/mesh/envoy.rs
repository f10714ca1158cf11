//! Envoy's configurations, and the identities of a pair.
//!
//! The first of a pair has the client's routes, the second looks at what is allowed and has none, as with ours. Raw bytes are not carried alike: between
//! Envoys they go straight over TLS, between ours in a stream of HTTP/2.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use serde_json::{Value, json};

use super::backend::{BULK, HTTP, RPC};
use super::file;
use super::place::BACKEND;
use crate::Result;

const CLIENT: &str = "spiffe://cluster.local/ns/default/sa/client";
const SERVER: &str = "spiffe://cluster.local/ns/default/sa/web";
/// More than there are: nobody is to wait for a place.
const MOST: u32 = 100_000;

/// Where the second of a pair listens, and to which port of the backend it goes from there.
struct Hop {
    port: u16,
    to: u16,
}

const HOPS: [Hop; 2] = [Hop { port: 15_443, to: HTTP }, Hop { port: 15_444, to: BULK }];

/// One between client and backend: HTTP/1.1, gRPC and TCP at these ports.
pub(super) fn alone([asked, called, sent]: [u16; 3]) -> Value {
    let local = "127.0.0.1";
    whole(
        vec![
            listener(local, asked, http("HTTP1", split("web"), vec![]), Value::Null),
            listener(local, called, http("HTTP2", split("shop"), vec![]), Value::Null),
            listener(local, sent, tcp("store"), Value::Null),
        ],
        vec![
            cluster("web", HTTP, Value::Null, false),
            cluster("shop", RPC, Value::Null, true),
            cluster("store", BULK, Value::Null, false),
        ],
    )
}

/// The client's of a pair: HTTP/1.1 and TCP without TLS before it, HTTP/2 and TCP with mTLS behind it.
pub(super) fn near(folder: &Path, [asked, sent]: [u16; 2]) -> Value {
    let [web, store] = HOPS;
    let tls = |protocols| security("Upstream", context(folder, "client", SERVER, protocols));
    whole(
        vec![
            listener("127.0.0.1", asked, http("HTTP1", split("web"), vec![]), Value::Null),
            listener("127.0.0.1", sent, tcp("store"), Value::Null),
        ],
        vec![
            cluster("web", web.port, tls(json!(["h2"])), true),
            cluster("store", store.port, tls(json!([])), false),
        ],
    )
}

/// The backend's of a pair: who asks must be the client, by his certificate, and for HTTP what is asked is looked at.
pub(super) fn far(folder: &Path) -> Value {
    let [web, store] = HOPS;
    let tls = |protocols| {
        let mut security = security("Downstream", context(folder, "server", CLIENT, protocols));
        security["typed_config"]["require_client_certificate"] = json!(true);
        security
    };
    whole(
        vec![
            listener(BACKEND, web.port, http("HTTP2", straight("web"), vec![policy()]), tls(json!(["h2"]))),
            listener(BACKEND, store.port, tcp("store"), tls(json!([]))),
        ],
        vec![cluster("web", web.to, Value::Null, false), cluster("store", store.to, Value::Null, false)],
    )
}

fn whole(listeners: Vec<Value>, clusters: Vec<Value>) -> Value {
    json!({"static_resources": {"listeners": listeners, "clusters": clusters}})
}

/// A message of Envoy's, by its type.
fn typed(kind: &str, mut message: Value) -> Value {
    message["@type"] = json!(format!("type.googleapis.com/envoy.{kind}"));
    message
}

fn address(address: &str, port: u16) -> Value {
    json!({"socket_address": {"address": address, "port_value": port}})
}

fn listener(at: &str, port: u16, filter: Value, security: Value) -> Value {
    let mut chain = json!({"filters": [filter]});
    if !security.is_null() {
        chain["transport_socket"] = security;
    }
    json!({"name": format!("port-{port}"), "address": address(at, port), "filter_chains": [chain]})
}

fn to(cluster: &str) -> Value {
    json!({"cluster": cluster, "timeout": "0s"})
}

/// The routes of the client's side: a split of two matches, and all else.
fn split(cluster: &str) -> Value {
    let methods = json!({"safe_regex": {"regex": "GET|POST"}});
    json!([
        {"match": {"safe_regex": {"regex": "/admin.*"}}, "route": to(cluster)},
        {"match": {"safe_regex": {"regex": "/.*"}, "headers": [{"name": ":method", "string_match": methods}]},
         "route": to(cluster)},
        {"match": {"prefix": "/"}, "route": to(cluster)},
    ])
}

/// The route of the backend's side, which goes by nothing that is asked.
fn straight(cluster: &str) -> Value {
    json!([{"match": {"prefix": "/"}, "route": to(cluster)}])
}

fn http(codec: &str, routes: Value, mut filters: Vec<Value>) -> Value {
    let router = typed("extensions.filters.http.router.v3.Router", json!({}));
    filters.push(json!({"name": "router", "typed_config": router}));
    let manager = json!({"stat_prefix": "http", "codec_type": codec, "generate_request_id": false,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": filters});
    let kind = "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    json!({"name": "http", "typed_config": typed(kind, manager)})
}

fn tcp(cluster: &str) -> Value {
    let proxy = json!({"stat_prefix": "tcp", "cluster": cluster});
    json!({"name": "tcp", "typed_config": typed("extensions.filters.network.tcp_proxy.v3.TcpProxy", proxy)})
}

/// What a TrafficTarget says: this identity, these paths, these methods.
fn policy() -> Value {
    let asked = json!({"and_rules": {"rules": [
        {"url_path": {"path": {"safe_regex": {"regex": "/index.*"}}}},
        {"header": {"name": ":method", "string_match": {"exact": "GET"}}},
    ]}});
    let who = json!({"authenticated": {"principal_name": {"exact": CLIENT}}});
    let rules = json!({"action": "ALLOW",
        "policies": {"web": {"permissions": [asked], "principals": [who]}}});
    json!({"name": "rbac", "typed_config": typed("extensions.filters.http.rbac.v3.RBAC", json!({"rules": rules}))})
}

fn cluster(name: &str, port: u16, security: Value, is_http2: bool) -> Value {
    let endpoint = json!({"endpoint": {"address": address(BACKEND, port)}});
    let limits = json!({"max_connections": MOST, "max_pending_requests": MOST, "max_requests": MOST});
    let mut cluster = json!({"name": name, "type": "STATIC", "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [limits]},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}});
    if is_http2 {
        let options = json!({"explicit_http_config": {"http2_protocol_options": {}}});
        let kind = "extensions.upstreams.http.v3.HttpProtocolOptions";
        let options = typed(kind, options);
        cluster["typed_extension_protocol_options"] = json!({format!("envoy.{kind}"): options});
    }
    if !security.is_null() {
        cluster["transport_socket"] = security;
    }
    cluster
}

/// TLS 1.3 with a certificate of one's own, and one of the other side with this name.
fn context(folder: &Path, own: &str, other: &str, protocols: Value) -> Value {
    let path = |name: String| folder.join(name).display().to_string();
    json!({"common_tls_context": {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [{"certificate_chain": {"filename": path(format!("{own}.pem"))},
            "private_key": {"filename": path(format!("{own}.key"))}}],
        "validation_context": {"trusted_ca": {"filename": path("authority.pem".into())},
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": other}}]},
        "alpn_protocols": protocols}})
}

fn security(side: &str, context: Value) -> Value {
    let kind = format!("extensions.transport_sockets.tls.v3.{side}TlsContext");
    json!({"name": "tls", "typed_config": typed(&kind, context)})
}

/// Writes an authority's certificate, and both sides' with their keys.
pub(super) fn identities(folder: &Path) -> Result<()> {
    let (mut params, key) = (CertificateParams::default(), KeyPair::generate()?);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "bench");
    file(folder, "authority.pem", &params.self_signed(&key)?.pem())?;
    let authority = Issuer::new(params, key);
    for (side, name) in [("client", CLIENT), ("server", SERVER)] {
        let (mut params, key) = (CertificateParams::default(), KeyPair::generate()?);
        params.distinguished_name.push(DnType::CommonName, side);
        params.subject_alt_names = vec![SanType::URI(name.try_into()?)];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        file(folder, &format!("{side}.pem"), &params.signed_by(&key, &authority)?.pem())?;
        file(folder, &format!("{side}.key"), &key.serialize_pem())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_goes_by_the_split_once() {
        let place = tempfile::tempdir().unwrap();
        let routes = |of: Value| {
            let manager =
                &of["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"];
            manager["route_config"]["virtual_hosts"][0]["routes"].as_array().map(Vec::len)
        };
        assert_eq!(routes(alone([1, 2, 3])), Some(3));
        assert_eq!(routes(near(place.path(), [1, 2])), Some(3));
        assert_eq!(routes(far(place.path())), Some(1));
    }

    #[test]
    fn a_pair_knows_each_other_and_asks_over_http2_with_tls() {
        let place = tempfile::tempdir().unwrap();
        let (near, far) = (near(place.path(), [1, 2]), far(place.path()));
        let to = &near["static_resources"]["clusters"][0];
        let at = &far["static_resources"]["listeners"][0];
        assert_eq!(
            to["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"],
            at["address"]
        );
        let context = |of: &Value| of["transport_socket"]["typed_config"]["common_tls_context"].clone();
        assert_eq!(
            context(to)["validation_context"]["match_typed_subject_alt_names"][0]["matcher"]["exact"],
            SERVER
        );
        let chain = &at["filter_chains"][0];
        assert_eq!(
            context(chain)["validation_context"]["match_typed_subject_alt_names"][0]["matcher"]["exact"],
            CLIENT
        );
        assert_eq!(chain["transport_socket"]["typed_config"]["require_client_certificate"], true);
        identities(place.path()).unwrap();
        for file in ["authority.pem", "client.pem", "client.key", "server.pem", "server.key"] {
            assert!(std::fs::read_to_string(place.path().join(file)).unwrap().starts_with("-----BEGIN "));
        }
    }
}
