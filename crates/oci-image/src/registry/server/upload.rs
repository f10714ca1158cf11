//! Uploads of blobs (end-4, 5, 6, 11, 13): in one piece, in chunks, or by mounting what another repository has.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{CONTENT_RANGE, HeaderMap};
use hyper::{Request, Response, StatusCode};

use super::Shared;
use super::reply::{Code, Failure, Payload, reply};
use super::route;
use crate::contract::{Algorithm, Digest, Hasher};

/// A client that sends nothing for so long is gone; what it sent stays, and it may go on.
const STALL_MAX: Duration = Duration::from_secs(120);
/// An upload nobody went on with is forgotten after this.
const IDLE_MAX: Duration = Duration::from_secs(3600);

/// The uploads that are going on.
#[derive(Debug)]
pub(super) struct Uploads {
    folder: PathBuf,
    open: Mutex<HashMap<String, Session>>,
}

#[derive(Debug, Clone)]
struct Session {
    repository: String,
    upload: Arc<tokio::sync::Mutex<Upload>>,
    touched: Instant,
}

/// Bytes on disk, hashed as they came.
#[derive(Debug)]
struct Upload {
    path: PathBuf,
    file: File,
    size: u64,
    hasher: Hasher,
}

impl Uploads {
    /// What another process left unfinished cannot be gone on with: its hash is gone.
    pub(super) fn new(folder: PathBuf) -> io::Result<Self> {
        for entry in fs::read_dir(&folder)? {
            fs::remove_file(entry?.path())?;
        }
        Ok(Self { folder, open: Mutex::new(HashMap::new()) })
    }

    fn begin(&self, repository: &str) -> Result<String, Failure> {
        let mut random = [0; 16];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| io::Error::other("no random numbers"))?;
        let id: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = self.folder.join(&id);
        let file = File::create_new(&path)?;
        let upload = Upload { path, file, size: 0, hasher: Hasher::new(Algorithm::Sha256) };
        let upload = Arc::new(tokio::sync::Mutex::new(upload));
        let session = Session { repository: repository.to_owned(), upload, touched: Instant::now() };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|id, session| {
            let stays = session.touched.elapsed() < IDLE_MAX || session.upload.try_lock().is_err();
            // One that cannot be removed now is removed at the next start.
            stays || fs::remove_file(self.folder.join(id)).is_err()
        });
        open.insert(id.clone(), session);
        Ok(id)
    }

    fn find(&self, repository: &str, id: &str) -> Result<Arc<tokio::sync::Mutex<Upload>>, Failure> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        match open.get_mut(id).filter(|session| session.repository == repository) {
            Some(session) => {
                session.touched = Instant::now();
                Ok(session.upload.clone())
            }
            None => {
                Err(Failure::new(StatusCode::NOT_FOUND, Code::BlobUploadUnknown, format!("no upload {id}")))
            }
        }
    }

    fn forget(&self, id: &str) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

/// POST: a mount, a whole blob (`digest`), or the beginning of an upload.
pub(super) async fn start(
    shared: &Shared,
    request: Request<Incoming>,
    name: &str,
) -> Result<Response<Payload>, Failure> {
    let parameter = |key| route::parameter(request.uri(), key);
    if let (Some(digest), Some(from)) = (parameter("mount"), parameter("from")) {
        let (digest, from) = (route::digest(&digest)?, route::repository(&from)?);
        if shared.storage.mount(name, &from, &digest)? {
            return Ok(created(name, &digest));
        }
    }
    let digest = parameter("digest").map(|digest| route::digest(&digest)).transpose()?;
    let id = shared.uploads.begin(name)?;
    match digest {
        Some(digest) => complete(shared, request, name, &id, &digest).await,
        None => Ok(going_on(StatusCode::ACCEPTED, name, &id, 0)),
    }
}

/// GET: how far it is.
pub(super) fn status(shared: &Shared, name: &str, id: &str) -> Result<Response<Payload>, Failure> {
    let upload = shared.uploads.find(name, id)?;
    let upload = upload.try_lock().map_err(|_| busy(id))?;
    Ok(going_on(StatusCode::NO_CONTENT, name, id, upload.size))
}

/// DELETE: never mind.
pub(super) fn cancel(shared: &Shared, name: &str, id: &str) -> Result<Response<Payload>, Failure> {
    let upload = shared.uploads.find(name, id)?;
    let upload = upload.try_lock().map_err(|_| busy(id))?;
    fs::remove_file(&upload.path)?;
    shared.uploads.forget(id);
    Ok(reply(StatusCode::NO_CONTENT, &[], Payload::None))
}

/// PATCH: the next chunk.
pub(super) async fn append(
    shared: &Shared,
    request: Request<Incoming>,
    name: &str,
    id: &str,
) -> Result<Response<Payload>, Failure> {
    let upload = shared.uploads.find(name, id)?;
    let mut upload = upload.try_lock().map_err(|_| busy(id))?;
    check_order(request.headers(), name, id, upload.size)?;
    receive(&mut upload, request).await?;
    Ok(going_on(StatusCode::ACCEPTED, name, id, upload.size))
}

