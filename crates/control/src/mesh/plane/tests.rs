//! What the authority signs, and what a node is told.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use meshwire::contract::{Gathering, Packed, SERVER, parts};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, SanType};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use smi::compile::{Change, Compiler, Pod, Service, ServiceKind, ServicePort, Settings};
use smi::contract::specs::Transport;
use smi::contract::{Id, Kind, Name};
use smi::model::{Entry, Key, Mode, Model};

use super::authority::{Authority, LEAF, Roots, TOLD};
use super::hub::Hub;

const NOW: i64 = 1_790_000_000;
const DAY: i64 = 86_400;
const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

fn request(key: &KeyPair, names: &[&str]) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names.iter().map(|name| SanType::URI((*name).try_into().unwrap())).collect();
    params.serialize_request(key).unwrap().der().to_vec()
}

fn p256() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

fn store(roots: &[Vec<u8>]) -> Arc<RootCertStore> {
    let mut store = RootCertStore::empty();
    roots.iter().for_each(|root| store.add(CertificateDer::from(root.clone())).unwrap());
    Arc::new(store)
}

/// Whether who trusts these would speak with who shows this, at that time.
fn trusts(roots: &[Vec<u8>], certificate: &[u8], at: i64) -> bool {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(store(roots), provider).build().unwrap();
    let at = UnixTime::since_unix_epoch(Duration::from_secs(at.unsigned_abs()));
    verifier.verify_client_cert(&CertificateDer::from(certificate), &[], at).is_ok()
}

#[test]
fn what_is_signed_is_trusted_for_a_day_and_says_who_it_is() {
    let authority = Authority::of(&Roots::new(NOW).unwrap()).unwrap();
    let key = p256();
    // With the name or without any: it is the identity that was asked for.
    for names in [&[WEB][..], &[]] {
        let signed = authority.sign(WEB, &request(&key, names), NOW).unwrap();
        assert_eq!(signed.not_after, NOW + LEAF);
        for (at, is) in [(-7200, false), (-60, true), (0, true), (LEAF - 1, true), (LEAF + 1, false)] {
            assert_eq!(trusts(&authority.roots, &signed.certificate, NOW + at), is, "{at} s");
        }
        let (_, parsed) = x509_parser::parse_x509_certificate(&signed.certificate).unwrap();
        let its = parsed.subject_alternative_name().unwrap().unwrap();
        assert_eq!(format!("{:?}", its.value.general_names), format!("[URI({WEB:?})]"));
        assert!(!parsed.is_ca());
        assert_eq!(parsed.public_key().subject_public_key.data.as_ref(), key.public_key_raw());
    }
    let stranger = Authority::of(&Roots::new(NOW).unwrap()).unwrap();
    let signed = stranger.sign(WEB, &request(&key, &[]), NOW).unwrap();
    assert!(!trusts(&authority.roots, &signed.certificate, NOW));
}

#[test]
fn the_control_plane_is_who_its_certificate_says_and_nobody_else_is() {
    let authority = Authority::of(&Roots::new(NOW).unwrap()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let roots = store(&authority.roots);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider).build().unwrap();
    let at = UnixTime::since_unix_epoch(Duration::from_secs(NOW.unsigned_abs()));
    let is = |certificate: &CertificateDer<'_>| {
        let name = ServerName::try_from(SERVER).unwrap();
        verifier.verify_server_cert(certificate, &[], &name, &[], at).is_ok()
    };
    let (own, not_after) = authority.own(NOW).unwrap();
    assert!(is(&own.cert[0]) && not_after == NOW + LEAF);
    // A member of the mesh is signed by the same roots.
    let member = authority.sign(WEB, &request(&p256(), &[]), NOW).unwrap();
    assert!(!is(&CertificateDer::from(member.certificate)));
    // And the control plane is no member.
    assert!(!trusts(&authority.roots, &own.cert[0], NOW));
}

