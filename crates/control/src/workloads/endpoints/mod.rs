//! Endpoints: for each Service with a selector the pods behind it, in EndpointSlices, and in Endpoints for those who still read them; for
//! one without what people have written, in slices, too.

mod mirror;
mod old;
mod slices;
mod who;

use std::collections::BTreeMap;
use std::sync::Arc;

use client::cache::{Cache, Name};
use client::events::Events;
use client::queue::{Next, Queue};
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Error, ResourceExt as _};
use serde_json::{Value, json};

use super::awaited::{Awaited, What};
use super::{Context, hands, owned, pods};

/// When what the endpoints were made from changed.
const CHANGED: &str = "endpoints.kubernetes.io/last-change-trigger-time";

struct Controller {
    context: Arc<Context>,
    services: Arc<Cache<Service>>,
    slices: Arc<Cache<EndpointSlice>>,
    endpoints: Arc<Cache<Endpoints>>,
    awaited: Awaited,
    events: Events,
    /// What is told of Endpoints that are copied.
    copying: Events,
}

/// Works until it is dropped.
pub(super) async fn run(context: Arc<Context>) {
    let slices = Cache::start(&context.client);
    let it = Controller {
        services: Cache::start(&context.client),
        endpoints: Cache::start(&context.client),
        awaited: Awaited::new(&*slices),
        events: context.events("endpoint-slice-controller"),
        copying: context.events("endpoint-slice-mirroring-controller"),
        slices,
        context,
    };
    tokio::join!(it.services.filled(), it.slices.filled(), it.endpoints.filled());
    let queue: Arc<Queue<Name>> = Queue::new(super::PACE);
    it.listen(&queue);
    let it = &it;
    queue
        .run(|name| async move { super::told("the endpoints of service", &name, it.look(&name).await) })
        .await;
}

/// What of a pod endpoints tell.
fn says(pod: &Pod) -> impl PartialEq + use<> {
    let status = pod.status.as_ref();
    let addresses = status.map(|status| (status.pod_ip.clone(), status.pod_ips.clone()));
    let state = (pods::is_over(pod), pods::is_ready(pod), pods::is_going(pod));
    (addresses, state, pod.labels().clone(), pods::node(pod).map(str::to_owned), pod.uid())
}

impl Controller {
    fn listen(&self, queue: &Arc<Queue<Name>>) {
        owned::follow_own(&self.services, queue);
        let (its, services) = (queue.clone(), Arc::downgrade(&self.services));
        self.context.pods.listen(move |change| {
            if change.old.as_deref().map(says) == change.new.as_deref().map(says) {
                return;
            }
            let Some(services) = services.upgrade() else { return };
            let found = services.find(|service| {
                let mut pods = change.old.iter().chain(&change.new);
                pods.any(|pod| pod.namespace() == service.namespace() && who::selects(service, pod.labels()))
            });
            its.add_all(found.iter().map(|service| Name::of(&**service)));
        });
        let its = queue.clone();
        self.slices.listen(move |change| {
            let slice = change.object();
            if let Some(service) = slice.labels().get(slices::SERVICE) {
                its.add(Name::new(slice.namespace().unwrap_or_default(), service));
            }
        });
        let its = queue.clone();
        self.endpoints.listen(move |change| its.add(Name::of(&**change.object())));
    }

