//! Who tries to be somebody else, or to come in without proving anything.

use std::net::{SocketAddr, TcpStream};

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kernel::netlink::sysctl;
use kube::Api;
use kube::api::{Patch, PatchParams};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};
use serde_json::json;
use testkit::netns::addresses;

use crate::authority::{Authority, Issued, Quirk};
use crate::member;
use crate::objects::WEB;
use crate::rig::{PATIENCE, Rig};
use crate::secured::{CLIENT, OTHER, PORT, SERVER, Site, allow, answer, get, served};
use crate::until;

/// The client may ask, and the other may not.
async fn guarded() -> (Rig, Site) {
    let (rig, site) = served().await;
    allow(&rig).await;
    until(&rig, "the other is refused", || get(&site.other, (WEB, 80), "/allowed") == Some(403)).await;
    until(&rig, "the client is let in", || get(&site.client, (WEB, 80), "/allowed") == Some(200)).await;
    (rig, site)
}

async fn end(rig: &mut Rig) {
    for node in ["node-2", "node-1"] {
        assert_eq!(rig.end(node), Some(0), "{}", rig.words(node));
    }
}

/// A connection from one of the addresses of the network that the calling thread is in.
fn connect_from(from: &str, (to, port): (&str, u16)) -> TcpStream {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    bind(&socket, &SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
    connect(&socket, &SocketAddr::new(to.parse().unwrap(), port)).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[tokio::test]
async fn pods_of_a_node_do_not_lend_each_other_who_they_are() {
    let (mut rig, site) = guarded().await;
    // One process asks for both, and keeps its connections.
    for _ in 0..20 {
        assert_eq!(get(&site.client, (WEB, 80), "/allowed"), Some(200));
        assert_eq!(get(&site.other, (WEB, 80), "/allowed"), Some(403));
        assert_eq!(get(&site.other, (SERVER.2, PORT), "/allowed"), None);
    }
    // An address proves nothing.
    let answers = site.other.run(|| {
        // The client keeps its own: nobody on the link is told of this one.
        for (setting, value) in [("arp_ignore", "1"), ("arp_announce", "2")] {
            sysctl::write(&format!("net/ipv4/conf/all/{setting}"), value).unwrap();
        }
        addresses("lo", &[&format!("{}/32", CLIENT.2)]);
        let text = "GET /allowed HTTP/1.1\r\nHost: web\r\n\r\n";
        [(WEB, 80), (SERVER.2, PORT)].map(|to| answer(&mut connect_from(CLIENT.2, to), text))
    });
    assert!(!answers.contains(&Some(200)), "{answers:?}");
    // Nor does speaking to where members speak to each other.
    assert_eq!(get(&site.other, (SERVER.2, mesh::hbone::PORT), "/allowed"), None);
    assert_eq!(get(&site.wire, (SERVER.2, mesh::hbone::PORT), "/allowed"), None);
    // The link's neighbours may have been told of two who have its address: for a moment nobody reaches either.
    until(&rig, "the client is let in again", || get(&site.client, (WEB, 80), "/allowed") == Some(200)).await;
    end(&mut rig).await;
}

#[tokio::test]
async fn plain_text_from_outside_is_refused_where_the_namespace_says_so() {
    let (mut rig, site) = served().await;
    let namespaces: Api<Namespace> = Api::all(rig.client.clone());
    let mode = async |mode: &str| {
        let patch = Patch::Merge(json!({"metadata": {"labels": {"mesh.sextant.dev/mode": mode}}}));
        namespaces.patch("default", &PatchParams::default(), &patch).await.unwrap();
    };
    assert!(site.lets_in_strangers());
    for _ in 0..2 {
        mode("strict").await;
        until(&rig, "strangers are refused", || !site.lets_in_strangers()).await;
        for pod in [&site.client, &site.other] {
            until(&rig, "members are let in", || get(pod, (WEB, 80), "/") == Some(200)).await;
            assert_eq!(get(pod, (SERVER.2, PORT), "/"), Some(200));
        }
        assert!(!site.lets_in_strangers());
        mode("permissive").await;
        until(&rig, "strangers are let in", || site.lets_in_strangers()).await;
    }
    end(&mut rig).await;
}

/// What the control plane would sign, by the key that only it has, for these years.
fn signed(key: &str, name: &str, (from, to): (i32, i32)) -> Issued {
    let named = |params: &mut CertificateParams| params.distinguished_name = DistinguishedName::new();
    let mut authority = CertificateParams::default();
    named(&mut authority);
    authority.distinguished_name.push(DnType::CommonName, "sextant-mesh-ca");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let issuer = Issuer::new(authority, KeyPair::from_pem(key).unwrap());
    let mut params = CertificateParams::default();
    named(&mut params);
    params.subject_alt_names = vec![SanType::URI(identity(name).as_str().try_into().unwrap())];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
    let own = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&own, &issuer).unwrap().der().to_vec();
    Issued { certificate, key: own.serialize_der() }
}

fn identity(account: &str) -> String {
    format!("spiffe://cluster.local/ns/default/sa/{account}")
}

#[tokio::test]
async fn a_certificate_counts_only_while_it_lasts_and_of_the_meshs_authority() {
    let (mut rig, site) = guarded().await;
    let secret = rig.objects_of::<Secret>("kube-system").get("sextant-mesh-ca").await.unwrap();
    let key = String::from_utf8(secret.data.unwrap()["ca.key"].0.clone()).unwrap();
    let here = format!("{}:{PORT}", SERVER.2);
    let asked = |shown: Option<&Issued>| {
        let begun = std::time::Instant::now();
        let stream = site.wire.run(|| {
            loop {
                match TcpStream::connect((SERVER.2, mesh::hbone::PORT)) {
                    // Rules that are made anew may refuse for a moment.
                    Err(e)
                        if e.kind() == std::io::ErrorKind::ConnectionRefused
                            && begun.elapsed() < PATIENCE =>
                    {
                        std::thread::sleep(std::time::Duration::from_millis(50));
                    }
                    done => break done.unwrap(),
                }
            }
        });
        member::ask(stream, shown, &here)
    };
    // The same with years that fit is let in: nothing else is wrong with those that are not.
    assert_eq!(asked(Some(&signed(&key, CLIENT.0, (2020, 2090)))), Some(200));
    assert_eq!(asked(Some(&signed(&key, OTHER.0, (2020, 2090)))), Some(403));
    assert_eq!(asked(Some(&signed(&key, CLIENT.0, (2020, 2021)))), None);
    assert_eq!(asked(Some(&signed(&key, CLIENT.0, (2089, 2090)))), None);
    let stranger = Authority::new("sextant-mesh-ca");
    assert_eq!(asked(Some(&stranger.issue(&identity(CLIENT.0), Quirk::None))), None);
    assert_eq!(asked(None), None);
    assert_eq!(get(&site.client, (WEB, 80), "/allowed"), Some(200));
    end(&mut rig).await;
}
