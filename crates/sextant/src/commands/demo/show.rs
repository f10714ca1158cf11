//! What the demo does, in order.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use cri::contract::v1::{
    ContainerConfig as Wish, ContainerState, CreateContainerRequest, ExecSyncRequest, ImageSpec, PodSandbox,
    PodSandboxConfig, PodSandboxStatusRequest, PullImageRequest, RunPodSandboxRequest, StartContainerRequest,
};
use oci_image::archive::{Content, Part, build};
use oci_image::contract::{Compression, ContainerConfig};
use oci_image::registry::server::{Config, Server};
use oci_image::store::Store;

use super::place::Place;
use super::volumes::Made;
use super::{Story, app, volumes, wishes};
use crate::cli::Cli;
use crate::commands::{self, images};
use crate::failure::{Context, Failure, Result};
use crate::output::bytes;

/// What people type at a shell to see the same.
const COMMANDS: [&[&str]; 3] = [
    &["pods"],
    &["logs", "--pod", "demo/client"],
    &["exec", "--pod", "demo/server", app::PATH, "get", "127.0.0.1:8080"],
];

pub(super) fn tell(story: &mut Story, place: &mut Place) -> Result<()> {
    let dir = place.registry_dir();
    let registry = story.step("OCI", "registry started on loopback (distribution-spec 1.1)", || {
        let listen = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        Ok(Server::start(Config { dir, listen, user: None })?)
    })?;
    let image = format!("{}/demo/sextant:latest", registry.addr());
    send_image(story, place, &image)?;
    let socket = place.run.join("cri.sock");
    story.step("CRI", format!("node serves runtime.v1 on {}", socket.display()), || place.start_node())?;
    story.step("CRI", "image pulled: downloaded, verified, unpacked", || pull_image(place, &image))?;
    let port = free_port()?;
    let server = run_pod(story, place, "server", Some((port, app::PORT)))?;
    run_container(story, place, &server, &image, &["serve"])?;
    talk(story, place, &server, port, &image)?;
    keep(story, place, &image)
}

/// Makes the image, pushes it, and forgets it.
fn send_image(story: &mut Story, place: &Place, image: &str) -> Result<()> {
    let store = Store::open(place.images_dir())?;
    let program = std::env::current_exe().context(|| "find this program".into())?;
    let size = std::fs::metadata(&program).context(|| format!("read {}", program.display()))?.len();
    story.step("OCI", format!("image made of this program ({})", bytes(size)), || {
        let part = |path: &str, content| Part { path: path.into(), content, mode: 0o755 };
        let file = |path: &str, text: &str| Part {
            path: path.into(),
            content: Content::Bytes(text.into()),
            mode: 0o644,
        };
        let parts = [
            part(app::PATH.trim_start_matches('/'), Content::File(program)),
            part("tmp", Content::Directory),
            file("etc/passwd", "root:x:0:0:root:/:\ndemo:x:1000:1000:demo:/:\n"),
            file("etc/group", "root:x:0:\ndemo:x:1000:\n"),
        ];
        let config = ContainerConfig {
            entrypoint: Some(vec![app::PATH.into()]),
            cmd: Some(vec!["serve".into()]),
            user: "demo".into(),
            ..ContainerConfig::default()
        };
        Ok(build(&store, image, &parts, config, Compression::Gzip)?)
    })?;
    story
        .step("OCI", "image pushed over HTTP", || images::send(&store, image, false, None, true).map(drop))?;
    story.step("OCI", "image removed here", || {
        store.remove(&store.find(image)?)?;
        Ok(store.collect(&|_| false, Duration::ZERO)?)
    })?;
    Ok(())
}

fn pull_image(place: &Place, image: &str) -> Result<()> {
    let request = PullImageRequest {
        image: Some(ImageSpec { image: image.into(), ..ImageSpec::default() }),
        // `sextant explain demo/server` tells of it.
        sandbox_config: Some(wishes::pod("server", &place.logs_dir("server"), None)),
        ..PullImageRequest::default()
    };
    place.node()?.cri.ask("pull the image", async |c| c.pull_image(request).await).map(drop)
}

