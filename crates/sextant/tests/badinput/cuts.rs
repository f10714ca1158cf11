//! Connections that are cut: what came is never fetched again.

use std::net::TcpListener;

use crate::image::{Image, files, noise};
use crate::place::Place;
use crate::registry::{Ask, Registry, Sent};

fn image() -> Image {
    Image::new(&[files(&[("etc/greeting", b"hello"), ("f", &noise(400_000, 5))])])
}

/// The answers to requests for the layer.
fn of_layer(registry: &Registry) -> Vec<Sent> {
    let layer = image().layer().to_string();
    registry.log().into_iter().filter(|sent| sent.path.ends_with(&layer)).collect()
}

#[track_caller]
fn pulls(place: &Place, registry: &Registry) {
    let name = registry.name("bad");
    let ended = place.site.run(&["pull", "-q", "--plain-http", &name]);
    assert_eq!(ended.code, 0, "{ended:?} {:?}", registry.log());
    place.is_whole(&name, "hello");
    place.site.ok(&["rmi", &name]);
    place.goes_on(registry);
}

/// Each request began where the one before had ended, and together they are the blob.
#[track_caller]
fn each_byte_once(sent: &[Sent]) {
    let mut at = 0;
    for one in sent {
        assert_eq!(one.from.unwrap_or(0), at, "{sent:?}");
        at += one.bytes;
    }
    let image = image();
    assert_eq!(at, image.blobs[&image.layer()].len(), "{sent:?}");
}

#[test]
fn a_cut_layer_goes_on_where_it_was_cut() {
    let place = Place::new();
    let registry = Registry::new(image(), |ask: &mut Ask<'_>| ask.is_layer() && ask.blob(90_000));
    pulls(&place, &registry);
    let sent = of_layer(&registry);
    assert!(sent.len() >= 4, "{sent:?}");
    each_byte_once(&sent);
}

#[test]
fn a_registry_that_is_killed_half_way_is_gone_on_with_by_the_next_pull() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let stop = std::sync::Arc::new(std::sync::OnceLock::<()>::new());
    let dead = stop.clone();
    // It sends half of the layer; from then on every connection ends without a word, until it is gone.
    let killed = Registry::on(listener, image(), move |ask| {
        if dead.get().is_some() {
            return true;
        }
        ask.is_layer() && {
            let _ = dead.set(());
            ask.blob(150_000)
        }
    });
    let name = killed.name("bad");
    let pull = place.site.command(&["pull", "-q", "--plain-http", &name]);
    let pull = std::thread::spawn(move || {
        let mut pull = pull;
        pull.output().unwrap()
    });
    stop.wait();
    killed.stop();
    let ended = crate::site::ended(pull.join().unwrap());
    assert_eq!(ended.code, 1, "{ended:?}");
    let layer = image().layer().to_string();
    assert!(ended.err.contains(&format!("cannot download {layer}")), "{ended:?}");
    place.nothing_is_left();
    assert_eq!(place.partials(), 1);

    let restarted = Registry::on(TcpListener::bind(addr).unwrap(), image(), |_| false);
    place.site.ok(&["pull", "-q", "--plain-http", &name]);
    place.is_whole(&name, "hello");
    let again = of_layer(&restarted);
    assert_eq!(again.len(), 1, "{again:?}");
    each_byte_once(&[of_layer(&killed)[..1].to_vec(), again].concat());
    place.site.ok(&["rmi", &name]);
    place.goes_on(&restarted);
}

#[test]
fn a_registry_that_ignores_ranges_is_read_from_the_start() {
    let place = Place::new();
    let registry = Registry::new(image(), |ask: &mut Ask<'_>| {
        ask.is_layer() && {
            let cut = if ask.from.is_none() { 150_000 } else { usize::MAX };
            ask.from = None;
            ask.blob(cut)
        }
    });
    pulls(&place, &registry);
    let sent = of_layer(&registry);
    let image = image();
    assert_eq!((sent.len(), sent[1].bytes), (2, image.blobs[&image.layer()].len()), "{sent:?}");
}

#[test]
fn a_range_that_was_not_asked_for_is_refused() {
    let place = Place::new();
    let registry = Registry::new(image(), |ask: &mut Ask<'_>| {
        ask.is_layer() && {
            if ask.from.is_some() {
                ask.from = Some(7);
            }
            ask.blob(150_000)
        }
    });
    let layer = image().layer().to_string();
    place.ends(1, &["pull", "-q", "--plain-http", &registry.name("bad")], &[&layer, "Content-Range"]);
    assert_eq!(place.partials(), 1);
    place.goes_on(&registry);
}

#[test]
fn a_partial_download_that_is_wrong_is_fetched_again() {
    let place = Place::new();
    let registry = Registry::of(image());
    let layer = image().layer();
    place.goes_on(&registry);
    let partial = format!("data/images/ingest/blobs/sha256-{}.partial", layer.hex());
    std::fs::write(place.site.path(&partial), noise(100_000, 6)).unwrap();
    pulls(&place, &registry);
    let from: Vec<_> = of_layer(&registry).iter().map(|sent| sent.from).collect();
    assert_eq!(from, [Some(100_000), None]);
}
