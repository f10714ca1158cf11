//! Registries that are down, silent, unwilling or confused.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

use testkit::faulty::{Faulty, answer};

use crate::image::{Image, files, noise};
use crate::place::Place;
use crate::registry::{Ask, Registry};

fn image() -> Image {
    Image::new(&[files(&[("etc/greeting", b"hello"), ("f", &noise(100_000, 1))])])
}

/// `answer` for the first `count` of the requests that `which` chooses.
fn first(
    count: usize,
    which: fn(&Ask<'_>) -> bool,
    answer: impl Fn(&mut Ask<'_>) -> bool + Send + Sync + 'static,
) -> impl Fn(&mut Ask<'_>) -> bool + Send + Sync + 'static {
    let seen = AtomicUsize::new(0);
    move |ask| which(ask) && seen.fetch_add(1, Ordering::Relaxed) < count && answer(ask)
}

/// The bad image is pulled in spite of everything, and is whole.
#[track_caller]
fn pulled(place: &Place, registry: &Registry) {
    let name = registry.name("bad");
    let ended = place.site.run(&["pull", "-q", "--plain-http", &name]);
    assert_eq!(ended.code, 0, "{ended:?} {:?}", registry.log());
    place.site.ok(&["rmi", &name]);
    place.goes_on(registry);
}

#[test]
fn a_registry_that_is_down_is_told_at_once() {
    let place = Place::new();
    let addr = "127.0.0.1:1";
    let name = format!("{addr}/bad:1");
    for plain in [&["--plain-http"][..], &[]] {
        let args = [&["pull", "-q"], plain, &[&name]].concat();
        place.ends(1, &args, &[addr, "refused"]);
    }
    place.ends(125, &["run", "--rm", "-q", "--network", "none", &name], &[addr, "refused"]);
}

#[test]
fn refusals_say_what_to_do() {
    let place = Place::new();
    let refused = |status: u16, headers: &'static str, body: &'static str, words: &[&str]| {
        let registry = Registry::new(image(), move |ask| ask.answer(status, headers, body.as_bytes()));
        place.refuses(&registry, &[&["bad:1", &status.to_string()], words].concat());
        registry.log().len()
    };
    let denied = r#"{"errors":[{"code":"DENIED","message":"your account is\u001b[31m locked"}]}"#;
    refused(401, "www-authenticate: Basic realm=\"r\"\r\n", "", &["sextant login"]);
    refused(401, "", "", &["sextant login"]);
    refused(403, "", denied, &["DENIED", "account is", "do not allow"]);
    refused(404, "", r#"{"errors":[{"code":"NAME_UNKNOWN","message":"no such name"}]}"#, &["NAME_UNKNOWN"]);
    refused(404, "", "", &["check the name"]);
    assert_eq!(refused(429, "retry-after: 3600\r\n", "", &["wait 3600 s"]), 1, "an hour is not waited");
    refused(418, "", "<html>teapot</html>", &["teapot"]);
    refused(500, "", "", &["try again later"]);
}

#[test]
fn refusals_of_a_layer_name_it() {
    let place = Place::new();
    let layer = image().layer().to_string();
    let refused = |status: u16, headers: &'static str, words: &[&str]| {
        let registry = Registry::new(image(), move |ask| ask.is_layer() && ask.answer(status, headers, b""));
        place.refuses(&registry, &[&[layer.as_str(), &status.to_string()], words].concat());
        registry.log().iter().filter(|sent| sent.path.ends_with(&layer)).count()
    };
    assert_eq!(refused(404, "", &[]), 1);
    assert_eq!(refused(403, "", &["do not allow"]), 1);
    assert_eq!(refused(429, "retry-after: 3600\r\n", &["wait 3600 s"]), 1, "an hour is not waited");
}

#[test]
fn what_passes_is_waited_out() {
    let place = Place::new();
    pulled(
        &place,
        &Registry::new(image(), first(2, |_| true, |ask| ask.answer(429, "retry-after: 1\r\n", b""))),
    );
    pulled(&place, &Registry::new(image(), first(2, |_| true, |ask| ask.answer(500, "", b"oops"))));
    pulled(&place, &Registry::new(image(), first(2, |a| a.is_layer(), |ask| ask.answer(503, "", b""))));
    pulled(
        &place,
        &Registry::new(image(), first(1, |a| a.is_layer(), |ask| ask.answer(429, "retry-after: 1\r\n", b""))),
    );
    // Hangs up without a word.
    pulled(&place, &Registry::new(image(), first(2, |_| true, |_| true)));
}

#[test]
fn silence_ends() {
    let place = Place::new();
    let silent = |which: fn(&Ask<'_>) -> bool| {
        Registry::new(image(), move |ask| {
            // Until the client hangs up.
            which(ask) && ask.stream.read(&mut [0]).is_ok()
        })
    };
    let pull = |registry: &Registry, words: &[&str]| {
        let name = registry.name("bad");
        let args = ["pull", "-q", "--plain-http", "--progress-timeout", "3", &name];
        place.ends(1, &args, words);
        place.goes_on(registry);
    };
    let manifests = silent(|_| true);
    pull(&manifests, &[&manifests.addr().to_string(), "no answer"]);
    let layer = image().layer().to_string();
    pull(&silent(|ask| ask.is_layer()), &[&layer, "does not get on for", "no answer"]);
}

#[test]
fn a_body_that_stalls_or_trickles_ends() {
    let place = Place::new();
    let layer = image().layer().to_string();
    for trickle in [false, true] {
        let registry = Registry::new(image(), move |ask| {
            if !ask.is_layer() {
                return false;
            }
            let length = ask.whole().len() - ask.from.unwrap_or(0);
            let status = if ask.from.is_some() { 206 } else { 200 };
            let range = ask.content_range();
            let head = format!("HTTP/1.1 {status} X\r\n{range}content-length: {length}\r\n\r\n");
            let byte = ask.whole()[ask.from.unwrap_or(0)];
            let _ = ask.stream.write_all(head.as_bytes()).and_then(|()| ask.stream.write_all(&[byte]));
            ask.note(1);
            // A byte ten times a second, or none, until the client hangs up.
            for at in (ask.from.unwrap_or(0) + 1)..ask.whole().len() {
                let byte = ask.whole()[at];
                std::thread::sleep(std::time::Duration::from_millis(100));
                if trickle && ask.stream.write_all(&[byte]).is_err() || !trickle && ask.hung_up() {
                    break;
                }
            }
            true
        });
        let name = registry.name("bad");
        let args = ["pull", "-q", "--plain-http", "--progress-timeout", "8", &name];
        let words = if trickle { "bytes/s" } else { "no progress" };
        place.ends(1, &args, &[&layer, "does not get on for", words, "pull again"]);
        assert_eq!(place.partials(), 1, "what came is kept");
        let tries = registry.log().iter().filter(|sent| sent.path.ends_with(&layer)).count();
        assert!(tries >= 2, "it is tried again on another connection: {:?}", registry.log());
        place.goes_on(&registry);
    }
}

#[test]
fn redirects_that_never_end_are_told() {
    let place = Place::new();
    let registry = Registry::new(image(), |ask| {
        let location = format!("location: http://{}/v2/bad/{}x\r\n", ask.server, ask.path.len());
        ask.answer(307, &location, b"")
    });
    place.refuses(&registry, &["more than 10 redirects"]);
    for (headers, words) in [
        ("", "without Location"),
        ("location: ftp://elsewhere/x\r\n", "ftp://elsewhere/x"),
        ("location: http://user:secret@127.0.0.1/x\r\n", "cannot follow a redirect"),
    ] {
        let registry = Registry::new(image(), move |ask| ask.answer(302, headers, b""));
        place.refuses(&registry, &[words]);
    }
}

#[test]
fn credentials_stay_with_the_registry() {
    let place = Place::new();
    let image = image();
    let blob = image.blobs[&image.layer()].clone();
    let elsewhere = Faulty::start(move |_, head, stream| {
        let told = ["authorization", "bWU6"].iter().any(|word| head.contains(word));
        answer(stream, if told { 500 } else { 200 }, "", if told { b"a secret came" } else { &blob });
    });
    let other = elsewhere.addr;
    let registry = Registry::new(image, move |ask| {
        if !ask.head.contains("authorization: Basic bWU6czNjcmV0") {
            return ask.answer(401, "www-authenticate: Basic realm=\"r\"\r\n", b"");
        }
        ask.is_layer() && ask.answer(307, &format!("location: http://{other}/cdn?sig=1\r\n"), b"")
    });
    let name = registry.name("bad");
    place.site.ok(&["pull", "-q", "--plain-http", "--creds", "me:s3cret", &name]);
    assert_eq!(elsewhere.requests(), 1);
    place.is_whole(&name, "hello");
}

#[test]
fn what_is_not_http_is_told() {
    let place = Place::new();
    for garbage in [&b"SSH-2.0-OpenSSH_9.2\r\n"[..], b"\0\x01\x02\r\n\r\n", b"HTTP/1.1 99999 X\r\n\r\n"] {
        let registry = Registry::new(image(), move |ask| {
            ask.note(0);
            ask.stream.write_all(garbage).unwrap();
            true
        });
        place.refuses(&registry, &[&format!("cannot reach http://{}", registry.addr())]);
    }
    let registry = Registry::new(image(), |ask| {
        let header = format!("x: {}\r\n", "y".repeat(1 << 20));
        ask.answer(200, &header, b"{}")
    });
    place.refuses(&registry, &["cannot reach"]);
}
