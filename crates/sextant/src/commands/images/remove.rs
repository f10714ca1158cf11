use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::time::Duration;

use oci_image::contract::Digest;
use oci_image::reference::Reference;
use oci_image::store::{Collected, Image, Store};

use super::source;
use crate::cli::{RmiArgs, TagArgs};
use crate::container::Record;
use crate::failure::{Failure, Result};
use crate::instance::Instance;

/// `sextant tag`.
pub(crate) fn tag(instance: &Instance, args: &TagArgs) -> Result<()> {
    let store = instance.store()?;
    let image = source::find(&store, &args.image)?;
    let name = Reference::parse(&args.name)?;
    if name.digest().is_some() {
        return Err(Failure::new(format!(
            "cannot name an image {name}: a name ends in a tag, not in a digest"
        )));
    }
    Ok(store.tag(&image, &name.to_string())?)
}

/// `sextant rmi`: takes names away, and what nobody needs any more.
pub(crate) fn remove(instance: &Instance, args: &RmiArgs) -> Result<()> {
    let store = instance.store()?;
    let mut failures = Vec::new();
    for text in &args.images {
        if let Err(failure) = remove_one(instance, &store, text, args.force) {
            failures.push(failure);
        }
    }
    // Partial downloads are `prune`'s: a pull that was cut goes on from them.
    collect(instance, &store, Duration::MAX)?;
    source::all(failures)
}

fn remove_one(instance: &Instance, store: &Store, text: &str, force: bool) -> Result<()> {
    let image = source::find(store, text)?;
    let names = names(store, &image)?;
    let by_name = named_by(text, &image);
    if !by_name && names.len() > 1 && !force {
        return Err(Failure::new(format!(
            "cannot remove image {text}: it has the names {}; remove one by name, or all with -f",
            names.join(", ")
        )));
    }
    // One name of several goes, the image stays.
    if by_name && names.len() > 1 {
        let name = image.name.clone().unwrap_or_default();
        store.untag(&name)?;
        println!("untagged: {name}");
        return Ok(());
    }
    let id = store.details(&image).map_or_else(|_| image.manifest.digest.clone(), |d| d.id);
    if !force && let Some(user) = users(instance, &id)?.first() {
        return Err(Failure::new(format!(
            "cannot remove image {text}: container {} uses it; remove that first (`sextant rm {}`), or give -f to take \
             the name away and keep the layers until the container is gone",
            user.name, user.name
        )));
    }
    for name in store.remove(&image)? {
        println!("untagged: {name}");
    }
    println!("removed: {id}");
    Ok(())
}

/// Whether `text` is the image's name and not its id.
fn named_by(text: &str, image: &Image) -> bool {
    let Some(own) = image.name.as_deref() else { return false };
    own == text
        || Reference::parse(text).is_ok_and(|r| Reference::parse(own).is_ok_and(|own| own.name() == r.name()))
}

fn names(store: &Store, image: &Image) -> Result<Vec<String>> {
    let images = store.images()?;
    let same = images.into_iter().filter(|i| i.manifest.digest == image.manifest.digest);
    Ok(same.filter_map(|i| i.name).collect())
}

/// The containers of the image with this id, running or not.
fn users(instance: &Instance, id: &Digest) -> Result<Vec<Record>> {
    let id = id.to_string();
    Ok(Record::all(instance)?.into_iter().filter(|r| r.image_id == id).collect())
}

/// Removes what no image, pull and container needs, and partial downloads that nobody went on with for `partials`.
pub(crate) fn collect(instance: &Instance, store: &Store, partials: Duration) -> Result<Collected> {
    Ok(store.collect(&in_use(instance), partials)?)
}

/// Whether a container needs a layer. The containers are read when that is asked first: by then, with the store held
/// by whoever asks, no container is being made.
pub(super) fn in_use(instance: &Instance) -> impl Fn(&Digest) -> bool {
    let needed: OnceCell<Option<BTreeSet<String>>> = OnceCell::new();
    let read = || {
        let mut layers = cri::plugin::layers_in_use(&instance.data)?;
        layers.extend(Record::layers_in_use(instance)?);
        Some(layers)
    };
    // If the containers cannot be listed, each of them may need everything.
    move |layer| needed.get_or_init(read).as_ref().is_none_or(|all| all.contains(&layer.to_string()))
}
