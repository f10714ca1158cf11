//! `metrics.smi-spec.io`: what nodes say of their pods' traffic, kept for a while, and answered behind an API server.
//!
//! What was asked is counted where it is asked, by the proxy of the one who asks, so nothing is counted twice. What the objects are that are asked about the API
//! server says each time: nothing of them is kept here but to whom pods belong.

mod answer;
mod kinds;
mod path;
mod pods;
#[cfg(test)]
mod tests;
mod window;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use client::aggregation::{self, Answer, Asked, Offer, Server};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DynamicObject, ListParams};
use kube::{Client, Error};
use meshwire::contract::flows::{Parties, Requests};
use serde::Serialize;
use smi::contract::Name;
use smi::contract::metrics::API_VERSION;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use answer::{Saying, edges, of, sum, sums};
use kinds::Kind;
use path::{How, Whom};
use pods::Pods;
use window::{Flow, Window};

/// What the service is called that answers for `metrics.smi-spec.io`, in [`aggregation::NAMESPACE`].
pub const SERVICE: &str = "sextant-mesh-metrics";
/// Who this is, before people.
const WHO: &str = "sextant control";
/// After the API server has said nothing of who hands requests on that can be used.
const AGAIN: Duration = Duration::from_secs(10);

/// What was told, and who answers.
pub(super) struct Metrics {
    client: Client,
    address: SocketAddr,
    state: Mutex<State>,
    /// Where it is asked, with the certificate of who answers there, once somebody does.
    bound: watch::Sender<Option<(SocketAddr, Vec<u8>)>>,
}

#[derive(Debug, Default)]
struct State {
    pods: Pods,
    window: Window,
}

impl State {
    /// Takes what a node tells. What is not of its own pods is not its to tell, and of a pod that nobody knows nothing can be said.
    fn take(&mut self, node: &str, flows: Vec<(Parties, Requests)>, now: Instant) {
        let mut known = Vec::with_capacity(flows.len());
        for (parties, requests) in flows {
            let Some(client) = self.pods.find(&parties.client).filter(|client| client.node == node) else {
                continue;
            };
            let server = parties.server.as_ref().and_then(|server| self.pods.find(server));
            let (client, server) = (client.clone(), server.cloned());
            known.push((
                Flow { client, service: parties.service, backend: parties.backend, server },
                requests,
            ));
        }
        self.window.take(node, known, now);
    }
}

impl Metrics {
    /// Nothing is told yet, and nobody answers.
    pub(super) fn new(client: &Client, address: SocketAddr) -> Self {
        Self { client: client.clone(), address, state: Mutex::default(), bound: watch::Sender::new(None) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pod is so, or is there no more.
    pub(super) fn sees(&self, name: &Name, pod: Option<&Pod>) {
        self.state().pods.take(name, pod, Instant::now());
    }

    /// Takes what a node tells.
    pub(super) fn take(&self, node: &str, flows: Vec<(Parties, Requests)>) {
        self.state().take(node, flows, Instant::now());
    }

    /// Answers API servers, for as long as it is polled.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub(super) async fn serve(self: &Arc<Self>) -> Result<Infallible, String> {
        let server = Server::bind(self.address, SERVICE).await?;
        eprintln!("sextant control: mesh: metrics are asked for at https://{}", server.address());
        self.bound.send_replace(Some((server.address(), server.certificate().to_vec())));
        let mut told = false;
        loop {
            let proxies = aggregation::proxies(&self.client, WHO).await;
            let metrics = self.clone();
            let answer = move |asked| {
                let metrics = metrics.clone();
                async move { metrics.answer(asked).await }
            };
            let Err(why) = server.serve(&proxies, answer).await;
            if !std::mem::replace(&mut told, true) {
                eprintln!(
                    "sextant control: warning: mesh: nobody is let in for {API_VERSION}: {why}; tries again"
                );
            }
            sleep(AGAIN).await;
        }
    }

    /// Has the API server hand requests on, once they can be answered. One process does.
    pub(super) async fn offer(&self) {
        let mut bound = self.bound.subscribe();
        // The sender lives in `self`.
        let found = bound.wait_for(Option::is_some).await.ok().and_then(|bound| bound.clone());
        let Some((address, certificate)) = found else { return };
        let (port, address, certificate) = (address.port(), address.ip(), &certificate[..]);
        let offer = Offer { api: API_VERSION, service: SERVICE, address, port, certificate, who: WHO };
        aggregation::register(&self.client, &offer).await;
    }

    async fn answer(&self, asked: Asked) -> Answer {
        let Some(whom) = Whom::read(&asked.path) else {
            return Answer::refused(404, "NotFound", "the server could not find the requested resource");
        };
        let how = match How::read(&asked.query) {
            Ok(how) => how,
            Err(why) => return Answer::refused(400, "BadRequest", &why),
        };
        let answered = match &whom {
            Whom::Resources => return Answer::of(answer::resources()),
            Whom::All(kind, namespace) => self.list(*kind, namespace.as_deref(), &how).await,
            Whom::One(kind, namespace, name) => {
                self.one(*kind, (namespace.as_str(), name.as_str()), &how, false).await
            }
            Whom::Edges(kind, namespace, name) => {
                self.one(*kind, (namespace.as_str(), name.as_str()), &how, true).await
            }
        };
        answered.unwrap_or_else(|refused| refused)
    }

    fn api(&self, kind: Kind, namespace: Option<&str>) -> Api<DynamicObject> {
        let (client, resource) = (self.client.clone(), kind.resource());
        match namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        }
    }

