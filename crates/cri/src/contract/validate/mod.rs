//! What a request must satisfy whatever the state of the machine.
//!
//! [`Validate::validate`] finds the first field that no state would make right, names it by its path in the .proto file
//! and says what to do. The dispatch calls it before every handler, so a handler may rely on it. What depends on the
//! machine (whether an image, a pod, a file or a handler is there) is the handler's to find out.

mod container;
pub(crate) mod profile;
mod reading;
mod resources;
mod sandbox;
pub(crate) mod security;
#[cfg(test)]
mod tests;
mod text;

use super::Error;
use super::v1::*;
use text::{Verdict, absolute, image, inside, labels, present, required};

/// A message whose fields can be wrong by themselves.
pub trait Validate {
    /// The first field that is wrong.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`](super::Code::InvalidArgument) with the field's path, the value and what to do.
    fn validate(&self) -> Result<(), Error>;
}

/// Messages in which any value is fine.
macro_rules! anything_goes {
    ($($message:ident)*) => {
        $(impl Validate for $message {
            fn validate(&self) -> Verdict {
                Ok(())
            }
        })*
    };
}

anything_goes! {
    GetEventsRequest ImageFsInfoRequest ListMetricDescriptorsRequest ListPodSandboxMetricsRequest RuntimeConfigRequest
    StatusRequest StreamPodSandboxMetricsRequest VersionRequest
}

/// Requests about one pod or container, and nothing else.
macro_rules! named_by {
    ($id:ident: $($message:ident)*) => {
        $(impl Validate for $message {
            fn validate(&self) -> Verdict {
                present(stringify!($id), &self.$id)
            }
        })*
    };
}

named_by! {
    pod_sandbox_id: StopPodSandboxRequest RemovePodSandboxRequest PodSandboxStatusRequest PodSandboxStatsRequest
}
named_by! {
    container_id: StartContainerRequest RemoveContainerRequest ContainerStatusRequest ReopenContainerLogRequest
    ContainerStatsRequest
}

/// Lists, which may have a filter.
macro_rules! filtered {
    ($($message:ident)*) => {
        $(impl Validate for $message {
            fn validate(&self) -> Verdict {
                inside("filter", &self.filter)
            }
        })*
    };
}

filtered! {
    ListPodSandboxRequest StreamPodSandboxesRequest ListContainersRequest StreamContainersRequest
    ListContainerStatsRequest StreamContainerStatsRequest ListPodSandboxStatsRequest StreamPodSandboxStatsRequest
    ListImagesRequest StreamImagesRequest
}

impl Validate for PodSandboxFilter {
    fn validate(&self) -> Verdict {
        if let Some(state) = &self.state {
            text::known::<PodSandboxState>("state.state", state.state)?;
        }
        labels("label_selector", &self.label_selector)
    }
}

impl Validate for ContainerFilter {
    fn validate(&self) -> Verdict {
        if let Some(state) = &self.state {
            text::known::<ContainerState>("state.state", state.state)?;
        }
        labels("label_selector", &self.label_selector)
    }
}

impl Validate for ContainerStatsFilter {
    fn validate(&self) -> Verdict {
        labels("label_selector", &self.label_selector)
    }
}

impl Validate for PodSandboxStatsFilter {
    fn validate(&self) -> Verdict {
        labels("label_selector", &self.label_selector)
    }
}

/// A filter without an image lets all pass.
impl Validate for ImageFilter {
    fn validate(&self) -> Verdict {
        match &self.image {
            Some(spec) if !spec.image.is_empty() => inside("image", &self.image),
            _ => Ok(()),
        }
    }
}

impl Validate for RunPodSandboxRequest {
    fn validate(&self) -> Verdict {
        required("config", &self.config)?.validate().map_err(|e| e.within("config"))?;
        text::handler("runtime_handler", &self.runtime_handler)
    }
}

impl Validate for CreateContainerRequest {
    fn validate(&self) -> Verdict {
        present("pod_sandbox_id", &self.pod_sandbox_id)?;
        required("config", &self.config)?.validate().map_err(|e| e.within("config"))?;
        inside("sandbox_config", &self.sandbox_config)
    }
}

impl Validate for StopContainerRequest {
    fn validate(&self) -> Verdict {
        present("container_id", &self.container_id)?;
        text::seconds("timeout", self.timeout)
    }
}

