//! From a container's record to its running shim.

use std::fs;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use kernel::process::Child;
use ledger::{Effect, Owner, Record as _};
use oci_image::store::Store;
use oci_runtime::contract::{NamespaceType, Spec};
use shim::client::Client;
use shim::protocol::{self, CreateRequest, Rootfs};

use super::record::write_whole;
use super::{Record, Restart, network, undo_run};
use crate::failure::{Context, Failure, Result};
use crate::instance::Instance;

/// A container that is made and waits for its program to be started.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) client: Client,
    pub(crate) shim: Child,
    pub(crate) warnings: Vec<String>,
}

/// Makes everything that one run of the container needs. On an error all of it is undone.
pub(crate) fn start(
    instance: &Instance,
    store: &Store,
    record: &Record,
    owner: &mut Owner,
) -> Result<Running> {
    let result = try_start(instance, store, record, owner);
    result.map_err(|failure| {
        let left = undo_run(instance, record, owner);
        left.into_iter().fold(failure, |f, error| {
            let code = f.code();
            Failure::new(format!("{f}; {error}")).with_code(code)
        })
    })
}

fn try_start(instance: &Instance, store: &Store, record: &Record, owner: &mut Owner) -> Result<Running> {
    let bundle = instance.bundle_dir(&record.id);
    owner.record(Effect::Tree { path: bundle.clone() })?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&bundle)
        .context(|| format!("create {}", bundle.display()))?;
    let (addresses, netns) = join_network(instance, record, owner)?;
    let host = record.network.mode == "host";
    network::write_files(&bundle, &record.network, &addresses, host)?;
    write_config(instance, record, &bundle, netns.as_deref())?;
    let request = request(instance, store, record, &bundle)?;
    let _ = fs::remove_file(instance.state_dir(&record.id).join("exit.json"));
    let parent = PathBuf::from(&instance.name);
    owner.share(&format!("cgroup-{}", instance.name), &mut |node| {
        node.record(Effect::Cgroup { path: parent.clone() })?;
        Ok(kernel::cgroup::Cgroup::at(&parent)?.create()?)
    })?;
    owner.record(Effect::Cgroup { path: instance.cgroup(&record.id) })?;
    let (socket, shim) = spawn_shim(instance, record)?;
    if let Ok(start_time) = kernel::process::start_time(shim.pid) {
        owner.record(Effect::Process { pid: shim.pid, start_time })?;
    }
    let mut client = Client::over(socket);
    let created = client.create(&request).map_err(|e| {
        // What the runtime's exit codes say, as every command line of this kind says it.
        let code = match e.code() {
            Some(code) if code == protocol::Code::NotFound as i32 => 127,
            Some(code) if code == protocol::Code::FailedPrecondition as i32 => 126,
            _ => 125,
        };
        Failure::new(e.to_string()).with_code(code)
    })?;
    Ok(Running { client, shim, warnings: created.warnings })
}

fn join_network(
    instance: &Instance,
    record: &Record,
    owner: &mut Owner,
) -> Result<(Vec<IpAddr>, Option<PathBuf>)> {
    match network::Mode::of(instance, &record.network.mode)? {
        network::Mode::Host => Ok((Vec::new(), None)),
        network::Mode::Container(id) => {
            let other = super::find(instance, &id)?;
            Ok((Vec::new(), Some(network::namespace(instance, &other)?)))
        }
        network::Mode::Own(list) => {
            let added = network::connect(instance, record, &list, owner)?;
            let addresses = added.addresses().iter().map(|net| net.address()).collect();
            Ok((addresses, Some(instance.netns(&record.id))))
        }
    }
}

fn write_config(instance: &Instance, record: &Record, bundle: &Path, netns: Option<&Path>) -> Result<()> {
    let template = instance.state_dir(&record.id).join("config.json");
    let bytes = fs::read(&template).context(|| format!("read {}", template.display()))?;
    let mut spec: Spec = oci_runtime::contract::parse(&bytes)?;
    if let (Some(linux), Some(netns)) = (&mut spec.linux, netns)
        && let Some(namespace) = linux.namespaces.iter_mut().find(|n| n.kind == NamespaceType::Network)
    {
        namespace.path = netns.display().to_string();
    }
    let bytes = serde_json::to_vec(&spec).context(|| "write the configuration".into())?;
    write_whole(&bundle.join("config.json"), &bytes)
}

fn request(instance: &Instance, store: &Store, record: &Record, bundle: &Path) -> Result<CreateRequest> {
    let state = instance.state_dir(&record.id);
    let lower = record
        .layers
        .iter()
        .map(|digest| Ok(store.layer_path(&digest.parse()?)?.display().to_string()))
        .collect::<Result<Vec<_>>>()?;
    let text = |path: PathBuf| path.display().to_string();
    let mut request = CreateRequest {
        id: record.id.clone(),
        bundle: text(bundle.to_path_buf()),
        rootfs: Some(Rootfs {
            lower,
            upper: text(state.join("upper")),
            work: text(state.join("work")),
            ..Rootfs::default()
        }),
        log: text(record.log(instance)),
        stdin: record.stdin,
        state: text(state),
        on_exit: [
            "sextant",
            "--data-dir",
            &text(instance.data.clone()),
            "--run-dir",
            &text(instance.run.clone()),
            "reap",
            &record.id,
        ]
        .map(str::to_owned)
        .to_vec(),
        ..CreateRequest::default()
    };
    match record.restart {
        Restart::No => {}
        Restart::OnFailure(limit) => {
            request.set_restart(protocol::Restart::OnFailure);
            request.restart_limit = limit;
        }
        Restart::Always | Restart::UnlessStopped => request.set_restart(protocol::Restart::Always),
    }
    Ok(request)
}

/// Starts the shim. Its standard error is a file in the state directory.
fn spawn_shim(instance: &Instance, record: &Record) -> Result<(OwnedFd, Child)> {
    let errors = instance.state_dir(&record.id).join("shim.err");
    shim::spawn::Binary::find()?
        .spawn(&record.name, &errors, true)
        .context(|| format!("start the shim of container {}", record.name))
}

/// A connection to a running container's shim.
pub(crate) fn connect(instance: &Instance, record: &Record) -> Result<Client> {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    Client::connect(&instance.bundle_dir(&record.id).join("shim.sock")).map_err(|error| match error {
        shim::client::Error::Connect { source, .. }
            if matches!(source.kind(), ConnectionRefused | NotFound) =>
        {
            let name = &record.name;
            Failure::new(format!("container {name} is not running (start it: sextant start {name})"))
        }
        other => other.into(),
    })
}
