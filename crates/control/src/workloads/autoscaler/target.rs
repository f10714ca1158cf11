//! What is scaled, and what one metric asks for.

use client::quantity;
use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, MetricIdentifier, MetricSpec, MetricTarget,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Client, discovery};
use serde_json::{Value, json};

use super::count::{self, Asked};
use super::metrics;
use crate::workloads::{hands, words};

/// What is scaled, as it was found.
#[derive(Debug)]
pub(super) struct Target {
    api: (String, ApiResource),
    name: String,
    /// How many pods it is to have.
    pub(super) replicas: i32,
    /// How many it has.
    there: i32,
    /// Which pods those are.
    pub(super) selector: String,
}

/// What the server calls a kind in paths.
async fn resource(client: &Client, api_version: Option<&str>, kind: &str) -> Result<ApiResource, String> {
    let version = api_version.filter(|version| !version.is_empty()).unwrap_or("v1");
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let kind = GroupVersionKind::gvk(group, version, kind);
    // These are the same everywhere.
    let known = matches!(
        (group, kind.kind.as_str()),
        ("apps", "Deployment" | "StatefulSet" | "ReplicaSet") | ("", "ReplicationController")
    );
    if known {
        return Ok(ApiResource::from_gvk(&kind));
    }
    match discovery::pinned_kind(client, &kind).await {
        Ok((resource, _)) => Ok(resource),
        Err(kube::Error::Api(_) | kube::Error::Discovery(_)) => {
            Err(format!("no matches for kind {:?} in group {group:?}", kind.kind))
        }
        Err(error) => Err(hands::says(&error)),
    }
}

/// Finds what an autoscaler scales.
pub(super) async fn find(
    client: &Client,
    namespace: &str,
    reference: &CrossVersionObjectReference,
) -> Result<Target, String> {
    let resource = resource(client, reference.api_version.as_deref(), &reference.kind).await?;
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let scale = api.get_scale(&reference.name).await.map_err(|error| hands::says(&error))?;
    let status = scale.status.unwrap_or_default();
    Ok(Target {
        api: (namespace.to_owned(), resource),
        name: reference.name.clone(),
        replicas: scale.spec.and_then(|spec| spec.replicas).unwrap_or_default(),
        there: status.replicas,
        selector: status.selector.unwrap_or_default(),
    })
}

/// How many pods the owner of some is to have, where that is known of its kind; `None` where it is gone.
///
/// # Errors
/// Its kind has no `scale`, or the server does not say.
pub(in crate::workloads) async fn replicas_of(
    client: &Client,
    namespace: &str,
    owner: &OwnerReference,
) -> Result<Option<i32>, String> {
    let resource = resource(client, Some(&owner.api_version), &owner.kind).await?;
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    match api.get_scale(&owner.name).await {
        Ok(scale) if scale.metadata.uid.as_ref().is_some_and(|uid| *uid != owner.uid) => Ok(None),
        Ok(scale) => Ok(Some(scale.spec.and_then(|spec| spec.replicas).unwrap_or_default())),
        Err(kube::Error::Api(status)) if status.code == 404 => {
            // Either is not there: the owner, or its scale.
            match api.get_opt(&owner.name).await.map_err(|error| hands::says(&error))? {
                None => Ok(None),
                Some(_) => Err(format!("{} does not implement the scale subresource", path(&resource))),
            }
        }
        Err(error) => Err(hands::says(&error)),
    }
}

/// A resource with its group, as paths and messages have it.
fn path(resource: &ApiResource) -> String {
    match resource.group.as_str() {
        "" => resource.plural.clone(),
        group => format!("{}.{group}", resource.plural),
    }
}

impl Target {
    /// Has it have so many pods. False if somebody has asked for others since it was found: the next look decides from that, or a person
    /// who stops it would be overruled.
    pub(super) async fn scale(&self, client: &Client, replicas: i32) -> Result<bool, String> {
        let (namespace, resource) = &self.api;
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, resource);
        let now = api.get_scale(&self.name).await.map_err(|error| hands::says(&error))?;
        if now.spec.and_then(|spec| spec.replicas).unwrap_or_default() != self.replicas {
            return Ok(false);
        }
        let patch = json!({"metadata": {"resourceVersion": now.metadata.resource_version}, "spec": {"replicas": replicas}});
        match api.patch_scale(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(hands::says(&error)),
        }
    }
}

