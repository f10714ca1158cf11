use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{CriArgs, OutputArgs};

/// `sextant mesh`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples:
  sextant mesh                                     # beside `sextant api` and `sextant node`
  sextant mesh --kubeconfig /etc/kubernetes/kubelet.conf --node node-1
  sextant mesh --cri /run/containerd/containerd.sock
  sextant mesh --metrics 127.0.0.1:9464 --access-log /var/log/mesh.log
  sextant mesh --control unix:/run/sextant/mesh.sock
  kubectl label namespace shop mesh.sextant.dev/member=true
  sextant mesh top                                 # what passes through it

TCP connections of pods that are members go by the TrafficSplits and routes of the Services that they are for. Who is no member is never
touched. With a control plane members prove who they are to each other, and TrafficTargets say who may come to them; without one, what comes to
a pod is left alone. It may end at any moment: pods reach Services directly then, without splits and routes, and nothing is left behind in them.
If it is killed, pods to which not everybody may come stay closed until the next one serves them.")]
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
    /// The trust domain of the mesh's identities (SPIFFE): that of the control plane
    #[arg(long, value_name = "NAME", default_value = "cluster.local", value_parser = super::control::trust_domain)]
    pub(crate) trust_domain: String,
    /// Let members send from any address. Without this what is not from a member's own is dropped at the node's end of its link, because
    /// datagrams are let in by where they come from
    #[arg(long, requires = "control")]
    pub(crate) no_source_check: bool,
    #[command(flatten)]
    pub(crate) cri: CriArgs,
    /// Answer http://ADDRESS/metrics with what is counted, for Prometheus
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) metrics: Option<SocketAddr>,
    /// Write a line about each request and connection that has ended to this file, behind what is there; `-` is standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) access_log: Option<PathBuf>,
    /// The form of these lines
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT", requires = "access_log")]
    pub(crate) access_log_format: LogFormat,
    #[command(subcommand)]
    pub(crate) command: Option<MeshCommand>,
}

/// Where a control plane is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ControlPlane {
    /// At a socket's file of this machine.
    Unix(PathBuf),
    /// At HOST:PORT, over TLS.
    Https(String),
}

/// How lines of the access log look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum LogFormat {
    /// For programs
    #[default]
    Json,
    /// For people
    Text,
}

/// What can be asked of a node's mesh that runs.
#[derive(Debug, Subcommand)]
pub(crate) enum MeshCommand {
    /// Show what the mesh of this node serves
    Status(MeshStatusArgs),
    /// Show who asks whom how often, how well and how fast
    Top(MeshTopArgs),
    /// Show where requests go: rules, weights, and endpoints as this node sees them
    Routes(MeshRoutesArgs),
    /// Show requests and connections as they end
    Tap(MeshTapArgs),
    /// Tell who would answer a request, and why
    Why(MeshWhyArgs),
}

/// `sextant mesh status`
#[derive(Debug, Args)]
pub(crate) struct MeshStatusArgs {
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `sextant mesh top`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sextant mesh top
  sextant mesh top shop/web --by endpoint
  sextant mesh top --once -o json

Those with most requests come first. SUCCESS is the share of answers that are no failures: 500 and more, of gRPC UNKNOWN and what says that the
server is at fault, and answers that were cut. It goes on until it is ended (Ctrl-C); where standard output is no terminal it is shown once.")]
pub(crate) struct MeshTopArgs {
    /// Of this Service alone: NAMESPACE/NAME, or NAMESPACE/NAME:PORT
    #[arg(value_name = "SERVICE")]
    pub(crate) service: Option<String>,
    /// What is counted together
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    pub(crate) by: TopBy,
    /// For so many seconds, again and again
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) window: u64,
    /// Once
    #[arg(long)]
    pub(crate) once: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// What has a line of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum TopBy {
    /// A client and the Service that it asks
    #[default]
    Service,
    /// A client and a backend
    Backend,
    /// A client and an endpoint
    Endpoint,
    /// A rule, for all clients
    Rule,
}

