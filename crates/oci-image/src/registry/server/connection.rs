//! Connections: accept, authorize, dispatch.

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::watch;

use super::reply::{Code, Failure, Payload, reply};
use super::route::{Route, route};
use super::{Shared, access, blobs, manifests, referrers, tags, upload};

/// A client that opens a connection must say something on it.
const HEADERS_WITHIN: Duration = Duration::from_secs(30);
/// After an error of accept (out of descriptors) trying at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const API_VERSION: (&str, &str) = ("docker-distribution-api-version", "registry/2.0");

pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // An error means that the handle is gone.
            _ = stopped.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let shared = shared.clone();
                let service = service_fn(move |request| serve(shared.clone(), request));
                let mut connection = http1::Builder::new();
                connection.timer(TokioTimer::new()).header_read_timeout(HEADERS_WITHIN);
                // A connection that fails is its client's to notice.
                tokio::spawn(
                    async move { _ = connection.serve_connection(TokioIo::new(stream), service).await },
                );
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn serve(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Payload>, Infallible> {
    let head = request.method() == Method::HEAD;
    let mut response = match dispatch(&shared, request).await {
        Ok(response) => response,
        Err(failure) => failure.into_response(head),
    };
    let (name, value) = API_VERSION;
    response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    Ok(response)
}

async fn dispatch(shared: &Shared, request: Request<Incoming>) -> Result<Response<Payload>, Failure> {
    access::check(shared, request.headers())?;
    let route = route(request.uri().path())?;
    match (request.method().clone(), route) {
        (Method::GET | Method::HEAD, Route::Root) => {
            Ok(reply(StatusCode::OK, &[("content-type", "application/json")], Payload::full("{}")))
        }
        (Method::GET | Method::HEAD, Route::Blob(name, digest)) => {
            blobs::get(shared, &request, &name, &digest)
        }
        (Method::DELETE, Route::Blob(name, digest)) => blobs::delete(shared, &name, &digest),
        (Method::POST, Route::Uploads(name)) => upload::start(shared, request, &name).await,
        (Method::GET, Route::Upload(name, id)) => upload::status(shared, &name, &id),
        (Method::PATCH, Route::Upload(name, id)) => upload::append(shared, request, &name, &id).await,
        (Method::PUT, Route::Upload(name, id)) => upload::finish(shared, request, &name, &id).await,
        (Method::DELETE, Route::Upload(name, id)) => upload::cancel(shared, &name, &id),
        (Method::GET | Method::HEAD, Route::Manifest(name, selector)) => {
            manifests::get(shared, request.method() == Method::HEAD, &name, &selector)
        }
        (Method::PUT, Route::Manifest(name, selector)) => {
            manifests::put(shared, request, &name, &selector).await
        }
        (Method::DELETE, Route::Manifest(name, selector)) => manifests::delete(shared, &name, &selector),
        (Method::GET, Route::Tags(name)) => tags::list(shared, request.uri(), &name),
        (Method::GET, Route::Referrers(name, digest)) => {
            referrers::list(shared, request.uri(), &name, &digest)
        }
        (method, _) => {
            let words = format!("{method} is not supported here");
            Err(Failure::new(StatusCode::METHOD_NOT_ALLOWED, Code::Unsupported, words))
        }
    }
}
