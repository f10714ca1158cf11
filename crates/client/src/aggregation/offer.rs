//! Who hands requests on, and how an API server is told to.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;

use super::Proxies;
use crate::causes;

/// Where services are that answer, and where API servers say who hands requests on.
pub const NAMESPACE: &str = "kube-system";
/// Where they say it.
const PROXIES: &str = "extension-apiserver-authentication";
/// How long is waited between attempts to read that.
const SOON: Duration = Duration::from_millis(300);
/// And between attempts to register.
const LATER: Duration = Duration::from_secs(1);

/// What is offered.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    /// Group and version, as `metrics.k8s.io/v1beta1`.
    pub api: &'a str,
    /// What the service that answers is called, in [`NAMESPACE`].
    pub service: &'a str,
    /// Where it answers.
    pub address: IpAddr,
    /// At which port.
    pub port: u16,
    /// The certificate by which it is known, in DER; [`host`] is a name in it.
    pub certificate: &'a [u8],
    /// The program, as it calls itself before people: `sextant agent`.
    pub who: &'a str,
}

/// The name in the certificate of a service that answers.
#[must_use]
pub fn host(service: &str) -> String {
    format!("{service}.{NAMESPACE}.svc")
}

/// Who hands requests on; tries until the API server says so. `who` is the program, as it calls itself before people.
pub async fn proxies(client: &Client, who: &str) -> Proxies {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let mut told = false;
    loop {
        let said = maps.get(PROXIES).await.map_err(|error| causes(&error));
        let why = match said.and_then(|map| of_map(&map.data.unwrap_or_default())) {
            Ok(proxies) => return proxies,
            Err(why) => why,
        };
        if !std::mem::replace(&mut told, true) {
            eprintln!("{who}: waits for config map {NAMESPACE}/{PROXIES}: {why}");
        }
        tokio::time::sleep(SOON).await;
    }
}

/// What the map says of them.
fn of_map(data: &BTreeMap<String, String>) -> Result<Proxies, String> {
    let pem = data.get("requestheader-client-ca-file").map(String::as_bytes).unwrap_or_default();
    let all = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok);
    let names = data.get("requestheader-allowed-names").map(|names| serde_json::from_str(names));
    let names = names.transpose().map_err(|error| format!("requestheader-allowed-names: {error}"))?;
    Ok(Proxies { authorities: all.map(|one| one.to_vec()).collect(), names: names.unwrap_or_default() })
}

/// Has the API server hand requests for the group on; tries until it does. Where a service of another name serves the group, that goes on.
pub async fn register(client: &Client, offer: &Offer<'_>) {
    let mut told = false;
    while let Err(error) = try_register(client, offer).await {
        if !std::mem::replace(&mut told, true) {
            let Offer { api, who, .. } = offer;
            eprintln!("{who}: warning: cannot offer {api}, and tries again: {}", causes(&error));
        }
        tokio::time::sleep(LATER).await;
    }
}

async fn try_register(client: &Client, offer: &Offer<'_>) -> kube::Result<()> {
    let (group, version) = offer.api.split_once('/').unwrap_or_default();
    let (name, service) = (format!("{version}.{group}"), offer.service);
    let offers: Api<APIService> = Api::all(client.clone());
    if let Some(there) = offers.get_opt(&name).await? {
        let by = there.spec.and_then(|spec| spec.service).and_then(|service| service.name);
        if by.as_deref() != Some(service) {
            return Ok(());
        }
    }
    let params = PatchParams::apply(&offer.who.replace(' ', "-")).force();
    let place = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": service},
        "spec": {"type": "ExternalName", "externalName": offer.address.to_string()}});
    Api::<Service>::namespaced(client.clone(), NAMESPACE)
        .patch(service, &params, &Patch::Apply(place))
        .await?;
    let bundle = STANDARD.encode(pem(offer.certificate));
    let patch = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": name},
        "spec": {"group": group, "version": version, "groupPriorityMinimum": 100, "versionPriority": 100, "caBundle": bundle,
            "service": {"name": service, "namespace": NAMESPACE, "port": offer.port}}});
    offers.patch(&name, &params, &Patch::Apply(patch)).await.map(drop)
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_written_in_lines() {
        let lines = pem(&[0; 60]);
        assert_eq!(lines.lines().map(str::len).collect::<Vec<_>>(), [27, 64, 16, 25]);
    }

    #[test]
    fn a_map_says_who_hands_requests_on() {
        let entry = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let map = [
            entry("requestheader-client-ca-file", &pem(&[7; 60])),
            entry("requestheader-allowed-names", r#"["front-proxy-client"]"#),
        ];
        let proxies = of_map(&map.into()).unwrap();
        assert_eq!(
            (proxies.authorities, proxies.names),
            (vec![vec![7; 60]], vec!["front-proxy-client".to_owned()])
        );
        let none = of_map(&BTreeMap::new()).unwrap();
        assert!(none.authorities.is_empty() && none.names.is_empty());
        let unread = of_map(&[entry("requestheader-allowed-names", "x")].into()).unwrap_err();
        assert!(unread.starts_with("requestheader-allowed-names: "), "{unread}");
    }
}
