//! Documents that are rendered: one at a time, and once for all that ask for the same while somebody still has it.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use http::HeaderValue;
use http::header::{CONTENT_ENCODING, VARY};
use serde_json::Value;

use crate::contract::{Result, Status};
use crate::serve::answer::{self, Response};
use crate::serve::body::Body;
use crate::serve::guard::for_a_request;

/// A document, as of a set of resources.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Wanted {
    pub(super) what: String,
    pub(super) version: u64,
    pub(super) gzip: bool,
}

/// What is kept: the index of v3, and where documents are that somebody has.
#[derive(Default)]
pub(crate) struct Cache {
    /// Who renders.
    turn: tokio::sync::Mutex<()>,
    index: Mutex<Option<(u64, Arc<Value>)>>,
    documents: Mutex<HashMap<Wanted, Weak<Vec<u8>>>>,
}

/// A rendered document.
pub(super) struct Document {
    bytes: Arc<Vec<u8>>,
    gzip: bool,
}

struct Shared(Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Document {
    pub(super) fn bytes(&self) -> Bytes {
        Bytes::from_owner(Shared(Arc::clone(&self.bytes)))
    }

    pub(super) fn answer(&self, media_type: &'static str) -> Response {
        let mut response = answer::plain(200, media_type, Bytes::new());
        *response.body_mut() = Body::shared(self.bytes());
        if self.gzip {
            let headers = response.headers_mut();
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        }
        response
    }
}

impl Cache {
    /// The document that `render` makes, which may make none.
    pub(super) async fn get(
        &self,
        wanted: Wanted,
        render: impl FnOnce() -> Option<Vec<u8>> + Send + 'static,
    ) -> Result<Option<Document>> {
        let gzip = wanted.gzip;
        if let Some(bytes) = self.kept(&wanted) {
            return Ok(Some(Document { bytes, gzip }));
        }
        let _turn = self.turn.lock().await;
        if let Some(bytes) = self.kept(&wanted) {
            return Ok(Some(Document { bytes, gzip }));
        }
        let Some(bytes) =
            aside(move || render().map(|bytes| if gzip { packed(&bytes) } else { bytes })).await?
        else {
            return Ok(None);
        };
        let bytes = Arc::new(bytes);
        let mut documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
        documents.retain(|_, document| document.strong_count() > 0);
        documents.insert(wanted, Arc::downgrade(&bytes));
        Ok(Some(Document { bytes, gzip }))
    }

    /// The index of v3.
    pub(super) async fn index(
        &self,
        version: u64,
        render: impl FnOnce() -> Value + Send + 'static,
    ) -> Result<Arc<Value>> {
        let kept = || {
            let index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
            index.as_ref().filter(|(of, _)| *of == version).map(|(_, index)| Arc::clone(index))
        };
        if let Some(index) = kept() {
            return Ok(index);
        }
        let _turn = self.turn.lock().await;
        if let Some(index) = kept() {
            return Ok(index);
        }
        let index = Arc::new(aside(render).await?);
        *self.index.lock().unwrap_or_else(PoisonError::into_inner) = Some((version, Arc::clone(&index)));
        Ok(index)
    }

    fn kept(&self, wanted: &Wanted) -> Option<Arc<Vec<u8>>> {
        self.documents.lock().unwrap_or_else(PoisonError::into_inner).get(wanted)?.upgrade()
    }
}

/// Rendering takes a while: connections go on meanwhile.
async fn aside<T: Send + 'static>(render: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(|| for_a_request(render)).await.map_err(Status::internal)
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let into = Vec::with_capacity(bytes.len() / 8);
    let mut encoder = flate2::write::GzEncoder::new(into, flate2::Compression::fast());
    // Memory takes what is written to it.
    encoder.write_all(bytes).and_then(|()| encoder.finish()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn wanted(what: &str) -> Wanted {
        Wanted { what: what.to_owned(), version: 1, gzip: false }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn who_asks_for_the_same_gets_the_same_and_one_is_rendered_at_a_time() {
        let cache = Arc::new(Cache::default());
        let (now, rendered) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let get = |what: &'static str| {
            let (cache, now, rendered) = (Arc::clone(&cache), Arc::clone(&now), Arc::clone(&rendered));
            tokio::spawn(async move {
                let render = move || {
                    assert_eq!(now.fetch_add(1, Ordering::SeqCst), 0);
                    rendered.fetch_add(1, Ordering::SeqCst);
                    std::thread::sleep(std::time::Duration::from_millis(2));
                    now.fetch_sub(1, Ordering::SeqCst);
                    Some(what.as_bytes().to_vec())
                };
                cache.get(wanted(what), render).await.unwrap().unwrap()
            })
        };
        let first = get("a").await.unwrap();
        let others: Vec<_> = (0..8).flat_map(|_| [get("a"), get("b")]).collect();
        let mut held = Vec::new();
        for other in others {
            held.push(other.await.unwrap());
        }
        assert!(held.iter().step_by(2).all(|document| Arc::ptr_eq(&document.bytes, &first.bytes)));
        // Of `b` somebody always had one, or it was rendered anew: never more often than it was asked for.
        assert!((2..=9).contains(&rendered.load(Ordering::SeqCst)));
        drop((first, held));
        assert!(cache.kept(&wanted("a")).is_none());
    }
}
