//! A pod in a file, in YAML or JSON.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Pod, Toleration};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::names::{CONFIG_HASH, CONFIG_SEEN, CONFIG_SOURCE};
use crate::volumes;

/// The largest file that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// The pods of all files of a folder, or of the one file; those whose name begins with a dot are somebody's who writes.
///
/// # Errors
/// The folder is there and cannot be read.
pub(super) fn read_all(path: &Path, node: &str) -> io::Result<Vec<(PathBuf, Result<Pod, String>)>> {
    let mut files: Vec<PathBuf> = match fs::read_dir(path) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?,
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => vec![path.to_owned()],
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        // What cannot be looked at now is not gone.
        Err(error) => return Err(error),
    };
    files.retain(|file| file.is_file());
    files.retain(|file| file.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b".")));
    files.sort();
    Ok(files.into_iter().map(|file| (file.clone(), read(&file, node))).collect())
}

fn read(file: &Path, node: &str) -> Result<Pod, String> {
    let text = volumes::beginning(&file.display().to_string(), LARGEST).map_err(|error| error.to_string())?;
    let mut value: Value = serde_saphyr::from_str(&text).map_err(|error| error.to_string())?;
    match value["kind"].as_str() {
        None | Some("Pod") => {}
        Some(kind) => return Err(format!("kind: {kind:?} is no Pod")),
    }
    amounts(&mut value);
    let mut pod: Pod = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let named = pod.metadata.name.as_deref().filter(|name| !name.is_empty());
    let name = named.ok_or("metadata.name: a pod needs one")?;
    let spec = pod.spec.as_mut().filter(|spec| !spec.containers.is_empty());
    let spec = spec.ok_or("spec.containers: a pod needs one")?;
    // Whatever taints its node has.
    spec.tolerations.get_or_insert_default().push(Toleration {
        operator: Some("Exists".into()),
        effect: Some("NoExecute".into()),
        ..Toleration::default()
    });
    spec.node_name = Some(node.into());
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        let Some(resources) = &mut container.resources else { continue };
        // As an API server has it.
        for (name, limit) in resources.limits.iter().flatten() {
            resources.requests.get_or_insert_default().entry(name.clone()).or_insert(limit.clone());
        }
    }
    let digest = Sha256::digest(format!("{node}\n{}\n{text}", file.display()));
    let hash: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    pod.metadata.name = Some(format!("{name}-{}", node.to_lowercase()));
    pod.metadata.namespace.get_or_insert_with(|| "default".into());
    pod.metadata.uid = Some(hash.clone());
    let seen = Timestamp::now().to_string();
    pod.metadata.annotations.get_or_insert_default().extend(
        [(CONFIG_HASH, hash), (CONFIG_SOURCE, "file".to_owned()), (CONFIG_SEEN, seen)]
            .map(|(name, value)| (name.to_owned(), value)),
    );
    Ok(pod)
}

/// Amounts may be written as numbers.
fn amounts(value: &mut Value) {
    match value {
        Value::Array(all) => all.iter_mut().for_each(amounts),
        Value::Object(all) => {
            for (name, value) in all {
                match value {
                    Value::Object(list) if matches!(name.as_str(), "limits" | "requests") => {
                        for amount in list.values_mut().filter(|amount| amount.is_number()) {
                            *amount = Value::String(amount.to_string());
                        }
                    }
                    Value::Number(number) if matches!(name.as_str(), "sizeLimit" | "divisor") => {
                        *value = Value::String(number.to_string())
                    }
                    value => amounts(value),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_named_after_their_node_and_hashed_after_their_file() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write(
            "a.yaml",
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\nspec:\n  containers:\n  - name: c\n    resources:\n      limits: {cpu: 1, memory: 64Mi}\n",
        );
        write("b.json", r#"{"kind": "Service"}"#);
        write(".c.yaml", "half");
        write("d.yaml", "metadata: {name: none}");
        let all = read_all(dir.path(), "Node-1").unwrap();
        let [(_, Ok(pod)), (_, Err(kind)), (_, Err(none))] = &all[..] else { panic!("{all:?}") };
        assert_eq!(pod.metadata.name.as_deref(), Some("web-node-1"));
        let annotations = pod.metadata.annotations.as_ref().unwrap();
        assert_eq!(annotations[CONFIG_HASH].len(), 32);
        assert_eq!(
            (Some(&annotations[CONFIG_HASH]), annotations[CONFIG_SOURCE].as_str()),
            (pod.metadata.uid.as_ref(), "file")
        );
        let requests =
            pod.spec.as_ref().unwrap().containers[0].resources.as_ref().unwrap().requests.as_ref().unwrap();
        assert_eq!((requests["cpu"].0.as_str(), requests["memory"].0.as_str()), ("1", "64Mi"));
        assert_eq!(
            (kind.as_str(), none.as_str()),
            ("kind: \"Service\" is no Pod", "spec.containers: a pod needs one")
        );
    }
}
