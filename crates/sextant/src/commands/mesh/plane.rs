//! The control plane as this node follows it: what it tells is what a node that compiles for itself would know, and it lasts while the control plane is away.

use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client as Cluster};
use meshwire::caller::Client;
use meshwire::contract::v1::{FollowRequest, Update};
use meshwire::contract::{Gathered, Gathering};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use smi::model::{Delta, Model};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::cli::ControlPlane;
use crate::failure::{Context, Failure, Result};

/// After a connection has ended it is tried again after this long, and then twice as long each time.
const FIRST: Duration = Duration::from_millis(100);
/// The longest of these waits.
const LONGEST: Duration = Duration::from_secs(10);

/// Where the roots are that have signed for the control plane.
pub(super) enum Trust {
    /// A file in PEM.
    File(PathBuf),
    /// The ConfigMap that the control plane writes.
    Cluster(Box<Cluster>),
}

/// How the control plane is reached, and as whom.
pub(super) struct Way {
    pub(super) at: ControlPlane,
    /// Of nothing else than TCP.
    pub(super) trust: Option<Trust>,
    /// A file, which is read each time: it is renewed by whoever has put it there.
    pub(super) token: Option<PathBuf>,
    /// This node's name.
    pub(super) node: String,
}

impl Way {
    /// What shows who this is, if it is asked for.
    pub(super) fn token(&self) -> Result<String> {
        let Some(path) = &self.token else { return Ok(String::new()) };
        let text =
            std::fs::read_to_string(path).context(|| format!("read the token in {}", path.display()))?;
        Ok(text.trim().to_owned())
    }

    async fn connect(&self) -> Result<Client> {
        match (&self.at, &self.trust) {
            (ControlPlane::Unix(path), _) => Ok(Client::connect(path).await?),
            (ControlPlane::Https(address), Some(trust)) => {
                Ok(Client::connect_tls(address, &roots(trust).await?).await?)
            }
            (ControlPlane::Https(address), None) => {
                Err(Failure::new(format!("cannot trust the control plane at {address}: no roots are named")))
            }
        }
    }

    async fn begin(&self) -> Result<(Client, grpc::Incoming<Update>)> {
        let client = self.connect().await?;
        let request = FollowRequest { node: self.node.clone(), token: self.token()? };
        let updates = client.follow(request).await?;
        Ok((client, updates))
    }
}

/// Certificates of roots, in DER.
async fn roots(trust: &Trust) -> Result<Vec<Vec<u8>>> {
    let (text, place) = match trust {
        Trust::File(path) => {
            let place = path.display().to_string();
            (std::fs::read_to_string(path).context(|| format!("read the roots in {place}"))?, place)
        }
        Trust::Cluster(cluster) => {
            let [namespace, name, entry] = control::mesh::TRUSTED;
            let place = format!("config map {namespace}/{name}");
            let maps: Api<ConfigMap> = Api::namespaced((**cluster).clone(), namespace);
            let map = maps.get(name).await;
            let map = map
                .map_err(|error| Failure::new(format!("cannot read {place}: {}", client::causes(&error))))?;
            let text = map.data.and_then(|mut data| data.remove(entry));
            (text.ok_or_else(|| Failure::new(format!("cannot use {place}: it has no {entry}")))?, place)
        }
    };
    let read = CertificateDer::pem_slice_iter(text.as_bytes()).map(|one| one.map(|one| one.to_vec()));
    let roots: Vec<Vec<u8>> =
        read.collect::<Result<_, _>>().context(|| format!("use the roots in {place}"))?;
    if roots.is_empty() {
        return Err(Failure::new(format!("cannot use the roots in {place}: no certificate is there")));
    }
    Ok(roots)
}

/// What whoever looks after identities is told.
pub(super) struct Outlets {
    /// The connection, while there is one.
    pub(super) client: watch::Sender<Option<Client>>,
    /// Whom to trust, in DER.
    pub(super) roots: watch::Sender<Vec<Vec<u8>>>,
}

