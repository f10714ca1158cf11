//! What waits for copies, and for how long.

use super::*;
use crate::h2::Field;
use crate::proxy::Settings;
use crate::reactor::Reactor;

fn proxy(reactor: &Reactor) -> Rc<Proxy> {
    let behind = Duration::from_millis(20);
    let settings =
        Settings { mirror_queue: 10, mirror_queues: 15, mirror_behind: behind, ..Settings::default() };
    Proxy::new(reactor, settings)
}

/// Takes what waits.
fn take(feed: &Feed) -> Result<(Vec<u8>, bool), Unmirrored> {
    feed.look(|bytes, whole, _| (bytes.len(), (bytes.to_vec(), whole)))
}

#[test]
fn no_more_waits_than_may() {
    let reactor = Reactor::new().unwrap();
    let proxy = proxy(&reactor);
    let begin = |first: &[u8]| {
        let (feed, mut copies) = (Feed::new(&proxy, first, false), Copies::default());
        copies.add(&feed);
        (feed, copies)
    };
    let waiting = || proxy.mirrors.waiting.get();
    let (feed, copies) = begin(b"head");
    copies.push(b"a body");
    assert_eq!((waiting(), copies.are_wanted()), (10, true));
    assert_eq!(take(&feed), Ok((b"heada body".to_vec(), false)));
    assert_eq!(waiting(), 0);
    copies.push(b"0123456789");
    // All together have less room than each of them.
    let (other, others) = begin(b"head");
    others.push(b"xy");
    assert_eq!((waiting(), take(&other)), (10, Err(Unmirrored::Slow)));
    assert!(!others.are_wanted());
    copies.push(b"0");
    assert_eq!((waiting(), take(&feed)), (0, Err(Unmirrored::Slow)));
    // What is given up stays so.
    copies.end(None);
    assert_eq!((copies.are_wanted(), take(&feed)), (false, Err(Unmirrored::Slow)));
    let (feed, copies) = begin(b"head");
    copies.end(None);
    copies.push(b"more");
    drop(copies);
    assert_eq!((waiting(), take(&feed)), (4, Ok((b"head".to_vec(), true))));
    // What nobody takes any more does not wait.
    let (feed, copies) = begin(b"head");
    feed.close();
    copies.push(b"more");
    assert_eq!((waiting(), take(&feed)), (0, Ok((Vec::new(), true))));
    let (feed, copies) = begin(b"head");
    drop(copies);
    assert_eq!(take(&feed), Err(Unmirrored::Unfinished));
    let (feed, copies) = begin(b"head");
    assert_eq!(waiting(), 4);
    drop((feed, copies));
    assert_eq!(waiting(), 0);
}

#[test]
fn heads_and_trailers_wait_too() {
    let reactor = Reactor::new().unwrap();
    let proxy = proxy(&reactor);
    let begin = || {
        let (feed, mut copies) = (Feed::new(&proxy, b"", false), Copies::default());
        copies.add(&feed);
        feed.keep_beside(7);
        (feed, copies)
    };
    let waiting = || proxy.mirrors.waiting.get();
    let mut trailers = Fields::default();
    trailers.push(Field::new("x-sum", "7"));
    let (feed, copies) = begin();
    copies.push(b"body");
    assert_eq!(waiting(), 11);
    assert_eq!((take(&feed), waiting()), (Ok((b"body".to_vec(), false)), 7));
    copies.end(Some(&trailers));
    assert_eq!((take(&feed), waiting()), (Err(Unmirrored::Slow), 0), "there is no room for them");
    let (feed, copies) = begin();
    copies.end(None);
    assert_eq!((take(&feed), waiting()), (Ok((Vec::new(), true)), 7));
    feed.close();
    assert_eq!(waiting(), 0);
    let (feed, copies) = begin();
    assert_eq!(waiting(), 7);
    drop((feed, copies));
    assert_eq!(waiting(), 0);
    // Where there is room they count as long as they are kept.
    let room = Proxy::new(&reactor, Settings::default());
    let (feed, mut copies) = (Feed::new(&room, b"", false), Copies::default());
    copies.add(&feed);
    copies.end(Some(&trailers));
    assert_eq!(room.mirrors.waiting.get(), trailers.size());
    drop((feed, copies));
    assert_eq!(room.mirrors.waiting.get(), 0);
}

#[test]
fn a_drained_proxy_has_little_time_for_copies() {
    let reactor = Reactor::new().unwrap();
    let settings = Settings { mirror_behind: Duration::from_secs(3600), ..Settings::default() };
    let proxy = Proxy::new(&reactor, settings);
    let turning = reactor.clone();
    let ended = reactor.run(async move {
        let (feed, mut copies) = (Feed::new(&proxy, b"head", true), Copies::default());
        copies.add(&feed);
        drop(copies);
        proxy.drain();
        let limit = turning.now() + Duration::from_secs(180);
        turning.before(Some(limit), feed.ended(None)).await.ok()
    });
    assert_eq!(ended.unwrap(), Some(Unmirrored::Late));
}

#[test]
fn a_copy_ends_some_time_after_its_request() {
    let reactor = Reactor::new().unwrap();
    let proxy = proxy(&reactor);
    let turning = reactor.clone();
    let ended = reactor.run(async move {
        // While the request goes on it may take as long as that, if its route says nothing.
        let (feed, mut copies) = (Feed::new(&proxy, b"head", true), Copies::default());
        copies.add(&feed);
        let begun = turning.now();
        let limit = Some(begun + 10 * proxy.settings.mirror_behind);
        let rested = turning.before(limit, feed.ended(None)).await;
        assert!(rested.is_err(), "{rested:?}");
        drop(copies);
        let over = turning.now();
        assert_eq!(feed.ended(None).await, Unmirrored::Late);
        assert!(turning.now() >= over + proxy.settings.mirror_behind);
        let feed = Feed::new(&proxy, b"head", true);
        feed.ended(Some(turning.now())).await
    });
    assert_eq!(ended.unwrap(), Unmirrored::Late);
}
