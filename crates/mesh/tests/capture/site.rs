//! A pod and a place where backends are, with a link between them, and the node's proxy in the test's own network.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use kernel::netlink::Route;
use mesh::capture::{Capture, Names, keep, set};
use mesh::node::{Node, Pod};
use mesh::proxy::{Network, Settings};
use rustix::net::getsockname;
use smi::contract::Name;
use testkit::netns::{Netns, addresses, change, index, join};
use testkit::whoami::serve;

use crate::cluster::{V1, V2};

/// What does not happen within this time does not happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

pub(crate) fn names() -> Names {
    Names::of("test")
}

pub(crate) struct Site {
    pub(crate) pod: Netns,
    pub(crate) far: Netns,
    pub(crate) node: Node,
    /// Who has left and has no connection any more.
    pub(crate) over: Receiver<Network>,
}

/// A pod that is captured.
pub(crate) struct Captured {
    pub(crate) network: Network,
    pub(crate) capture: Capture,
    /// Where it is led to.
    pub(crate) listeners: Vec<SocketAddr>,
}

impl Site {
    pub(crate) fn new() -> Self {
        let (pod, far) = (Netns::new(), Netns::new());
        pod.run(|| {
            join("eth0", &far, ("eth0", None), &["10.55.0.3/24", "10.55.0.4/24", "10.55.0.5/24"]);
            addresses("eth0", &["10.55.0.2/24"]);
            route_to_services();
        });
        for (who, at) in [("v1", V1), ("v2", V2)] {
            let listener = far.run(|| TcpListener::bind(at).unwrap());
            serve(who, listener);
        }
        let (tell, over) = channel();
        let settings = Settings { seed: 1, ..Settings::default() };
        let node = Node::start(settings, move |network| {
            // Nobody waits for it at the end.
            let _gone = tell.send(network);
        })
        .unwrap();
        Self { pod, far, node, over }
    }

    pub(crate) fn capture(&self, number: u64) -> Captured {
        self.capture_in(&self.pod, number)
    }

    pub(crate) fn capture_in(&self, pod: &Netns, number: u64) -> Captured {
        let network = Network(number);
        set(pod, &keep(pod, &names()).unwrap()).unwrap();
        let (capture, listening) = Capture::begin(pod, &names(), None).unwrap();
        let at = |listener: &OwnedFd| SocketAddr::try_from(getsockname(listener).unwrap()).unwrap();
        let listeners = listening.outbound.iter().map(at).collect();
        let netns = pod.as_fd().try_clone_to_owned().unwrap();
        let name = Name::new("shop", format!("pod-{number}"));
        self.node.enter(Pod { network, name, netns, listeners: listening }).unwrap();
        Captured { network, capture, listeners }
    }

    /// Somebody answers at the Service's address itself, as long as what this gives is there.
    pub(crate) fn far_has_the_service(&self) -> TcpListener {
        let listener = self.far.run(|| {
            addresses("lo", &["10.96.0.1/32"]);
            TcpListener::bind("10.96.0.1:80").unwrap()
        });
        serve("direct", listener.try_clone().unwrap());
        listener
    }
}

/// Where Services are, as a pod's default route says.
pub(crate) fn route_to_services() {
    let route = Route { link: Some(index("eth0")), ..Route::to("10.96.0.0/16".parse().unwrap()) };
    change(|batch| batch.add_route(&route));
}

/// Waits until it is so.
pub(crate) fn until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
