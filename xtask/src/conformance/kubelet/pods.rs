//! Pods of the walk: what they are to do with a volume, and what they say of it at their end.

use serde_json::{Value, json};

use super::api::*;
use super::place::{IMAGE, NODE};
use super::{Walk, must, text};
use crate::Result;

/// A pod that runs a script with one volume at `/data`; what it writes to `/said` is what it says.
pub(super) fn pod(script: &str, volume: Value) -> Value {
    pod_mounting(json!({}), script, volume)
}

/// The same with more fields of the mount.
pub(super) fn pod_mounting(fields: Value, script: &str, volume: Value) -> Value {
    let mount = with(json!({"name": "volume", "mountPath": "/data"}), fields);
    pod_using(script, volume, json!({"volumeMounts": [mount]}))
}

/// The same, where the volume is a block device, `/dev/volume`.
pub(super) fn pod_with_device(script: &str, claim: &str) -> Value {
    let device = json!({"name": "volume", "devicePath": "/dev/volume"});
    pod_using(script, of_claim(claim), json!({"volumeDevices": [device]}))
}

/// A pod with more fields of its own.
pub(super) fn pod_of(fields: Value, mut pod: Value) -> Value {
    pod["spec"] = with(pod["spec"].take(), fields);
    pod
}

fn pod_using(script: &str, volume: Value, uses: Value) -> Value {
    let container = json!({"name": "main", "image": IMAGE, "imagePullPolicy": "Never",
        "command": ["sh", "-c", script], "terminationMessagePath": "/said"});
    json!({"spec": {"restartPolicy": "Never", "automountServiceAccountToken": false,
        "terminationGracePeriodSeconds": 1, "containers": [with(container, uses)],
        "volumes": [with(json!({"name": "volume"}), volume)]}})
}

/// An object with more fields, or others.
fn with(mut object: Value, fields: Value) -> Value {
    if let (Some(object), Value::Object(fields)) = (object.as_object_mut(), fields) {
        object.extend(fields);
    }
    object
}

/// The volume of a claim.
pub(super) fn of_claim(name: &str) -> Value {
    json!({"persistentVolumeClaim": {"claimName": name}})
}

impl Walk {
    /// Asks for a volume of a class, with more or other fields.
    pub(super) async fn claim(&self, name: &str, class: &str, fields: Value) -> Result<()> {
        let spec = json!({"storageClassName": class, "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "512Mi"}}});
        self.api.make(CLAIMS, name, json!({"spec": with(spec, fields)})).await.map(drop)
    }

    /// The volume's object of a claim that is bound.
    pub(super) async fn volume(&self, claim: &str) -> Result<Value> {
        let bound = |claim: &Value| claim["status"]["phase"] == "Bound";
        let found = self.api.until(CLAIMS, claim, "bound", bound).await?;
        self.api.until(VOLUMES, text(&found["spec"]["volumeName"])?, "bound", bound).await
    }

    /// Makes a pod, and waits until it runs.
    pub(super) async fn start(&self, name: &str, pod: Value) -> Result<Value> {
        self.api.make(PODS, name, pod).await?;
        let runs = |pod: &Value| {
            let is = &pod["status"]["containerStatuses"][0];
            is["ready"] == true || has_ended(pod)
        };
        let pod = self.api.until(PODS, name, "running", runs).await?;
        must(!has_ended(&pod), || format!("{name} has ended: {}", pod["status"]))?;
        must(pod["spec"]["nodeName"] == NODE, || format!("{name} is on {}", pod["spec"]["nodeName"]))?;
        Ok(pod)
    }

    /// What a pod says at its end, which has to be a good one.
    pub(super) async fn said(&self, name: &str) -> Result<String> {
        let pod = self.api.until(PODS, name, "over", has_ended).await?;
        must(pod["status"]["phase"] == "Succeeded", || format!("{name}: {}", pod["status"]))?;
        let said = &pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"];
        Ok(said.as_str().unwrap_or_default().trim().to_owned())
    }

    /// Has a pod go, with all that the kubelet keeps of it.
    pub(super) async fn remove(&self, name: &str) -> Result<()> {
        self.api.delete(PODS, &[name]).await?;
        self.api.gone(PODS, name).await
    }

    /// What a pod says that comes, ends and goes.
    pub(super) async fn run_pod(&self, name: &str, pod: Value) -> Result<String> {
        self.api.make(PODS, name, pod).await?;
        let said = self.said(name).await?;
        self.remove(name).await?;
        Ok(said)
    }

    /// Fails unless a pod says this and nothing else.
    pub(super) async fn says(&self, name: &str, pod: Value, what: &str) -> Result<()> {
        let said = self.run_pod(name, pod).await?;
        must(said == what, || format!("{name} says {said:?}, and not {what:?}"))
    }
}
