//! The API servers: `sextant api`, and kube-apiserver with etcd behind it. Both have an administrator's kubeconfig in one form.

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;

use super::api::soon;
use super::place::Place;
use super::walk::Process;
use crate::Result;
use crate::program::quiet;

/// Whose server it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Ours,
    Kubernetes,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Ours => "sextant api",
            Kind::Kubernetes => "kube-apiserver",
        }
    }
}

/// A server that runs; what is behind it ends after it.
pub(super) struct Server {
    _processes: Vec<Process>,
    /// What signs the certificates of its clients.
    pub(super) authority: PathBuf,
}

impl Server {
    pub(super) async fn start(kind: Kind, place: &Place) -> Result<Self> {
        match kind {
            Kind::Ours => ours(place).await,
            Kind::Kubernetes => kubernetes(place).await,
        }
    }
}

async fn ours(place: &Place) -> Result<Server> {
    let mut command = place.programs.sextant();
    command.args(["api", "--kubeconfig"]).arg(place.kubeconfig());
    let processes = vec![place.programs.start("api", command)?];
    place.programs.hear("api", "serves on").await?;
    Ok(Server { _processes: processes, authority: place.programs.path("data/api/pki/ca.crt") })
}

async fn kubernetes(place: &Place) -> Result<Server> {
    let pki = place.programs.path("pki");
    std::fs::create_dir(&pki)?;
    certificates(&pki)?;
    std::fs::write(place.kubeconfig(), kubeconfig(&pki)?)?;
    let etcd = place.programs.start("etcd", etcd(&place.programs.path("etcd")))?;
    let processes = vec![place.programs.start("api", apiserver(place, &pki))?, etcd];
    let served = soon(async || {
        let Ok(api) = super::Api::connect(&place.kubeconfig()).await else { return Ok(None) };
        Ok(api.find(super::api::NAMESPACES, "default").await.ok().flatten())
    });
    served.await?.ok_or("kube-apiserver does not serve")?;
    // Kinds that a cluster brings along, where ours has them.
    let definitions = place.suite.join("crd");
    let mut apply = place.programs.sextant();
    apply.args(["apply", "--kubeconfig"]).arg(place.kubeconfig()).arg("-f").arg(&definitions);
    quiet(&mut apply)?;
    Ok(Server { _processes: processes, authority: pki.join("ca.crt") })
}

/// Debian's, on the loopback of the walk's network.
fn etcd(data: &Path) -> Command {
    let mut command = Command::new("etcd");
    command.arg("--data-dir").arg(data);
    command
}

fn apiserver(place: &Place, pki: &Path) -> Command {
    let mut command = Command::new(place.suite.join("kube-apiserver"));
    let at = |flag: &str, name: &str| format!("--{flag}={}", pki.join(name).display());
    command.args([
        at("client-ca-file", "ca.crt"),
        at("tls-cert-file", "server.crt"),
        at("tls-private-key-file", "server.key"),
        at("service-account-key-file", "server.key"),
        at("service-account-signing-key-file", "server.key"),
    ]);
    // Nobody makes service accounts here, which pods would need.
    command.args([
        "--etcd-servers=http://127.0.0.1:2379",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--bind-address=127.0.0.1",
        "--secure-port=6443",
        "--advertise-address=127.0.0.1",
        "--endpoint-reconciler-type=none",
        "--authorization-mode=Node,RBAC",
        "--allow-privileged=true",
        "--disable-admission-plugins=ServiceAccount",
    ]);
    command
}

/// An authority, a certificate of the server's and one of an administrator's.
fn certificates(pki: &Path) -> Result<()> {
    let openssl = |args: &[&str]| quiet(Command::new("openssl").args(args).current_dir(pki)).map(drop);
    let new = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"];
    openssl(&[&new[..], &["-subj", "/CN=walk", "-keyout", "ca.key", "-out", "ca.crt"]].concat())?;
    let signed =
        [&new[..], &["-CA", "ca.crt", "-CAkey", "ca.key", "-addext", "basicConstraints=critical,CA:FALSE"]]
            .concat();
    let server =
        ["-subj", "/CN=kubernetes", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "server.key"];
    openssl(&[&signed[..], &server, &["-out", "server.crt"]].concat())?;
    let admin = [
        "-subj",
        "/O=system:masters/CN=admin",
        "-addext",
        "extendedKeyUsage=clientAuth",
        "-keyout",
        "admin.key",
    ];
    openssl(&[&signed[..], &admin, &["-out", "admin.crt"]].concat())
}

fn kubeconfig(pki: &Path) -> Result<String> {
    let data = |name: &str| -> Result<String> {
        Ok(base64::engine::general_purpose::STANDARD.encode(std::fs::read(pki.join(name))?))
    };
    Ok(format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: walk\ncontexts:\n- name: walk\n  context: {{cluster: walk, user: admin}}\n\
         clusters:\n- name: walk\n  cluster:\n    server: https://127.0.0.1:6443\n    certificate-authority-data: {}\n\
         users:\n- name: admin\n  user:\n    client-certificate-data: {}\n    client-key-data: {}\n",
        data("ca.crt")?,
        data("admin.crt")?,
        data("admin.key")?
    ))
}