#[test]
fn requests_for_others_and_of_other_keys_are_refused() {
    let authority = Authority::of(&Roots::new(NOW).unwrap()).unwrap();
    let good = request(&p256(), &[WEB]);
    let refused = |request: &[u8]| authority.sign(WEB, request, NOW).unwrap_err().to_string();
    let other = "spiffe://cluster.local/ns/shop/sa/api";
    assert!(refused(&request(&p256(), &[other])).contains("names somebody else"));
    assert!(refused(&request(&p256(), &[WEB, other])).contains("names somebody else"));
    let mut params = CertificateParams::new(vec!["web.shop".to_owned()]).unwrap();
    assert!(refused(params.serialize_request(&p256()).unwrap().der()).contains("names somebody else"));
    params.subject_alt_names.clear();
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    assert!(refused(params.serialize_request(&p384).unwrap().der()).contains("another kind of key"));
    // Somebody else's key: the signature is not its own.
    let (one, two) = (p256(), p256());
    let (mut borrowed, at) = (request(&one, &[WEB]), |whole: &[u8], key: &KeyPair| {
        whole.windows(65).position(|part| part == key.public_key_raw()).unwrap()
    });
    let place = at(&borrowed, &one);
    borrowed[place..place + 65].copy_from_slice(two.public_key_raw());
    assert!(refused(&borrowed).contains("not signed by its own key"));
    assert!(refused(&[&good[..], b"x"].concat()).contains("1 bytes behind it"));
    assert!(refused(&good[..good.len() - 1]).contains("no request"));
    assert!(refused(b"").contains("no request"));
    assert!(authority.sign(WEB, &good, NOW).is_ok());
}

#[test]
fn roots_change_without_a_moment_in_which_somebody_is_not_trusted() {
    let mut roots = Roots::new(NOW).unwrap();
    let (mut now, key) = (NOW, p256());
    // Who has asked for a certificate half a day ago has been told nothing since.
    let mut before = (Authority::of(&roots).unwrap(), now);
    let (mut seen, mut signers) = (BTreeSet::new(), BTreeSet::new());
    while now < NOW + 500 * DAY {
        while let Some(next) = roots.step(now).unwrap() {
            roots = next;
        }
        let authority = Authority::of(&roots).unwrap();
        seen.insert((roots.next.is_some(), roots.old.is_some()));
        signers.insert(authority.roots[0].clone());
        let of_now = authority.sign(WEB, &request(&key, &[]), now).unwrap();
        let (told, at) = &before;
        let of_then = told.sign(WEB, &request(&key, &[]), *at).unwrap();
        assert!(trusts(&told.roots, &of_now.certificate, now), "day {}", (now - NOW) / DAY);
        assert!(trusts(&authority.roots, &of_then.certificate, now), "day {}", (now - NOW) / DAY);
        before = (authority, now);
        now += DAY / 2;
    }
    assert_eq!(seen, BTreeSet::from([(false, false), (true, false), (false, true)]));
    assert_eq!(signers.len(), 3);
    assert!(roots.trusted().matches("BEGIN CERTIFICATE").count() <= 2);
}

#[test]
fn the_next_root_is_told_for_a_day_before_it_signs() {
    let roots = Roots::new(NOW).unwrap();
    let half = NOW + 183 * DAY;
    let told = roots.step(half).unwrap().unwrap();
    assert_eq!(told.signing, roots.signing);
    assert_eq!(told.trusted().matches("BEGIN CERTIFICATE").count(), 2);
    assert_eq!(told.step(half + TOLD - 1).unwrap(), None);
    let signs = told.step(half + TOLD).unwrap().unwrap();
    assert_eq!(Some(&signs.signing), told.next.as_ref().map(|(pair, _)| pair));
    assert_eq!(signs.old.as_ref().map(|(old, _)| old), Some(&roots.signing.certificate));
    // Nobody has to be told before that one signs which comes after one that has ended.
    let late = roots.step(NOW + 366 * DAY).unwrap().unwrap();
    let signs = late.step(NOW + 366 * DAY).unwrap().unwrap();
    assert_eq!(Some(&signs.signing), late.next.as_ref().map(|(pair, _)| pair));
    // A root that has ended signs nothing: it would be trusted by nobody.
    let refused =
        Authority::of(&roots).unwrap().sign(WEB, &request(&p256(), &[]), NOW + 366 * DAY).unwrap_err();
    assert!(refused.message.contains("root has ended"), "{refused}");
}

