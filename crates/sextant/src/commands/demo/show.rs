//! What the demo does, in order.

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use cri::contract::v1::ExecSyncRequest;
use oci_image::registry::server::{Config, Server as Registry};
use oci_image::store::Store;
use serde_json::json;

use super::place::Place;
use super::{Story, app, examples, image, mesh};
use crate::cli::{Cli, CriArgs};
use crate::commands::volumes::{self, Made, Volumes};
use crate::commands::{self, images, up};
use crate::failure::{Context, Failure, Result};
use crate::objects::apply::{Applied, Wishes, apply};
use crate::objects::{Call, Server, condition, documents, list, ready, text};
use crate::output::bytes;
use crate::pods::Runtime;

/// How long the shop may take to open, on a machine that does much else.
pub(super) const PATIENCE: Duration = Duration::from_secs(180);

/// How fields are changed (RFC 7386).
pub(super) const MERGE: &str = "application/merge-patch+json";

/// What people type at a shell to see the same.
const COMMANDS: [&[&str]; 4] = [
    &["get", "pods,services,statefulsets,jobs", "-n", "shop"],
    &["logs", "job/orders", "--namespace", "shop"],
    &["exec", "deploy/web", "-n", "shop", "--", app::PATH, "get", "api:8080/orders"],
    &["explain", "database-0", "-n", "shop"],
];

pub(super) fn tell(story: &mut Story, place: &Place) -> Result<()> {
    let dir = place.registry_dir();
    let registry = story.step("OCI", "registry started on loopback (distribution-spec 1.1)", || {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        Ok(Registry::start(Config { dir, listen, user: None })?)
    })?;
    send_image(story, place, registry.addr())?;
    place.configure(registry.addr())?;
    let what = "up: node, api, services, control, mesh, agent; the node is ready";
    let server = story.step("API", what, || start(place))?;
    let applied = open(story, place, &server)?;
    pulled(story, &server)?;
    talk(story, place, &server)?;
    reach(story, place, &server)?;
    for words in COMMANDS {
        type_in(story, place, words)?;
    }
    keep(story, place)?;
    let meshed = mesh::tell(story, place, &server)?;
    type_in(story, place, &["mesh", "routes", "canary/web"])?;
    let what = format!("{} objects deleted, and their pods ended", applied.len() + meshed.len());
    story.step("API", what, || close(&server))
}

/// Makes the image, pushes it, and forgets it.
fn send_image(story: &mut Story, place: &Place, registry: SocketAddr) -> Result<()> {
    let store = Store::open(place.images_dir())?;
    let name = format!("{registry}/shop:1");
    let begun = Instant::now();
    let size = image::make(&store, &name)?;
    story.note("OCI", format!("image made of this program ({})", bytes(size)), begun.elapsed());
    story
        .step("OCI", "image pushed over HTTP", || images::send(&store, &name, false, None, true).map(drop))?;
    story.step("OCI", "image removed here", || {
        store.remove(&store.find(&name)?)?;
        Ok(store.collect(&|_| false, Duration::ZERO)?)
    })?;
    Ok(())
}

