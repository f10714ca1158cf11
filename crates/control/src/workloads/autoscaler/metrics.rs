//! What was measured, asked of the three APIs that metrics servers register: of resources, of what people measure, and of what is measured
//! elsewhere.

use client::quantity;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::{Client, Error};
use serde_json::Value;

use super::count::{self, Sample, Samples};
use crate::workloads::hands;

/// One sample is of so long, if nobody says.
const WINDOW: SignedDuration = SignedDuration::from_mins(1);

/// Asks for a path; what is wrong is told as Kubernetes does, with what was asked for.
async fn get(client: &Client, path: &str, query: &[(&str, &str)], what: &str) -> Result<Value, String> {
    let query: Vec<String> = query.iter().map(|(key, value)| format!("{key}={}", escaped(value))).collect();
    let uri = if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) };
    let request = http::Request::get(uri).body(Vec::new()).map_err(|error| error.to_string())?;
    client.request(request).await.map_err(|error| match &error {
        // Of an object that is not there details tell which.
        Error::Api(status) if status.code == 404 && status.details.is_none() => {
            format!("the server could not find the requested resource (get {what})")
        }
        _ => hands::says(&error),
    })
}

/// A path of these parts, which people may have named: none is more than one, or leads up.
fn path(base: &str, parts: &[&str]) -> Result<String, String> {
    let mut path = base.to_owned();
    for part in parts {
        if matches!(*part, "" | "." | "..") || part.contains('/') {
            return Err(format!("invalid name {part:?}: it cannot be a part of a path"));
        }
        path.push('/');
        path.push_str(&escaped(part));
    }
    Ok(path)
}

/// As a URI has it.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~*".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// A selector as a query has it.
pub(super) fn text(selector: Option<&LabelSelector>) -> String {
    let Some(selector) = selector else { return String::new() };
    let equal = selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}={value}"));
    let rules = selector.match_expressions.iter().flatten().map(|rule| {
        let values = rule.values.clone().unwrap_or_default().join(",");
        match rule.operator.as_str() {
            "In" => format!("{} in ({values})", rule.key),
            "NotIn" => format!("{} notin ({values})", rule.key),
            "DoesNotExist" => format!("!{}", rule.key),
            _ => rule.key.clone(),
        }
    });
    equal.chain(rules).collect::<Vec<_>>().join(",")
}

fn thousandths(value: &Value) -> Option<i64> {
    quantity::thousandths(&Quantity(value.as_str()?.to_owned()))
}

fn at(item: &Value) -> Timestamp {
    item["timestamp"].as_str().and_then(|text| text.parse().ok()).unwrap_or_else(Timestamp::now)
}

/// What pods use of a resource, or one of their containers does.
pub(super) async fn of_resource(
    client: &Client,
    namespace: &str,
    selector: &str,
    resource: &str,
    container: Option<&str>,
) -> Result<Samples, String> {
    let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods");
    let query = [("labelSelector", selector)];
    let told = get(client, &path, &query, "pods.metrics.k8s.io").await;
    let told = told.map_err(|why| format!("unable to fetch metrics from resource metrics API: {why}"))?;
    usage(&told, resource, container)
}

fn usage(told: &Value, resource: &str, container: Option<&str>) -> Result<Samples, String> {
    let items = told["items"].as_array().filter(|items| !items.is_empty());
    let items = items.ok_or("no metrics returned from resource metrics API")?;
    let mut samples = Samples::new();
    for item in items {
        let name = item["metadata"]["name"].as_str().unwrap_or_default();
        let mut all = item["containers"].as_array().into_iter().flatten();
        let value = match container {
            None => all
                .map(|one| thousandths(&one["usage"][resource]))
                .collect::<Option<Vec<_>>>()
                .map(count::sum),
            Some(wanted) => {
                let found = all.find(|one| one["name"] == wanted).ok_or_else(|| {
                    let namespace = item["metadata"]["namespace"].as_str().unwrap_or_default();
                    format!("container {wanted} not present in metrics for pod {namespace}/{name}")
                })?;
                thousandths(&found["usage"][resource])
            }
        };
        // One of which this is not measured is missing.
        if let Some(value) = value {
            let window = item["window"].as_str().and_then(|text| text.parse().ok()).unwrap_or(WINDOW);
            samples.insert(name.to_owned(), Sample { value, at: at(item), window });
        }
    }
    Ok(samples)
}

/// What people measure, of objects at a path below the namespace.
async fn custom(
    client: &Client,
    namespace: &str,
    object: &[&str],
    query: &[(&str, &str)],
    what: &str,
) -> Result<Value, String> {
    let mut refused = String::new();
    // What is not there in one version may be in the other.
    for version in ["v1beta2", "v1beta1"] {
        let path = path(&format!("/apis/custom.metrics.k8s.io/{version}/namespaces/{namespace}"), object)?;
        match get(client, &path, query, what).await {
            Ok(told) => return Ok(told),
            Err(why) => refused = why,
        }
    }
    Err(format!("unable to fetch metrics from custom metrics API: {refused}"))
}