/// What one metric asks for.
#[derive(Debug)]
pub(super) struct Proposed {
    /// How many pods.
    pub(super) replicas: i32,
    /// What it is called.
    pub(super) metric: String,
    /// What the status is to say of it.
    pub(super) status: Value,
}

/// Why a metric asks for nothing: reason and words.
type Refused = (&'static str, String);

/// Who asks metrics.
pub(super) struct Wanting<'a> {
    pub(super) client: &'a Client,
    pub(super) namespace: &'a str,
    pub(super) target: &'a Target,
    pub(super) asked: Asked<'a>,
}

impl Wanting<'_> {
    /// What a metric asks for.
    pub(super) async fn ask(&self, metric: &MetricSpec) -> Result<Proposed, Refused> {
        match (metric.type_.as_str(), metric) {
            ("Resource", MetricSpec { resource: Some(of), .. }) => {
                let found = self.resource(&of.name, None, &of.target).await;
                let (replicas, metric, current) = found.map_err(|why| ("FailedGetResourceMetric", why))?;
                let status = json!({"type": "Resource", "resource": {"name": of.name, "current": current}});
                Ok(Proposed { replicas, metric, status })
            }
            ("ContainerResource", MetricSpec { container_resource: Some(of), .. }) => {
                let found = self.resource(&of.name, Some(&of.container), &of.target).await;
                let (replicas, metric, current) =
                    found.map_err(|why| ("FailedGetContainerResourceMetric", why))?;
                let its = json!({"name": of.name, "container": of.container, "current": current});
                let status = json!({"type": "ContainerResource", "containerResource": its});
                Ok(Proposed { replicas, metric, status })
            }
            ("Pods", MetricSpec { pods: Some(of), .. }) => {
                let found = self.pods(&of.metric, &of.target).await;
                let (replicas, current) = found.map_err(|why| ("FailedGetPodsMetric", why))?;
                let status = json!({"type": "Pods", "pods": {"metric": of.metric, "current": current}});
                Ok(Proposed { replicas, metric: format!("pods metric {}", of.metric.name), status })
            }
            ("Object", MetricSpec { object: Some(of), .. }) => {
                let found = self.object(&of.described_object, &of.metric, &of.target).await;
                let (replicas, current) = found.map_err(|why| ("FailedGetObjectMetric", why))?;
                let its =
                    json!({"metric": of.metric, "describedObject": of.described_object, "current": current});
                // Kubernetes calls one that is shared by the pods external.
                let metric = match is_shared(&of.target) {
                    true => external(&of.metric),
                    false => format!("{} metric {}", of.described_object.kind, of.metric.name),
                };
                Ok(Proposed { replicas, metric, status: json!({"type": "Object", "object": its}) })
            }
            ("External", MetricSpec { external: Some(of), .. }) => {
                let found = self.external(&of.metric, &of.target).await;
                let (replicas, current) = found.map_err(|why| ("FailedGetExternalMetric", why))?;
                let status =
                    json!({"type": "External", "external": {"metric": of.metric, "current": current}});
                Ok(Proposed { replicas, metric: external(&of.metric), status })
            }
            (other, _) => Err(("InvalidMetricSourceType", format!("unknown metric source type {other:?}"))),
        }
    }

    async fn resource(
        &self,
        name: &str,
        container: Option<&str>,
        target: &MetricTarget,
    ) -> Result<(i32, String, Value), String> {
        let average = target.average_value.as_ref().and_then(quantity::thousandths);
        let failed = |why: String| match average {
            Some(_) => format!("failed to get {name} usage: {why}"),
            None => format!("failed to get {name} utilization: {why}"),
        };
        if average.is_none() && target.average_utilization.is_none() {
            let why = "invalid resource metric source: neither an average utilization target nor an average value \
                       (usage) target was set";
            return Err(why.into());
        }
        let samples =
            metrics::of_resource(self.client, self.namespace, &self.target.selector, name, container).await;
        let samples =
            samples.map_err(|why| failed(format!("unable to get metrics for resource {name}: {why}")))?;
        if let Some(average) = average {
            let found = count::by_average(&self.asked, samples, name == "cpu", average);
            let (replicas, now) = found.map_err(failed)?;
            return Ok((replicas, format!("{name} resource"), json!({"averageValue": measured(name, now)})));
        }
        let wanted = target.average_utilization.unwrap_or_default();
        let found = count::by_utilization(&self.asked, samples, name, container, wanted);
        let (replicas, percent, now) = found.map_err(failed)?;
        let what = if container.is_some() { "container resource" } else { "resource" };
        let current = json!({"averageUtilization": percent, "averageValue": measured(name, now)});
        Ok((replicas, format!("{name} {what} utilization (percentage of request)"), current))
    }

    async fn pods(&self, metric: &MetricIdentifier, target: &MetricTarget) -> Result<(i32, Value), String> {
        let wanted = target.average_value.as_ref().and_then(quantity::thousandths);
        let wanted = wanted.ok_or("invalid pods metric source: no average value target was set")?;
        let of_metric = metrics::text(metric.selector.as_ref());
        let samples =
            metrics::of_pods(self.client, self.namespace, &self.target.selector, &metric.name, &of_metric);
        let samples = samples.await.map_err(|why| format!("unable to get metric {}: {why}", metric.name))?;
        let (replicas, now) = count::by_average(&self.asked, samples, false, wanted)?;
        Ok((replicas, json!({"averageValue": amount(now)})))
    }

    async fn object(
        &self,
        of: &CrossVersionObjectReference,
        metric: &MetricIdentifier,
        target: &MetricTarget,
    ) -> Result<(i32, Value), String> {
        let failed = |why| {
            let (kind, name) = (&of.kind, &of.name);
            format!("unable to get metric {}: {kind} on {} {name}/{why}", metric.name, self.namespace)
        };
        let resource = resource(self.client, of.api_version.as_deref(), &of.kind).await.map_err(failed)?;
        let path = path(&resource);
        let of_metric = metrics::text(metric.selector.as_ref());
        let value =
            metrics::of_object(self.client, self.namespace, (&path, &of.name), &metric.name, &of_metric);
        let value = value.await.map_err(failed)?;
        self.by_value("object", value, target)
    }

    async fn external(
        &self,
        metric: &MetricIdentifier,
        target: &MetricTarget,
    ) -> Result<(i32, Value), String> {
        let selector = metrics::text(metric.selector.as_ref());
        let value = metrics::external(self.client, self.namespace, &metric.name, &selector).await;
        let value = value.map_err(|why| {
            let selector = words::selector(metric.selector.as_ref());
            format!("unable to get external metric {}/{}/{selector}: {why}", self.namespace, metric.name)
        })?;
        self.by_value("external", value, target)
    }

    /// By a value that is none of pods.
    fn by_value(&self, kind: &str, value: i64, target: &MetricTarget) -> Result<(i32, Value), String> {
        if let Some(wanted) = target.average_value.as_ref().and_then(quantity::thousandths) {
            let (replicas, each) = count::by_share(&self.asked, value, wanted, self.target.there);
            return Ok((replicas, json!({"averageValue": amount(each)})));
        }
        let wanted = target.value.as_ref().and_then(quantity::thousandths).filter(|wanted| *wanted != 0);
        let wanted = wanted.ok_or_else(|| {
            format!(
                "invalid {kind} metric source: neither a value target nor an average value target was set"
            )
        })?;
        #[allow(clippy::cast_precision_loss, reason = "as Kubernetes counts")]
        let replicas = count::by_ratio(&self.asked, value as f64 / wanted as f64)?;
        Ok((replicas, json!({"value": amount(value)})))
    }
}

