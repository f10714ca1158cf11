use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    CONFIG_LIMIT, Digest, Platform,
    error::{Error, Result},
    json::{self, null_default, words},
};

const DOCUMENT: &str = "image configuration";

/// An image's configuration (image-spec, "Image Configuration"), with Docker's additions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When it was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// GOARCH.
    #[serde(default)]
    pub architecture: String,
    /// The variant of the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// GOOS.
    #[serde(default)]
    pub os: String,
    /// The version of the OS.
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// How to run a container of it.
    #[serde(default, deserialize_with = "null_default")]
    pub config: ContainerConfig,
    /// The layers, by what they unpack to.
    pub rootfs: RootFs,
    /// How each layer came to be.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_default")]
    pub history: Vec<History>,
}

/// The `config` object: how to run a container of the image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    /// `user[:group]`, names or numbers.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_default")]
    pub user: String,
    /// Ports, as `80/tcp`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_default")]
    pub exposed_ports: BTreeMap<String, Value>,
    /// `NAME=value`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_default")]
    pub env: Vec<String>,
    /// The words before the command.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "words")]
    pub entrypoint: Option<Vec<String>>,
    /// The default command, or the default arguments of the entry point.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "words")]
    pub cmd: Option<Vec<String>>,
    /// Paths that want a volume.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_default")]
    pub volumes: BTreeMap<String, Value>,
    /// The directory to start in.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_default")]
    pub working_dir: String,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_default")]
    pub labels: BTreeMap<String, String>,
    /// The signal that asks it to stop, as `SIGTERM` or a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Docker: seconds between the stop signal and SIGKILL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// Docker: how to tell whether it is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Docker: the shell that `Cmd` in string form goes to.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "words")]
    pub shell: Option<Vec<String>>,
    /// Docker: what a build on top of this image does first.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "words")]
    pub on_build: Option<Vec<String>>,
}

/// Docker's health check; times are nanoseconds, 0 means the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["CMD", ...]`, `["CMD-SHELL", text]`, `["NONE"]`, or nothing to inherit.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_default")]
    pub test: Vec<String>,
    /// From the end of one check to the next.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// After which a check counts as failed.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// During which failures do not count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// The interval during the start period.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// How many failures in a row make it unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
fn is_zero(n: &i64) -> bool {
    *n == 0
}

/// The layers, lowest first, by the digests of their uncompressed tars.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// One digest a layer.
    #[serde(default, deserialize_with = "null_default")]
    pub diff_ids: Vec<Digest>,
}

/// How a layer came to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// When, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By which command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// By whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// A remark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether no layer came of it.
    #[serde(skip_serializing_if = "std::ops::Not::not", deserialize_with = "null_default")]
    pub empty_layer: bool,
}

impl ImageConfig {
    /// A configuration for `platform` with the layers `diff_ids`.
    pub fn new(platform: &Platform, config: ContainerConfig, diff_ids: Vec<Digest>) -> Self {
        Self {
            created: None,
            author: None,
            architecture: platform.architecture.clone(),
            variant: platform.variant.clone(),
            os: platform.os.clone(),
            os_version: None,
            config,
            rootfs: RootFs { kind: "layers".into(), diff_ids },
            history: Vec::new(),
        }
    }

    /// What it says it runs on.
    pub fn platform(&self) -> Platform {
        Platform::new(&self.os, &self.architecture, self.variant.as_deref())
    }
}

/// Parses an image's configuration.
pub fn parse_config(bytes: &[u8]) -> Result<ImageConfig> {
    let config: ImageConfig = json::parse(DOCUMENT, CONFIG_LIMIT, bytes)?;
    if config.rootfs.kind != "layers" {
        let reason =
            format!("{:?}, and only \"layers\" is known", super::error::shortened(&config.rootfs.kind));
        return Err(Error::Invalid { document: DOCUMENT, field: "rootfs.type".into(), reason });
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_docker_writes() {
        let text = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{"Hostname":"","Env":["A=b"],"Cmd":null,
            "Entrypoint":"/bin/sh","ExposedPorts":{{"80/tcp":{{}}}},"Volumes":null,"Labels":null,"OnBuild":null,
            "Healthcheck":{{"Test":["CMD","x"],"Interval":30000000000}}}},
            "rootfs":{{"type":"layers","diff_ids":["sha256:{}"]}},"container_config":{{"x":1}}}}"#,
            "b".repeat(64)
        );
        let config = parse_config(text.as_bytes()).unwrap();
        assert_eq!(config.config.entrypoint.as_deref(), Some(["/bin/sh".to_owned()].as_slice()));
        assert_eq!(config.config.cmd, None);
        assert_eq!(config.rootfs.diff_ids.len(), 1);
        let again = parse_config(&serde_json::to_vec(&config).unwrap()).unwrap();
        assert_eq!(again, config);
    }

    #[test]
    fn errors_name_the_field() {
        for (text, word) in [
            (r#"{"rootfs":{"type":"layers","diff_ids":["sha256:1"]}}"#, "rootfs.diff_ids[0]"),
            (r#"{"rootfs":{"type":"tarballs"}}"#, "rootfs.type"),
            (r#"{"config":{"Env":"A=b"},"rootfs":{"type":"layers"}}"#, "config.Env"),
            (r"{}", "rootfs"),
        ] {
            let error = parse_config(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(word), "{error} lacks {word}");
        }
    }
}
