//! Whatever is killed while objects come and go: what was acknowledged is there, pods that nobody touched run on, and nothing is left.
//! `SEXTANT_UP_KILLS=200 cargo test -p sextant --test up kills` for more of it; `SEXTANT_UP_SEED` repeats one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::Random;
use tokio::task::LocalSet;

use super::whole::{IMAGE, client, left, make_image};
use super::{Machine, PATIENCE, PROGRAMS, ROOM, kill};

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

#[tokio::test]
async fn kills_of_any_program_under_load_lose_nothing() {
    let kills = number("SEXTANT_UP_KILLS", 8);
    let seed = number("SEXTANT_UP_SEED", u64::from(std::process::id()));
    eprintln!("SEXTANT_UP_SEED={seed}");
    let mut random = Random::new(seed);
    let machine = Machine::new();
    make_image(&machine);
    machine.up(&["--node-name", "here"]);
    let client = client(&machine).await;
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    for name in ["stays", "busy"] {
        deployments.create(&PostParams::default(), &deployment(name)).await.unwrap();
    }
    let untouched = settled(&machine, &client, "stays", 2).await;
    settled(&machine, &client, "busy", 2).await;

    let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let local = LocalSet::new();
    let writer = local.spawn_local(write(client.clone(), stop.clone(), acknowledged.clone()));
    let roller = local.spawn_local(roll(client.clone(), stop.clone(), Random::new(seed + 1)));
    let began = Instant::now();
    let (kept, replicas) = local
        .run_until(async {
            for _ in 0..kills {
                tokio::time::sleep(Duration::from_millis(random.below(1500))).await;
                let victims: BTreeSet<&str> = (0..=random.below(2)).map(|_| victim(&mut random)).collect();
                kill_all(&machine, &victims).await;
                // Half of the next ones come before everything is up again.
                if random.below(2) == 0 {
                    up_again(&machine).await;
                    progress(&machine, &acknowledged).await;
                }
            }
            up_again(&machine).await;
            stop.store(true, Ordering::Relaxed);
            (writer.await.unwrap(), roller.await.unwrap())
        })
        .await;
    eprintln!(
        "{kills} kills in {:?}; {} objects kept, {replicas} replicas wanted",
        began.elapsed(),
        kept.len()
    );

    assert_eq!(settled(&machine, &client, "stays", 2).await, untouched, "pods that nobody touched run on");
    settled(&machine, &client, "busy", replicas).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let there = maps.list(&ListParams::default().labels("kills=kept")).await.unwrap().items;
    let there: BTreeSet<String> = there.into_iter().filter_map(|map| map.metadata.name).collect();
    let lost: Vec<_> = kept.difference(&there).collect();
    assert!(lost.is_empty(), "{lost:?}");

    let down = machine.ask(&["down"]);
    assert!(down.status.success(), "{down:?}");
    assert_eq!(left(&machine), [""; 0]);
}

fn deployment(name: &str) -> Deployment {
    let container = json!({
        "name": "web", "image": IMAGE, "imagePullPolicy": "Never", "command": ["/bin/sextant-demo-app", "serve"],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
    });
    let labels = json!({"app": name});
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [container], "terminationGracePeriodSeconds": 1}});
    let spec = json!({"replicas": 2, "selector": {"matchLabels": labels}, "template": template});
    serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap()
}

fn victim(random: &mut Random) -> &'static str {
    let all: Vec<&str> = PROGRAMS.into_iter().chain(["up"]).collect();
    all[usize::try_from(random.below(all.len() as u64)).unwrap()]
}

/// Kills those of them that run.
async fn kill_all(machine: &Machine, victims: &BTreeSet<&str>) {
    let (pids, _) = machine.status();
    for name in victims {
        if let Some(pid) = pids.get(*name) {
            kill(*pid, Signal::KILL);
        }
    }
    if victims.contains("up") {
        // As whoever keeps it running would.
        again(machine).await;
    }
}

