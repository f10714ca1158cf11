use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::authority::{Authority, Issued, Quirk, identity, tomorrow};
use crate::tls::{Failure, Tls};

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

#[test]
fn an_identity_is_read() {
    let read = Identity::parse(WEB).unwrap();
    assert_eq!((read.as_str(), read.domain(), read.to_string().as_str()), (WEB, "cluster.local", WEB));
    for wrong in [
        "",
        "cluster.local/ns/shop/sa/web",
        "http://cluster.local/ns/shop/sa/web",
        "SPIFFE://cluster.local/ns/shop/sa/web",
        "spiffe://cluster.local",
        "spiffe:///ns/shop/sa/web",
        "spiffe://Cluster.local/ns/shop/sa/web",
        "spiffe://cluster.local:443/ns/shop/sa/web",
        "spiffe://user@cluster.local/ns/shop/sa/web",
        "spiffe://cluster.local/ns/shop/sa/",
        "spiffe://cluster.local/ns//sa/web",
        "spiffe://cluster.local/ns/shop/sa/web/",
        "spiffe://cluster.local/ns/shop/sa/web/x",
        "spiffe://cluster.local/sa/shop/ns/web",
        "spiffe://cluster.local/ns/shop/sa/..",
        "spiffe://cluster.local/ns/./sa/web",
        "spiffe://cluster.local/ns/sh%6fp/sa/web",
        "spiffe://cluster.local/ns/shop/sa/web?a",
        "spiffe://cluster.local/ns/shop/sa/web#a",
        "spiffe://cluster.local/ns/shop/sa/w b",
        "spiffe://cluster.local/ns/shop/sa/w\u{e4}b",
    ] {
        assert!(Identity::parse(wrong).is_err(), "{wrong:?}");
    }
    let long = format!("{WEB}{}", "x".repeat(LONGEST));
    assert!(Identity::parse(&long).is_err());
}

/// Of a mesh whose root this authority has.
fn certificates(authority: &Authority) -> Arc<Certificates> {
    let certificates = Certificates::new("cluster.local");
    certificates.set_roots(std::slice::from_ref(&authority.root)).unwrap();
    certificates
}

#[test]
fn what_does_not_prove_its_identity_is_not_taken() {
    let authority = Authority::new("root");
    let certificates = certificates(&authority);
    let web = identity("web");
    let take = |certificates: &Certificates, of: &Identity, Issued { certificate, key }: &Issued| {
        certificates.set(of, std::slice::from_ref(certificate), key, tomorrow())
    };
    let good = authority.issue(WEB, Quirk::None);
    take(&certificates, &web, &good).unwrap();
    let first = certificates.held(WEB, SystemTime::now()).unwrap().serial;
    let shown = |issued: &Issued| take(&certificates, &web, issued).unwrap_err().to_string();
    let another = authority.issue("spiffe://cluster.local/ns/shop/sa/other", Quirk::None);
    assert!(shown(&another).contains("it proves spiffe://cluster.local/ns/shop/sa/other"));
    let two = authority.issue(WEB, Quirk::Second("spiffe://cluster.local/ns/shop/sa/other"));
    assert!(shown(&two).contains("more than one"), "{}", shown(&two));
    assert!(shown(&authority.issue(WEB, Quirk::NoName)).contains("no name of a workload"));
    let mixed = Issued { certificate: good.certificate.clone(), key: another.key.clone() };
    assert!(take(&certificates, &web, &mixed).is_err(), "another's key");
    let broken = Issued { certificate: b"no certificate".to_vec(), key: good.key.clone() };
    assert!(take(&certificates, &web, &broken).is_err());
    assert!(certificates.set(&web, &[], &good.key, tomorrow()).is_err());
    assert!(certificates.set_roots(&[]).is_err() && certificates.set_roots(&[b"x".to_vec()]).is_err());
    let elsewhere = Identity::parse("spiffe://other.example/ns/shop/sa/web").unwrap();
    let foreign = authority.issue(elsewhere.as_str(), Quirk::None);
    assert!(take(&certificates, &elsewhere, &foreign).is_err());
    // What was there before is still there, and the next one is another.
    assert_eq!(certificates.held(WEB, SystemTime::now()).unwrap().serial, first);
    take(&certificates, &web, &authority.issue(WEB, Quirk::None)).unwrap();
    assert_ne!(certificates.held(WEB, SystemTime::now()).unwrap().serial, first);
}