/// Starts everything, and waits for the node.
fn start(place: &Place) -> Result<Server> {
    let files = [
        ("--node-config", place.node_config()),
        // Load balancers get addresses of their own, for which the machine answers.
        ("--cloud-config", place.cloud_config()?),
    ];
    let files = files.into_iter().flat_map(|(option, file)| [option.into(), OsString::from(file)]);
    // It is gone in a minute, and says so where there is no room: however full the disk is, it is shown.
    let fixed =
        ["--mesh", "--node-name", "demo", "--eviction-hard", "memory.available<100Mi"].map(OsString::from);
    let words: Vec<OsString> = fixed.into_iter().chain(files).collect();
    let told = up::beside(&place.data, &place.run, &words).context(|| "start this program".into())?;
    if !told.status.success() {
        return Err(Failure::new(format!("cannot start: {}", String::from_utf8_lossy(&told.stderr).trim())));
    }
    let server = Server::own(&place.data).ok_or_else(|| Failure::new("cannot read the demo's kubeconfig"))?;
    let until = Instant::now() + PATIENCE;
    loop {
        let node = server.find_at("/api/v1/nodes/demo")?.unwrap_or_default();
        if condition(&node, "Ready").is_some_and(|one| text(one, "/status") == "True") {
            return Ok(server);
        }
        if Instant::now() > until {
            return Err(Failure::new("the node does not become ready"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Applies the files of a folder of the examples, as a step of this interface; what was applied.
pub(super) fn applied(
    story: &mut Story,
    place: &Place,
    server: &Server,
    (interface, name): (&'static str, &str),
    files: &[(&str, &str)],
) -> Result<Vec<Applied>> {
    let folder = place.data.join("examples").join(name);
    fs::create_dir_all(&folder).context(|| format!("create {}", folder.display()))?;
    for (name, content) in files {
        fs::write(folder.join(name), content).context(|| format!("write {name}"))?;
    }
    let documents = documents::read(&[folder], false)?;
    let what = format!("examples/{name} applied: {} objects", documents.len());
    let (applied, failures) =
        story.step(interface, what, || apply(server, documents, Wishes::default(), |_| {}))?;
    match failures.into_iter().next() {
        Some(failure) => Err(failure),
        None => Ok(applied),
    }
}

/// Applies the shop, and waits until all of it is ready.
fn open(story: &mut Story, place: &Place, server: &Server) -> Result<Vec<Applied>> {
    let applied = applied(story, place, server, ("API", "shop"), &examples::SHOP)?;
    let mut paths: Vec<(String, String)> = applied.iter().map(|one| (one.name(), one.path.clone())).collect();
    // What everything else waits for is told first.
    paths.sort_by_key(|(name, _)| order(name));
    let mut begun = Instant::now();
    for one in paths.into_iter().filter(|(name, _)| order(name) > 0) {
        let name = one.0.clone();
        ready::wait(server, &[one], PATIENCE, |_, _| story.check())?;
        let what = if name.starts_with("job") { "has ended well: 3 customers, 6 orders" } else { "is ready" };
        story.note("CRI", format!("{name} {what}"), std::mem::replace(&mut begun, Instant::now()).elapsed());
    }
    Ok(applied)
}

/// In which order they come to be ready; 0 for what is so at once.
fn order(name: &str) -> u8 {
    match name.split('/').next() {
        Some("statefulset.apps") => 1,
        Some("deployment.apps") => 2,
        Some("job.batch") => 3,
        _ => 0,
    }
}

/// What the node's agent says of the image.
fn pulled(story: &mut Story, server: &Server) -> Result<()> {
    let events = server.get("/api/v1/namespaces/shop/events")?;
    let said = list(&events, "/items").iter().map(|event| text(event, "/message"));
    let times = said.filter_map(|said| said.split_once("\" in ")?.1.split_once(' ').map(|(time, _)| time));
    let longest = times.filter_map(duration).max();
    if let Some(took) = longest {
        story.note("OCI", "of this: image pulled by the node: downloaded, verified, unpacked", took);
    }
    Ok(())
}

/// `1.234s`, `56.7ms`
fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => (number, 1e-3),
        (None, Some(number)) => (number, 1.0),
        (None, None) => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * unit).ok()
}

/// This machine asks a Service, a pod asks another one by its name.
fn talk(story: &mut Story, place: &Place, server: &Server) -> Result<()> {
    let service = server.get("/api/v1/namespaces/shop/services/web")?;
    let address = format!("{}:80", text(&service, "/spec/clusterIP"));
    let what = format!("this machine asks the Service web at {address}");
    let answer = patient(story, "CNI", what, &address, || app::get(&address))?;
    expect(&answer, "6 orders so far")?;
    let pods = server.get("/api/v1/namespaces/shop/pods?labelSelector=app%3Dweb")?;
    let pod = list(&pods, "/items").first().map_or("", |pod| text(pod, "/metadata/name")).to_owned();
    let runtime = Runtime::connect(&place.run, &CriArgs { cri: None })?;
    let container_id = runtime.container_of(&format!("shop/{pod}"), Some("web"), false)?.id;
    let cmd = [app::PATH, "get", "database:8080/orders"].map(str::to_owned).to_vec();
    let request = ExecSyncRequest { container_id, cmd, timeout: 60 };
    let what = "exec in web: it asks the database by its name, across the bridge";
    let ran = story.step("CNI", what, || {
        runtime.ask("run a program in the pod", async |c| c.exec_sync(request).await)
    })?;
    expect(&String::from_utf8_lossy(&ran.stdout), "apple 2")
}

/// The shop gets a load balancer, and another host comes by it.
fn reach(story: &mut Story, place: &Place, server: &Server) -> Result<()> {
    let path = "/api/v1/namespaces/shop/services/web";
    let wish = json!({"spec": {"type": "LoadBalancer"}});
    let begun = Instant::now();
    server.ask(Call::patch(path, MERGE, wish))?;
    let until = begun + PATIENCE;
    let address = loop {
        let service = server.get(path)?;
        let address = text(&service, "/status/loadBalancer/ingress/0/ip");
        if !address.is_empty() {
            break format!("{address}:80");
        }
        story.check()?;
        if Instant::now() > until {
            return Err(Failure::new("the Service web gets no load balancer"));
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    story.note("CPI", format!("the Service web has a load balancer at {address}"), begun.elapsed());
    let what = "another host of the link asks for it by ARP, and is served there";
    let answer = patient(story, "CPI", what, &address, || place.host.ask(&address))?;
    expect(&answer, "6 orders so far")
}

/// What was written to a volume is there in one that is made of its snapshot.
fn keep(story: &mut Story, place: &Place) -> Result<()> {
    let socket = volumes::socket(&place.run);
    let volumes = Volumes::connect(&place.run)?;
    let volume = story
        .step("CSI", format!("volume made over {}", socket.display()), || volumes.create("data", None))?;
    let at =
        story.step("CSI", format!("volume published ({})", kind(&volume)), || volumes.publish(&volume.id))?;
    write(&at, "first")?;
    let what =
        if volume.backend == "dir" { "snapshot cut: a copy, as it is a directory" } else { "snapshot cut" };
    let snapshot = story.step("CSI", what, || volumes.snapshot(&volume.id))?;
    write(&at, "second")?;
    let restored =
        story.step("CSI", "volume made of the snapshot: it has what was written before", || {
            volumes.publish(&volumes.create("restored", Some(&snapshot))?.id)
        })?;
    expect(&fs::read_to_string(restored.join("note")).context(|| "read the restored volume".into())?, "first")
}

fn write(volume: &Path, text: &str) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut file = fs::File::create(volume.join("note"))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().context(|| format!("write to the volume at {}", volume.display()))
}

fn kind(volume: &Made) -> String {
    match volume.backend.as_str() {
        "image" => "a file system in an image".into(),
        "dir" => "a plain directory: no file system can be made here".into(),
        other => other.into(),
    }
}

/// Has the examples' namespaces go, with all that is in them.
fn close(server: &Server) -> Result<()> {
    let paths = ["shop", "canary"].map(|name| format!("/api/v1/namespaces/{name}"));
    for path in &paths {
        server.ask(Call::delete(path, json!({"kind": "DeleteOptions", "apiVersion": "v1"})))?;
    }
    let until = Instant::now() + PATIENCE;
    for path in &paths {
        while server.find_at(path)?.is_some() {
            if Instant::now() > until {
                return Err(Failure::new(format!("{path} does not go")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

/// Does what a person would type at a shell, and shows it; understood by the same definitions.
fn type_in(story: &Story, place: &Place, words: &[&str]) -> Result<()> {
    story.check()?;
    if story.quiet {
        return Ok(());
    }
    writeln!(std::io::stdout(), "\n$ sextant {}", words.join(" "))?;
    let kubeconfig = place.data.join("kubeconfig");
    let mut all: Vec<OsString> =
        vec!["sextant".into(), "--run-dir".into(), place.run.clone().into_os_string(), words[0].into()];
    // Not another server, which the environment may name. The mesh is asked at its own socket.
    if words[0] != "mesh" {
        all.extend(["--kubeconfig".into(), kubeconfig.into_os_string()]);
    }
    all.extend(words[1..].iter().map(Into::into));
    let mut cli = Cli::try_parse_from(all).context(|| format!("understand {words:?}"))?;
    cli.data_dir.clone_from(&place.data);
    match commands::run(cli)? {
        ExitCode::SUCCESS => Ok(()),
        code => Err(Failure::new(format!("{words:?} ended with {code:?}"))),
    }
}

fn expect(answer: &str, wanted: &str) -> Result<()> {
    match answer.contains(wanted) {
        true => Ok(()),
        false => Err(Failure::new(format!("the answer {answer:?} does not say {wanted:?}"))),
    }
}

/// A step that asks until somebody answers, for as long as for anything, or until somebody asks for the end.
fn patient(
    story: &mut Story,
    interface: &'static str,
    what: impl Into<String>,
    address: &str,
    ask: impl Fn() -> std::io::Result<String>,
) -> Result<String> {
    let begun = Instant::now();
    loop {
        story.check()?;
        match ask() {
            Ok(answer) => {
                story.note(interface, what, begun.elapsed());
                return Ok(answer);
            }
            Err(e) if begun.elapsed() >= PATIENCE => return Err(e).context(|| format!("reach {address}")),
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}
