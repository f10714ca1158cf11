use std::path::PathBuf;

use clap::Args;

use super::CriArgs;

/// `sextant mesh`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sextant mesh                                     # beside `sextant api` and `sextant node`
  sextant mesh --kubeconfig /etc/kubernetes/kubelet.conf --node node-1
  sextant mesh --cri /run/containerd/containerd.sock
  sextant mesh --control unix:/run/sextant/mesh.sock
  kubectl label namespace shop mesh.sextant.dev/member=true

TCP connections of pods that are members go by the TrafficSplits and routes of the Services that they are for. Who is no member is never
touched, and nor is what comes to a pod. It may end at any moment: pods reach Services directly then, without splits and routes, and nothing
is left behind in them.")]
pub(crate) struct MeshArgs {
    /// How to reach the API server [default: KUBECONFIG; in a pod, the pod's service account; else what `sextant api` has written
    /// into the data directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The name of this node, whose pods are looked after [default: the machine's name]
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
    /// Follow the control plane of the mesh, which a `sextant control` is, instead of the API server: it has certificates for members, too
    #[arg(long, value_name = "unix:PATH|https://HOST:PORT", value_parser = control)]
    pub(crate) control: Option<ControlPlane>,
    /// What shows to a control plane at an address who this is: a token for the audience mesh.sextant.dev that is bound to this node. It
    /// is read anew each time
    #[arg(long, value_name = "FILE", requires = "control")]
    pub(crate) control_token: Option<PathBuf>,
    /// Certificates of those who sign for a control plane at an address, in PEM [default: what config map kube-system/sextant-mesh-roots
    /// has]
    #[arg(long, value_name = "FILE", requires = "control")]
    pub(crate) control_ca: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) cri: CriArgs,
}

/// Where a control plane is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ControlPlane {
    /// At a socket's file of this machine.
    Unix(PathBuf),
    /// At HOST:PORT, over TLS.
    Https(String),
}

fn control(text: &str) -> Result<ControlPlane, String> {
    let Some(place) = text.strip_prefix("https://") else {
        let path =
            super::csi::socket(text).map_err(|_| "write unix:/PATH, or https://HOST:PORT".to_owned())?;
        return Ok(ControlPlane::Unix(path));
    };
    let place = place.trim_end_matches('/');
    let (host, port) = place.rsplit_once(':').unwrap_or_default();
    let is_host = !host.is_empty() && !host.contains(['/', '@', '?', '#']);
    match port.parse::<u16>() {
        Ok(1..) if is_host => Ok(ControlPlane::Https(place.to_owned())),
        _ => Err("write https://HOST:PORT, with a port and without a path".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_plane_is_at_a_socket_or_an_address() {
        for text in ["/run/a.sock", "unix:/run/a.sock", "unix:///run/a.sock"] {
            assert_eq!(control(text), Ok(ControlPlane::Unix("/run/a.sock".into())), "{text}");
        }
        for (text, place) in [
            ("https://mesh.example:8443", "mesh.example:8443"),
            ("https://10.0.0.1:8443/", "10.0.0.1:8443"),
            ("https://[fd00::1]:8443", "[fd00::1]:8443"),
        ] {
            assert_eq!(control(text), Ok(ControlPlane::Https(place.into())), "{text}");
        }
        for bad in [
            "",
            "run/a.sock",
            "http://a:1",
            "https://a",
            "https://:1",
            "https://a:0",
            "https://a:1/b",
            "https://a/b:1",
        ] {
            assert!(control(bad).is_err(), "{bad}");
        }
    }
}