    /// Of all objects of a kind.
    async fn list(&self, kind: Kind, namespace: Option<&str>, how: &How) -> Result<Answer, Answer> {
        let params = match &how.labels {
            Some((labels, _)) => ListParams::default().labels(labels),
            None => ListParams::default(),
        };
        let objects = self.api(kind, namespace).list_metadata(&params).await;
        let objects = objects.map_err(|error| refused(kind, "", &error))?;
        let objects: Vec<ObjectMeta> = objects.items.into_iter().map(|object| object.metadata).collect();
        let saying = Saying { kind, how, at: Timestamp::now() };
        let list = {
            let state = self.state();
            let sums = sums(state.window.last(how.window, Instant::now()), kind);
            let none = Requests::default();
            let item = |object: &ObjectMeta| {
                saying.one(object, answer::all(), sums.get(&of(object)).unwrap_or(&none))
            };
            saying.list(namespace.unwrap_or_default(), objects.iter().map(item).collect())
        };
        written(&list)
    }

    /// Of one object, or with whom it spoke.
    async fn one(
        &self,
        kind: Kind,
        (namespace, name): (&str, &str),
        how: &How,
        is_by_edge: bool,
    ) -> Result<Answer, Answer> {
        let within = (!namespace.is_empty()).then_some(namespace);
        let object = self.api(kind, within).get_metadata(name).await;
        let object = object.map_err(|error| refused(kind, name, &error))?.metadata;
        let saying = Saying { kind, how, at: Timestamp::now() };
        if is_by_edge {
            let edges = {
                let state = self.state();
                edges(state.window.last(how.window, Instant::now()), kind, (namespace, name))
            };
            let items = edges.into_iter().map(|(edge, requests)| saying.one(&object, edge, &requests));
            return written(&saying.list(namespace, items.collect()));
        }
        let requests = {
            let state = self.state();
            sum(state.window.last(how.window, Instant::now()), kind, (namespace, name))
        };
        written(&saying.one(&object, answer::all(), &requests))
    }
}

/// An answer, as it is sent.
fn written(answer: &impl Serialize) -> Result<Answer, Answer> {
    serde_json::to_value(answer).map(Answer::of).map_err(|error| {
        Answer::refused(500, "InternalError", &format!("cannot write what was counted: {error}"))
    })
}

/// What somebody is told who asks about objects of which the API server says nothing.
fn refused(kind: Kind, name: &str, error: &Error) -> Answer {
    let plural = kind.plural();
    match error {
        Error::Api(status) if status.code == 404 => {
            let group = API_VERSION.split_once('/').map_or(API_VERSION, |(group, _)| group);
            Answer::refused(404, "NotFound", &format!("{plural}.{group} \"{name}\" not found"))
        }
        Error::Api(status) if status.code == 400 => Answer::refused(400, "BadRequest", &status.message),
        error => {
            let text = format!("cannot ask the API server about {plural}: {}", client::causes(error));
            Answer::refused(503, "ServiceUnavailable", &text)
        }
    }
}