/// Follows the control plane for as long as it is polled, and tells what changes: everything first, once it is known.
pub(super) async fn follow(way: &Way, tell: &UnboundedSender<Delta>, outlets: &Outlets) {
    let mut following = Following { model: None, gathering: Gathering::default() };
    let (mut wait, mut told) = (FIRST, String::new());
    loop {
        let why = match way.begin().await {
            Ok((client, mut updates)) => {
                outlets.client.send_replace(Some(client));
                let why = loop {
                    match updates.next().await {
                        Ok(Some(update)) => match following.take(update) {
                            Ok(Some((delta, roots))) => {
                                if let Some(roots) = roots {
                                    // They are told each time that it is followed anew.
                                    outlets.roots.send_if_modified(|now| {
                                        let is_other = *now != roots;
                                        *now = roots;
                                        is_other
                                    });
                                }
                                if let Some(delta) = delta {
                                    // Nobody goes by it any more at the end.
                                    let _gone = tell.send(delta);
                                }
                                if !std::mem::take(&mut told).is_empty() {
                                    eprintln!("sextant mesh: follows the control plane");
                                }
                                wait = FIRST;
                            }
                            Ok(None) => {}
                            Err(why) => break why,
                        },
                        Ok(None) => break "it has ended the stream".to_owned(),
                        Err(error) => break error.to_string(),
                    }
                };
                outlets.client.send_replace(None);
                why
            }
            Err(failure) => failure.to_string(),
        };
        // The control plane has whoever follows with a token come again now and then, and ends now and then itself: it is worth a word when it lasts.
        if wait > FIRST && told != why {
            let has = if following.model.is_some() { "; goes on with what it knows" } else { "" };
            eprintln!("sextant mesh: warning: cannot follow the control plane: {why}; tries again{has}");
            told = why;
        }
        sleep(wait).await;
        wait = (wait * 2).min(LONGEST);
    }
}

/// What the control plane has told.
struct Following {
    /// Everything, once it was told.
    model: Option<Model>,
    gathering: Gathering,
}

/// What changes, and whom to trust from now on.
type Told = (Option<Delta>, Option<Vec<Vec<u8>>>);

impl Following {
    /// Takes a part; what it comes to, once it is the last.
    fn take(&mut self, update: Update) -> Result<Option<Told>, String> {
        let Some(gathered) = self.gathering.take(update).map_err(|error| error.to_string())? else {
            return Ok(None);
        };
        let Gathered { whole, delta, roots, .. } = gathered;
        if !whole {
            let Some(model) = &mut self.model else {
                return Err("it has told of a change before it has told of everything".into());
            };
            let delta = (!delta.is_empty()).then_some(delta);
            if let Some(delta) = &delta {
                model.apply(delta.clone());
            }
            return Ok(Some((delta, roots)));
        }
        // All that there is, of which most is known after the first time.
        let mut model = Model::default();
        model.apply(delta);
        let before = self.model.take();
        let delta = model.since(before.as_ref().unwrap_or(&Model::default()));
        self.model = Some(model);
        Ok(Some(((before.is_none() || !delta.is_empty()).then_some(delta), roots)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use meshwire::contract::{Packed, parts};
    use smi::contract::Name;
    use smi::contract::specs::Transport;
    use smi::model::{Endpoint, Entry, Key, Shared};

    use super::*;

    fn entry(service: &str, port: u16) -> Shared {
        let key = Key::Endpoints { service: Name::new("shop", service), port: 80, transport: Transport::Tcp };
        let endpoint = Endpoint {
            address: [10, 0, 0, 1].into(),
            port,
            pod: None,
            node: None,
            zone: None,
            ready: true,
            serving: true,
        };
        Shared { key, entry: Arc::new(Entry::Endpoints(vec![endpoint])) }
    }

    fn update(whole: bool, set: Vec<Shared>, removed: Vec<Key>) -> Update {
        let packed = Packed::of(&Delta { set, removed }).unwrap();
        parts(1, whole, packed, None).remove(0)
    }

    #[test]
    fn what_is_told_anew_is_only_what_has_changed() {
        let mut following = Following { model: None, gathering: Gathering::default() };
        let early = following.take(update(false, vec![entry("web", 1)], vec![])).unwrap_err();
        assert!(early.contains("before it has told of everything"), "{early}");
        // Nothing at all is an answer, too: then it is known that there is nothing.
        let (delta, _) = following.take(update(true, vec![], vec![])).unwrap().unwrap();
        assert_eq!(delta, Some(Delta::default()));
        let set = vec![entry("web", 1), entry("api", 1)];
        let (delta, _) = following.take(update(false, set.clone(), vec![])).unwrap().unwrap();
        assert_eq!(delta.unwrap().set.len(), 2);
        // The control plane was away and is as it was.
        let (delta, _) = following.take(update(true, set, vec![])).unwrap().unwrap();
        assert_eq!(delta, None);
        // It was away, and meanwhile one was changed and another has gone.
        let (delta, _) = following.take(update(true, vec![entry("web", 2)], vec![])).unwrap().unwrap();
        let delta = delta.unwrap();
        assert_eq!((delta.set, delta.removed), (vec![entry("web", 2)], vec![entry("api", 1).key]));
        let (delta, roots) = following.take(Update::default()).unwrap().unwrap();
        assert!(delta.is_none() && roots.is_none());
    }
}