/// A port of this machine that nobody has now.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context(|| "find a free port".into())?;
    Ok(listener.local_addr().context(|| "find a free port".into())?.port())
}

/// A pod of the demo.
struct Pod {
    name: &'static str,
    id: String,
    address: String,
    config: PodSandboxConfig,
}

fn run_pod(
    story: &mut Story,
    place: &Place,
    name: &'static str,
    published: Option<(u16, u16)>,
) -> Result<Pod> {
    let node = place.node()?;
    let config = wishes::pod(name, &place.logs_dir(name), published);
    let request = RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: String::new() };
    let id = story.step("CRI", format!("pod {name} up: shim, namespaces, bridge, address, rules"), || {
        Ok(node.cri.ask("run the pod", async |c| c.run_pod_sandbox(request).await)?.pod_sandbox_id)
    })?;
    let request = PodSandboxStatusRequest { pod_sandbox_id: id.clone(), verbose: false };
    let status = node.cri.ask("look at the pod", async |c| c.pod_sandbox_status(request).await)?.status;
    let address = status.unwrap_or_default().network.unwrap_or_default().ip;
    Ok(Pod { name, id, address, config })
}

/// Creates and starts the pod's container, which is called as the pod is.
fn run_container(story: &mut Story, place: &Place, pod: &Pod, image: &str, args: &[&str]) -> Result<String> {
    let what = format!("container {} runs: overlay root, cgroup, seccomp, program", pod.name);
    story.step("CRI", what, || start(place, pod, wishes::container(pod.name, image, args)))
}

/// Creates and starts a container of a pod; its id.
fn start(place: &Place, pod: &Pod, config: Wish) -> Result<String> {
    let request = CreateContainerRequest {
        pod_sandbox_id: pod.id.clone(),
        config: Some(config),
        sandbox_config: Some(pod.config.clone()),
    };
    place.node()?.cri.ask("run the container", async |client| {
        let container_id = client.create_container(request).await?.container_id;
        let request = StartContainerRequest { container_id: container_id.clone() };
        client.start_container(request).await?;
        Ok(container_id)
    })
}

fn talk(story: &mut Story, place: &Place, server: &Pod, port: u16, image: &str) -> Result<()> {
    let node = place.node()?;
    let published = format!("127.0.0.1:{port}");
    let answer = story
        .step("CNI", format!("this machine asks the published port {published}"), || patiently(&published))?;
    expect(&answer, "this is server")?;
    let request = ExecSyncRequest {
        container_id: node.cri.container_of(&server.id, None, false)?.id,
        cmd: [app::PATH, "get", "127.0.0.1:8080"].map(str::to_owned).to_vec(),
        timeout: 10,
    };
    let ran = story.step("CRI", "exec in server: it asks itself", || {
        node.cri.ask("run a program in the server", async |c| c.exec_sync(request).await)
    })?;
    expect(&String::from_utf8_lossy(&ran.stdout), "this is server")?;
    let client = run_pod(story, place, "client", None)?;
    let inside = format!("{}:{}", server.address, app::PORT);
    let id = run_container(story, place, &client, image, &["get", &inside])?;
    let code = story.step("CNI", format!("client asks {inside} across the bridge"), || wait(place, &id))?;
    let log = place.logs_dir("client").join("client.log");
    let said = std::fs::read_to_string(log).unwrap_or_default();
    if code != 0 {
        return Err(Failure::new(format!("the client ended with code {code}: {said}")));
    }
    expect(&said, "this is server")?;
    for words in COMMANDS {
        type_in(story, place, words)?;
    }
    story.step("CRI", "pod client down: nothing of it is left", || {
        node.remove_pod(&PodSandbox { id: client.id, ..PodSandbox::default() })
    })
}

