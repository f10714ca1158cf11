//! The image service: each call, to what does it.

use std::sync::Arc;

use grpc::{Messages, Status};

use super::Images;
use crate::contract::v1::{
    ImageFsInfoRequest, ImageFsInfoResponse, ImageService, ImageSpec, ImageStatusRequest,
    ImageStatusResponse, ListImagesRequest, ListImagesResponse, PullImageRequest, PullImageResponse,
    RemoveImageRequest, RemoveImageResponse, StreamImagesRequest, StreamImagesResponse,
};
use crate::plugin::history::{History, Who};
use crate::plugin::service::parts;

/// ImageService over a node's images.
pub(crate) struct Service {
    images: Arc<Images>,
    history: Arc<History>,
}

impl Service {
    /// Serves `images`, and notes in `history` what was pulled for a pod. What was not collected when an earlier process
    /// ended is collected now.
    pub(crate) fn new(images: Arc<Images>, history: Arc<History>) -> Self {
        images.collect_soon();
        Self { images, history }
    }
}

fn text(spec: Option<&ImageSpec>) -> &str {
    spec.map_or("", |spec| spec.image.as_str())
}

impl ImageService for Service {
    async fn list_images(&self, request: ListImagesRequest) -> Result<ListImagesResponse, Status> {
        let filter = request.filter.unwrap_or_default();
        Ok(ListImagesResponse { images: self.images.list(text(filter.image.as_ref())).await? })
    }

    async fn stream_images(
        &self,
        request: StreamImagesRequest,
    ) -> Result<Messages<StreamImagesResponse>, Status> {
        let filter = request.filter.unwrap_or_default();
        let all = self.images.list(text(filter.image.as_ref())).await?;
        Ok(parts(all, |images| StreamImagesResponse { images }))
    }

    async fn image_status(&self, request: ImageStatusRequest) -> Result<ImageStatusResponse, Status> {
        Ok(self.images.status(&request.image.unwrap_or_default(), request.verbose).await?)
    }

    async fn pull_image(&self, request: PullImageRequest) -> Result<PullImageResponse, Status> {
        let name = text(request.image.as_ref());
        let pod = request.sandbox_config.as_ref().filter(|config| config.metadata.is_some());
        let doing = pod.map(|config| self.history.begin(Who::of(config), "PullImage", name));
        let pulled = self.images.pull(name, request.auth.as_ref()).await;
        if let Some(doing) = doing {
            doing.end(&pulled, Clone::clone);
        }
        Ok(PullImageResponse { image_ref: pulled? })
    }

    async fn remove_image(&self, request: RemoveImageRequest) -> Result<RemoveImageResponse, Status> {
        self.images.remove(text(request.image.as_ref())).await?;
        Ok(RemoveImageResponse {})
    }

    async fn image_fs_info(&self, _: ImageFsInfoRequest) -> Result<ImageFsInfoResponse, Status> {
        Ok(self.images.fs_info().await?)
    }
}
