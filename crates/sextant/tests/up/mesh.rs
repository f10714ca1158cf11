//! `sextant up --mesh`: pods go by a split and by who may ask whom, a mesh that is killed serves again, and nothing is left of it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use kernel::namespace::in_netns;
use kernel::netlink::{Protocol, Socket};
use kernel::nft::{Family, tables};
use rustix::process::Signal;
use serde_json::Value;

use super::whole::left;
use super::{Machine, gone, kill};

/// What `sextant demo` applies, too.
const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/mesh");
/// Longer than anything takes that will happen at all, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(180);
/// So many requests are looked at.
const MANY: u64 = 300;

/// A machine with a mesh, the examples, and a Service outside the mesh with one who asks it.
fn meshed() -> Machine {
    let machine = Machine::new();
    machine.says(&["demo", "--image"]);
    machine.up(&["--mesh", "--node-name", "here"]);
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: plain}\n\
         spec: {selector: {app: plain}, ports: [{port: 80, targetPort: 8080}]}\n";
    let outside = [service.to_owned(), outside("plain", "serve, plain"), outside("outsider", "load, plain")];
    let outside = machine.file("outside.yaml", &outside.join("---\n"));
    machine.says(&["apply", "-f", EXAMPLES, "-f", &outside, "--wait", "--timeout", "180s"]);
    machine
}

/// A deployment in a namespace that is not of the mesh.
fn outside(name: &str, args: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    \
         metadata: {{labels: {{app: {name}}}}}\n    spec:\n      terminationGracePeriodSeconds: 1\n      containers:\n      - name: main\n        \
         image: registry.sextant.example/shop:1\n        imagePullPolicy: Never\n        args: [{args}]\n        \
         readinessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}\n"
    )
}

/// What came of requests.
#[derive(Debug, Default)]
struct Tally {
    answers: BTreeMap<String, u64>,
    failed: u64,
    why: String,
}

impl Tally {
    fn of(&self, answer: &str) -> u64 {
        self.answers.get(answer).copied().unwrap_or_default()
    }

    fn total(&self) -> u64 {
        self.answers.values().sum::<u64>() + self.failed
    }

    /// How many of a hundred were answered by the new version.
    fn share(&self) -> u64 {
        self.of("v2") * 100 / self.total().max(1)
    }

    fn add(&mut self, later: Self) {
        for (answer, count) in later.answers {
            *self.answers.entry(answer).or_default() += count;
        }
        self.failed += later.failed;
        if later.failed > 0 {
            self.why = later.why;
        }
    }
}

/// A tenth, of so many as are looked at.
fn is_split(tally: &Tally) -> bool {
    (2..=25).contains(&tally.share())
}

fn is_new(tally: &Tally) -> bool {
    tally.share() == 100
}

/// A pod that asks again and again.
struct Caller<'m> {
    machine: &'m Machine,
    address: SocketAddr,
}

impl<'m> Caller<'m> {
    /// The pod of a deployment.
    fn find(machine: &'m Machine, namespace: &str, app: &str) -> Self {
        let label = format!("app={app}");
        let pods = machine.says(&["get", "pods", "-n", namespace, "-l", &label, "-o", "json"]);
        let pods: Value = serde_json::from_str(&pods).unwrap();
        let address = pods["items"][0]["status"]["podIP"].as_str();
        let address = address.unwrap_or_else(|| panic!("{app} has no address: {pods:#}")).parse().unwrap();
        Self { machine, address: SocketAddr::new(address, 8080) }
    }

    /// A connection to a pod ends where that is taken into the mesh: it is asked again.
    fn ask(&self, path: &str) -> String {
        let ask = || -> std::io::Result<String> {
            let mut server = TcpStream::connect_timeout(&self.address, Duration::from_secs(30))?;
            server.set_read_timeout(Some(Duration::from_secs(30)))?;
            let head = "host: load\r\nconnection: close\r\ncontent-length: 0";
            server.write_all(format!("POST {path} HTTP/1.1\r\n{head}\r\n\r\n").as_bytes())?;
            let mut answer = String::new();
            server.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let begun = Instant::now();
        loop {
            match ask() {
                Ok(answer) if answer.starts_with("HTTP/1.1 200 ") => {
                    return answer.split_once("\r\n\r\n").unwrap().1.to_owned();
                }
                other => {
                    assert!(begun.elapsed() < PATIENCE, "{path}: {other:?}\n{}", self.machine.all_words())
                }
            }
            sleep(Duration::from_millis(50));
        }
    }

    /// What came of its requests since this was asked the last time.
    fn take(&self) -> Tally {
        let told: Value = serde_json::from_str(&self.ask("/take")).unwrap();
        let answers = told["answers"].as_object().unwrap().iter();
        Tally {
            answers: answers.map(|(answer, count)| (answer.clone(), count.as_u64().unwrap())).collect(),
            failed: told["failed"].as_u64().unwrap(),
            why: told["why"].as_str().unwrap().to_owned(),
        }
    }

    /// Counts those alone that begin from now on.
    fn forget(&self) {
        self.ask("/forget");
    }

    /// Waits until many in a row went well, and as they should.
    fn until(&self, what: &str, holds: impl Fn(&Tally) -> bool) {
        let begun = Instant::now();
        let mut all = Tally::default();
        self.forget();
        loop {
            all.add(self.take());
            if all.failed == 0 && all.total() >= MANY && holds(&all) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "not yet: {what}: {all:?}\n{}", self.machine.all_words());
            if all.failed > 0 || all.total() >= MANY {
                all = Tally::default();
                self.forget();
            }
            sleep(Duration::from_millis(50));
        }
    }
}