#[test]
fn an_authority_that_is_none_says_what_of_it() {
    let good = Roots::new(NOW).unwrap();
    let why = |roots: Roots| Authority::of(&roots).unwrap_err();
    let mut bad = good.clone();
    bad.signing.key = Roots::new(NOW).unwrap().signing.key;
    assert!(why(bad).contains("not its certificate's"));
    let mut bad = good.clone();
    bad.signing.certificate = "no certificate".into();
    assert!(why(bad).starts_with("the certificate that signs:"));
    let leaf = CertificateParams::default().self_signed(&p256()).unwrap();
    assert!(why(Roots { old: Some((leaf.pem(), NOW)), ..good }).contains("no authority's"));
}

/// A cluster, and a node that follows it.
struct Cluster {
    compiler: Compiler,
    hub: Hub,
}

impl Cluster {
    fn new() -> Self {
        Self { compiler: Compiler::new(Settings::default()), hub: Hub::default() }
    }

    fn pod(&mut self, name: &str, account: &str, node: &str, member: bool) {
        let labels = [("mesh.sextant.dev/member".to_owned(), member.to_string())].into();
        let pod = Pod {
            service_account: account.into(),
            labels,
            addresses: vec![[10, 0, 0, 1].into()],
            node: Some(node.into()),
            host_network: false,
        };
        self.compiler.enter(Change::Pod(Name::new("shop", name), Some(pod)));
    }

    fn service(&mut self, name: &str) {
        let port =
            ServicePort { name: "http".into(), port: 80, transport: Transport::Tcp, app_protocol: None };
        let service =
            Service { kind: ServiceKind::ClusterIp(vec![[10, 96, 0, 1].into()]), ports: vec![port] };
        self.compiler.enter(Change::Service(Name::new("shop", name), Some(service)));
    }

    /// Who guards an account, or that nobody does.
    fn target(&mut self, name: &str, account: Option<&str>) {
        let id = Id { kind: Kind::TrafficTarget, name: Name::new("shop", name) };
        let read = account.map(|account| {
            let object = serde_json::json!({"apiVersion": "access.smi-spec.io/v1alpha3", "kind": "TrafficTarget",
                "metadata": {"name": name, "namespace": "shop"},
                "spec": {"destination": {"kind": "ServiceAccount", "name": account},
                    "sources": [{"kind": "ServiceAccount", "name": "caller"}],
                    "rules": [{"kind": "TCPRoute", "name": "all"}]}});
            smi::contract::read(&object).unwrap()
        });
        self.compiler.enter(Change::Object(id, read));
    }

    fn settle(&mut self) {
        let outcome = self.compiler.compile();
        self.hub.take(outcome.delta).unwrap();
    }
}

/// What a node knows.
struct Node {
    view: super::hub::View,
    changes: tokio::sync::broadcast::Receiver<Arc<super::hub::Change>>,
    model: Model,
}

impl Node {
    fn begin(cluster: &Cluster, name: &str) -> Self {
        let beginning = cluster.hub.begin(name).unwrap();
        let mut node = Self { view: beginning.view, changes: beginning.changes, model: Model::default() };
        node.apply(beginning.revision, beginning.packed);
        node
    }

    fn apply(&mut self, revision: u64, packed: Packed) {
        let mut gathering = Gathering::default();
        for part in parts(revision, false, packed, None) {
            if let Some(gathered) = gathering.take(part).unwrap() {
                self.model.apply(gathered.delta);
            }
        }
    }

    /// Takes what has changed; how many entries that were.
    fn follow(&mut self, cluster: &Cluster) -> usize {
        let mut count = 0;
        while let Ok(change) = self.changes.try_recv() {
            let packed = cluster.hub.tell(&mut self.view, &change).unwrap();
            count += packed.set.len() + packed.removed.len();
            self.apply(change.revision, packed);
        }
        count
    }

    fn knows(&self) -> Vec<String> {
        self.model
            .iter()
            .map(|(key, _)| key.to_string())
            .filter(|key| !key.starts_with("endpoints"))
            .collect()
    }
}

