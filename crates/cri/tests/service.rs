//! Both services through a socket: ours on both ends.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cri::caller::{Blocking, Client};
use cri::contract::v1::{
    ContainerEventResponse, GetEventsRequest, ImageService, ImageSpec, ListImagesRequest, PullImageRequest,
    PullImageResponse, RuntimeService, StopContainerRequest, StreamContainersRequest, VersionRequest,
    VersionResponse,
};
use cri::contract::{Code, Error};
use cri::plugin::server::serve;
use tokio::net::UnixListener;
use tokio::sync::oneshot;

struct Runtime;

impl RuntimeService for Runtime {
    async fn version(&self, request: VersionRequest) -> Result<VersionResponse, grpc::Status> {
        Ok(VersionResponse { version: request.version, ..VersionResponse::default() })
    }

    async fn get_container_events(
        &self,
        _: GetEventsRequest,
    ) -> Result<grpc::Messages<ContainerEventResponse>, grpc::Status> {
        let (events, messages) = grpc::Messages::channel(1);
        tokio::spawn(async move {
            let event = ContainerEventResponse { container_id: "c1".into(), ..Default::default() };
            events.send(event).await.unwrap();
            events.closed().await;
        });
        Ok(messages)
    }
}

struct Images;

impl ImageService for Images {
    async fn pull_image(&self, request: PullImageRequest) -> Result<PullImageResponse, grpc::Status> {
        // The dispatch lets no request through without one.
        match request.image.map(|spec| spec.image).as_deref() {
            Some("slow") => std::future::pending().await,
            Some(other) => Err(Error::not_found("image", other))?,
            None => unreachable!("the image is required"),
        }
    }
}

fn pull(image: &str) -> PullImageRequest {
    let spec = ImageSpec { image: image.into(), ..ImageSpec::default() };
    PullImageRequest { image: Some(spec), ..PullImageRequest::default() }
}

/// Runs a server beside `test`, then stops it.
fn served(test: impl AsyncFnOnce(&Path, oneshot::Sender<()>)) {
    let directory = tempfile::tempdir().unwrap();
    let socket: PathBuf = directory.path().join("cri.sock");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = UnixListener::bind(&socket).unwrap();
        let (stop, stopped) = oneshot::channel();
        let stopped = async move { drop(stopped.await) };
        let grace = Duration::from_secs(60);
        let server = tokio::spawn(serve(listener, Arc::new(Runtime), Arc::new(Images), stopped, grace));
        test(&socket, stop).await;
        server.await.unwrap().unwrap();
    });
}

#[test]
fn both_services_answer() {
    served(async |socket, _stop| {
        let client = Client::connect(socket).await.unwrap();
        let version = client.version(VersionRequest { version: "v1".into() }).await.unwrap();
        assert_eq!(version.version, "v1");
        let error = client.pull_image(pull("none")).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot call PullImage: no image \"none\" is here (NotFound)");
    });
}

#[test]
fn a_wrong_request_does_not_reach_its_handler() {
    served(async |socket, _stop| {
        let client = Client::connect(socket).await.unwrap();
        let error = client.pull_image(PullImageRequest::default()).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.to_string().contains("image: is missing"), "{error}");
        let error = client.stop_container(StopContainerRequest::default()).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.to_string().contains("container_id: is empty"), "{error}");
    });
}

#[test]
fn what_is_not_implemented_says_so() {
    served(async |socket, _stop| {
        let client = Client::connect(socket).await.unwrap();
        let error = client.list_images(ListImagesRequest::default()).await.unwrap_err();
        assert_eq!(error.code(), Code::Unimplemented);
        let error = client.stream_containers(StreamContainersRequest::default()).await.unwrap_err();
        assert_eq!(error.code(), Code::Unimplemented);
        assert!(error.to_string().contains("StreamContainers"), "{error}");
    });
}

#[test]
fn a_deadline_ends_a_pull() {
    served(async |socket, _stop| {
        let client = Client::connect(socket).await.unwrap().with_deadline(Duration::from_millis(1));
        let error = client.pull_image(pull("slow")).await.unwrap_err();
        assert_eq!(error.code(), Code::DeadlineExceeded);
    });
}

#[test]
fn an_endless_stream_ends_with_the_server() {
    served(async |socket, stop| {
        let client = Client::connect(socket).await.unwrap();
        let mut events = client.get_container_events(GetEventsRequest {}).await.unwrap();
        assert_eq!(events.next().await.unwrap().unwrap().container_id, "c1");
        stop.send(()).unwrap();
        assert_eq!(events.next().await.unwrap_err().code(), Code::Unavailable);
        assert!(events.next().await.unwrap().is_none());
    });
}

#[test]
fn a_program_without_a_runtime_can_call() {
    let directory = tempfile::tempdir().unwrap();
    let error = Blocking::connect(&directory.path().join("none.sock")).unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    served(async |socket, _stop| {
        let socket = socket.to_owned();
        let call = tokio::task::spawn_blocking(move || {
            let cri = Blocking::connect(&socket).unwrap();
            cri.wait(async |client| client.version(VersionRequest { version: "v1".into() }).await)
        });
        assert_eq!(call.await.unwrap().unwrap().version, "v1");
    });
}
