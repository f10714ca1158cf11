//! What a device changes in a container's configuration.

use std::fs;
use std::path::{Path, PathBuf};

use oci_runtime::contract::{self, DeviceType, Spec};

use super::document::{DeviceNode, Edits, Hook, IntelRdt, Mount};
use super::registry::Found;
use super::wrong;
use crate::contract::Error;
use crate::plugin::container::spec::devices::{Devices, Node, node, rule};
use crate::plugin::container::spec::env::Environment;

/// Makes the edits, in their order: the last of what goes to one place counts.
pub(crate) fn apply(found: &Found, spec: &mut Spec, devices: &mut Devices) -> Result<(), Error> {
    for edits in &found.edits {
        apply_one(edits, spec, devices)?;
    }
    Ok(())
}

fn apply_one(edits: &Edits, spec: &mut Spec, devices: &mut Devices) -> Result<(), Error> {
    let process = spec.process.get_or_insert_default();
    let mut env = Environment(std::mem::take(&mut process.env));
    edits.env.iter().flatten().for_each(|word| env.set(word.clone()));
    process.env = env.0;
    let (uid, gid) = (process.user.uid, process.user.gid);
    // The group 0 is nobody's to be given.
    for &gid in edits.additional_gids.iter().flatten().filter(|gid| **gid != 0) {
        if !process.user.additional_gids.contains(&gid) {
            process.user.additional_gids.push(gid);
        }
    }
    for asked in edits.device_nodes.iter().flatten() {
        let mut made = device(asked)?;
        let owner = |given: Option<u32>, user: u32| given.or(Some(user).filter(|&user| user != 0));
        (made.device.uid, made.device.gid) = (owner(made.device.uid, uid), owner(made.device.gid, gid));
        if made.device.kind != DeviceType::Fifo {
            let access = asked.permissions.as_deref().filter(|access| !access.is_empty()).unwrap_or("rwm");
            devices.rules.push(rule(&made.device, access));
        }
        devices.add(made);
    }
    for asked in edits.mounts.iter().flatten() {
        let mount = mount(asked);
        spec.mounts.retain(|other| other.destination != mount.destination);
        spec.mounts.push(mount);
    }
    let depth = |m: &contract::Mount| Path::new(&m.destination).components().count();
    spec.mounts.sort_by_key(depth);
    for asked in edits.hooks.iter().flatten() {
        add_hook(spec.hooks.get_or_insert_default(), asked);
    }
    let linux = spec.linux.get_or_insert_default();
    for device in edits.net_devices.iter().flatten() {
        let inside = contract::NetDevice { name: device.name.clone() };
        linux.net_devices.insert(device.host_interface_name.clone(), inside);
    }
    if let Some(rdt) = &edits.intel_rdt {
        linux.intel_rdt = Some(intel_rdt(rdt));
    }
    Ok(())
}

/// The node, with what its document leaves out as the host has it.
fn device(asked: &DeviceNode) -> Result<Node, Error> {
    let host =
        PathBuf::from(asked.host_path.as_deref().filter(|path| !path.is_empty()).unwrap_or(&asked.path));
    let said = asked.r#type.as_deref().filter(|kind| !kind.is_empty());
    let numbers = asked.major.unwrap_or_default() != 0 || asked.minor.unwrap_or_default() != 0;
    let kind = match said {
        Some("b") => Some(DeviceType::Block),
        Some("p") => Some(DeviceType::Fifo),
        Some(_) => Some(DeviceType::Char),
        None => None,
    };
    let (kind, major, minor) = match kind {
        Some(kind) if numbers || kind == DeviceType::Fifo => {
            (kind, asked.major.unwrap_or_default(), asked.minor.unwrap_or_default())
        }
        _ => {
            let cannot = |what: &str| wrong(format!("a CDI device needs {}: {what}", host.display()));
            let stat = fs::metadata(&host).map_err(|e| cannot(&e.to_string()))?;
            let found = node(&stat, Path::new(&asked.path)).ok_or_else(|| cannot("it is no device"))?;
            if kind.is_some_and(|kind| kind != found.kind) {
                return Err(cannot(&format!("it is not of type {}", said.unwrap_or_default())));
            }
            if numbers {
                (found.kind, asked.major.unwrap_or_default(), asked.minor.unwrap_or_default())
            } else {
                (found.kind, found.major, found.minor)
            }
        }
    };
    let device = contract::Device {
        path: asked.path.clone(),
        kind,
        major,
        minor,
        file_mode: asked.file_mode,
        uid: asked.uid,
        gid: asked.gid,
    };
    Ok(Node { device, host })
}

fn mount(asked: &Mount) -> contract::Mount {
    let mut mount = contract::Mount {
        destination: asked.container_path.clone(),
        kind: asked.r#type.clone().unwrap_or_default(),
        source: asked.host_path.clone(),
        options: asked.options.clone().unwrap_or_default(),
        ..contract::Mount::default()
    };
    // A path of the host without another word is bound.
    if mount.kind.is_empty() && !mount.is_bind() {
        mount.options.push("rbind".into());
    }
    mount
}