/// Whether what is measured is the pods' together, and each has its part of it.
fn is_shared(target: &MetricTarget) -> bool {
    target.average_value.is_some()
}

/// What a metric that is none of pods is called.
fn external(metric: &MetricIdentifier) -> String {
    format!("external metric {}({})", metric.name, words::selector(metric.selector.as_ref()))
}

/// What went wrong with which metric.
pub(super) fn whose(metric: &MetricSpec, why: &str) -> String {
    let why = &match (&metric.object, &metric.external) {
        (Some(of), _) if is_shared(&of.target) => {
            format!("failed to get {} object metric: {why}", of.metric.name)
        }
        (_, Some(of)) if is_shared(&of.target) => {
            format!("failed to get {} external metric: {why}", of.metric.name)
        }
        (_, Some(of)) if of.target.value.is_some() => {
            format!("failed to get external metric {}: {why}", of.metric.name)
        }
        _ => why.to_owned(),
    };
    let what = match (metric.type_.as_str(), metric) {
        ("Resource", MetricSpec { resource: Some(of), .. }) => format!("{} resource metric value", of.name),
        ("ContainerResource", MetricSpec { container_resource: Some(of), .. }) => {
            format!("{} container metric value", of.container)
        }
        ("Pods", _) => "pods metric value".into(),
        ("Object", _) => "object metric value".into(),
        ("External", MetricSpec { external: Some(of), .. }) => {
            format!("{} external metric value", of.metric.name)
        }
        _ => return why.clone(),
    };
    format!("failed to get {what}: {why}")
}