#[test]
fn a_node_is_told_of_services_its_pods_members_and_what_guards_its_own() {
    let mut cluster = Cluster::new();
    cluster.service("web");
    cluster.pod("own", "web", "node-1", true);
    cluster.pod("own-outside", "web", "node-1", false);
    cluster.pod("far", "api", "node-2", true);
    cluster.pod("far-outside", "api", "node-2", false);
    cluster.target("of-web", Some("web"));
    cluster.target("of-api", Some("api"));
    cluster.settle();
    let (mut one, two) = (Node::begin(&cluster, "node-1"), Node::begin(&cluster, "node-2"));
    let web = "frontend shop/web:80/tcp";
    let all =
        [web, "policy shop/of-web", "workload shop/far", "workload shop/own", "workload shop/own-outside"];
    assert_eq!(one.knows(), all);
    assert_eq!(
        two.knows(),
        [web, "policy shop/of-api", "workload shop/far", "workload shop/far-outside", "workload shop/own"]
    );
    assert!(cluster.hub.has("node-1", WEB) && !cluster.hub.has("node-2", WEB));
    assert!(!cluster.hub.has("node-1", "spiffe://cluster.local/ns/shop/sa/api"));
    // A change is told to whom it matters, as one entry.
    cluster.pod("far-outside", "other", "node-2", false);
    cluster.settle();
    assert_eq!(one.follow(&cluster), 0);
    cluster.pod("far-outside", "other", "node-2", true);
    cluster.settle();
    assert_eq!(one.follow(&cluster), 1);
    assert!(one.knows().contains(&"workload shop/far-outside".to_owned()));
    cluster.pod("far-outside", "other", "node-2", false);
    cluster.settle();
    assert_eq!((one.follow(&cluster), one.knows()), (1, all.map(str::to_owned).to_vec()));
    // Whom nobody guards needs no policy, and who is guarded by another one has that.
    cluster.target("of-web", None);
    cluster.target("second", Some("web"));
    cluster.settle();
    one.follow(&cluster);
    let own = Key::Workload(Name::new("shop", "own"));
    assert!(
        matches!(&**one.model.get(&own).unwrap(), Entry::Workload(pod) if pod.policies == [Name::new("shop", "second")])
    );
    assert!(one.knows().contains(&"policy shop/second".to_owned()));
    assert!(!one.knows().contains(&"policy shop/of-web".to_owned()));
}

/// A policy is told with the first pod that it guards, which may come long after it.
#[test]
fn a_policy_comes_with_the_first_pod_that_it_guards_and_goes_with_the_last() {
    let mut cluster = Cluster::new();
    cluster.target("of-web", Some("web"));
    cluster.settle();
    let mut node = Node::begin(&cluster, "node-1");
    assert_eq!(node.knows(), [""; 0]);
    cluster.pod("a", "web", "node-1", true);
    cluster.settle();
    assert_eq!(
        (node.follow(&cluster), node.knows()),
        (2, vec!["policy shop/of-web".into(), "workload shop/a".into()])
    );
    cluster.compiler.enter(Change::Pod(Name::new("shop", "a"), None));
    cluster.settle();
    assert_eq!((node.follow(&cluster), node.knows()), (2, Vec::new()));
    // A pod that has gone to another node, under the same name, is a member elsewhere.
    cluster.pod("a", "web", "node-1", true);
    cluster.settle();
    node.follow(&cluster);
    cluster.pod("a", "web", "node-2", true);
    cluster.settle();
    node.follow(&cluster);
    assert_eq!(node.knows(), ["workload shop/a"]);
    let a = Key::Workload(Name::new("shop", "a"));
    assert!(matches!(&**node.model.get(&a).unwrap(), Entry::Workload(pod) if pod.mode == Mode::Permissive));
}

/// What 1,000 Services come to is told once; a change of one is small.
#[test]
fn a_change_of_one_service_among_many_is_a_small_update() {
    let mut cluster = Cluster::new();
    (0..1000).for_each(|number| cluster.service(&format!("web-{number}")));
    cluster.settle();
    let mut beginning = cluster.hub.begin("node-1").unwrap();
    assert!(beginning.packed.set.len() >= 1000);
    cluster.compiler.enter(Change::Service(Name::new("shop", "web-7"), None));
    cluster.settle();
    let change = beginning.changes.try_recv().unwrap();
    let packed = cluster.hub.tell(&mut beginning.view, &change).unwrap();
    let bytes: usize = packed.set.iter().chain(&packed.removed).map(|entry| entry.len()).sum();
    assert!(!packed.is_empty() && bytes < 512, "{bytes} bytes");
}
