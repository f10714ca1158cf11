//! Images go when their disk is full and nobody uses them, those first that were used longest ago.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use cri::contract::v1::{
    Image, ImageFsInfoRequest, ImageSpec, ListContainersRequest, ListImagesRequest, RemoveImageRequest,
};
use tokio::time::Instant;

use crate::agent::Agent;
use crate::limits::Limits;
use crate::runtime::Failed;

/// What is known of images: since when they are there, and when they were used last.
#[derive(Debug, Default)]
pub(crate) struct Images {
    seen: Mutex<BTreeMap<String, Seen>>,
    disk: OnceLock<PathBuf>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    first: Instant,
    used: Option<Instant>,
}

impl Images {
    fn seen(&self) -> MutexGuard<'_, BTreeMap<String, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Collects where the disk is too full; what could not be is told.
    pub(crate) async fn collect(&self, agent: &Agent) {
        let limits = &agent.setup.limits;
        match self.try_collect(agent, limits).await {
            Ok(None) => {}
            Ok(Some((wanted, freed))) => {
                let words = format!(
                    "Failed to garbage collect required amount of images. Attempted to free {wanted} bytes, but only found {freed} bytes eligible to free."
                );
                agent.node_warning("FreeDiskSpaceFailed", words);
            }
            Err(error) => {
                agent.node_warning("ImageGCFailed", format!("failed to garbage collect images: {error}"))
            }
        }
    }

    async fn try_collect(&self, agent: &Agent, limits: &Limits) -> Result<Option<(u64, u64)>, Failed> {
        let images = self.look(agent).await?;
        let Some((whole, free)) = disk(agent).await? else { return Ok(None) };
        let Some(wanted) = excess(whole, free, limits) else { return Ok(None) };
        let freed = self.free(agent, images, wanted, limits).await?;
        Ok((freed < wanted).then_some((wanted, freed)))
    }

    /// Removes all images that nobody uses, but those that came a moment ago, perhaps for a container to be: the disk is full.
    pub(crate) async fn collect_all(&self, agent: &Agent) -> Result<(), Failed> {
        let images = self.look(agent).await?;
        self.free(agent, images, u64::MAX, &agent.setup.limits).await.map(drop)
    }

    /// Images that nobody uses; notes which are used.
    async fn look(&self, agent: &Agent) -> Result<Vec<Image>, Failed> {
        let client = agent.runtime.client().await?;
        let (images, containers) = futures_util::try_join!(
            client.list_images(ListImagesRequest::default()),
            client.list_containers(ListContainersRequest::default())
        )?;
        let mut used: BTreeSet<String> = agent.volume_images();
        for one in containers.containers {
            used.extend([one.image_ref, one.image_id]);
            used.extend(one.image.into_iter().flat_map(|spec| [spec.image, spec.user_specified_image]));
        }
        let now = Instant::now();
        let is_used = |image: &Image| {
            let mut names = std::iter::once(&image.id).chain(&image.repo_tags).chain(&image.repo_digests);
            names.any(|name| used.contains(name))
        };
        let mut seen = self.seen();
        seen.retain(|id, _| images.images.iter().any(|image| image.id == *id));
        for image in &images.images {
            let known = seen.entry(image.id.clone()).or_insert(Seen { first: now, used: None });
            if is_used(image) {
                known.used = Some(now);
            }
        }
        Ok(images.images.into_iter().filter(|image| !image.pinned && !is_used(image)).collect())
    }

    /// Removes images until so many bytes are free; how many that were.
    async fn free(
        &self,
        agent: &Agent,
        mut images: Vec<Image>,
        wanted: u64,
        limits: &Limits,
    ) -> Result<u64, Failed> {
        let seen = self.seen().clone();
        let of =
            |image: &Image| seen.get(&image.id).map(|seen| (seen.used.unwrap_or(seen.first), seen.first));
        images.retain(|image| of(image).is_some_and(|(_, first)| first.elapsed() >= limits.image_age));
        images.sort_by_key(|image| of(image));
        let client = agent.runtime.client().await?;
        let mut freed: u64 = 0;
        for image in images {
            if freed >= wanted {
                break;
            }
            let spec = ImageSpec { image: image.id.clone(), ..ImageSpec::default() };
            match client.remove_image(RemoveImageRequest { image: Some(spec) }).await {
                Ok(_) => freed = freed.saturating_add(image.size),
                Err(error) => eprintln!("sextant agent: warning: cannot remove image {}: {error}", image.id),
            }
        }
        Ok(freed)
    }
}

/// A path on the disk that images are on: the runtime measures all of them when it is asked, so that is done once.
pub(crate) async fn image_disk(agent: &Agent) -> Result<Option<PathBuf>, Failed> {
    if let Some(known) = agent.images.disk.get() {
        return Ok(Some(known.clone()));
    }
    let info = agent.runtime.client().await?.image_fs_info(ImageFsInfoRequest {}).await?;
    let place = info
        .image_filesystems
        .into_iter()
        .find_map(|one| one.fs_id)
        .map(|place| PathBuf::from(place.mountpoint));
    Ok(place.map(|place| agent.images.disk.get_or_init(|| place).clone()))
}

/// Bytes of that disk, and those that are free.
pub(crate) async fn disk(agent: &Agent) -> Result<Option<(u64, u64)>, Failed> {
    let found = image_disk(agent).await?.and_then(|place| rustix::fs::statvfs(&place).ok());
    Ok(found.map(|fs| (fs.f_blocks.saturating_mul(fs.f_frsize), fs.f_bavail.saturating_mul(fs.f_frsize))))
}

/// How many bytes have to be freed of a disk that is too full.
fn excess(whole: u64, free: u64, limits: &Limits) -> Option<u64> {
    let percent =
        |bytes: u64| u64::try_from(u128::from(bytes) * 100 / u128::from(whole.max(1))).unwrap_or(100);
    let is_full = limits.images_high < 100 && 100 - percent(free).min(100) >= u64::from(limits.images_high);
    let left = u128::from(whole) * u128::from(100 - limits.images_low.min(100)) / 100;
    is_full.then(|| u64::try_from(left).unwrap_or(u64::MAX).saturating_sub(free)).filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_freed_down_to_the_lower_mark() {
        let limits = Limits::default();
        assert_eq!(excess(1000, 160, &limits), None);
        assert_eq!(excess(1000, 150, &limits), Some(50));
        assert_eq!(excess(1000, 0, &limits), Some(200));
        assert_eq!(excess(1000, 0, &Limits { images_high: 100, ..limits }), None);
    }
}