/// `sextant mesh routes`
#[derive(Debug, Args)]
#[command(
    after_help = "A match is `=/a` for that path alone, `/a/*` for what is below it, too, and `~` with a pattern."
)]
pub(crate) struct MeshRoutesArgs {
    /// Of this Service alone: NAMESPACE/NAME, or NAMESPACE/NAME:PORT
    #[arg(value_name = "SERVICE")]
    pub(crate) service: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `sextant mesh tap`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sextant mesh tap --service shop/web --status 5
  sextant mesh tap --client shop/front-7d9 --failed -o json

It goes on until it is ended (Ctrl-C). Queries of paths are not shown. With `-o json` each is a line.")]
pub(crate) struct MeshTapArgs {
    /// Of clients whose NAMESPACE/NAME begins so
    #[arg(long, value_name = "POD")]
    pub(crate) client: Option<String>,
    /// For this Service: NAMESPACE/NAME, or NAMESPACE/NAME:PORT
    #[arg(long, value_name = "SERVICE")]
    pub(crate) service: Option<String>,
    /// By this method
    #[arg(long, value_name = "METHOD")]
    pub(crate) method: Option<String>,
    /// Whose path begins so
    #[arg(long, value_name = "PATH")]
    pub(crate) path: Option<String>,
    /// Answered with this status, or with one that begins with this digit
    #[arg(long, value_name = "STATUS")]
    pub(crate) status: Option<u16>,
    /// That did not go well
    #[arg(long)]
    pub(crate) failed: bool,
    /// End after so many
    #[arg(long, value_name = "COUNT")]
    pub(crate) count: Option<u64>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `sextant mesh why`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sextant mesh why shop/front shop/web
  sextant mesh why shop/front web:8080 --method POST --path /orders --header x-canary=1
  sextant mesh why shop/front 10.96.0.17:80 -o json
  sextant mesh why --udp shop/front kube-system/kube-dns:53

Nothing is sent: it is found out by what this node knows. SRC is a pod of this node. What policies of pods on other nodes say is not known
here; over UDP SRC may be any member, and it is the node of who would take it that is to be asked.")]
pub(crate) struct MeshWhyArgs {
    /// The pod that asks: NAMESPACE/NAME, or NAME for namespace default
    #[arg(value_name = "SRC", value_parser = pod)]
    pub(crate) source: smi::contract::Name,
    /// Whom: a Service as NAME, NAMESPACE/NAME or NAME.NAMESPACE.svc..., or an address, with a port behind a colon [default: the only
    /// port there is]
    #[arg(value_name = "DST[:PORT]", value_parser = destination)]
    pub(crate) destination: Destination,
    /// Whether DST takes datagrams of SRC at this port, instead of a request
    #[arg(long, conflicts_with_all = ["method", "path", "header"])]
    pub(crate) udp: bool,
    /// By which method
    #[arg(long, value_name = "METHOD", default_value = "GET")]
    pub(crate) method: String,
    /// For which path
    #[arg(long, value_name = "PATH", default_value = "/")]
    pub(crate) path: String,
    /// With this header; give it more than once for more
    #[arg(long, value_name = "NAME=VALUE", value_parser = header)]
    pub(crate) header: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Who is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) host: Host,
    pub(crate) port: Option<u16>,
}

/// An address, or a Service, of the namespace of who asks if none is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    Address(IpAddr),
    Service { namespace: Option<String>, name: String },
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

fn pod(text: &str) -> Result<smi::contract::Name, String> {
    let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
    if namespace.is_empty() || name.is_empty() || name.contains('/') {
        return Err(format!("{text:?} is no NAMESPACE/NAME of a pod"));
    }
    Ok(smi::contract::Name::new(namespace, name))
}

fn destination(text: &str) -> Result<Destination, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(Destination { host: Host::Address(address.ip()), port: Some(address.port()) });
    }
    if text.parse::<IpAddr>().is_ok() {
        return Err(format!("{text:?} has no port: give ADDRESS:PORT"));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => {
            let number = port.parse().map_err(|_| format!("{port:?} is no port"))?;
            (host, Some(number))
        }
        None => (text, None),
    };
    let (namespace, name) = match (host.split_once('/'), host.split_once('.')) {
        (Some((namespace, name)), _) => (Some(namespace), name),
        // NAME.NAMESPACE.svc.DOMAIN, as programs in pods have it.
        (None, Some((name, rest))) => (rest.split('.').next(), name),
        (None, None) => (None, host),
    };
    if name.is_empty() || name.contains('/') || namespace.is_some_and(str::is_empty) {
        return Err(format!("{text:?} is no Service and no address"));
    }
    let namespace = namespace.map(str::to_owned);
    Ok(Destination { host: Host::Service { namespace, name: name.into() }, port })
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is no NAME=VALUE"))?;
    if name.is_empty() {
        return Err(format!("{text:?} has no name in front of its `=`"));
    }
    Ok((name.to_ascii_lowercase(), value.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_named_as_people_and_programs_do() {
        let service = |namespace: Option<&str>, name: &str, port| {
            let namespace = namespace.map(str::to_owned);
            Ok(Destination { host: Host::Service { namespace, name: name.into() }, port })
        };
        assert_eq!(destination("web"), service(None, "web", None));
        assert_eq!(destination("web:80"), service(None, "web", Some(80)));
        assert_eq!(destination("shop/web:80"), service(Some("shop"), "web", Some(80)));
        assert_eq!(destination("web.shop.svc.cluster.local:80"), service(Some("shop"), "web", Some(80)));
        let address = destination("10.96.0.1:80").unwrap();
        assert_eq!((address.host, address.port), (Host::Address([10, 96, 0, 1].into()), Some(80)));
        assert_eq!(destination("[fd00::1]:80").unwrap().port, Some(80));
        for wrong in ["10.96.0.1", "web:", "web:x", "/web", "a/b/c", "", ".shop", "web."] {
            assert!(destination(wrong).is_err(), "{wrong}");
        }
        assert!(pod("a/b/c").is_err() && pod("/b").is_err() && pod("").is_err());
        assert_eq!(pod("front").unwrap().to_string(), "default/front");
        assert_eq!(header("X-A=b=c").unwrap(), ("x-a".into(), "b=c".into()));
        assert!(header("x").is_err() && header("=x").is_err());
    }

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