fn add_hook(hooks: &mut contract::Hooks, asked: &Hook) {
    let list = match asked.hook_name.as_str() {
        "prestart" => &mut hooks.prestart,
        "createRuntime" => &mut hooks.create_runtime,
        "createContainer" => &mut hooks.create_container,
        "startContainer" => &mut hooks.start_container,
        "poststart" => &mut hooks.poststart,
        // Its document was checked: there are six.
        _ => &mut hooks.poststop,
    };
    list.push(contract::Hook {
        path: asked.path.clone(),
        args: asked.args.clone().unwrap_or_default(),
        env: asked.env.clone().unwrap_or_default(),
        timeout: asked.timeout,
    });
}

fn intel_rdt(asked: &IntelRdt) -> contract::IntelRdt {
    contract::IntelRdt {
        clos_id: asked.clos_id.clone(),
        schemata: asked.schemata.clone(),
        l3_cache_schema: asked.l3_cache_schema.clone(),
        mem_bw_schema: asked.mem_bw_schema.clone(),
        enable_monitoring: asked.monitors(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::cdi::parse;

    fn applied(edits: &str) -> Result<(Spec, Devices), Error> {
        let text = format!(
            r#"{{"cdiVersion": "1.1.0", "kind": "v/c", "devices": [{{"name": "d", "containerEdits": {edits}}}]}}"#
        );
        let document = parse(text.as_bytes()).unwrap();
        let found = Found { edits: vec![document.devices[0].container_edits.clone()] };
        let mut spec = oci_runtime::default_spec::container();
        spec.process.as_mut().unwrap().user.uid = 1000;
        let mut devices = Devices::default();
        apply(&found, &mut spec, &mut devices).map(|()| (spec, devices))
    }

    #[test]
    fn every_edit_arrives() {
        let (spec, devices) = applied(
            r#"{"env": ["PATH=/mine", "GPU=0"], "additionalGids": [0, 44, 44],
                "deviceNodes": [{"path": "/dev/gpu", "hostPath": "/dev/null", "permissions": "rw"},
                    {"path": "/dev/made", "type": "b", "major": 8, "minor": 1, "uid": 5, "fileMode": 432},
                    {"path": "/dev/pipe", "type": "p"}],
                "mounts": [{"hostPath": "/lib/gpu.so", "containerPath": "/usr/lib/gpu.so", "options": ["ro", "bind"]},
                    {"hostPath": "tmpfs", "containerPath": "/t", "type": "tmpfs"}, {"hostPath": "/h", "containerPath": "/proc"}],
                "hooks": [{"hookName": "createContainer", "path": "/bin/hook", "args": ["hook", "x"], "timeout": 3}],
                "netDevices": [{"hostInterfaceName": "ib0", "name": "net0"}],
                "intelRdt": {"closID": "gold", "enableMonitoring": true}}"#,
        )
        .unwrap();
        let process = spec.process.unwrap();
        assert_eq!(
            (process.env, process.user.additional_gids),
            (vec!["PATH=/mine".into(), "GPU=0".into()], vec![44])
        );
        let nodes: Vec<_> = devices
            .nodes
            .iter()
            .map(|n| (n.device.path.as_str(), n.device.kind, n.device.major, n.device.minor, n.device.uid))
            .collect();
        assert_eq!(
            nodes,
            [
                ("/dev/gpu", DeviceType::Char, 1, 3, Some(1000)),
                ("/dev/made", DeviceType::Block, 8, 1, Some(5)),
                ("/dev/pipe", DeviceType::Fifo, 0, 0, Some(1000)),
            ]
        );
        let rules: Vec<_> = devices.rules.iter().map(|r| (r.major, r.access.as_str())).collect();
        assert_eq!(rules, [(Some(1), "rw"), (Some(8), "rwm")]);
        assert!(spec.mounts.is_sorted_by_key(|m| Path::new(&m.destination).components().count()));
        let at = |place: &str| spec.mounts.iter().filter(|m| m.destination == place).collect::<Vec<_>>();
        assert_eq!((at("/proc").len(), at("/proc")[0].options.clone()), (1, vec!["rbind".to_owned()]));
        assert_eq!((at("/t")[0].kind.as_str(), at("/t")[0].is_bind()), ("tmpfs", false));
        assert_eq!(spec.hooks.unwrap().create_container[0].timeout, Some(3));
        let linux = spec.linux.unwrap();
        assert_eq!(linux.net_devices["ib0"].name, "net0");
        assert!(linux.intel_rdt.unwrap().enable_monitoring);
    }

    #[test]
    fn a_device_that_is_not_there_is_named() {
        for (edits, named) in [
            (r#"{"deviceNodes": [{"path": "/dev/there-is-none"}]}"#, "/dev/there-is-none"),
            (r#"{"deviceNodes": [{"path": "/proc/version"}]}"#, "no device"),
            (r#"{"deviceNodes": [{"path": "/dev/null", "type": "b"}]}"#, "not of type b"),
        ] {
            let error = applied(edits).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
