//! Everything goes, and nothing is left.

use csi::caller::Driver;
use serde_json::{Value, json};

use super::api::*;
use super::place::NODE;
use super::{Book, Walk, must, text};
use crate::Result;

impl Walk {
    pub(super) async fn end(&mut self, book: &mut Book) {
        book.note(
            "end: nothing of volumes is mounted or attached once no pod uses them",
            self.unused().await,
        );
        book.note("end: claims and snapshots go, with all that was made of them", self.all_gone().await);
        book.note("end: nothing is left in the driver", self.driver_is_empty().await);
        book.note("end: a driver that ends is forgotten by the kubelet", self.forgotten().await);
        book.note("end: the programs end when they are told to", self.programs_end().await);
    }

    /// The names of what the pool keeps.
    pub(super) fn kept(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for folder in std::fs::read_dir(self.place.pool())?.flatten() {
            for entry in std::fs::read_dir(folder.path()).into_iter().flatten().flatten() {
                names.push(format!("{}/{}", folder.file_name().display(), entry.file_name().display()));
            }
        }
        names.sort();
        Ok(names)
    }

    async fn unused(&self) -> Result<()> {
        for pod in self.api.all(PODS).await? {
            self.remove(text(&pod["metadata"]["name"])?).await?;
        }
        let is_volume = |point: &String| point.contains("/kubelet/") || point.contains("/pool/");
        let mut used = Vec::new();
        let unused = soon(async || {
            used = self.place.mounts()?.into_iter().filter(is_volume).collect();
            used.extend(self.place.devices()?);
            let pods = self.place.programs.path("kubelet/pods");
            used.extend(std::fs::read_dir(pods)?.flatten().map(|entry| entry.path().display().to_string()));
            Ok(used.is_empty().then_some(()))
        });
        unused.await?.ok_or_else(|| format!("there is {used:?}").into())
    }

    async fn all_gone(&self) -> Result<()> {
        for kind in [SNAPSHOTS, CLAIMS] {
            for one in self.api.all(kind).await? {
                self.api.delete(kind, &[text(&one["metadata"]["name"])?]).await?;
            }
        }
        let mut left = Vec::new();
        let gone = soon(async || {
            left.clear();
            for kind in [CLAIMS, VOLUMES, SNAPSHOTS, CONTENTS, ATTACHMENTS] {
                left.extend(self.api.all(kind).await?);
            }
            Ok(left.is_empty().then_some(()))
        });
        gone.await?.ok_or_else(|| format!("there is {}", json!(left)).into())
    }

    async fn driver_is_empty(&self) -> Result<()> {
        let driver = Driver::connect(&self.place.socket()).await?;
        let has = (driver.volumes().await?, driver.snapshots().await?);
        must(has.0.is_empty() && has.1.is_empty(), || format!("it has {has:?}"))?;
        let kept = self.kept()?;
        must(kept.is_empty(), || format!("its pool has {kept:?}"))
    }

    async fn forgotten(&mut self) -> Result<()> {
        let code = match &mut self.driver {
            Some(driver) => driver.end().await?,
            None => return Err("there is no driver".into()),
        };
        must(code == Some(0), || format!("it ends with {code:?}"))?;
        let has_none = |node: &Value| node["spec"]["drivers"].as_array().is_none_or(Vec::is_empty);
        self.api.until(CSI_NODES, NODE, "without the driver", has_none).await.map(drop)
    }

    async fn programs_end(&mut self) -> Result<()> {
        for (name, program) in [("control", &mut self.control), ("kubelet", &mut self.kubelet)] {
            if let Some(mut program) = program.take() {
                let code = program.end().await?;
                must(code == Some(0), || format!("the {name} ends with {code:?}"))?;
            }
        }
        let pods = self.place.remove_pods().await?;
        must(pods == 0, || format!("{pods} pods are still ready"))?;
        match self.node.take() {
            Some(mut node) => {
                let code = node.end().await?;
                must(code == Some(0), || format!("the node ends with {code:?}"))
            }
            None => Ok(()),
        }
    }

    /// Ends what is left after steps that went wrong, so that nothing of the walk outlives it.
    pub(super) async fn clear(&mut self) -> Result<()> {
        drop((self.kubelet.take(), self.control.take()));
        if self.node.is_some() {
            self.place.remove_pods().await?;
        }
        drop((self.driver.take(), self.node.take()));
        for point in self.place.mounts()?.iter().rev() {
            let _tried = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
        }
        Ok(())
    }
}