#[test]
fn what_has_expired_is_not_used() {
    let authority = Authority::new("root");
    let certificates = certificates(&authority);
    let (web, now) = (identity("web"), SystemTime::now());
    // Taken, since who sets it may have a reason; but never shown to anybody.
    let Issued { certificate, key } = authority.issue(WEB, Quirk::Expired);
    certificates.set(&web, &[certificate], &key, tomorrow()).unwrap();
    assert!(!certificates.has(&web, now) && certificates.not_after(&web).unwrap() < now);
    let Issued { certificate, key } = authority.issue(WEB, Quirk::None);
    certificates.set(&web, &[certificate], &key, tomorrow()).unwrap();
    assert!(certificates.has(&web, now) && !certificates.has(&web, tomorrow()));
    certificates.remove(&web);
    assert!(!certificates.has(&web, now) && certificates.not_after(&web).is_none());
}

/// Lets one side hear what came, and say what it has to say.
fn turn(side: &mut Tls, came: &mut Vec<u8>, out: &mut Vec<u8>, result: &mut Result<(), Failure>) {
    if result.is_ok() {
        match side.receive(came, &mut |_| {}) {
            Ok(taken) => drop(came.drain(..taken)),
            Err(e) => *result = Err(e),
        }
    }
    out.extend_from_slice(side.output());
    let count = side.output().len();
    side.sent(count);
}

/// Lets both sides speak until neither has anything to say; the error of either.
fn shake_hands(client: &mut Tls, server: &mut Tls) -> (Result<(), Failure>, Result<(), Failure>) {
    let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
    let (mut of_client, mut of_server) = (Ok(()), Ok(()));
    for _ in 0..20 {
        turn(client, &mut to_client, &mut to_server, &mut of_client);
        turn(server, &mut to_server, &mut to_client, &mut of_server);
    }
    (of_client, of_server)
}

/// A client of one mesh and a server of another.
fn meet(
    client: &Certificates,
    server: &Certificates,
) -> (Tls, Tls, Result<(), Failure>, Result<(), Failure>) {
    // Whatever has expired is for the other side to find here.
    let any = SystemTime::UNIX_EPOCH;
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let mut one = Tls::client(client.held(CLIENT, any).unwrap().client.clone(), address).unwrap();
    let mut other = Tls::server(server.held(WEB, any).unwrap().server.clone()).unwrap();
    let (of_client, of_server) = shake_hands(&mut one, &mut other);
    (one, other, of_client, of_server)
}

const CLIENT: &str = "spiffe://cluster.local/ns/shop/sa/client";

#[test]
fn both_sides_prove_who_they_are() {
    let authority = Authority::new("root");
    let all = certificates(&authority);
    authority.prove(&all, &[&identity("web"), &identity("client")]);
    let (mut client, mut server, of_client, of_server) = meet(&all, &all);
    of_client.unwrap();
    of_server.unwrap();
    assert!(client.is_ready() && server.is_ready());
    assert_eq!(proved(client.peer().unwrap()).unwrap().identity, identity("web"));
    assert_eq!(proved(server.peer().unwrap()).unwrap().identity, identity("client"));
    assert_eq!((client.protocol(), server.protocol()), (Some(ALPN), Some(ALPN)));
    // More than a record has, and more than is encrypted at a time.
    let text: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
    client.send(&text).unwrap();
    let mut came = client.output().to_vec();
    assert!(!came.windows(64).any(|window| window == &text[..64]), "it is not encrypted");
    let mut read = Vec::new();
    let taken = server.receive(&mut came, &mut |record| read.extend_from_slice(record)).unwrap();
    assert_eq!((taken, read.len()), (came.len(), text.len()));
    assert!(read == text);
    // The end is told.
    let count = client.output().len();
    client.sent(count);
    client.finish();
    let mut last = client.output().to_vec();
    server.receive(&mut last, &mut |_| {}).unwrap();
    assert!(server.is_closed() && !client.is_closed());
}

