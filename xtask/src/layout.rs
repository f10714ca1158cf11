//! OCI layouts made with the machine's own programs, as images that are not ours to begin with.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::Result;
use crate::packages::architecture;
use crate::program::{quiet, shown};

/// A layer of a layout.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub(crate) media_type: String,
    /// SHA-256 of the blob and of the tar, in hexadecimal.
    pub(crate) digest: String,
    pub(crate) diff_id: String,
    pub(crate) size: u64,
}

/// Puts a layer's tar into a layout, compressed by `program`; `kind` is the media type's end, such as `tar+gzip`.
pub(crate) fn compress(
    tar: &Path,
    layout: &Path,
    kind: &str,
    program: &[&str],
    diff_id: &str,
) -> Result<Layer> {
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let made = layout.join("layer");
    let [name, options @ ..] = program else { return Err("no program compresses".into()) };
    let mut command = Command::new(name);
    let status = command.args(options).stdin(File::open(tar)?).stdout(File::create(&made)?).status()?;
    if !status.success() {
        return Err(format!("{} failed: {status}", shown(&command)).into());
    }
    let (digest, size) = (sha256(&made)?, fs::metadata(&made)?.len());
    fs::rename(&made, blobs.join(&digest))?;
    Ok(Layer {
        media_type: format!("application/vnd.oci.image.layer.v1.{kind}"),
        digest,
        size,
        diff_id: diff_id.to_owned(),
    })
}

/// Configuration, manifest, index, `oci-layout`: one image of these layers, called `name`; its manifest's descriptor.
pub(crate) fn describe(layout: &Path, layers: &[Layer], name: &str) -> Result<Value> {
    let diff_ids: Vec<_> = layers.iter().map(|layer| format!("sha256:{}", layer.diff_id)).collect();
    let config = blob(
        layout,
        "application/vnd.oci.image.config.v1+json",
        &json!({
            "architecture": architecture()?,
            "os": "linux",
            "config": {"Cmd": ["/usr/bin/true"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }),
    )?;
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| {
            json!({
                "mediaType": layer.media_type,
                "digest": format!("sha256:{}", layer.digest),
                "size": layer.size,
            })
        })
        .collect();
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers});
    let mut manifest = blob(layout, kind, &manifest)?;
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    let index = json!({"schemaVersion": 2, "manifests": [&manifest]});
    fs::write(layout.join("index.json"), index.to_string())?;
    fs::write(layout.join("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}).to_string())?;
    Ok(manifest)
}

/// Writes a document by its digest and returns its descriptor.
fn blob(layout: &Path, media_type: &str, document: &Value) -> Result<Value> {
    let text = document.to_string();
    let made = layout.join("document");
    fs::write(&made, &text)?;
    let digest = sha256(&made)?;
    fs::rename(&made, layout.join("blobs/sha256").join(&digest))?;
    Ok(json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": text.len()}))
}

/// A file's SHA-256, in hexadecimal.
pub(crate) fn sha256(file: &Path) -> Result<String> {
    let said = quiet(Command::new("sha256sum").arg("--").arg(file))?;
    Ok(said.split_whitespace().next().ok_or("sha256sum says nothing")?.to_owned())
}
