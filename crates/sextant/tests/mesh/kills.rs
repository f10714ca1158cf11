//! The proxy is killed at any moment, while pods ask all the time. `SEXTANT_MESH_KILLS=50 cargo test -p sextant --test mesh kills` for more of it, and
//! `SEXTANT_SEED=0x…` for the same again.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use testkit::Random;
use testkit::netns::Netns;
use testkit::whoami::{ask, connect, status};

use crate::objects::{self, WEB};
use crate::rig::PATIENCE;
use crate::{Pods, cluster, until};

/// Between two requests of one who asks over new connections: ports are not used up.
const PAUSE: Duration = Duration::from_millis(10);

/// Somebody who asks until he is told to stop.
struct Load {
    is_over: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Load {
    /// In a pod, with what `make` makes there, which says whether it was answered.
    fn start<A: FnMut() -> bool>(pod: &Netns, make: impl FnOnce() -> A + Send + 'static) -> Self {
        let (is_over, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (stop, count) = (is_over.clone(), answered.clone());
        // A thread has the network of who starts it.
        let thread = pod.run(move || {
            std::thread::spawn(move || {
                let mut ask = make();
                while !stop.load(Ordering::Relaxed) {
                    count.fetch_add(usize::from(ask()), Ordering::Relaxed);
                }
            })
        });
        Self { is_over, answered, thread }
    }

    fn answered(&self) -> usize {
        assert!(!self.thread.is_finished(), "a request has failed that must not");
        self.answered.load(Ordering::Relaxed)
    }

    fn end(self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

/// A kill may cut the connection, and nothing else may happen to it.
fn over_new_ones() -> bool {
    std::thread::sleep(PAUSE);
    let Ok(mut stream) = TcpStream::connect((WEB, 80)) else { return false };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let status = status(&mut stream);
    assert!(matches!(status, None | Some(200)), "{status:?}");
    status.is_some()
}

/// Of a pod outside the mesh: all of them are answered.
fn over_new_ones_outside() -> bool {
    std::thread::sleep(PAUSE);
    assert_eq!(ask(&mut connect((WEB, 80))).who, "direct");
    true
}

#[tokio::test]
async fn killed_under_load_it_serves_again_and_others_are_never_touched() {
    let kills: u32 = std::env::var("SEXTANT_MESH_KILLS").map_or(8, |text| text.parse().expect("a number"));
    let seed = std::env::var("SEXTANT_SEED")
        .map(|text| u64::from_str_radix(text.trim_start_matches("0x"), 16).expect("a seed"));
    let seed = seed.unwrap_or_else(|_| Random::fresh().1);
    println!("seed {seed:#x}");
    let mut random = Random::new(seed);
    let (mut rig, runtime) = cluster([0, 1]).await;
    let pods = Pods::new(2);
    objects::pod(&rig, "member", true).await;
    objects::pod(&rig, "outside", false).await;
    runtime.add("s0", "member", &pods.pin(0, &rig));
    runtime.add("s1", "outside", &pods.pin(1, &rig));
    rig.words_have("mesh", "serves pod default/member").await;
    let [member, outside] = [&pods.pods[0], &pods.pods[1]];
    let inside: Vec<Load> = (0..2).map(|_| Load::start(member, || over_new_ones)).collect();
    let beside = [
        Load::start(outside, || over_new_ones_outside),
        // One connection, from the first to the last.
        Load::start(outside, || {
            let mut open = connect((WEB, 80));
            move || {
                std::thread::sleep(PAUSE);
                assert_eq!(ask(&mut open).who, "direct");
                true
            }
        }),
    ];
    for round in 0..kills {
        until(&rig, "the pod is served", || pods.asks(0) == "v2").await;
        tokio::time::sleep(random.duration(Duration::from_millis(300))).await;
        rig.kill("mesh");
        // Without it the pod goes its own way from the first connection on.
        assert_eq!(pods.asks(0), "direct", "round {round}");
        rig.again("mesh");
        // And at some moment of its start.
        if random.below(2) == 0 {
            tokio::time::sleep(random.duration(Duration::from_millis(1500))).await;
            rig.kill("mesh");
            assert_eq!(pods.asks(0), "direct", "round {round}, at the start");
            rig.again("mesh");
        }
        assert_eq!(pods.tables(1), Vec::<String>::new());
        let before: Vec<usize> = inside.iter().chain(&beside).map(Load::answered).collect();
        let go_on = || {
            let mut now = inside.iter().chain(&beside).map(Load::answered).zip(&before);
            now.all(|(now, before)| now > *before)
        };
        until(&rig, "all are answered", go_on).await;
    }
    until(&rig, "the pod is served", || pods.asks(0) == "v2").await;
    inside.into_iter().chain(beside).for_each(Load::end);
    assert_eq!(rig.end("mesh"), Some(0), "{}", rig.words("mesh"));
    assert_eq!((pods.tables(0), pods.tables(1)), (vec![], vec![]));
}
