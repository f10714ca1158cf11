//! A volume's whole life with a driver of others: `sextant api`, `sextant control` and `sextant csi register` around the CSI project's
//! host-path driver, and we in the place of users, of the scheduler and of the kubelet; or `sextant node` and `sextant agent` in theirs.

mod changes;
mod copies;
mod end;
mod life;
mod node;
mod place;
mod pods;

use std::path::Path;

use csi::caller::Driver;

use super::Conformance;
use super::api::{self, Api};
use super::walk::{self, Book, must, text};
use crate::Result;
use crate::interop::ApiServer;
use crate::packages;
use place::{Kubelet, Place};
use walk::Process;

/// What is walked through.
#[derive(Clone, Copy)]
pub(super) enum Which {
    /// A volume's whole life, and we in the place of who has pods.
    Volumes,
    /// Pods that use the driver's volumes, run by `sextant agent`.
    Pods,
}

/// Walks through it, and leaves `results.txt` in `out`. Network and mounts are the walk's own.
pub(super) fn run(args: &Conformance, which: Which, sextant: &Path, out: &Path) -> Result<()> {
    packages::install(&["util-linux", "tar"])?;
    let candidates = ["csi/hostpathplugin", "peer/hostpathplugin"].map(|path| args.suite.join(path));
    let Some(hostpath) = candidates.iter().find(|path| path.is_file()) else {
        let cause = "docs/conformance/README.md says what lies where";
        return Err(format!("{} is not there: {cause}", candidates[0].display()).into());
    };
    let (sextant, hostpath, out) = (sextant.to_owned(), hostpath.clone(), out.to_owned());
    walk::apart(move || async move {
        let place = Place::new(&sextant, &hostpath, &out)?;
        place.forget();
        walk(which, &sextant, place, &out).await
    })
}

async fn walk(which: Which, sextant: &Path, place: Place, out: &Path) -> Result<()> {
    let server = ApiServer::start_with(sextant)?;
    let kubeconfig = server.kubeconfig();
    let (process, driver) = place.driver().await?;
    let control = match which {
        Which::Volumes => place.control(&kubeconfig)?,
        Which::Pods => place.control_of_pods(&kubeconfig)?,
    };
    let mut walk = Walk {
        api: Api::connect(&kubeconfig).await?,
        control,
        kubelet: Kubelet::default(),
        process: Some(process),
        place,
        driver,
    };
    let mut book = Book::default();
    match which {
        Which::Volumes => {
            walk.begin(&mut book).await?;
            walk.use_volumes(&mut book).await;
            walk.copy(&mut book).await;
            walk.change(&mut book).await;
            walk.end(&mut book).await;
        }
        Which::Pods => walk.pods(&kubeconfig, &mut book).await?,
    }
    Ok(std::fs::write(out.join("results.txt"), book.results)?)
}

/// The machine, half way.
struct Walk {
    api: Api,
    place: Place,
    driver: Driver,
    /// The driver's; none while it is away.
    process: Option<Process>,
    control: Process,
    kubelet: Kubelet,
}