/// How much of a resource was measured. Of memory that is told in powers of 1024, where nothing is left out by it.
fn measured(resource: &str, thousandths: i64) -> Quantity {
    let whole = thousandths / 1000;
    if resource != "memory" || thousandths % 1000 != 0 || whole.abs() < 1024 {
        return amount(thousandths);
    }
    let (mut number, mut units) = (whole, ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].iter());
    let mut unit = units.next().copied().unwrap_or_default();
    while number % 1024 == 0 {
        let Some(next) = units.next() else { break };
        (number, unit) = (number / 1024, next);
    }
    Quantity(format!("{number}{unit}"))
}

/// An amount of thousandths as Kubernetes writes it: the largest unit that leaves nothing out.
fn amount(thousandths: i64) -> Quantity {
    let (mut number, mut units) = (thousandths, ["m", "", "k", "M", "G", "T", "P", "E"].iter());
    let mut unit = units.next().copied().unwrap_or_default();
    while number != 0 && number % 1000 == 0 {
        let Some(next) = units.next() else { break };
        (number, unit) = (number / 1000, next);
    }
    Quantity(if number == 0 { "0".into() } else { format!("{number}{unit}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_told_in_their_largest_unit() {
        for (thousandths, text) in
            [(0, "0"), (1, "1m"), (250, "250m"), (1000, "1"), (35_651_584_000, "35651584"), (2_000_000, "2k")]
        {
            assert_eq!(amount(thousandths).0, text);
        }
        for (bytes, text) in [(34 << 20, "34Mi"), (1_500, "1500"), (1_000, "1k"), (3 << 30, "3Gi"), (0, "0")]
        {
            assert_eq!(measured("memory", bytes * 1000).0, text);
        }
        assert_eq!(
            (measured("memory", 2_000_500).0, measured("cpu", 2_048_000).0),
            ("2000500m".into(), "2048".into())
        );
    }

    #[test]
    fn what_went_wrong_is_told_with_its_metric() {
        let told = |metric: Value| whose(&serde_json::from_value(metric).unwrap(), "why");
        let external = |target: Value| {
            told(json!({"type": "External", "external": {"metric": {"name": "q"}, "target": target}}))
        };
        assert_eq!(
            external(json!({"type": "Value", "value": "1"})),
            "failed to get q external metric value: failed to get external metric q: why"
        );
        assert_eq!(
            external(json!({"type": "AverageValue", "averageValue": "1"})),
            "failed to get q external metric value: failed to get q external metric: why"
        );
        let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization"}}});
        assert_eq!(told(cpu), "failed to get cpu resource metric value: why");
        let metric = serde_json::from_value(json!({"name": "q", "selector": {"matchLabels": {"a": "b"}}}));
        assert_eq!(
            super::external(&metric.unwrap()),
            "external metric q(&LabelSelector{MatchLabels:map[string]string{a: b,},\
             MatchExpressions:[]LabelSelectorRequirement{},})"
        );
    }
}