    async fn look(&self, name: &Name) -> Result<Next, Error> {
        let Some(service) = self.services.get(name) else {
            // Slices go with their owner; these have none.
            if let Some(there) = self.endpoints.get(name)
                && there.labels().get(old::MANAGED).map(String::as_str) == Some(old::MANAGER)
            {
                hands::delete::<Endpoints>(&self.context.client, name, &hands::uid(&*there)).await?;
            }
            return Ok(Next::Done);
        };
        let service = &*service;
        let has_selector = service.spec.as_ref().is_some_and(|spec| {
            spec.selector.as_ref().is_some_and(|selector| !selector.is_empty())
                && spec.type_.as_deref() != Some("ExternalName")
        });
        if service.metadata.deletion_timestamp.is_some() {
            return Ok(Next::Done);
        }
        let uid = hands::uid(service);
        if self.awaited.is_any::<EndpointSlice>(&self.context.client, &uid).await {
            return Ok(Next::After(super::LATE));
        }
        // Who had none before may have a selector now.
        let written = self.endpoints.get(name).filter(|there| !has_selector && mirror::is_copied(there));
        let copies = mirror::plan(written.as_deref(), &self.slices_of(service, mirror::MANAGER));
        for endpoints in written.iter().filter(|_| copies != slices::Plan::default()) {
            for (reason, text) in mirror::skipped(endpoints) {
                self.copying.warning(&**endpoints, reason, text).await;
            }
        }
        self.act(service, copies).await?;
        if !has_selector {
            return Ok(Next::Done);
        }
        let all = self.context.pods.find(|pod| who::selects(service, pod.labels()));
        let members: BTreeMap<_, _> = who::families(service)
            .into_iter()
            .map(|family| (family.clone(), who::members(service, &all, &family)))
            .collect();
        let there = self.slices_of(service, slices::MANAGER);
        let node = |name: &str| self.context.nodes.get(&Name::global(name));
        let done = self.act(service, slices::plan(service, &members, node, &there)).await;
        if let Err(error) = &done
            && !matches!(error, Error::Api(status) if matches!(status.code, 403 | 404 | 409))
        {
            let text = format!("Error updating Endpoint Slices for Service {name}: {}", hands::says(error));
            self.events.warning(service, "FailedToUpdateEndpointSlices", text).await;
        }
        done?;
        let first = who::families(service).into_iter().next().unwrap_or_default();
        self.write_old(service, members.get(&first).map(Vec::as_slice).unwrap_or_default()).await?;
        Ok(Next::Done)
    }

    /// A Service's slices that somebody looks after.
    fn slices_of(&self, service: &Service, manager: &str) -> Vec<Arc<EndpointSlice>> {
        self.slices.find(|slice| {
            slice.namespace() == service.namespace()
                && slice.labels().get(slices::SERVICE) == Some(&service.name_any())
                && slice.labels().get(slices::MANAGED).map(String::as_str) == Some(manager)
                && slice.metadata.deletion_timestamp.is_none()
        })
    }

    async fn act(&self, service: &Service, plan: slices::Plan) -> Result<(), Error> {
        let (client, uid) = (&self.context.client, hands::uid(service));
        let namespace = service.namespace().unwrap_or_default();
        let api: Api<EndpointSlice> = Api::namespaced(client.clone(), &namespace);
        let changed = json!({CHANGED: Timestamp::now().to_string()});
        // A copy has those of what it is copied from.
        let annotate = |slice: &mut Value| {
            if slice["metadata"]["annotations"].is_null() {
                slice["metadata"]["annotations"] = changed.clone();
            }
        };
        for mut slice in plan.create {
            annotate(&mut slice);
            let slice: EndpointSlice = serde_json::from_value(slice).map_err(Error::SerdeError)?;
            let name = Name::of(&slice);
            self.awaited.note(&uid, name.clone(), What::There);
            if let Err(error) = api.create(&PostParams::default(), &slice).await {
                if matches!(error, Error::Api(_)) {
                    self.awaited.forget(&name);
                }
                return Err(error);
            }
        }
        for (slice, mut patch) in plan.change {
            patch["metadata"]["uid"] = json!(slice.uid());
            patch["metadata"]["resourceVersion"] = json!(slice.resource_version());
            annotate(&mut patch);
            let slice = api.patch(&slice.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
            self.awaited.note_version(&uid, &slice, &self.slices);
        }
        for slice in plan.delete {
            self.awaited.note(&uid, Name::of(&*slice), What::Gone(hands::uid(&*slice)));
            hands::delete::<EndpointSlice>(client, &Name::of(&*slice), &hands::uid(&*slice)).await?;
        }
        Ok(())
    }

    /// Endpoints have the name of their Service: one that the cache does not know yet is not made twice.
    async fn write_old(&self, service: &Service, members: &[who::Member]) -> Result<(), Error> {
        let name = Name::of(service);
        let there = self.endpoints.get(&name);
        let Some(mut wanted) = old::change(service, members, there.as_deref()) else { return Ok(()) };
        let api: Api<Endpoints> = Api::namespaced(self.context.client.clone(), &name.namespace);
        wanted["metadata"]["annotations"][CHANGED] = json!(Timestamp::now().to_string());
        match there {
            None => {
                wanted["metadata"]["name"] = json!(name.name);
                let endpoints: Endpoints = serde_json::from_value(wanted).map_err(Error::SerdeError)?;
                api.create(&PostParams::default(), &endpoints).await.map(drop)
            }
            Some(there) => {
                wanted["metadata"]["resourceVersion"] = json!(there.resource_version());
                api.patch(&name.name, &PatchParams::default(), &Patch::Merge(wanted)).await.map(drop)
            }
        }
    }
}
