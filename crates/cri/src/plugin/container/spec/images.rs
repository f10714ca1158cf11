//! Images that are mounted in a container: their files, read-only.
//!
//! One layer is bound as it is. Several are an overlay, which is mounted on the host below the container's bundle and
//! recorded, since a foreign runtime needs a path, and a part of it (`image_sub_path`) can only be bound.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use kernel::mount::{Attributes, Overlay};
use ledger::{Effect, Owner, Record as _};
use oci_runtime::contract::Mount;
use rustix::fs::{Mode, OFlags};

use super::mounts::{self, Surroundings};
use crate::contract::v1;
use crate::contract::{Code, Error};
use crate::plugin::files;
use crate::plugin::images::ForContainer;

/// A mounted image.
#[derive(Debug)]
pub(crate) struct ImageVolume {
    pub(crate) container_path: String,
    pub(crate) id: String,
    /// By diffID: what must not be collected.
    pub(crate) layers: Vec<String>,
    /// Where the layers are, the topmost first.
    lower: Vec<PathBuf>,
    /// The overlay, attached nowhere yet; `None` for a single layer.
    overlay: Option<OwnedFd>,
    /// Where it goes.
    dir: PathBuf,
    /// The pod's user namespace, which maps the ids of its layers.
    user: Option<PathBuf>,
}

/// Plans the mount of `image`, which `asked` names. `lower` are its layers, the topmost first; `dir` is for what has to be
/// mounted on the host.
pub(super) fn plan(
    asked: &v1::Mount,
    field: &str,
    image: ForContainer,
    lower: Vec<PathBuf>,
    dir: PathBuf,
    around: &Surroundings,
) -> Result<(ImageVolume, Mount), Error> {
    mounts::check_place(asked, field)?;
    let overlay = match lower.as_slice() {
        [] => {
            return Err(failed(
                Code::InvalidArgument,
                &format!("{field}.image.image"),
                "the image has no layers",
            ));
        }
        [_] => None,
        layers => Some(overlay(layers, &[]).map_err(|e| failed(Code::Internal, field, &e.to_string()))?),
    };
    let root = match &overlay {
        Some(overlay) => overlay.try_clone().map_err(|e| Error::internal(e.to_string()))?,
        None => open(&lower[0])?,
    };
    let inside = inside(&root, &asked.image_sub_path, field)?;
    let mapped = around.user.is_some();
    let top = if overlay.is_some() { dir.join("root") } else { lower[0].clone() };
    let source = if inside.as_os_str().is_empty() { top } else { top.join(inside) };
    let source = source.to_str().ok_or_else(|| {
        Error::invalid(format!("{field}.image_sub_path"), "leads to a path that is not UTF-8")
    })?;
    let mut options = vec!["rbind", "rprivate", "ro", "nodev"];
    // The layers of an overlay are mapped below it.
    if mapped && overlay.is_none() {
        options.push("idmap");
    }
    let destination = format!("/{}", mounts::place(&asked.container_path).display());
    let mount = mounts::bound(&destination, source, &options);
    let volume = ImageVolume {
        container_path: asked.container_path.clone(),
        id: image.id,
        layers: image.layers,
        lower,
        overlay,
        dir,
        user: around.user.clone(),
    };
    Ok((volume, mount))
}

/// The name that the kubelet shows as the reason of a container that waits stands first.
fn failed(code: Code, field: &str, message: &str) -> Error {
    Error::new(code, format!("ImageVolumeMountFailed: {field}: {message}"))
}

/// A directory in the image, as a path without links.
fn inside(root: &OwnedFd, sub: &str, field: &str) -> Result<PathBuf, Error> {
    if sub.is_empty() {
        return Ok(PathBuf::new());
    }
    let field = format!("{field}.image_sub_path");
    let relative = Path::new(sub.trim_start_matches('/'));
    let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let place = kernel::path::open_in(root, relative, flags, Mode::empty()).map_err(|_| {
        failed(Code::InvalidArgument, &field, &format!("{sub:?} is no directory in the image"))
    })?;
    let shown = |fd: &OwnedFd| fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    let (top, place) = (shown(root), shown(&place));
    let both = top.and_then(|top| Ok((top, place?)));
    let (top, place) = both.map_err(|e| failed(Code::Internal, &field, &e.to_string()))?;
    let below = place.strip_prefix(&top).map(Path::to_path_buf);
    below.map_err(|_| failed(Code::InvalidArgument, &field, &format!("{sub:?} leads out of the image")))
}

fn open(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|e| Error::internal(format!("cannot open {}: {e}", path.display())))
}

fn overlay(lower: &[PathBuf], attached: &[PathBuf]) -> kernel::Result<OwnedFd> {
    let lower = if attached.is_empty() { lower } else { attached };
    kernel::mount::overlay(&Overlay {
        lower: lower.iter().map(PathBuf::as_path).collect(),
        upper: None,
        volatile: false,
    })
}

