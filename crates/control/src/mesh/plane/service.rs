//! The calls of nodes.

use std::sync::Arc;
use std::time::Duration;

use grpc::{Code, Messages, Sender, Status};
use meshwire::contract::v1::{
    FollowRequest, MeshControl, ReportRequest, ReportResponse, SignRequest, SignResponse, Update,
};
use meshwire::contract::{flows, parts};
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, sleep_until};

use super::authority::Authority;
use super::callers::Callers;
use super::hub::{Beginning, Hub};
use super::keeper::now;
use super::listen::Places;
use crate::mesh::metrics::Metrics;

/// So many updates wait in a stream: what a node takes slowly waits with the others' changes.
const AHEAD: usize = 4;
/// After this long who follows with a token shows one again: tokens end, and nodes are taken away.
const SHOWN: Duration = Duration::from_mins(30);

type Kept = watch::Receiver<Option<Arc<Authority>>>;

/// The service, for one kind of callers.
pub(super) struct Calls {
    pub(super) hub: Arc<Hub>,
    pub(super) authority: Kept,
    pub(super) callers: Callers,
    /// Who follows over TCP: each is told everything first, which takes memory.
    pub(super) following: Arc<Places<String>>,
    /// Where traffic is counted, if somebody may ask for it.
    pub(super) metrics: Option<Arc<Metrics>>,
}

impl MeshControl for Calls {
    async fn follow(&self, request: FollowRequest) -> Result<Messages<Update>, Status> {
        self.callers.admit(&request.node, &request.token).await?;
        let place = match self.callers.is_remote() {
            true => {
                let full =
                    || format!("node {} follows too often already: end what you need no more", request.node);
                let place = self.following.take(request.node.clone());
                Some(place.ok_or_else(|| Status::new(Code::ResourceExhausted, full()))?)
            }
            false => None,
        };
        self.hub.known().await;
        let (sender, updates) = Messages::channel(AHEAD);
        let until = self.callers.is_remote().then(|| Instant::now() + SHOWN);
        let feeding = feed(self.hub.clone(), self.authority.clone(), request.node, sender.clone());
        tokio::spawn(async move {
            let _place = place;
            let over = async {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            let why = tokio::select! {
                ended = feeding => ended,
                () = sender.closed() => return,
                () = over => Status::new(Code::Unavailable, "it is time to show a token again; call again"),
            };
            sender.fail(why).await;
        });
        Ok(updates)
    }

    async fn sign(&self, request: SignRequest) -> Result<SignResponse, Status> {
        self.callers.admit(&request.node, &request.token).await?;
        self.hub.known().await;
        if !self.hub.has(&request.node, &request.identity) {
            let text = format!("no member of the mesh on node {} is {}", request.node, request.identity);
            return Err(Status::new(Code::PermissionDenied, text));
        }
        let authority = self.authority.borrow().clone();
        let missing =
            || Status::new(Code::Unavailable, "the mesh has no certificate authority yet; call again");
        let authority = authority.ok_or_else(missing)?;
        let signed = authority.sign(&request.identity, &request.csr_der, now())?;
        Ok(SignResponse {
            chain_der: vec![signed.certificate],
            not_after: signed.not_after,
            roots_der: authority.roots.clone(),
        })
    }

    async fn report(&self, request: ReportRequest) -> Result<ReportResponse, Status> {
        let Some(metrics) = &self.metrics else { return Err(Status::unimplemented("Report")) };
        self.callers.admit(&request.node, &request.token).await?;
        let node = request.node.clone();
        metrics.take(&node, flows::flows(request));
        Ok(ReportResponse {})
    }
}

/// Tells a node everything and then what changes, until it is gone; why that is over.
async fn feed(hub: Arc<Hub>, authority: Kept, node: String, sender: Sender<Update>) -> Status {
    match follow(&hub, authority, &node, &sender).await {
        Ok(never) => match never {},
        Err(why) => why,
    }
}

async fn follow(
    hub: &Hub,
    mut authority: Kept,
    node: &str,
    sender: &Sender<Update>,
) -> Result<std::convert::Infallible, Status> {
    let unwritten = |error: serde_json::Error| {
        Status::new(Code::Internal, format!("cannot write what the mesh is: {error}"))
    };
    let roots = |authority: &mut Kept| {
        authority.borrow_and_update().as_ref().map(|authority| authority.roots.clone())
    };
    loop {
        let Beginning { mut revision, packed, mut view, mut changes } = hub.begin(node).map_err(unwritten)?;
        for part in parts(revision, true, packed, roots(&mut authority)) {
            sender.send(part).await?;
        }
        loop {
            tokio::select! {
                change = changes.recv() => {
                    let change = match change {
                        Ok(change) => change,
                        // It was too slow, and is told everything again.
                        Err(broadcast::error::RecvError::Lagged(_)) => break,
                        Err(broadcast::error::RecvError::Closed) => {
                            return Err(Status::new(Code::Unavailable, "the control plane ends; call again"));
                        }
                    };
                    let packed = hub.tell(&mut view, &change).map_err(unwritten)?;
                    revision = change.revision;
                    if packed.is_empty() {
                        continue;
                    }
                    for part in parts(revision, false, packed, None) {
                        sender.send(part).await?;
                    }
                }
                Ok(()) = authority.changed() => {
                    if let Some(der) = roots(&mut authority) {
                        for part in parts(revision, false, Default::default(), Some(der)) {
                            sender.send(part).await?;
                        }
                    }
                }
            }
        }
    }
}