/// A metric of each of some pods.
pub(super) async fn of_pods(
    client: &Client,
    namespace: &str,
    selector: &str,
    metric: &str,
    of_metric: &str,
) -> Result<Samples, String> {
    let mut query = vec![("labelSelector", selector)];
    query.extend((!of_metric.is_empty()).then_some(("metricLabelSelector", of_metric)));
    let told =
        custom(client, namespace, &["pods", "*", metric], &query, "pods.custom.metrics.k8s.io").await?;
    let items = told["items"].as_array().filter(|items| !items.is_empty());
    let items = items.ok_or("no metrics returned from custom metrics API")?;
    let sample = |item: &Value| {
        let window = item["windowSeconds"].as_i64().map_or(WINDOW, SignedDuration::from_secs);
        let name = item["describedObject"]["name"].as_str()?.to_owned();
        Some((name, Sample { value: thousandths(&item["value"])?, at: at(item), window }))
    };
    Ok(items.iter().filter_map(sample).collect())
}

/// A metric of one object, in thousandths. `resource` is its kind's name in paths, with the group.
pub(super) async fn of_object(
    client: &Client,
    namespace: &str,
    (resource, name): (&str, &str),
    metric: &str,
    of_metric: &str,
) -> Result<i64, String> {
    let (of_namespace, of_object) = (["metrics", metric], [resource, name, metric]);
    let object = if resource == "namespaces" { &of_namespace[..] } else { &of_object[..] };
    let query: Vec<_> =
        (!of_metric.is_empty()).then_some(("metricLabelSelector", of_metric)).into_iter().collect();
    let what = format!("{resource}.custom.metrics.k8s.io {name}");
    let told = custom(client, namespace, object, &query, &what).await?;
    let value = told["items"].as_array().and_then(|items| thousandths(&items.first()?["value"]));
    value.ok_or_else(|| "no metrics returned from custom metrics API".into())
}

/// What is measured elsewhere, all of it together, in thousandths.
pub(super) async fn external(
    client: &Client,
    namespace: &str,
    metric: &str,
    selector: &str,
) -> Result<i64, String> {
    let path = path(&format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}"), &[metric])?;
    let query = [("labelSelector", selector)];
    let told = get(client, &path, &query, &format!("{metric}.external.metrics.k8s.io")).await;
    let told = told.map_err(|why| format!("unable to fetch metrics from external metrics API: {why}"))?;
    let items = told["items"].as_array().filter(|items| !items.is_empty());
    let items = items.ok_or("no metrics returned from external metrics API")?;
    Ok(count::sum(items.iter().filter_map(|item| thousandths(&item["value"]))))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn use_is_that_of_all_containers_or_of_one() {
        let container = |name: &str, cpu: &str| json!({"name": name, "usage": {"cpu": cpu}});
        let told = json!({"items": [
            {"metadata": {"name": "a", "namespace": "n"}, "timestamp": "2026-01-01T00:00:00Z", "window": "10.5s",
             "containers": [container("main", "250m"), container("side", "12345678n")]},
            {"metadata": {"name": "b", "namespace": "n"}, "containers": [{"name": "main", "usage": {"memory": "1Mi"}}]}]});
        let all = usage(&told, "cpu", None).unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["a"], "of b the processor was not measured");
        assert_eq!((all["a"].value, all["a"].window), (263, SignedDuration::from_millis(10_500)));
        assert_eq!(usage(&told, "cpu", Some("main")).unwrap()["a"].value, 250);
        let missing = usage(&told, "cpu", Some("side")).unwrap_err();
        assert_eq!(missing, "container side not present in metrics for pod n/b");
        let none = usage(&json!({"items": []}), "cpu", None).unwrap_err();
        assert_eq!(none, "no metrics returned from resource metrics API");
    }

    #[test]
    fn selectors_are_told_in_queries() {
        let selector: LabelSelector =
            serde_json::from_value(json!({"matchLabels": {"a": "b"}, "matchExpressions": [
            {"key": "c", "operator": "In", "values": ["d", "e"]}, {"key": "f", "operator": "DoesNotExist"}]}))
            .unwrap();
        assert_eq!(text(Some(&selector)), "a=b,c in (d,e),!f");
        assert_eq!(escaped("a=b,c in (d)"), "a%3Db%2Cc%20in%20%28d%29");
        assert_eq!(path("/a", &["pods", "*", "b?c d"]).unwrap(), "/a/pods/*/b%3Fc%20d");
        for wrong in ["", "..", "a/../b"] {
            assert!(path("/a", &[wrong]).is_err(), "{wrong}");
        }
    }
}
