use serde_json::Value;

use super::{Sheet, conditions, or_none};
use crate::failure::Result;
use crate::objects::{Call, JSON, Server, list, number, text};

/// What a person asks of a Service: where it is, and who is behind it.
pub(super) fn describe(sheet: &mut Sheet, server: &Server, service: &Value) -> Result<()> {
    sheet.pairs("Selector", service.pointer("/spec/selector"), "=");
    sheet.field("Type", text(service, "/spec/type"));
    sheet.maybe("External Name", text(service, "/spec/externalName"));
    let words = |place: &str| {
        let all = list(service, place).iter().filter_map(Value::as_str).collect::<Vec<_>>();
        all.join(", ")
    };
    sheet.field("IP Families", &or_none(&words("/spec/ipFamilies")));
    sheet.field("IPs", &or_none(&words("/spec/clusterIPs")));
    sheet.maybe("External IPs", &words("/spec/externalIPs"));
    let ingress = list(service, "/status/loadBalancer/ingress").iter().map(|one| match text(one, "/ip") {
        "" => text(one, "/hostname"),
        ip => ip,
    });
    sheet.maybe("LoadBalancer", &ingress.collect::<Vec<_>>().join(", "));
    let endpoints = endpoints(server, service)?;
    for port in list(service, "/spec/ports") {
        let name = text(port, "/name");
        let protocol = text(port, "/protocol");
        sheet.field("Port", format!("{name} {}/{protocol}", number(port, "/port")).trim_start());
        let target = port.get("targetPort").map_or_else(String::new, |target| match target.as_str() {
            Some(name) => name.to_owned(),
            None => target.to_string(),
        });
        sheet.field("TargetPort", &format!("{target}/{protocol}"));
        if number(port, "/nodePort") > 0 {
            sheet.field("NodePort", &format!("{}/{protocol}", number(port, "/nodePort")));
        }
        let its: Vec<String> =
            endpoints.iter().filter(|(port, _)| port == name).map(|(_, at)| at.clone()).collect();
        sheet.field("Endpoints", &or_none(&its.join(", ")));
    }
    sheet.field("Session Affinity", &or_none(text(service, "/spec/sessionAffinity")));
    sheet.maybe("Internal Traffic", text(service, "/spec/internalTrafficPolicy"));
    sheet.maybe("External Traffic", text(service, "/spec/externalTrafficPolicy"));
    conditions(sheet, service);
    Ok(())
}

/// Who is behind it and ready, each with the name of its port.
fn endpoints(server: &Server, service: &Value) -> Result<Vec<(String, String)>> {
    let namespace = text(service, "/metadata/namespace");
    let path = format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices");
    let label = format!("kubernetes.io/service-name={}", text(service, "/metadata/name"));
    let slices = server.ask(Call::get(&path, JSON).with("labelSelector", &label))?;
    let mut all = Vec::new();
    for slice in list(&slices, "/items") {
        for port in list(slice, "/ports") {
            for endpoint in list(slice, "/endpoints") {
                if endpoint.pointer("/conditions/ready") == Some(&Value::Bool(false)) {
                    continue;
                }
                for address in list(endpoint, "/addresses").iter().filter_map(Value::as_str) {
                    let joint =
                        if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
                    all.push((text(port, "/name").to_owned(), format!("{joint}:{}", number(port, "/port"))));
                }
            }
        }
    }
    Ok(all)
}
