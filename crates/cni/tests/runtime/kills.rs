//! Killed at any moment of ADD and of DEL. What a runtime does then is DEL, and nothing is left.

use std::time::{Duration, Instant};

use crate::chain::{Chain, Container, Ended, assert_same};
use crate::rig::{Netns, on_a_host};

/// How often a chain is killed, half of it in ADD; `SEXTANT_CNI_KILLS` says otherwise.
fn kills() -> u32 {
    std::env::var("SEXTANT_CNI_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(60)
}

/// The shortest that `act` took: what other work on this machine makes longer would lead behind the end.
fn shortest(mut act: impl FnMut() -> Duration) -> Duration {
    (0..3).map(|_| act()).min().unwrap()
}

/// Spread evenly over the time, in no order that could beat with it.
fn moments(whole: Duration) -> impl Iterator<Item = Duration> {
    (1..=kills() / 2).map(move |round| whole.mul_f64((f64::from(round) * 0.618_033_988_75).fract()))
}

#[test]
fn a_killed_add_leaves_nothing_behind_del() {
    on_a_host(|host| {
        let chain = Chain::new(host.dir.path());
        let whole = shortest(|| {
            let netns = Netns::new();
            let container = Container::new("warm", &netns, 8080);
            let began = Instant::now();
            let result = chain.add(&container).unwrap();
            let took = began.elapsed();
            chain.del(&container, Some(&result)).unwrap();
            took
        });
        let before = chain.look();
        let mut killed = 0;
        for (round, moment) in moments(whole).enumerate() {
            let netns = Netns::new();
            let container = Container::new(format!("c{round}"), &netns, 8080);
            let outcome = chain.killed_add(&container, moment);
            killed += u32::from(matches!(outcome, Ended::Killed));
            // Some runtimes remove the namespace first. None of them has a result.
            let _kept = (round % 2 == 0).then_some(netns);
            chain.del(&container, None).unwrap();
            let when = format!("ADD killed after {moment:?} of {whole:?}, round {round}");
            assert_same(&before, &chain.look(), when);
        }
        // How many depends on what else the machine does; some must be, or this shows nothing.
        assert!(killed > kills() / 10, "only {killed} were killed before their end");
    });
}

#[test]
fn a_killed_del_leaves_nothing_behind_the_next() {
    on_a_host(|host| {
        let chain = Chain::new(host.dir.path());
        let whole = shortest(|| {
            let netns = Netns::new();
            let container = Container::new("warm", &netns, 8080);
            let result = chain.add(&container).unwrap();
            let began = Instant::now();
            chain.del(&container, Some(&result)).unwrap();
            began.elapsed()
        });
        let before = chain.look();
        let mut killed = 0;
        for (round, moment) in moments(whole).enumerate() {
            let netns = Netns::new();
            let container = Container::new(format!("c{round}"), &netns, 8080);
            let result = chain.add(&container).unwrap();
            killed += u32::from(matches!(chain.killed_del(&container, &result, moment), Ended::Killed));
            let _kept = (round % 2 == 0).then_some(netns);
            chain.del(&container, (round % 3 != 0).then_some(&result)).unwrap();
            let when = format!("DEL killed after {moment:?} of {whole:?}, round {round}");
            assert_same(&before, &chain.look(), when);
        }
        // How many depends on what else the machine does; some must be, or this shows nothing.
        assert!(killed > kills() / 10, "only {killed} were killed before their end");
    });
}
