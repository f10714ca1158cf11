//! The service through a socket.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::oneshot;

use super::super::Service;
use super::rig::{Rig, Rule, until};
use crate::caller::Client;
use crate::contract::Code;
use crate::contract::v1::{
    ImageFsInfoRequest, ImageSpec, ImageStatusRequest, ListImagesRequest, PullImageRequest,
    RemoveImageRequest, RuntimeService, StreamImagesRequest,
};
use crate::plugin::server::serve;

struct NoRuntime;
impl RuntimeService for NoRuntime {}

async fn served(rig: &Rig, test: impl AsyncFnOnce(Client)) {
    let socket = rig.dir.path().join("cri.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let service = Arc::new(Service::new(Arc::clone(&rig.images), Arc::default()));
    let stopped = async move { drop(stopped.await) };
    let server = tokio::spawn(serve(listener, Arc::new(NoRuntime), service, stopped, Duration::from_secs(5)));
    test(Client::connect(&socket).await.unwrap()).await;
    drop(stop);
    server.await.unwrap().unwrap();
}

fn spec(image: &str) -> Option<ImageSpec> {
    Some(ImageSpec { image: image.into(), ..ImageSpec::default() })
}

#[tokio::test]
async fn every_call_answers() {
    let rig = Rig::new();
    rig.push("a:1", b"x");
    let name = rig.name("a:1");
    served(&rig, async |client| {
        let pull = PullImageRequest { image: spec(&name), ..PullImageRequest::default() };
        let id = client.pull_image(pull).await.unwrap().image_ref;
        let listed = client.list_images(ListImagesRequest::default()).await.unwrap().images;
        let mut stream = client.stream_images(StreamImagesRequest::default()).await.unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap().images, listed);
        assert!(stream.next().await.unwrap().is_none());
        let status = ImageStatusRequest { image: spec(&name), verbose: false };
        let image = client.image_status(status.clone()).await.unwrap().image;
        assert_eq!((image.as_ref(), &listed[0].id), (listed.first(), &id));
        assert_eq!(client.image_fs_info(ImageFsInfoRequest {}).await.unwrap().image_filesystems.len(), 1);
        client.remove_image(RemoveImageRequest { image: spec(&id) }).await.unwrap();
        assert_eq!(client.image_status(status).await.unwrap().image, None);
        let error = client.remove_image(RemoveImageRequest::default()).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        let nothing = ImageStatusRequest { image: spec("nothing:1"), verbose: false };
        assert_eq!(client.image_status(nothing).await.unwrap().image, None);
    })
    .await;
}

#[tokio::test]
async fn a_caller_whose_time_is_up_ends_the_pull() {
    let rig = Rig::new();
    rig.push("a:1", b"x");
    let name = rig.name("a:1");
    rig.state().set(Rule::Hold("/manifests/".into()));
    served(&rig, async |client| {
        let pull = || PullImageRequest { image: spec(&name), ..PullImageRequest::default() };
        for limit in [1, 200] {
            let hurried = client.clone().with_deadline(Duration::from_millis(limit));
            let error = hurried.pull_image(pull()).await.unwrap_err();
            assert_eq!(error.code(), Code::DeadlineExceeded);
            until("nobody waits", || rig.images.pulls.waiting() == 0).await;
        }
        rig.state().set(Rule::None);
        client.pull_image(pull()).await.unwrap();
    })
    .await;
}
