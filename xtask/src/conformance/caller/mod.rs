//! A volume's whole life with a driver of others: `sextant api`, `sextant control` and `sextant csi register` around the CSI project's
//! host-path driver, and we in the place of users, of the scheduler and of the kubelet.

mod changes;
mod copies;
mod end;
mod life;
mod node;
mod place;

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

/// Walks through it, and leaves `results.txt` in `out`. Network and mounts are the walk's own.
pub(super) fn run(args: &Conformance, sextant: &Path, out: &Path) -> Result<()> {
    packages::install(&["util-linux", "tar"])?;
    let candidates = ["csi/hostpathplugin", "peer/hostpathplugin"].map(|path| args.suite.join(path));
    let Some(hostpath) = candidates.iter().find(|path| path.is_file()) else {
        let cause = "docs/conformance/README.md says what lies where";
        return Err(format!("{} is not there: {cause}", candidates[0].display()).into());
    };
    let (sextant, hostpath, out) = (sextant.to_owned(), hostpath.clone(), out.to_owned());
    walk::apart(move || async move { walk(&sextant, &hostpath, &out).await })
}

async fn walk(sextant: &Path, hostpath: &Path, out: &Path) -> Result<()> {
    let place = Place::new(sextant, hostpath, out)?;
    place.forget();
    let server = ApiServer::start_with(sextant)?;
    let (process, driver) = place.driver().await?;
    let mut walk = Walk {
        api: Api::connect(&server.kubeconfig()).await?,
        control: place.control(&server.kubeconfig())?,
        kubelet: Kubelet::default(),
        process: Some(process),
        place,
        driver,
    };
    let mut book = Book::default();
    walk.begin(&mut book).await?;
    walk.use_volumes(&mut book).await;
    walk.copy(&mut book).await;
    walk.change(&mut book).await;
    walk.end(&mut book).await;
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