/// Waits until one whom nobody has allowed to ask is told so.
fn is_denied(machine: &Machine) {
    let words =
        ["exec", "-n", "canary", "deploy/stranger", "--", "/bin/sextant-demo-app", "get", "web/version"];
    let begun = Instant::now();
    loop {
        let asked = machine.ask(&words);
        if !asked.status.success() && String::from_utf8_lossy(&asked.stderr).contains(" 403 ") {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{asked:?}\n{}", machine.all_words());
        sleep(Duration::from_millis(50));
    }
}

/// The mesh's tables in network namespaces of pods.
fn tables_in_pods(machine: &Machine) -> Vec<String> {
    let pods = fs::read_dir(machine.folder.path().join("run/netns")).into_iter().flatten().flatten();
    let of = |pod: File| {
        let found = in_netns(&pod, || tables(&mut Socket::open(Protocol::Netfilter)?, Family::Inet));
        // One that has ended meanwhile is none.
        found.unwrap_or_default()
    };
    let all = pods.filter_map(|pod| File::open(pod.path()).ok()).flat_map(of);
    all.filter(|name| name.contains("-mesh")).collect()
}

/// Kills the mesh when nobody is there any more who would start it again.
fn kill_for_good(machine: &Machine) {
    let pids = machine.wait(|pids| pids.contains_key("mesh"));
    for name in ["up", "mesh"] {
        kill(pids[name], Signal::KILL);
        gone(pids[name]);
    }
}

#[test]
fn a_split_is_kept_and_a_killed_mesh_serves_again_while_others_go_on() {
    let machine = meshed();
    let pids = machine.wait(|_| true);
    assert_eq!(pids.len(), 7, "{pids:?}");
    let customer = Caller::find(&machine, "canary", "customer");
    let outsider = Caller::find(&machine, "default", "outsider");
    customer.until("a tenth goes to the new version", is_split);
    outsider.until("who is outside is served", |tally| tally.of("plain") == tally.total());
    outsider.forget();
    is_denied(&machine);

    // All go to the new version while the customer goes on, and none fails.
    let split = fs::read_to_string(format!("{EXAMPLES}/split.yaml")).unwrap();
    let split = split.replace("weight: 90}", "weight: 0}").replace("weight: 10}", "weight: 100}");
    let split = machine.file("split.yaml", &split);
    let begun = Instant::now();
    machine.says(&["apply", "-f", &split]);
    loop {
        sleep(Duration::from_millis(200));
        let taken = customer.take();
        assert_eq!(taken.failed, 0, "{taken:?}\n{}", machine.all_words());
        if taken.total() > 10 && is_new(&taken) {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{taken:?}\n{}", machine.all_words());
    }

    // The Service alone would ask the old version, too.
    kill(pids["mesh"], Signal::KILL);
    let after = machine.wait(|now| now["mesh"] != pids["mesh"]);
    assert!(
        machine.words().contains("mesh     was killed by signal 9, and starts again"),
        "{}",
        machine.words()
    );
    customer.until("the next mesh serves", is_new);
    is_denied(&machine);
    let taken = outsider.take();
    assert!(taken.failed == 0 && taken.total() > 0, "{taken:?}");
    assert!(pids.iter().all(|(name, pid)| name == "mesh" || after[name] == *pid), "{pids:?} {after:?}");

    assert!(!tables_in_pods(&machine).is_empty());
    machine.says(&["down"]);
    assert_eq!(tables_in_pods(&machine), [""; 0]);
    assert_eq!(left(&machine), [""; 0]);
}

#[test]
fn what_a_killed_mesh_has_left_goes_with_down_and_with_an_up_without_one() {
    let machine = meshed();
    let customer = Caller::find(&machine, "canary", "customer");
    customer.until("a tenth goes to the new version", is_split);
    kill_for_good(&machine);
    // Pods that not everybody may come to are closed meanwhile, and other commands leave them so.
    machine.says(&["images"]);
    assert!(!tables_in_pods(&machine).is_empty());
    machine.up(&["--node-name", "here"]);
    let pids = machine.wait(|_| true);
    assert!(pids.len() == 6 && !pids.contains_key("mesh"), "{pids:?}");
    assert_eq!(tables_in_pods(&machine), [""; 0]);
    customer.until("each version is asked by the Service alone", |tally| (30..=70).contains(&tally.share()));
    // Nor is anybody asked for traffic who is gone: a namespace would stay.
    let brief = "apiVersion: v1\nkind: Namespace\nmetadata: {name: brief}\n";
    machine.says(&["apply", "-f", &machine.file("brief.yaml", brief)]);
    machine.says(&["delete", "namespace", "brief", "--timeout", "180s"]);
    let refused = machine.refuses(&["get", "apiservice", "v1alpha1.metrics.smi-spec.io"]);
    assert!(refused.contains("not found"), "{refused}");

    machine.says(&["down", "--keep-pods"]);
    machine.up(&["--mesh", "--node-name", "here"]);
    customer.until("a tenth goes to the new version again", is_split);
    kill_for_good(&machine);
    assert!(!tables_in_pods(&machine).is_empty());
    machine.says(&["down", "--keep-pods"]);
    assert_eq!(tables_in_pods(&machine), [""; 0]);
    assert!(fs::read_dir(machine.folder.path().join("run/netns")).unwrap().count() > 0, "pods run on");
    machine.says(&["down"]);
    assert_eq!(left(&machine), [""; 0]);
}

#[test]
fn a_mesh_wants_its_control_plane() {
    let machine = Machine::new();
    let refused = machine.refuses(&["up", "-d", "--mesh", "--without", "control"]);
    assert!(refused.contains("cannot start a mesh without control"), "{refused}");
    assert!(machine.status().0.is_empty());
}