/// PUT: the last chunk, which may be empty, and the digest.
pub(super) async fn finish(
    shared: &Shared,
    request: Request<Incoming>,
    name: &str,
    id: &str,
) -> Result<Response<Payload>, Failure> {
    let Some(digest) = route::parameter(request.uri(), "digest") else {
        return Err(Failure::new(StatusCode::BAD_REQUEST, Code::DigestInvalid, "the digest is missing"));
    };
    let digest = route::digest(&digest)?;
    complete(shared, request, name, id, &digest).await
}

async fn complete(
    shared: &Shared,
    request: Request<Incoming>,
    name: &str,
    id: &str,
    digest: &Digest,
) -> Result<Response<Payload>, Failure> {
    let upload = shared.uploads.find(name, id)?;
    let mut upload = upload.try_lock().map_err(|_| busy(id))?;
    check_order(request.headers(), name, id, upload.size)?;
    receive(&mut upload, request).await?;
    let actual = match digest.algorithm() {
        Algorithm::Sha256 => upload.hasher.clone().finish(),
        other => hash_file(&upload.path, other)?,
    };
    let done = match actual == *digest {
        true => shared.storage.commit(name, &upload.path, digest).map_err(Failure::from),
        false => {
            let words = format!("the content's digest is {actual}, not {digest}");
            fs::remove_file(&upload.path)?;
            Err(Failure::new(StatusCode::BAD_REQUEST, Code::DigestInvalid, words))
        }
    };
    shared.uploads.forget(id);
    done.map(|()| created(name, digest))
}

/// Writes a request's body to the upload's end; what arrived before a cut stays.
async fn receive(upload: &mut Upload, request: Request<Incoming>) -> Result<(), Failure> {
    let mut body = request.into_body();
    loop {
        let late =
            |_| Failure::new(StatusCode::REQUEST_TIMEOUT, Code::BlobUploadInvalid, "the body stopped coming");
        let Some(frame) = tokio::time::timeout(STALL_MAX, body.frame()).await.map_err(late)? else {
            return Ok(());
        };
        let cut = |error: hyper::Error| {
            Failure::new(
                StatusCode::BAD_REQUEST,
                Code::BlobUploadInvalid,
                format!("the body was cut: {error}"),
            )
        };
        if let Ok(data) = frame.map_err(cut)?.into_data() {
            upload.file.write_all(&data)?;
            upload.hasher.update(&data);
            upload.size += data.len() as u64;
        }
    }
}

/// A chunk must begin where the last one ended; `Content-Range` is `first-last`, without a unit.
fn check_order(headers: &HeaderMap, name: &str, id: &str, size: u64) -> Result<(), Failure> {
    let Some(value) = headers.get(CONTENT_RANGE) else { return Ok(()) };
    let text = value.to_str().unwrap_or_default();
    let range = text.strip_prefix("bytes ").unwrap_or(text).split('/').next().unwrap_or_default();
    let first = range.split_once('-').and_then(|(first, _)| first.trim().parse::<u64>().ok());
    match first {
        Some(first) if first == size => Ok(()),
        _ => {
            let words = format!("the next byte is {size}, and {text:?} was sent");
            let failure = Failure::new(StatusCode::RANGE_NOT_SATISFIABLE, Code::BlobUploadInvalid, words);
            Err(failure.with("range", so_far(size)).with("location", location(name, id)))
        }
    }
}

fn hash_file(path: &Path, algorithm: Algorithm) -> io::Result<Digest> {
    let (mut file, mut hasher) = (File::open(path)?, Hasher::new(algorithm));
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(buffer.get(..count).unwrap_or_default()),
        }
    }
}

fn busy(id: &str) -> Failure {
    let words = format!("upload {id} is being written to");
    Failure::new(StatusCode::CONFLICT, Code::BlobUploadInvalid, words)
}

fn location(name: &str, id: &str) -> String {
    format!("/v2/{name}/blobs/uploads/{id}")
}

/// The spec's inclusive range cannot say "nothing": like others we say `0-0` then.
fn so_far(size: u64) -> String {
    format!("0-{}", size.saturating_sub(1))
}

fn going_on(status: StatusCode, name: &str, id: &str, size: u64) -> Response<Payload> {
    let (location, range) = (location(name, id), so_far(size));
    reply(status, &[("location", &location), ("range", &range), ("docker-upload-uuid", id)], Payload::None)
}

fn created(name: &str, digest: &Digest) -> Response<Payload> {
    let (location, text) = (format!("/v2/{name}/blobs/{digest}"), digest.to_string());
    reply(StatusCode::CREATED, &[("location", &location), ("docker-content-digest", &text)], Payload::None)
}