/// Starts the supervisor again, once its predecessor has gone.
async fn again(machine: &Machine) {
    let begun = Instant::now();
    loop {
        let up =
            machine.ask(&[&["up", "-d", "--listen", &machine.listen, "--node-name", "here"], ROOM].concat());
        if up.status.success() {
            return;
        }
        let told = String::from_utf8_lossy(&up.stderr).into_owned();
        assert!(begun.elapsed() < PATIENCE, "{told}\n{}", machine.all_words());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn up_again(machine: &Machine) {
    let begun = Instant::now();
    while !machine.status().1 {
        assert!(begun.elapsed() < PATIENCE, "{:?}\n{}", machine.status(), machine.all_words());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until one more object is acknowledged.
async fn progress(machine: &Machine, acknowledged: &AtomicU64) {
    let (begun, before) = (Instant::now(), acknowledged.load(Ordering::Relaxed));
    while acknowledged.load(Ordering::Relaxed) == before {
        assert!(begun.elapsed() < PATIENCE, "nothing is acknowledged\n{}", machine.all_words());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Makes objects until it is told to stop; the names of those that were acknowledged.
async fn write(client: Client, stop: Arc<AtomicBool>, acknowledged: Arc<AtomicU64>) -> BTreeSet<String> {
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let mut kept = BTreeSet::new();
    for number in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("kept-{number}");
        let metadata = json!({"name": name, "labels": {"kills": "kept"}});
        let map: ConfigMap = serde_json::from_value(json!({"metadata": metadata})).unwrap();
        if maps.create(&PostParams::default(), &map).await.is_ok() {
            kept.insert(name);
            acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    kept
}

/// Changes how many replicas there are to be, and what they are made from, and deletes pods; how many there are to be in the end.
async fn roll(client: Client, stop: Arc<AtomicBool>, mut random: Random) -> i32 {
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let pods: Api<Pod> = Api::default_namespaced(client);
    let mut wanted = 2;
    while !stop.load(Ordering::Relaxed) {
        let replicas = 1 + i32::try_from(random.below(3)).unwrap();
        let change = match random.below(3) {
            0 => {
                json!({"spec": {"template": {"metadata": {"annotations": {"turn": random.below(1 << 32).to_string()}}}}})
            }
            1 => {
                let list = pods.list(&ListParams::default().labels("app=busy")).await;
                let first = list.ok().and_then(|list| list.items.into_iter().next()?.metadata.name);
                if let Some(name) = first {
                    let _ = pods.delete(&name, &DeleteParams::default()).await;
                }
                Value::Null
            }
            _ => json!({"spec": {"replicas": replicas}}),
        };
        if !change.is_null() {
            let is_scale = change.pointer("/spec/replicas").is_some();
            // Whether one that failed was done nobody knows: it is asked for again until it is.
            while deployments.patch("busy", &PatchParams::default(), &Patch::Merge(&change)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            if is_scale {
                wanted = replicas;
            }
        }
        tokio::time::sleep(Duration::from_millis(random.below(800))).await;
    }
    wanted
}

/// The ids of a deployment's containers, once so many of its pods are ready, made from its last template, and no others are there.
async fn settled(machine: &Machine, client: &Client, name: &str, count: i32) -> BTreeSet<String> {
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let wanted = usize::try_from(count).unwrap();
    let begun = Instant::now();
    loop {
        let mut seen = Vec::new();
        if let (Ok(deployment), Ok(list)) = (
            deployments.get(name).await,
            pods.list(&ListParams::default().labels(&format!("app={name}"))).await,
        ) {
            let status = deployment.status.unwrap_or_default();
            let is_done = status.observed_generation == deployment.metadata.generation
                && [status.replicas, status.updated_replicas, status.available_replicas] == [Some(count); 3];
            let containers =
                list.items.iter().flat_map(|pod| pod.status.iter().flat_map(|s| &s.container_statuses));
            let ids = containers.flatten().filter(|one| one.ready).filter_map(|one| one.container_id.clone());
            let ids: BTreeSet<String> = ids.collect();
            if is_done && list.items.len() == wanted && ids.len() == wanted {
                return ids;
            }
            seen = list.items;
        }
        assert!(begun.elapsed() < PATIENCE, "{name}: not {count}: {}\n{}", json!(seen), machine.all_words());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