/// What one container has written is read by another, as it was when a snapshot was cut.
fn keep(story: &mut Story, place: &mut Place, image: &str) -> Result<()> {
    let socket = volumes::socket(&place.run);
    let what = format!("driver serves CSI 1.12 on {}", socket.display());
    story.step("CSI", what, || place.start_volumes())?;
    let volume = story.step("CSI", "volume made", || place.volumes()?.create("data", None))?;
    let at = story.step("CSI", format!("volume published ({})", kind(&volume)), || {
        place.volumes()?.publish(&volume.id)
    })?;
    let pod = run_pod(story, place, "keeper", None)?;
    story.step("CSI", "a container writes to it", || write(place, &pod, image, "first", &at))?;
    let what =
        if volume.backend == "dir" { "snapshot cut: a copy, as it is a directory" } else { "snapshot cut" };
    let snapshot = story.step("CSI", what, || place.volumes()?.snapshot(&volume.id))?;
    story.step("CSI", "another container writes over it", || write(place, &pod, image, "second", &at))?;
    let restored = story.step("CSI", "volume made of the snapshot", || {
        let volumes = place.volumes()?;
        volumes.publish(&volumes.create("restored", Some(&snapshot))?.id)
    })?;
    let said = story.step("CSI", "a third container reads what the first had written", || {
        run_with(place, &pod, image, "reader", &["read", NOTE], &restored)
    })?;
    expect(&said, "first")
}

/// A file of the demo's volumes.
const NOTE: &str = "/data/note";

fn kind(volume: &Made) -> String {
    match volume.backend.as_str() {
        "image" => "a file system in an image".into(),
        "dir" => "a plain directory: no file system can be made here".into(),
        other => other.into(),
    }
}

fn write(place: &Place, pod: &Pod, image: &str, text: &str, volume: &Path) -> Result<()> {
    run_with(place, pod, image, &format!("writer-of-the-{text}"), &["write", NOTE, text], volume).map(drop)
}

/// Runs a container that ends soon, with a volume; what it wrote to its log.
fn run_with(
    place: &Place,
    pod: &Pod,
    image: &str,
    name: &str,
    args: &[&str],
    volume: &Path,
) -> Result<String> {
    let id = start(place, pod, wishes::with_volume(volume, wishes::container(name, image, args)))?;
    let code = wait(place, &id)?;
    let said =
        std::fs::read_to_string(place.logs_dir(pod.name).join(format!("{name}.log"))).unwrap_or_default();
    match code {
        0 => Ok(said),
        _ => Err(Failure::new(format!("the container {name} ended with code {code}: {said}"))),
    }
}

/// The exit code of a container that ends soon.
fn wait(place: &Place, id: &str) -> Result<i32> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let status = place.node()?.cri.status(id, false)?.status.unwrap_or_default();
        if status.state() == ContainerState::ContainerExited {
            return Ok(status.exit_code);
        }
        if Instant::now() > deadline {
            return Err(Failure::new("a container does not end"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Does what a person would type at a shell, and shows it; understood by the same definitions.
fn type_in(story: &Story, place: &Place, words: &[&str]) -> Result<()> {
    story.check()?;
    if story.quiet {
        return Ok(());
    }
    writeln!(std::io::stdout(), "\n$ sextant {}", words.join(" "))?;
    let mut all = vec!["sextant".into(), "--run-dir".into(), place.run.clone().into_os_string()];
    all.extend(words.iter().map(Into::into));
    // Not another runtime's, which the environment may name.
    all.splice(4..4, ["--cri".into(), place.run.join("cri.sock").into_os_string()]);
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

/// Asks until the server listens, for five seconds.
fn patiently(address: &str) -> Result<String> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match app::get(address) {
            Ok(answer) => return Ok(answer),
            Err(e) if Instant::now() >= deadline => return Err(e).context(|| format!("reach {address}")),
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}
