//! A volume comes to be where a pod looks for it: attached, staged, published, and its files the pod's group's.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use csi::caller::Driver;
use csi::contract::v1::node_service_capability::rpc::Type as NodeCall;
use csi::contract::v1::{NodePublishVolumeRequest, NodeStageVolumeRequest};
use k8s_openapi::api::core::v1::{Pod, PodSecurityContext};
use k8s_openapi::api::storage::v1::CSIDriver;
use kube::Api;
use serde_json::json;
use tokio::time::Instant;

use super::record::{self, Held, Published};
use super::wanted::For;
use super::{Mounted, Wanted, attach, group, reach, words};
use crate::agent::Agent;
use crate::names::Key;
use crate::volumes::Failed;
use crate::volumes::payload::token_for;

/// How often a driver that wants it is asked for the same again (`requiresRepublish`).
pub(super) const AGAIN: Duration = Duration::from_secs(60);

/// Has a volume mounted for a pod. What has begun goes on when the pod is not waited for any more: it is taken back then.
///
/// # Errors
/// In a kubelet's words.
pub(crate) async fn mount(
    agent: &Arc<Agent>,
    key: &Key,
    pod: &Arc<Pod>,
    wanted: Wanted,
) -> Result<Mounted, Failed> {
    let (agent, key, pod) = (agent.clone(), key.clone(), pod.clone());
    let volume = wanted.volume.clone();
    let mounting = tokio::spawn(async move { Mounting { agent, key, pod, wanted }.run().await });
    mounting.await.unwrap_or_else(|error| Err(Failed::set_up(&volume, &error.to_string())))
}

struct Mounting {
    agent: Arc<Agent>,
    key: Key,
    pod: Arc<Pod>,
    wanted: Wanted,
}

impl Mounting {
    fn failed(&self, why: &str) -> Failed {
        Failed::set_up(&self.wanted.name, why)
    }

    async fn run(self) -> Result<Mounted, Failed> {
        let wanted = &self.wanted;
        let csi = &self.agent.csi;
        let endpoint = csi.endpoint(&wanted.id.driver).ok_or_else(|| {
            let why = format!(
                "kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: driver name {} not found in the list of registered CSI drivers",
                wanted.id.driver
            );
            self.failed(&why).later()
        })?;
        let object = self.object().await.map_err(|why| self.failed(&why))?;
        self.allows(object.as_ref()).map_err(|why| self.failed(&why))?;
        let _turn = csi.turn(&wanted.id).await;
        let driver = reach(&endpoint).await.map_err(|error| self.failed(&words(&error)))?;
        // From here to the record nothing is waited for: who takes volumes back of a pod that goes finds it, or nothing is begun.
        if self.agent.pod(&self.key).is_none_or(|pod| pod.metadata.deletion_timestamp.is_some()) {
            return Err(self.failed("the pod is being deleted").later());
        }
        let place = record::volumes(&csi.folder, &self.key.uid).join(&wanted.name);
        let path = place.join(wanted.point());
        let publication = Published {
            id: wanted.id.clone(),
            endpoint: endpoint.clone(),
            namespace: self.key.name.namespace.clone(),
            pod: self.key.name.name.clone(),
            point: wanted.point().into(),
        };
        record::write(&place, &publication).map_err(|why| self.failed(&why))?;
        let (publish_context, staging) = self.hold(&driver, object.as_ref(), endpoint).await?;
        self.publish(&driver, object.as_ref(), publish_context, staging, &path).await?;
        self.share(&driver, object.as_ref(), &path).await?;
        let again = object.is_some_and(|object| object.spec.requires_republish == Some(true));
        let again = again.then(|| Instant::now() + AGAIN);
        let mounted = Mounted { path, block: wanted.block, again };
        csi.set_mounted(&self.key.uid, &wanted.volume, mounted.clone());
        Ok(mounted)
    }

    /// What the cluster knows of the driver.
    async fn object(&self) -> Result<Option<CSIDriver>, String> {
        let api: Api<CSIDriver> = Api::all(self.agent.client.clone());
        let name = &self.wanted.id.driver;
        let got = api.get_opt(name).await;
        got.map_err(|error| format!("cannot read CSIDriver {name}: {}", client::causes(&error)))
    }

    /// Whether the driver has such volumes.
    fn allows(&self, object: Option<&CSIDriver>) -> Result<(), String> {
        let Some(spec) = object.map(|object| &object.spec) else {
            if !self.wanted.ephemeral {
                return Ok(());
            }
            return Err(format!(
                "kubernetes.io/csi: mounter.SetUpAt failed to check volume lifecycle mode: volume mode \"Ephemeral\" not supported by driver {} (no CSIDriver object)",
                self.wanted.id.driver
            ));
        };
        let modes = spec.volume_lifecycle_modes.as_deref().filter(|modes| !modes.is_empty());
        let wanted = if self.wanted.ephemeral { "Ephemeral" } else { "Persistent" };
        let has = modes.map_or(!self.wanted.ephemeral, |modes| modes.iter().any(|mode| mode == wanted));
        if !has {
            return Err(format!(
                "kubernetes.io/csi: mounter.SetUpAt failed to check volume lifecycle mode: volume mode {wanted:?} not supported by driver {} (only supports {:?})",
                self.wanted.id.driver,
                modes.unwrap_or(&["Persistent".to_owned()])
            ));
        }
        Ok(())
    }

