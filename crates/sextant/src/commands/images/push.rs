use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ScopedJoinHandle};

use oci_image::contract::{Descriptor, Digest, MANIFEST_LIMIT};
use oci_image::reference::Reference;
use oci_image::registry::client::{Client, Pushed};
use oci_image::store::{Image, Store};

use super::source;
use crate::cli::PushArgs;
use crate::failure::{Failure, Result};
use crate::instance::Instance;
use crate::output::progress::Transfer;

/// How many blobs are sent at once, as many as a pull takes at once.
const UPLOADS: usize = 4;

/// `sextant push`.
pub(crate) fn push(instance: &Instance, args: &PushArgs) -> Result<()> {
    let (to, digest) =
        send(&instance.store()?, &args.image, args.plain_http, args.creds.as_deref(), args.quiet)?;
    println!("{to}\n{digest}");
    Ok(())
}

/// Pushes an image, progress on standard error; where it went, and its digest there.
pub(crate) fn send(
    store: &Store,
    name: &str,
    plain_http: bool,
    creds: Option<&str>,
    quiet: bool,
) -> Result<(Reference, Digest)> {
    let image = source::find(store, name)?;
    let to = destination(name, &image)?;
    let client = source::client(plain_http, creds)?;
    // Whatever is collected meanwhile, what is being sent stays.
    let _hold = store.hold()?;
    let manifest = store.manifest(&image.manifest.digest)?;
    // Layers that may not be distributed stay where they are: the manifest says where.
    let mut blobs: Vec<Descriptor> =
        manifest.layers.iter().filter(|l| !l.media_type.is_nondistributable()).cloned().collect();
    blobs.push(manifest.config.clone());
    blobs.sort_by(|a, b| a.digest.cmp(&b.digest));
    blobs.dedup_by(|a, b| a.digest == b.digest);
    let sender = Sender {
        store,
        client: &client,
        to: &to,
        siblings: siblings(store, &image, &to)?,
        progress: Arc::new(Transfer::new(quiet)),
    };
    sender.blobs(&blobs)?;
    let bytes = store.read_blob(&image.manifest.digest, MANIFEST_LIMIT)?;
    let digest = client.push_manifest(&to, &image.manifest.media_type, &bytes)?;
    Ok((to, digest))
}

/// Where it goes: the name typed, which must be one of the image's own and no id.
fn destination(text: &str, image: &Image) -> Result<Reference> {
    let reference = Reference::parse(text).ok().filter(|to| {
        let own = image.name.as_deref().and_then(|name| Reference::parse(name).ok());
        own.is_some_and(|own| own.name() == to.name())
    });
    reference.ok_or_else(|| {
        Failure::new(format!(
            "cannot push {text:?}: a name says where to; give it one with `sextant tag {text} REGISTRY/NAME:TAG`"
        ))
    })
}

/// Repositories of the same registry that may have the image's blobs: those of its other names.
fn siblings(store: &Store, image: &Image, to: &Reference) -> Result<Vec<String>> {
    let images = store.images()?;
    let others = images.iter().filter(|i| i.manifest.digest == image.manifest.digest);
    let references = others.filter_map(|i| Reference::parse(i.name.as_deref()?).ok());
    let same = references.filter(|r| r.registry() == to.registry() && r.repository() != to.repository());
    Ok(same.map(|r| r.repository().to_owned()).collect())
}

struct Sender<'a> {
    store: &'a Store,
    client: &'a Client,
    to: &'a Reference,
    siblings: Vec<String>,
    progress: Arc<Transfer>,
}

impl Sender<'_> {
    /// Sends all blobs, several at once; the first failure ends it.
    fn blobs(&self, blobs: &[Descriptor]) -> Result<()> {
        self.progress.begin(blobs);
        let queue = Mutex::new(blobs.iter());
        let stop = AtomicBool::new(false);
        let work = || {
            while !stop.load(Ordering::Relaxed) {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(blob) = next else { break };
                self.blob(blob).inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
            }
            Ok(())
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..UPLOADS.min(blobs.len())).map(|_| scope.spawn(work)).collect();
            let join = |thread: ScopedJoinHandle<'_, _>| match thread.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            threads.into_iter().try_for_each(join)
        })
    }

    fn blob(&self, blob: &Descriptor) -> Result<()> {
        let digest = &blob.digest;
        self.progress.say(digest, "pushing");
        let from = self.siblings.first().map(String::as_str);
        let pushed = self.client.push_blob(self.to, blob, from, &|offset| {
            let mut file = File::open(self.store.blob_path(digest))?;
            file.seek(SeekFrom::Start(offset))?;
            let progress = Arc::clone(&self.progress);
            Ok(Box::new(Watched { file, position: offset, digest: digest.clone(), progress }))
        })?;
        self.progress.end(
            digest,
            match pushed {
                Pushed::Existed => "present",
                Pushed::Mounted => "mounted",
                Pushed::Uploaded => "pushed",
            },
        );
        Ok(())
    }
}

/// A blob being read, whose progress is shown.
struct Watched {
    file: File,
    position: u64,
    digest: Digest,
    progress: Arc<Transfer>,
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buffer)?;
        self.position += n as u64;
        self.progress.position(&self.digest, self.position);
        Ok(n)
    }
}
