//! A vendor's file.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{wrong, yaml};
use crate::contract::{Error, cdi};

/// The devices of one kind. A field that is not known is an error: it would be an edit that is left out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Document {
    cdi_version: String,
    pub(super) kind: String,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    pub(super) devices: Vec<Device>,
    #[serde(default)]
    pub(super) container_edits: Edits,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Device {
    pub(super) name: String,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    pub(super) container_edits: Edits,
}

/// What a container's configuration gets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Edits {
    pub(super) env: Option<Vec<String>>,
    pub(super) device_nodes: Option<Vec<DeviceNode>>,
    pub(super) net_devices: Option<Vec<NetDevice>>,
    pub(super) hooks: Option<Vec<Hook>>,
    pub(super) mounts: Option<Vec<Mount>>,
    pub(super) intel_rdt: Option<IntelRdt>,
    pub(super) additional_gids: Option<Vec<u32>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct DeviceNode {
    pub(super) path: String,
    #[serde(default)]
    pub(super) host_path: Option<String>,
    #[serde(default)]
    pub(super) r#type: Option<String>,
    #[serde(default)]
    pub(super) major: Option<i64>,
    #[serde(default)]
    pub(super) minor: Option<i64>,
    #[serde(default)]
    pub(super) file_mode: Option<u32>,
    #[serde(default)]
    pub(super) permissions: Option<String>,
    #[serde(default)]
    pub(super) uid: Option<u32>,
    #[serde(default)]
    pub(super) gid: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NetDevice {
    pub(super) host_interface_name: String,
    pub(super) name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Mount {
    pub(super) host_path: String,
    pub(super) container_path: String,
    #[serde(default)]
    pub(super) options: Option<Vec<String>>,
    #[serde(default)]
    pub(super) r#type: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Hook {
    pub(super) hook_name: String,
    pub(super) path: String,
    #[serde(default)]
    pub(super) args: Option<Vec<String>>,
    #[serde(default)]
    pub(super) env: Option<Vec<String>>,
    #[serde(default)]
    pub(super) timeout: Option<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct IntelRdt {
    #[serde(rename = "closID")]
    pub(super) clos_id: String,
    #[serde(rename = "l3CacheSchema")]
    pub(super) l3_cache_schema: String,
    #[serde(rename = "memBwSchema")]
    pub(super) mem_bw_schema: String,
    pub(super) schemata: Vec<String>,
    #[serde(rename = "enableMonitoring")]
    pub(super) enable_monitoring: bool,
    /// Until 1.0.
    #[serde(rename = "enableCMT")]
    enable_cmt: bool,
    #[serde(rename = "enableMBM")]
    enable_mbm: bool,
}

impl IntelRdt {
    /// Whether the container's bandwidth is to be watched, by the word of any version.
    pub(super) fn monitors(&self) -> bool {
        self.enable_monitoring || self.enable_cmt || self.enable_mbm
    }
}

/// The versions there are.
const VERSIONS: [&str; 8] = ["0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"];

pub(super) const HOOKS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// Reads a file: JSON, or YAML that says what JSON could.
///
/// # Errors
/// Which field is not what it has to be.
pub fn parse(bytes: &[u8]) -> Result<Document, Error> {
    let document: Document = match serde_json::from_slice(bytes) {
        Ok(document) => document,
        // What begins as JSON does was meant to be that.
        Err(e) if bytes.trim_ascii_start().starts_with(b"{") => return Err(wrong(e.to_string())),
        Err(_) => {
            let text = std::str::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8"))?;
            let value = yaml::parse(text).map_err(wrong)?;
            serde_json::from_value(value).map_err(|e| wrong(e.to_string()))?
        }
    };
    document.check()?;
    Ok(document)
}

impl Document {
    /// Which version this says it is.
    pub fn version(&self) -> &str {
        &self.cdi_version
    }

    fn check(&self) -> Result<(), Error> {
        if !VERSIONS.contains(&self.cdi_version.trim_start_matches('v')) {
            let known = VERSIONS.join(", ");
            return Err(wrong(format!("cdiVersion is {:?}: known are {known}", self.cdi_version)));
        }
        if !cdi::is_kind(&self.kind) {
            return Err(wrong(format!("kind is {:?}: write it as VENDOR/CLASS", self.kind)));
        }
        if self.devices.is_empty() {
            return Err(wrong("devices is empty: name one at least"));
        }
        self.container_edits.check("containerEdits")?;
        for (index, device) in self.devices.iter().enumerate() {
            let field = format!("devices[{index}]");
            if !cdi::is_device(&device.name) {
                return Err(wrong(format!("{field}.name is {:?}: it is no name of a device", device.name)));
            }
            if self.devices[..index].iter().any(|other| other.name == device.name) {
                return Err(wrong(format!("{field}.name is {:?}: another device is called so", device.name)));
            }
            device.container_edits.check(&format!("{field}.containerEdits"))?;
        }
        Ok(())
    }
}

impl Edits {
    fn check(&self, field: &str) -> Result<(), Error> {
        let env = |field: &str, env: &Option<Vec<String>>| {
            let bad = |word: &&String| word.find('=').is_none_or(|at| at == 0) || word.contains('\0');
            match env.iter().flatten().find(bad) {
                Some(word) => Err(wrong(format!("{field}.env has {word:?}: write NAME=value"))),
                None => Ok(()),
            }
        };
        let absolute = |field: String, path: &str| {
            let fine = path.starts_with('/') && !path.contains('\0');
            if fine { Ok(()) } else { Err(wrong(format!("{field} is {path:?}: give a path from /"))) }
        };
        env(field, &self.env)?;
        for (index, node) in self.device_nodes.iter().flatten().enumerate() {
            let field = format!("{field}.deviceNodes[{index}]");
            absolute(format!("{field}.path"), &node.path)?;
            node.host_path.iter().try_for_each(|path| absolute(format!("{field}.hostPath"), path))?;
            if let Some(kind) =
                node.r#type.as_ref().filter(|k| !matches!(k.as_str(), "" | "b" | "c" | "u" | "p"))
            {
                return Err(wrong(format!("{field}.type is {kind:?}: give b, c, u or p")));
            }
            let letters = node.permissions.as_deref().unwrap_or_default();
            if letters.chars().any(|letter| !matches!(letter, 'r' | 'w' | 'm')) {
                return Err(wrong(format!("{field}.permissions is {letters:?}: give letters of r, w and m")));
            }
        }
        for (index, mount) in self.mounts.iter().flatten().enumerate() {
            let field = format!("{field}.mounts[{index}]");
            absolute(format!("{field}.containerPath"), &mount.container_path)?;
            if mount.host_path.is_empty() || mount.host_path.contains('\0') {
                return Err(wrong(format!("{field}.hostPath is {:?}: name what to mount", mount.host_path)));
            }
        }
        for (index, hook) in self.hooks.iter().flatten().enumerate() {
            let field = format!("{field}.hooks[{index}]");
            if !HOOKS.contains(&hook.hook_name.as_str()) {
                let known = HOOKS.join(", ");
                return Err(wrong(format!("{field}.hookName is {:?}: known are {known}", hook.hook_name)));
            }
            absolute(format!("{field}.path"), &hook.path)?;
            env(&field, &hook.env)?;
        }
        for (index, device) in self.net_devices.iter().flatten().enumerate() {
            if device.host_interface_name.is_empty() || device.name.is_empty() {
                return Err(wrong(format!("{field}.netDevices[{index}] has an empty name: give both")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YAML: &str = "cdiVersion: 0.6.0\nkind: vendor.com/gpu\ncontainerEdits:\n  env: [DRIVER=1]\ndevices:\n\
                        - name: '0'\n  annotations: {a: b}\n  containerEdits:\n    deviceNodes:\n    - path: /dev/gpu0\n\
                        \x20     fileMode: 0660\n- name: all\n  containerEdits: {}\n";

    #[test]
    fn yaml_and_json_say_the_same() {
        let json = r#"{"cdiVersion": "0.6.0", "kind": "vendor.com/gpu", "containerEdits": {"env": ["DRIVER=1"]}, "devices": [
            {"name": "0", "annotations": {"a": "b"}, "containerEdits": {"deviceNodes": [{"path": "/dev/gpu0", "fileMode": 432}]}},
            {"name": "all", "containerEdits": {}}]}"#;
        assert_eq!(parse(YAML.as_bytes()).unwrap(), parse(json.as_bytes()).unwrap());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let with = |version: &str, kind: &str, name: &str, edits: &str| {
            format!(
                r#"{{"cdiVersion": "{version}", "kind": "{kind}", "devices": [{{"name": "{name}", "containerEdits": {edits}}}]}}"#
            )
        };
        let edits = |edits: &str| with("1.1.0", "v/c", "d", edits);
        parse(edits("{}").as_bytes()).unwrap();
        for (text, named) in [
            (with("2.0.0", "v/c", "d", "{}"), "cdiVersion is \"2.0.0\""),
            (with("1.0.0", "vc", "d", "{}"), "kind is"),
            (with("1.0.0", "v/c", "-d", "{}"), "devices[0].name is"),
            (r#"{"cdiVersion": "1.0.0", "kind": "v/c", "devices": []}"#.to_owned(), "devices is empty"),
            (edits(r#"{"env": ["A"]}"#), "devices[0].containerEdits.env has \"A\""),
            (edits(r#"{"env": ["=A"]}"#), "env has"),
            (edits(r#"{"deviceNodes": [{"path": "x"}]}"#), "deviceNodes[0].path is"),
            (edits(r#"{"deviceNodes": [{"path": "/x", "type": "z"}]}"#), "deviceNodes[0].type is"),
            (edits(r#"{"deviceNodes": [{"path": "/x", "permissions": "rx"}]}"#), "permissions is"),
            (edits(r#"{"mounts": [{"hostPath": "", "containerPath": "/x"}]}"#), "mounts[0].hostPath is"),
            (edits(r#"{"hooks": [{"hookName": "never", "path": "/x"}]}"#), "hooks[0].hookName is"),
            (edits(r#"{"netDevices": [{"hostInterfaceName": "eth0", "name": ""}]}"#), "netDevices[0]"),
            (edits(r#"{"moreEdits": []}"#), "moreEdits"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(named), "{error}: {named}");
        }
    }
}