impl ImageVolume {
    /// Mounts what has to be on the host.
    pub(super) fn mount(&self, owner: &mut Owner) -> Result<(), Error> {
        let Some(plain) = &self.overlay else { return Ok(()) };
        files::make_dir(&self.dir)?;
        let mut attached = Vec::new();
        if let Some(path) = &self.user {
            let user = fs::File::open(path).map(OwnedFd::from).map_err(|e| {
                Error::internal(format!("cannot open the pod's user namespace {}: {e}", path.display()))
            })?;
            for (index, layer) in self.lower.iter().enumerate() {
                let place = self.dir.join(format!("layer-{index}"));
                let tree = clone(layer)?;
                let idmap = Attributes { set: Attributes::IDMAP, ..Attributes::default() };
                kernel::mount::set_attributes(&tree, idmap, false, Some(&user)).map_err(|e| {
                    Error::internal(format!(
                        "cannot map the ids of {}: {e} (its filesystem must be one that allows it)",
                        layer.display()
                    ))
                })?;
                attach(&tree, &place, owner)?;
                attached.push(place);
            }
        }
        let place = self.dir.join("root");
        if attached.is_empty() {
            return attach(plain, &place, owner);
        }
        attach(&overlay(&self.lower, &attached)?, &place, owner)
    }
}

fn clone(path: &Path) -> Result<OwnedFd, Error> {
    let name = kernel::process::cstring(path.as_os_str().as_encoded_bytes())?;
    kernel::mount::clone_tree(rustix::fs::CWD, &name, false)
        .map_err(|e| Error::internal(format!("cannot open {}: {e}", path.display())))
}

fn attach(mount: &OwnedFd, place: &Path, owner: &mut Owner) -> Result<(), Error> {
    owner.record(Effect::Mount { path: place.to_owned() }).map_err(Error::of)?;
    files::make_dir(place)?;
    let target = open(place)?;
    kernel::mount::attach(mount, target)
        .map_err(|e| Error::internal(format!("cannot mount on {}: {e}", place.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::v1::ImageSpec;
    use crate::plugin::container::spec::tests::{around, image};

    /// Two layers: `etc/a` with a link to it in the lower one, `etc/b` and a file in the upper one.
    fn layers(dir: &Path) -> Vec<PathBuf> {
        let [upper, lower] = ["upper", "lower"].map(|name| dir.join(name));
        fs::create_dir_all(lower.join("etc/a")).unwrap();
        fs::create_dir_all(upper.join("etc/b")).unwrap();
        fs::write(upper.join("file"), "").unwrap();
        std::os::unix::fs::symlink("/etc/a", lower.join("link")).unwrap();
        vec![upper, lower]
    }

    fn asked(sub: &str) -> v1::Mount {
        v1::Mount {
            container_path: "/mnt/image".into(),
            readonly: true,
            image: Some(ImageSpec::default()),
            image_sub_path: sub.into(),
            ..v1::Mount::default()
        }
    }

    fn of(asked: &v1::Mount, lower: Vec<PathBuf>) -> Result<(ImageVolume, Mount), Error> {
        let image = ForContainer {
            id: "sha256:1".into(),
            name: String::new(),
            reference: String::new(),
            layers: vec!["x".into()],
            config: image(),
        };
        plan(asked, "config.mounts[0]", image, lower, "/dir".into(), &around())
    }

    /// Needs root: overlays are mounted.
    #[test]
    fn a_part_of_several_layers_is_found_through_links() {
        let dir = tempfile::tempdir().unwrap();
        let layers = layers(dir.path());
        for (sub, source) in [
            ("", "/dir/root"),
            ("/", "/dir/root"),
            ("etc", "/dir/root/etc"),
            ("/etc/b/", "/dir/root/etc/b"),
            ("link", "/dir/root/etc/a"),
        ] {
            let (volume, mount) = of(&asked(sub), layers.clone()).unwrap();
            assert_eq!(
                (mount.source.as_str(), mount.destination.as_str()),
                (source, "/mnt/image"),
                "{sub:?}"
            );
            assert!(volume.overlay.is_some() && mount.has("ro") && !mount.has("noexec"));
        }
        for sub in ["none", "file"] {
            let error = of(&asked(sub), layers.clone()).unwrap_err();
            assert!(
                error.message.starts_with("ImageVolumeMountFailed: config.mounts[0].image_sub_path"),
                "{error}"
            );
        }
    }

    #[test]
    fn one_layer_is_bound_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let lower = layers(dir.path()).remove(1);
        let (volume, mount) = of(&asked("link"), vec![lower.clone()]).unwrap();
        assert!(volume.overlay.is_none());
        assert_eq!(Path::new(&mount.source), lower.join("etc/a"));
    }

    #[test]
    fn an_image_is_no_root() {
        let root = v1::Mount { container_path: "/".into(), ..asked("") };
        let error = of(&root, vec!["/".into()]).unwrap_err();
        assert_eq!(error.field.as_deref(), Some("config.mounts[0].container_path"));
    }
}
