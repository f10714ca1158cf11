//! What the mesh goes by, followed at an API server and compiled: Services, EndpointSlices, pods, namespaces, and the objects of SMI and of
//! Gateway API in whatever version the server has.
//!
//! [`Plane`] does that for the nodes of a cluster, and has what else a control plane has; [`follow`] is for who does it alone.
//!
//! A kind whose definition is not there is not followed; it is looked for again every ten seconds. One that is served no more for half a minute is as if
//! all its objects were gone; one that is served in another version is followed in that.

mod definitions;
mod kinds;
mod metrics;
mod objects;
mod plane;
#[cfg(test)]
mod tests;

use std::pin::pin;

use client::cache::{Cache, Change as Told, Kind, Name as Cached};
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher;
use kube::{Client, ResourceExt as _};
use smi::compile::{Change, Compiler, Outcome, Settings};
use smi::contract::Name;
use tokio::sync::{mpsc, oneshot};

pub use metrics::SERVICE as METRICS_SERVICE;
pub use plane::{Address, Plane, TRUSTED, fuzz};

/// Follows all of it for as long as it is polled. `told` is told of everything once all that there was is known, and from then on of what
/// changes. With `node` the pods of that node alone are known.
pub async fn follow(client: &Client, settings: Settings, node: Option<&str>, told: impl FnMut(Outcome)) {
    follow_pods(client, settings, node, told, |_, _| {}).await;
}

/// The same; `seen` is told of each pod, as it is or that it is there no more, before what is compiled of it.
async fn follow_pods(
    client: &Client,
    settings: Settings,
    node: Option<&str>,
    mut told: impl FnMut(Outcome),
    seen: impl Fn(&Name, Option<&Pod>) + Send + Sync + 'static,
) {
    let (tell, mut changes) = mpsc::unbounded_channel();
    let of_node = node.map_or_else(watcher::Config::default, |node| {
        watcher::Config::default().fields(&format!("spec.nodeName={node}"))
    });
    let services = Cache::<Service>::start(client);
    let slices = Cache::<EndpointSlice>::start(client);
    let namespaces = Cache::<Namespace>::start(client);
    let pods = Cache::<Pod>::start_with(client, of_node);
    pass(&services, &tell, |name, object| Change::Service(name, object.map(objects::service)));
    pass(&slices, &tell, |name, object| Change::Slice(name, object.and_then(objects::slice)));
    pass(&pods, &tell, move |name, object| {
        seen(&name, object);
        Change::Pod(name, object.and_then(objects::pod))
    });
    pass(&namespaces, &tell, |name, object| {
        Change::Namespace(name.name, object.map(|object| object.labels().clone()))
    });
    let (known, are_known) = oneshot::channel();
    let following = kinds::follow(client, &tell, known);
    let compiling = async {
        let mut filled = pin!(async {
            tokio::join!(services.filled(), slices.filled(), namespaces.filled(), pods.filled(), are_known)
        });
        let mut compiler = Compiler::new(settings);
        let mut is_filled = false;
        loop {
            let first = tokio::select! {
                _ = &mut filled, if !is_filled => true,
                change = changes.recv() => match change {
                    Some(change) => {
                        compiler.enter(change);
                        false
                    }
                    None => return,
                },
            };
            is_filled |= first;
            // What came at once is compiled at once.
            while let Ok(change) = changes.try_recv() {
                compiler.enter(change);
            }
            if !is_filled {
                continue;
            }
            let outcome = compiler.compile();
            if first || !outcome.delta.is_empty() || !outcome.reports.is_empty() {
                told(outcome);
            }
        }
    };
    tokio::select! {
        () = following => {}
        () = compiling => {}
    }
}

/// Tells of each object of a cache what the compiler takes of it.
fn pass<K: Kind>(
    cache: &Cache<K>,
    tell: &mpsc::UnboundedSender<Change>,
    read: impl Fn(Name, Option<&K>) -> Change + Send + Sync + 'static,
) {
    let tell = tell.clone();
    cache.listen(move |change: &Told<K>| {
        let Cached { namespace, name } = Cached::of(&**change.object());
        // Who compiles is gone at the end.
        let _gone = tell.send(read(Name::new(namespace, name), change.new.as_deref()));
    });
}