#[test]
fn a_certificate_that_proves_nothing_here_is_refused_by_either_side() {
    let (authority, other) = (Authority::new("root"), Authority::new("root"));
    let good = certificates(&authority);
    authority.prove(&good, &[&identity("web"), &identity("client")]);
    // Sets what `Certificates::set` would not take: whoever is attacked does not go by what attackers check.
    let with = |web: &Issued, client: &Issued| {
        let bad = certificates(&authority);
        for (of, issued) in [("web", web), ("client", client)] {
            bad.set_unseen(&identity(of), std::slice::from_ref(&issued.certificate), &issued.key);
        }
        bad
    };
    let foreign = "spiffe://other.example/ns/shop/sa/web";
    let cases: [(&str, [Issued; 2]); 6] = [
        ("another root", [other.issue(WEB, Quirk::None), other.issue(CLIENT, Quirk::None)]),
        (
            "another trust domain",
            [authority.issue(foreign, Quirk::None), authority.issue(foreign, Quirk::None)],
        ),
        (
            "two names",
            [authority.issue(WEB, Quirk::Second(CLIENT)), authority.issue(CLIENT, Quirk::Second(WEB))],
        ),
        ("expired", [authority.issue(WEB, Quirk::Expired), authority.issue(CLIENT, Quirk::Expired)]),
        ("not yet", [authority.issue(WEB, Quirk::NotYet), authority.issue(CLIENT, Quirk::NotYet)]),
        ("no name", [authority.issue(WEB, Quirk::NoName), authority.issue(CLIENT, Quirk::NoName)]),
    ];
    for (what, [web, client]) in cases {
        let bad = with(&web, &client);
        let (_, _, of_client, _) = meet(&good, &bad);
        assert!(of_client.is_err(), "a client has believed a server: {what}");
        let (_, server, _, of_server) = meet(&bad, &good);
        assert!(of_server.is_err() && !server.is_ready(), "a server has believed a client: {what}");
    }
    // One for servers alone is none of a client.
    let bad = with(&authority.issue(WEB, Quirk::None), &authority.issue(CLIENT, Quirk::ServersOnly));
    let (_, _, _, of_server) = meet(&bad, &good);
    assert!(of_server.is_err());
}

#[test]
fn who_shows_no_certificate_is_refused() {
    let authority = Authority::new("root");
    let all = certificates(&authority);
    authority.prove(&all, &[&identity("web")]);
    let provider = all.provider.clone();
    let silent = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(all.verifier.clone())
        .with_no_client_auth();
    let mut client = Tls::client(Arc::new(silent), Ipv4Addr::LOCALHOST.into()).unwrap();
    let held = all.held(WEB, SystemTime::now()).unwrap();
    let mut server = Tls::server(held.server.clone()).unwrap();
    let (_, of_server) = shake_hands(&mut client, &mut server);
    assert!(of_server.is_err() && !server.is_ready() && server.peer().is_none());
}

#[test]
fn new_roots_hold_for_the_next_connection() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let all = certificates(&old);
    old.prove(&all, &[&identity("web"), &identity("client")]);
    assert!(meet(&all, &all).2.is_ok());
    all.set_roots(std::slice::from_ref(&new.root)).unwrap();
    assert!(meet(&all, &all).2.is_err(), "what the old root has signed is still believed");
    // Both at once, as long as not all have new certificates.
    all.set_roots(&[old.root.clone(), new.root.clone()]).unwrap();
    new.prove(&all, &[&identity("web")]);
    let (_, _, of_client, of_server) = meet(&all, &all);
    assert!(of_client.is_ok() && of_server.is_ok());
}