impl Validate for UpdateContainerResourcesRequest {
    fn validate(&self) -> Verdict {
        present("container_id", &self.container_id)?;
        inside("linux", &self.linux)?;
        text::not_windows("windows", self.windows.is_some())?;
        labels("annotations", &self.annotations)
    }
}

impl Validate for UpdatePodSandboxResourcesRequest {
    fn validate(&self) -> Verdict {
        present("pod_sandbox_id", &self.pod_sandbox_id)?;
        inside("overhead", &self.overhead)?;
        inside("resources", &self.resources)
    }
}

impl Validate for CheckpointContainerRequest {
    fn validate(&self) -> Verdict {
        present("container_id", &self.container_id)?;
        absolute("location", &self.location)?;
        text::seconds("timeout", self.timeout)
    }
}

impl Validate for ExecSyncRequest {
    fn validate(&self) -> Verdict {
        present("container_id", &self.container_id)?;
        command(&self.cmd)?;
        text::seconds("timeout", self.timeout)
    }
}

impl Validate for ExecRequest {
    fn validate(&self) -> Verdict {
        present("container_id", &self.container_id)?;
        command(&self.cmd)?;
        streams(self.tty, [self.stdin, self.stdout, self.stderr])
    }
}

impl Validate for AttachRequest {
    fn validate(&self) -> Verdict {
        present("container_id", &self.container_id)?;
        streams(self.tty, [self.stdin, self.stdout, self.stderr])
    }
}

impl Validate for PortForwardRequest {
    fn validate(&self) -> Verdict {
        present("pod_sandbox_id", &self.pod_sandbox_id)?;
        for (at, port) in self.port.iter().enumerate() {
            if !(1..=65535).contains(port) {
                return Err(Error::invalid(
                    format!("port[{at}]"),
                    format!("{port} is no port; give 1 to 65535"),
                ));
            }
        }
        Ok(())
    }
}

fn command(cmd: &[String]) -> Verdict {
    if cmd.is_empty() {
        return Err(Error::invalid("cmd", "is empty; give the program and its arguments"));
    }
    text::each_text("cmd", cmd, text::plain)
}

fn streams(tty: bool, [stdin, stdout, stderr]: [bool; 3]) -> Verdict {
    if tty && stderr {
        let rule = "cannot be had from a terminal, which has one stream of output; leave it out or tty";
        return Err(Error::invalid("stderr", rule));
    }
    if !(stdin || stdout || stderr) {
        return Err(Error::invalid("stdin", "none of stdin, stdout and stderr is asked for; ask for one"));
    }
    Ok(())
}

impl Validate for ImageSpec {
    fn validate(&self) -> Verdict {
        image("image", &self.image)?;
        labels("annotations", &self.annotations)?;
        text::line("user_specified_image", &self.user_specified_image)?;
        text::handler("runtime_handler", &self.runtime_handler)
    }
}

impl Validate for ImageStatusRequest {
    fn validate(&self) -> Verdict {
        required("image", &self.image)?.validate().map_err(|e| e.within("image"))
    }
}

impl Validate for RemoveImageRequest {
    fn validate(&self) -> Verdict {
        required("image", &self.image)?.validate().map_err(|e| e.within("image"))
    }
}

/// The pod's configuration need not be whole here: it may be there for its labels alone.
impl Validate for PullImageRequest {
    fn validate(&self) -> Verdict {
        required("image", &self.image)?.validate().map_err(|e| e.within("image"))?;
        let Some(sandbox) = &self.sandbox_config else { return Ok(()) };
        let pairs = labels("labels", &sandbox.labels).and(labels("annotations", &sandbox.annotations));
        pairs.map_err(|e| e.within("sandbox_config"))
    }
}

impl Validate for UpdateRuntimeConfigRequest {
    fn validate(&self) -> Verdict {
        let network = self.runtime_config.as_ref().and_then(|config| config.network_config.as_ref());
        let Some(network) = network.filter(|network| !network.pod_cidr.is_empty()) else { return Ok(()) };
        match network.pod_cidr.split(',').find(|cidr| !reading::is_cidr(cidr)) {
            None => Ok(()),
            Some(cidr) => {
                let rule = format!("{cidr:?} is no network; write ADDRESS/BITS, several with commas between");
                Err(Error::invalid("runtime_config.network_config.pod_cidr", rule))
            }
        }
    }
}
