//! Environment of a container, and what else is filled in from elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, Pod, Secret, Service};

use super::fields::{self, Here};

/// What a container's environment is made from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// Those that the pod names and that are there.
    pub(crate) config_maps: BTreeMap<String, Arc<ConfigMap>>,
    /// Those that the pod names and that are there.
    pub(crate) secrets: BTreeMap<String, Arc<Secret>>,
    /// Services whose addresses are told: of the pod's namespace, and the API server's.
    pub(crate) services: Vec<Arc<Service>>,
}

/// Variables in the order in which they were first named.
#[derive(Debug, Default)]
struct Variables {
    order: Vec<String>,
    values: BTreeMap<String, Vec<u8>>,
}

impl Variables {
    fn set(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        if self.values.insert(name.into(), value.into()).is_none() {
            self.order.push(name.into());
        }
    }

    fn text(&self, name: &str) -> Option<String> {
        self.values.get(name).map(|value| String::from_utf8_lossy(value).into_owned())
    }
}

/// The whole environment.
///
/// # Errors
/// Something that is named is not there: in a kubelet's words (`CreateContainerConfigError`).
pub(crate) fn of(
    pod: &Pod,
    container: &Container,
    here: &Here<'_>,
    sources: &Sources,
) -> Result<Vec<(String, Vec<u8>)>, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let links = pod.spec.as_ref().and_then(|spec| spec.enable_service_links).unwrap_or(true);
    let services = service_variables(&sources.services, namespace, links);
    let mut variables = Variables::default();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        if let Some(one) = &from.config_map_ref {
            match sources.config_maps.get(&one.name) {
                Some(map) => {
                    for (name, value) in map.data.iter().flatten() {
                        variables.set(&format!("{prefix}{name}"), value.clone());
                    }
                }
                None if one.optional == Some(true) => {}
                None => return Err(format!("configmap {:?} not found", one.name)),
            }
        }
        if let Some(one) = &from.secret_ref {
            match sources.secrets.get(&one.name) {
                Some(secret) => {
                    for (name, value) in secret.data.iter().flatten() {
                        variables.set(&format!("{prefix}{name}"), value.0.clone());
                    }
                }
                None if one.optional == Some(true) => {}
                None => return Err(format!("secret {:?} not found", one.name)),
            }
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match &variable.value_from {
            Some(_) => from_elsewhere(pod, container, variable, here, sources)?,
            None => {
                let text = variable.value.as_deref().unwrap_or_default();
                let known = |name: &str| variables.text(name).or_else(|| services.get(name).cloned());
                Some(expand(text, known).into_bytes())
            }
        };
        if let Some(value) = value {
            variables.set(&variable.name, value);
        }
    }
    for (name, value) in services {
        if !variables.values.contains_key(&name) {
            variables.set(&name, value);
        }
    }
    let Variables { order, mut values } = variables;
    Ok(order.into_iter().filter_map(|name| values.remove_entry(&name)).collect())
}

/// The value of a variable with `valueFrom`; `None` where it may be missing and is.
fn from_elsewhere(
    pod: &Pod,
    container: &Container,
    variable: &EnvVar,
    here: &Here<'_>,
    sources: &Sources,
) -> Result<Option<Vec<u8>>, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let Some(from) = &variable.value_from else { return Ok(None) };
    if let Some(field) = &from.field_ref {
        return fields::field(pod, &field.field_path, here).map(|value| Some(value.into_bytes()));
    }
    if let Some(resource) = &from.resource_field_ref {
        let whose = match resource.container_name.as_deref().filter(|name| !name.is_empty()) {
            None => Some(container),
            Some(name) => fields::container(pod, name),
        };
        let whose = whose.ok_or_else(|| format!("couldn't find container {:?}", resource.container_name))?;
        return fields::resource(whose, &resource.resource, resource.divisor.as_ref(), here)
            .map(|value| Some(value.into_bytes()));
    }
    if let Some(one) = &from.config_map_key_ref {
        let optional = one.optional == Some(true);
        let Some(map) = sources.config_maps.get(&one.name) else {
            return missing(optional, || format!("configmap {:?} not found", one.name));
        };
        let text = map.data.as_ref().and_then(|data| data.get(&one.key));
        let Some(text) = text else {
            return missing(optional, || {
                format!("couldn't find key {} in ConfigMap {namespace}/{}", one.key, one.name)
            });
        };
        return Ok(Some(text.clone().into_bytes()));
    }
    if let Some(one) = &from.secret_key_ref {
        let optional = one.optional == Some(true);
        let Some(secret) = sources.secrets.get(&one.name) else {
            return missing(optional, || format!("secret {:?} not found", one.name));
        };
        let Some(value) = secret.data.as_ref().and_then(|data| data.get(&one.key)) else {
            return missing(optional, || {
                format!("couldn't find key {} in Secret {namespace}/{}", one.key, one.name)
            });
        };
        return Ok(Some(value.0.clone()));
    }
    Err(format!("environment variable {:?} has a source that this agent does not know", variable.name))
}

fn missing<T>(optional: bool, words: impl FnOnce() -> String) -> Result<Option<T>, String> {
    if optional { Ok(None) } else { Err(words()) }
}