    /// Tokens of the pod's account, where the driver wants some.
    async fn tokens(&self, object: Option<&CSIDriver>) -> Result<Option<String>, String> {
        let requests = object.and_then(|object| object.spec.token_requests.as_deref()).unwrap_or_default();
        let mut tokens = serde_json::Map::new();
        for request in requests {
            let (audience, seconds) = (&request.audience, request.expiration_seconds);
            let (token, end) = token_for(&self.agent, &self.key, &self.pod, audience, seconds).await?;
            tokens.insert(audience.clone(), json!({"token": token, "expirationTimestamp": end}));
        }
        Ok((!tokens.is_empty()).then(|| serde_json::Value::Object(tokens).to_string()))
    }

    /// What the node needs of the volume before any pod has it: its attachment, and its stage.
    async fn hold(
        &self,
        driver: &Driver,
        object: Option<&CSIDriver>,
        endpoint: PathBuf,
    ) -> Result<(BTreeMap<String, String>, String), Failed> {
        let wanted = &self.wanted;
        // Without an object nothing is known of the driver, and it may need to attach.
        let attaches = object.is_none_or(|object| object.spec.attach_required != Some(false));
        let attaches = attaches && !wanted.ephemeral;
        let staged = driver.serves_node(NodeCall::StageUnstageVolume) && !wanted.ephemeral;
        if !attaches && !staged {
            return Ok((BTreeMap::new(), String::new()));
        }
        let csi = &self.agent.csi;
        let place = record::place(&csi.folder, &wanted.id);
        let attachment = attaches.then(|| attach::name(&self.agent.setup.node, &wanted.id));
        // What was begun otherwise is taken back, too.
        let before = record::read::<Held>(&place);
        let staged_before = before.as_ref().is_some_and(|before| before.staged);
        let attachment = attachment.or(before.and_then(|before| before.attachment));
        let held = Held { id: wanted.id.clone(), endpoint, staged: staged || staged_before, attachment };
        {
            let _held = csi.attaching.lock().await;
            record::write(&place, &held).map_err(|why| self.failed(&why))?;
        }
        let context = match &held.attachment {
            None => BTreeMap::new(),
            Some(name) => {
                super::lock(&csi.attached).insert(wanted.id.clone());
                attach::attach(&self.agent, &self.pod, wanted, name).await?
            }
        };
        if !staged {
            return Ok((context, String::new()));
        }
        let staging = place.join("globalmount");
        let staging_target_path = staging.display().to_string();
        let stage = async {
            let made = DirBuilder::new().recursive(true).mode(0o750).create(&staging);
            made.map_err(|error| format!("cannot make {staging_target_path}: {error}"))?;
            let request = NodeStageVolumeRequest {
                volume_id: wanted.id.handle.clone(),
                publish_context: context.clone(),
                staging_target_path: staging_target_path.clone(),
                volume_capability: Some(wanted.capability(driver, self.group())?),
                secrets: wanted.secrets(&self.agent.client, For::Stage).await?,
                volume_context: wanted.attributes().clone(),
            };
            driver.client.node_stage_volume(request).await.map(drop).map_err(|error| words(&error))
        };
        match stage.await {
            Ok(()) => Ok((context, staging_target_path)),
            Err(why) => Err(Failed::new(format!(
                "MountVolume.MountDevice failed for volume {:?} : {why}",
                wanted.name
            ))),
        }
    }

    async fn publish(
        &self,
        driver: &Driver,
        object: Option<&CSIDriver>,
        publish_context: BTreeMap<String, String>,
        staging_target_path: String,
        path: &Path,
    ) -> Result<(), Failed> {
        let wanted = &self.wanted;
        let publish = async {
            let mut secrets = wanted.secrets(&self.agent.client, For::Publish).await?;
            let mut volume_context = wanted.context(&self.pod, object);
            if let Some(tokens) = self.tokens(object).await? {
                let is_secret =
                    object.is_some_and(|one| one.spec.service_account_token_in_secrets == Some(true));
                let into = if is_secret { &mut secrets } else { &mut volume_context };
                into.insert("csi.storage.k8s.io/serviceAccount.tokens".into(), tokens);
            }
            let request = NodePublishVolumeRequest {
                volume_id: wanted.id.handle.clone(),
                publish_context,
                staging_target_path,
                target_path: path.display().to_string(),
                volume_capability: Some(wanted.capability(driver, self.group())?),
                readonly: wanted.read_only,
                secrets,
                volume_context,
            };
            driver.client.node_publish_volume(request).await.map(drop).map_err(|error| words(&error))
        };
        publish.await.map_err(|why| self.failed(&why))
    }

    /// Gives the files to the pod's group.
    async fn share(&self, driver: &Driver, object: Option<&CSIDriver>, path: &Path) -> Result<(), Failed> {
        let Some(group) = self.group().filter(|_| self.wanted.is_shared(driver, object)) else {
            return Ok(());
        };
        let is_lazy =
            self.context().and_then(|all| all.fs_group_change_policy.as_deref()) == Some("OnRootMismatch");
        let path = path.to_owned();
        // There may be millions of files: other pods do not wait for them.
        let shared = tokio::task::spawn_blocking(move || group::share(&path, group, is_lazy)).await;
        let shared = shared.unwrap_or_else(|error| Err(error.to_string()));
        shared.map_err(|why| {
            self.failed(&format!("applyFSGroup failed for vol {}: {why}", self.wanted.id.handle))
        })
    }

    fn context(&self) -> Option<&PodSecurityContext> {
        self.pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref())
    }

    fn group(&self) -> Option<i64> {
        self.context().and_then(|context| context.fs_group)
    }
}
