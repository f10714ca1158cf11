//! The configuration of a container.

use super::text::{self, Verdict, absolute, each, identifier, inside, known, labels, required, shown};
use super::{Error, Validate};
use crate::contract::cdi::Name;
use crate::contract::v1::{
    CdiDevice, ContainerConfig, ContainerMetadata, Device, IdMapping, KeyValue, LinuxContainerConfig, Mount,
    MountPropagation, Signal,
};

impl Validate for ContainerConfig {
    fn validate(&self) -> Verdict {
        required("metadata", &self.metadata)?.validate().map_err(|e| e.within("metadata"))?;
        required("image", &self.image)?.validate().map_err(|e| e.within("image"))?;
        text::each_text("command", &self.command, text::plain)?;
        text::each_text("args", &self.args, text::plain)?;
        if !self.working_dir.is_empty() {
            absolute("working_dir", &self.working_dir)?;
        }
        each("envs", &self.envs)?;
        each("mounts", &self.mounts)?;
        each("devices", &self.devices)?;
        each("CDI_devices", &self.cdi_devices)?;
        labels("labels", &self.labels)?;
        labels("annotations", &self.annotations)?;
        text::below("log_path", &self.log_path)?;
        known::<Signal>("stop_signal", self.stop_signal)?;
        inside("linux", &self.linux)?;
        text::not_windows("windows", self.windows.is_some())
    }
}

impl Validate for ContainerMetadata {
    fn validate(&self) -> Verdict {
        identifier("name", &self.name)
    }
}

impl Validate for KeyValue {
    fn validate(&self) -> Verdict {
        text::present("key", &self.key)?;
        if self.key.contains('=') {
            let rule =
                format!("{} has a '=' in it, where its value would begin; leave it out", shown(&self.key));
            return Err(Error::invalid("key", rule));
        }
        if self.value.contains(&0) {
            let rule = format!("of {} has a NUL byte in it; leave it out", shown(&self.key));
            return Err(Error::invalid("value", rule));
        }
        Ok(())
    }
}

impl Validate for Mount {
    fn validate(&self) -> Verdict {
        absolute("container_path", &self.container_path)?;
        let is_private = known::<MountPropagation>("propagation", self.propagation)?
            == MountPropagation::PropagationPrivate;
        if self.recursive_read_only && !self.readonly {
            return Err(Error::invalid("recursive_read_only", "needs readonly; set both"));
        }
        if self.recursive_read_only && !is_private {
            let rule = "needs the propagation PROPAGATION_PRIVATE: what came later would be writable";
            return Err(Error::invalid("recursive_read_only", rule));
        }
        if self.image.is_some() {
            self.check_image(is_private)?
        } else {
            self.check_path()?
        }
        self.check_mappings()
    }
}

impl Mount {
    fn check_path(&self) -> Verdict {
        absolute("host_path", &self.host_path)?;
        if self.image_sub_path.is_empty() {
            return Ok(());
        }
        let rule = format!("{} needs an image; leave it out or set image", shown(&self.image_sub_path));
        Err(Error::invalid("image_sub_path", rule))
    }

    fn check_image(&self, is_private: bool) -> Verdict {
        inside("image", &self.image)?;
        if !self.host_path.is_empty() {
            let rule = format!("{} contradicts image; set one of them", shown(&self.host_path));
            return Err(Error::invalid("host_path", rule));
        }
        if !self.readonly {
            return Err(Error::invalid("readonly", "must be set: an image cannot be written to"));
        }
        if !is_private {
            return Err(Error::invalid("propagation", "must be PROPAGATION_PRIVATE for an image"));
        }
        text::below("image_sub_path", &self.image_sub_path)
    }

    fn check_mappings(&self) -> Verdict {
        let lists: [(&str, &[IdMapping]); 2] =
            [("uidMappings", &self.uid_mappings), ("gidMappings", &self.gid_mappings)];
        for (field, mappings) in lists {
            each(field, mappings)?;
        }
        match lists.map(|(_, mappings)| mappings.is_empty()) {
            [true, false] => {
                Err(Error::invalid("uidMappings", "is empty though gidMappings is not; set both"))
            }
            [false, true] => {
                Err(Error::invalid("gidMappings", "is empty though uidMappings is not; set both"))
            }
            _ => Ok(()),
        }
    }
}

impl Validate for Device {
    fn validate(&self) -> Verdict {
        for (field, path) in [("container_path", &self.container_path), ("host_path", &self.host_path)] {
            absolute(field, path)?;
            text::downward(field, path)?;
        }
        let permissions = &self.permissions;
        let is_twice =
            |(at, c): (usize, char)| permissions.get(..at).is_some_and(|before| before.contains(c));
        let is_right =
            permissions.chars().all(|c| "rwm".contains(c)) && !permissions.char_indices().any(is_twice);
        if permissions.is_empty() || !is_right {
            let rule =
                format!("{} are no permissions; write r, w and m, each once at most", shown(permissions));
            return Err(Error::invalid("permissions", rule));
        }
        Ok(())
    }
}

impl Validate for CdiDevice {
    fn validate(&self) -> Verdict {
        if Name::parse(&self.name).is_some() {
            return Ok(());
        }
        Err(Error::invalid("name", format!("{} is no device; write VENDOR/CLASS=NAME", shown(&self.name))))
    }
}

impl Validate for LinuxContainerConfig {
    fn validate(&self) -> Verdict {
        inside("resources", &self.resources)?;
        inside("security_context", &self.security_context)
    }
}