/// What names of services stand for: those of the API server always, the others where the pod wants them.
fn service_variables(services: &[Arc<Service>], namespace: &str, links: bool) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for service in services {
        let (name, whose) = (service.metadata.name.as_deref(), service.metadata.namespace.as_deref());
        let (Some(name), Some(spec)) = (name, service.spec.as_ref()) else { continue };
        let is_api = name == "kubernetes" && whose == Some("default");
        let address = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None");
        let Some(address) = address.filter(|_| is_api || links && whose == Some(namespace)) else { continue };
        let ports = spec.ports.as_deref().unwrap_or_default();
        let Some(first) = ports.first() else { continue };
        let prefix = name.to_uppercase().replace('-', "_");
        let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        let mut set = |suffix: String, value: String| variables.insert(format!("{prefix}{suffix}"), value);
        set("_SERVICE_HOST".into(), address.into());
        set("_SERVICE_PORT".into(), first.port.to_string());
        let url = |port: &k8s_openapi::api::core::v1::ServicePort| {
            let protocol = port.protocol.as_deref().unwrap_or("TCP").to_lowercase();
            format!("{protocol}://{host}:{}", port.port)
        };
        set("_PORT".into(), url(first));
        for port in ports {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let stem = format!("_PORT_{}_{}", port.port, protocol.to_uppercase());
            if let Some(named) = port.name.as_deref().filter(|name| !name.is_empty()) {
                let named = named.to_uppercase().replace('-', "_");
                set(format!("_SERVICE_PORT_{named}"), port.port.to_string());
            }
            set(stem.clone(), url(port));
            set(format!("{stem}_PROTO"), protocol.to_lowercase());
            set(format!("{stem}_PORT"), port.port.to_string());
            set(format!("{stem}_ADDR"), address.into());
        }
    }
    variables
}

/// A text with `$(NAME)` replaced by what `known` says; `$$` is a dollar, and what is not known stays as it is.
pub(crate) fn expand(text: &str, known: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(more) = after.strip_prefix('$') {
            out.push('$');
            rest = more;
        } else if let Some((name, more)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match known(name) {
                Some(value) => out.push_str(&value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = more;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_in_texts_are_replaced() {
        let known = |name: &str| (name == "A").then(|| "1".to_owned());
        let cases = [
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$$(A)", "$(A)"),
            ("$(B)", "$(B)"),
            ("$(A", "$(A"),
            ("$", "$"),
            ("$A", "$A"),
            ("$$$(A)", "$1"),
            ("é$(A)", "é1"),
        ];
        for (text, value) in cases {
            assert_eq!(expand(text, known), value, "{text}");
        }
    }

    fn pod(env: &serde_json::Value, from: &serde_json::Value) -> Pod {
        let container = json!({"name": "c", "env": env, "envFrom": from,
            "resources": {"limits": {"cpu": "1500m", "memory": "64Mi"}}});
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u",
            "labels": {"app": "web"}}, "spec": {"containers": [container]}}))
        .unwrap()
    }

    fn sources() -> Sources {
        let map = json!({"metadata": {"name": "m"}, "data": {"k": "v"}});
        let secret = json!({"metadata": {"name": "s"}, "data": {"p": "cHc="}});
        let service = json!({"metadata": {"name": "my-web", "namespace": "n"},
            "spec": {"clusterIP": "10.0.0.9", "ports": [{"port": 80, "name": "http"}]}});
        Sources {
            config_maps: [("m".into(), Arc::new(serde_json::from_value(map).unwrap()))].into(),
            secrets: [("s".into(), Arc::new(serde_json::from_value(secret).unwrap()))].into(),
            services: vec![Arc::new(serde_json::from_value(service).unwrap())],
        }
    }

    fn environment(env: serde_json::Value, from: serde_json::Value) -> Result<Vec<String>, String> {
        let pod = pod(&env, &from);
        let here = Here {
            node: "node",
            host: "10.1.1.1",
            addresses: &["10.2.2.2".into()],
            cpus: 4000,
            memory: 1 << 30,
        };
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let all = of(&pod, container, &here, &sources())?;
        let line = |(name, value): (String, Vec<u8>)| format!("{name}={}", String::from_utf8(value).unwrap());
        Ok(all.into_iter().map(line).collect())
    }

    #[test]
    fn variables_come_from_everywhere_in_order() {
        let env = json!([
            {"name": "A", "value": "$(X_k)-$(MY_WEB_SERVICE_PORT)"},
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
            {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
            {"name": "P", "valueFrom": {"secretKeyRef": {"name": "s", "key": "p"}}},
            {"name": "NONE", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "no", "optional": true}}}]);
        let all = environment(env, json!([{"prefix": "X_", "configMapRef": {"name": "m"}}])).unwrap();
        let own = ["X_k=v", "A=v-80", "NAME=p", "APP=web", "IP=10.2.2.2", "CPU=2", "MEM=64", "P=pw"];
        assert_eq!(all[..own.len()], own);
        assert!(all.contains(&"MY_WEB_PORT_80_TCP=tcp://10.0.0.9:80".to_owned()), "{all:?}");
    }

    #[test]
    fn what_is_missing_is_told_in_a_kubelets_words() {
        let by_key =
            |kind: &str, name: &str| json!([{"name": "A", "valueFrom": {kind: {"name": name, "key": "z"}}}]);
        let failed = |env, from| environment(env, from).unwrap_err();
        assert_eq!(failed(by_key("configMapKeyRef", "x"), json!([])), "configmap \"x\" not found");
        assert_eq!(failed(by_key("secretKeyRef", "x"), json!([])), "secret \"x\" not found");
        assert_eq!(failed(by_key("configMapKeyRef", "m"), json!([])), "couldn't find key z in ConfigMap n/m");
        assert_eq!(failed(by_key("secretKeyRef", "s"), json!([])), "couldn't find key z in Secret n/s");
        assert_eq!(failed(json!([]), json!([{"secretRef": {"name": "x"}}])), "secret \"x\" not found");
    }
}
