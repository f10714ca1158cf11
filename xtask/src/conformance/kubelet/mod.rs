//! A kubelet of Kubernetes over `sextant node` and `sextant csi-driver`, with `sextant control` as all the controllers that there are:
//! pods use volumes, through what happens to volumes, to pods and to the programs. Once below `sextant api`, once below kube-apiserver.

mod begin;
mod end;
mod luck;
mod place;
mod pods;
mod servers;
mod volumes;

use std::path::{Path, PathBuf};

use super::Conformance;
use super::api::{self, Api};
use super::walk::{self, Book, Process, must, text};
use crate::Result;
use crate::packages;
use place::Place;
use servers::{Kind, Server};

/// Walks below each server that was meant and is there, and leaves `results.txt` in `out`.
pub(super) fn run(args: &Conformance, sextant: &Path, out: &Path) -> Result<()> {
    packages::install(&[
        "busybox-static",
        "e2fsprogs",
        "etcd-server",
        "iproute2",
        "openssl",
        "tar",
        "xfsprogs",
    ])?;
    let suite = std::path::absolute(&args.suite)?;
    let missing = |program: &str| {
        let path = suite.join(program);
        let cause = "docs/conformance/README.md says what lies where";
        (!path.is_file()).then(|| format!("{} is not there: {cause}", path.display()))
    };
    if let Some(missing) = missing("kubelet") {
        return Err(missing.into());
    }
    let is_meant = |kind: &Kind| args.items.is_empty() || args.items.iter().any(|item| item == kind.name());
    let mut results = String::new();
    for kind in [Kind::Ours, Kind::Kubernetes].into_iter().filter(is_meant) {
        match missing("kube-apiserver") {
            Some(missing) if kind == Kind::Kubernetes => println!("{} is left out: {missing}", kind.name()),
            _ => results.push_str(&below(kind, sextant, &suite, out)?),
        }
    }
    Ok(std::fs::write(out.join("results.txt"), results)?)
}

/// What came of the walk below one server.
fn below(kind: Kind, sextant: &Path, suite: &Path, out: &Path) -> Result<String> {
    println!("{}", kind.name());
    let out = std::path::absolute(out)?.join(kind.name());
    std::fs::create_dir_all(&out)?;
    let (sextant, suite, words) = (sextant.to_owned(), suite.to_owned(), out.clone());
    walk::apart(move || async move { walk(kind, &sextant, suite, &words).await })?;
    let found = std::fs::read_to_string(out.join("results.txt"))?;
    Ok(found.lines().map(|line| format!("{}: {line}\n", kind.name())).collect())
}

async fn walk(kind: Kind, sextant: &Path, suite: PathBuf, out: &Path) -> Result<()> {
    let place = Place::new(sextant, suite, out)?;
    let server = Server::start(kind, &place).await?;
    let mut walk = Walk {
        api: Api::connect(&place.kubeconfig()).await?,
        node: Some(place.node().await?),
        driver: Some(place.driver()?),
        control: Some(place.control()?),
        kubelet: Some(place.kubelet(&server)?),
        server,
        place,
    };
    let mut book = Book::default();
    let walked = walk.steps(&mut book).await;
    let left = walk.clear().await;
    std::fs::write(out.join("results.txt"), book.results)?;
    walked.and(left)
}

/// The machine, half way. Programs that are away for a while, or ended, are none.
struct Walk {
    api: Api,
    kubelet: Option<Process>,
    control: Option<Process>,
    driver: Option<Process>,
    node: Option<Process>,
    server: Server,
    place: Place,
}

impl Walk {
    async fn steps(&mut self, book: &mut Book) -> Result<()> {
        self.begin(book).await?;
        self.use_volumes(book).await;
        self.have_bad_luck(book).await;
        self.end(book).await;
        Ok(())
    }
}
