//! The configuration of a pod.

use super::reading::{Scope, is_address, is_hostname, sysctl_scope};
use super::text::{self, Verdict, absolute, each, identifier, inside, labels, required, shown};
use super::{Error, Validate};
use crate::contract::v1::{
    DnsConfig, LinuxPodSandboxConfig, NamespaceMode, NamespaceOption, PodSandboxConfig, PodSandboxMetadata,
    PortMapping, Protocol,
};

impl Validate for PodSandboxConfig {
    fn validate(&self) -> Verdict {
        required("metadata", &self.metadata)?.validate().map_err(|e| e.within("metadata"))?;
        if !self.hostname.is_empty() && !is_hostname(&self.hostname) {
            let rule = "is no host name; write labels of letters, digits and '-', 64 bytes in all at most";
            return Err(Error::invalid("hostname", format!("{} {rule}", shown(&self.hostname))));
        }
        if !self.log_directory.is_empty() {
            absolute("log_directory", &self.log_directory)?;
            text::downward("log_directory", &self.log_directory)?;
        }
        inside("dns_config", &self.dns_config)?;
        each("port_mappings", &self.port_mappings)?;
        labels("labels", &self.labels)?;
        labels("annotations", &self.annotations)?;
        inside("linux", &self.linux)?;
        text::not_windows("windows", self.windows.is_some())
    }
}

impl Validate for PodSandboxMetadata {
    fn validate(&self) -> Verdict {
        identifier("name", &self.name)?;
        identifier("uid", &self.uid)?;
        identifier("namespace", &self.namespace)
    }
}

impl Validate for DnsConfig {
    fn validate(&self) -> Verdict {
        for (at, server) in self.servers.iter().enumerate() {
            if !is_address(server) {
                let rule = format!("{} is no IP address; a name cannot be a server", shown(server));
                return Err(Error::invalid(format!("servers[{at}]"), rule));
            }
        }
        text::each_text("searches", &self.searches, text::word)?;
        text::each_text("options", &self.options, text::word)
    }
}

impl Validate for PortMapping {
    fn validate(&self) -> Verdict {
        text::known::<Protocol>("protocol", self.protocol)?;
        for (field, port) in [("container_port", self.container_port), ("host_port", self.host_port)] {
            if !(0..=65535).contains(&port) {
                return Err(Error::invalid(
                    field,
                    format!("{port} is no port; give 1 to 65535, or 0 for none"),
                ));
            }
        }
        if self.host_port != 0 && self.container_port == 0 {
            let rule =
                format!("is 0, and the host's port {} must lead somewhere; give 1 to 65535", self.host_port);
            return Err(Error::invalid("container_port", rule));
        }
        if !self.host_ip.is_empty() && !is_address(&self.host_ip) {
            let rule = format!("{} is no IP address; leave it empty for all", shown(&self.host_ip));
            return Err(Error::invalid("host_ip", rule));
        }
        Ok(())
    }
}

impl Validate for LinuxPodSandboxConfig {
    fn validate(&self) -> Verdict {
        cgroup_parent(&self.cgroup_parent)?;
        inside("security_context", &self.security_context)?;
        self.check_sysctls()?;
        inside("overhead", &self.overhead)?;
        inside("resources", &self.resources)
    }
}

impl LinuxPodSandboxConfig {
    /// Only what a namespace of the pod's own keeps may be set.
    fn check_sysctls(&self) -> Verdict {
        let options = self.security_context.as_ref().and_then(|context| context.namespace_options.as_ref());
        let is_host =
            |mode: fn(&NamespaceOption) -> NamespaceMode| options.map(mode) == Some(NamespaceMode::Node);
        for (name, value) in &self.sysctls {
            let field = format!("sysctls[{name:?}]");
            text::line(&field, value)?;
            let rule = match sysctl_scope(name) {
                Scope::Network if is_host(|options| options.network()) => {
                    "would change the host's, whose network the pod shares; set it on the host"
                }
                Scope::Ipc if is_host(|options| options.ipc()) => {
                    "would change the host's, whose IPC namespace the pod shares; set it on the host"
                }
                Scope::Host => "belongs to the whole machine, not to a pod; set it on the host",
                Scope::Network | Scope::Ipc => continue,
            };
            return Err(Error::invalid(field, rule));
        }
        Ok(())
    }
}

/// A path of cgroupfs, or the name of a systemd slice.
fn cgroup_parent(parent: &str) -> Verdict {
    let is_slice = parent.ends_with(".slice") && !parent.contains('/');
    if parent.is_empty() || is_slice {
        return text::line("cgroup_parent", parent);
    }
    absolute("cgroup_parent", parent)?;
    text::line("cgroup_parent", parent)?;
    text::downward("cgroup_parent", parent)
}
