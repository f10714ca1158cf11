//! What the demo does, in order.

use std::time::{Duration, Instant};

use clap::Parser;
use oci_image::archive::{Content, Part, build};
use oci_image::contract::{Compression, ContainerConfig};
use oci_image::registry::server::{Config, Server};

use super::place::Place;
use super::{Story, app};
use crate::cli::{Cli, Command, RunArgs};
use crate::commands::images;
use crate::container::{self, Options, Record, Running, State};
use crate::failure::{Context, Failure, Result};
use crate::output::bytes;

pub(super) fn tell(story: &mut Story, place: &mut Place) -> Result<()> {
    let dir = place.registry_dir();
    let registry = story.step("OCI", "registry started on loopback (distribution-spec 1.1)", || {
        let listen = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        Ok(Server::start(Config { dir, listen, user: None })?)
    })?;
    let image = format!("{}/demo/sextant:latest", registry.addr());
    move_image(story, place, &image)?;
    let server = start(
        story,
        place,
        &["--name", "server", "--hostname", "server", "-d", "-p", "127.0.0.1::8080", &image, "serve"],
    )?;
    talk(story, place, &server, &image)
}

/// Makes the image, pushes it, forgets it, and pulls it back.
fn move_image(story: &mut Story, place: &Place, image: &str) -> Result<()> {
    let instance = place.instance();
    let store = instance.store()?;
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
            part(&format!("bin/{}", app::NAME), Content::File(program)),
            part("tmp", Content::Directory),
            file("etc/passwd", "root:x:0:0:root:/:\ndemo:x:1000:1000:demo:/:\n"),
            file("etc/group", "root:x:0:\ndemo:x:1000:\n"),
        ];
        let config = ContainerConfig {
            entrypoint: Some(vec![format!("/bin/{}", app::NAME)]),
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
    story.step("OCI", "image pulled back: downloaded, verified, unpacked", || {
        let options = images::FetchOptions { quiet: true, ..images::FetchOptions::default() };
        images::fetch(instance, image, options).map(drop)
    })
}

/// The words of a `run`, understood by the same definitions as a person's.
fn parsed(words: &[&str]) -> Result<Box<RunArgs>> {
    let all = ["sextant", "run"].iter().chain(words);
    match Cli::try_parse_from(all).context(|| format!("understand {words:?}"))?.command {
        Command::Run(args) => Ok(args),
        other => Err(Failure::new(format!("cannot run {other:?}"))),
    }
}

/// A container of the demo that runs.
struct Started {
    record: Record,
    running: Running,
}

fn start(story: &mut Story, place: &Place, words: &[&str]) -> Result<Started> {
    story.check()?;
    let instance = place.instance();
    let args = parsed(words)?;
    let name = args.name.clone().unwrap_or_default();
    let store = instance.store()?;
    let begun = Instant::now();
    let details = store.details(&store.find(&args.image)?)?;
    let (record, mut owner) = container::create(instance, &store, &args, &Options::parse(&args)?, &details)?;
    let mut running = container::start(instance, &store, &record, &mut owner)?;
    running.client.start("")?;
    let all = begun.elapsed();
    let of = |interface: &str| {
        running.steps.iter().filter(|(i, ..)| *i == interface).map(|(.., t)| *t).sum::<Duration>()
    };
    let addresses: Vec<String> = running.addresses.iter().map(ToString::to_string).collect();
    story.note(
        "CNI",
        format!("{name}: namespace, bridge, address {}, rules", addresses.join(" ")),
        of("CNI"),
    );
    story.note(
        "OCI",
        format!("{name}: shim, overlay root, namespaces, cgroup, seccomp, program"),
        all.saturating_sub(of("CNI")),
    );
    Ok(Started { record, running })
}

fn talk(story: &mut Story, place: &Place, server: &Started, image: &str) -> Result<()> {
    let address =
        server.running.addresses.first().ok_or_else(|| Failure::new("the server has no address"))?;
    let inside = format!("{address}:{}", app::PORT);
    let port = server.record.network.ports.first().map_or(app::PORT, |p| p.host_port);
    let published = format!("127.0.0.1:{port}");
    let answer = story
        .step("CNI", format!("this machine asks the published port {published}"), || patiently(&published))?;
    expect(&answer, "this is server")?;
    let client = start(story, place, &["--name", "client", "-d", image, "get", &inside])?;
    let Started { record, mut running } = client;
    let code = story.step("CNI", format!("the client asks {inside} across the bridge"), || {
        Ok(running.client.wait("", "")?.code)
    })?;
    let log = std::fs::read_to_string(record.log(place.instance())).unwrap_or_default();
    if code != 0 {
        return Err(Failure::new(format!("the client ended with code {code}: {log}")));
    }
    expect(&log, "this is server")?;
    match container::state_of(place.instance(), &server.record) {
        State::Running { .. } => Ok(()),
        other => Err(Failure::new(format!("the server is {}", other.word()))),
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
