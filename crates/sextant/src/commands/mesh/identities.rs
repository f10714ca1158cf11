//! Certificates for the identities of this node's members. Keys are made here, live in memory, and are told to nobody; each certificate comes with a new one.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use meshwire::caller::Client;
use meshwire::contract::v1::{SignRequest, SignResponse};
use rcgen::string::Ia5String;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use smi::contract::Name;
use smi::model::{Delta, Entry, Key, Mode};
use tokio::sync::watch;
use tokio::time::sleep;

use super::plane::Way;
use crate::failure::{Context, Failure, Result};

/// How long the control plane may take to sign.
const PATIENCE: Duration = Duration::from_secs(10);
/// After it could not be had a certificate is asked for again after this long, and then twice as long each time.
const FIRST: Duration = Duration::from_millis(200);
/// The longest of these waits.
const LONGEST: Duration = Duration::from_secs(60);
/// One that ends so soon that this is later is not asked for at once again: its root ends, or a clock is wrong.
const LEAST: Duration = Duration::from_secs(5);
/// However far away the next thing to do is, clocks are looked at so often: they may have been set.
const LOOK: Duration = Duration::from_secs(60);
/// When the root that signs is another one, certificates of the one before are renewed within this time.
const SPREAD: Duration = Duration::from_secs(3600);

/// Who is given what was signed.
pub(super) trait Keep {
    /// This proves an identity from now on, until `not_after`: a chain in DER, the identity's own first, and its key in DER (PKCS #8).
    fn set(&self, identity: &str, chain: &[Vec<u8>], key: &[u8], not_after: SystemTime)
    -> Result<(), String>;

    /// Peers are whom these have signed from now on, in DER.
    fn set_roots(&self, roots: &[Vec<u8>]) -> Result<(), String>;

    /// No pod of this node has this identity any more.
    fn remove(&self, identity: &str);
}

/// Which identities the members among a node's pods have.
#[derive(Debug)]
pub(super) struct Wanted {
    node: String,
    members: BTreeMap<Name, String>,
    all: watch::Sender<BTreeSet<String>>,
}

impl Wanted {
    pub(super) fn of(node: &str) -> Self {
        Self { node: node.to_owned(), members: BTreeMap::new(), all: watch::Sender::new(BTreeSet::new()) }
    }

    pub(super) fn all(&self) -> watch::Receiver<BTreeSet<String>> {
        self.all.subscribe()
    }

    /// Takes note of who is a member now.
    pub(super) fn take(&mut self, delta: &Delta) {
        for shared in &delta.set {
            if let (Key::Workload(name), Entry::Workload(pod)) = (&shared.key, &*shared.entry) {
                let is_ours = pod.mode != Mode::Outside && pod.node.as_deref() == Some(self.node.as_str());
                match is_ours {
                    true => self.members.insert(name.clone(), pod.identity.clone()),
                    false => self.members.remove(name),
                };
            }
        }
        for key in &delta.removed {
            if let Key::Workload(name) = key {
                self.members.remove(name);
            }
        }
        let now: BTreeSet<String> = self.members.values().cloned().collect();
        self.all.send_if_modified(|all| {
            let is_other = *all != now;
            *all = now;
            is_other
        });
    }
}

/// An identity that is wanted.
#[derive(Debug)]
struct Held {
    /// When a certificate is to be asked for.
    due: SystemTime,
    /// How long it is waited after the next failure.
    wait: Duration,
    /// Who has signed the one that there is.
    root: Option<Vec<u8>>,
    /// When that ends.
    not_after: SystemTime,
    /// What was told of it.
    told: String,
}

impl Held {
    fn new() -> Self {
        let (due, told) = (SystemTime::UNIX_EPOCH, String::new());
        Self { due, wait: FIRST, root: None, not_after: due, told }
    }
}

/// Looks after certificates.
pub(super) struct Identities<K> {
    pub(super) way: Arc<Way>,
    pub(super) keep: K,
    pub(super) wanted: watch::Receiver<BTreeSet<String>>,
    pub(super) roots: watch::Receiver<Vec<Vec<u8>>>,
    pub(super) client: watch::Receiver<Option<Client>>,
}

impl<K: Keep> Identities<K> {
    /// Has each identity have a certificate, for as long as it is polled. One that there is is used until it ends, whoever is away.
    pub(super) async fn run(mut self) {
        let mut held: BTreeMap<String, Held> = BTreeMap::new();
        loop {
            let wanted = self.wanted.borrow_and_update().clone();
            held.retain(|identity, _| {
                let is_wanted = wanted.contains(identity);
                if !is_wanted {
                    self.keep.remove(identity);
                }
                is_wanted
            });
            for identity in wanted {
                held.entry(identity).or_insert_with(Held::new);
            }
            if self.roots.has_changed().unwrap_or_default() {
                let roots = self.roots.borrow_and_update().clone();
                if let Err(why) = self.keep.set_roots(&roots) {
                    eprintln!("sextant mesh: warning: {why}");
                }
                held.values_mut().for_each(|one| turn(one, &roots, SystemTime::now()));
            }
            let client = self.client.borrow_and_update().clone().filter(|client| !client.is_closed());
            if let Some(client) = &client {
                self.ask_for_what_is_due(&client.with_deadline(PATIENCE), &mut held).await;
            }
            // Without a connection there is nobody to ask, however long something is due.
            let next = held.values().map(|one| one.due).min().filter(|_| client.is_some());
            let wait = next.map_or(LOOK, |next| until(next).min(LOOK));
            tokio::select! {
                Ok(()) = self.wanted.changed() => {}
                Ok(()) = self.roots.changed() => self.roots.mark_changed(),
                Ok(()) = self.client.changed() => {}
                () = sleep(wait) => {}
            }
        }
    }

    async fn ask_for_what_is_due(&self, client: &Client, held: &mut BTreeMap<String, Held>) {
        for (identity, one) in held.iter_mut() {
            if until(one.due) > Duration::ZERO {
                continue;
            }
            if client.is_closed() {
                return;
            }
            match self.ask(client, identity).await {
                Ok((not_after, root)) => {
                    if one.root.is_none() || !one.told.is_empty() {
                        eprintln!("sextant mesh: has a certificate for {identity}");
                    }
                    let half = not_after.duration_since(SystemTime::now()).unwrap_or_default() / 2;
                    let due = SystemTime::now() + half.mul_f64(0.9 + 0.2 * chance()).max(LEAST);
                    *one = Held { due, root: Some(root), not_after, ..Held::new() };
                }
                Err(failure) => {
                    let why = failure.to_string();
                    if one.told != why {
                        let has = match until(one.not_after) {
                            Duration::ZERO => String::new(),
                            left => format!("; the one that there is lasts for {} s", left.as_secs()),
                        };
                        eprintln!(
                            "sextant mesh: warning: no certificate for {identity}: {why}; tries again{has}"
                        );
                        one.told = why;
                    }
                    one.due = SystemTime::now() + one.wait.mul_f64(1.0 + 0.25 * chance());
                    one.wait = (one.wait * 2).min(LONGEST);
                }
            }
        }
    }

    /// Has a new key signed; when that ends, and who has signed it.
    async fn ask(&self, client: &Client, identity: &str) -> Result<(SystemTime, Vec<u8>)> {
        let (key, csr_der) = request(identity)?;
        let request = SignRequest {
            node: self.way.node.clone(),
            token: self.way.token()?,
            identity: identity.to_owned(),
            csr_der,
        };
        let SignResponse { chain_der, not_after, roots_der } = client.sign(request).await?;
        let not_after = SystemTime::UNIX_EPOCH + Duration::from_secs(not_after.max(0).unsigned_abs());
        let root = roots_der.into_iter().next();
        let root = root.ok_or_else(|| Failure::new("the control plane does not say who has signed it"))?;
        self.keep.set(identity, &chain_der, key.serialized_der(), not_after).map_err(Failure::new)?;
        Ok((not_after, root))
    }
}

/// A new key, and a request for a certificate.
fn request(identity: &str) -> Result<(KeyPair, Vec<u8>)> {
    let say = || format!("make a key for {identity}");
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context(say)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(Ia5String::try_from(identity).context(say)?)];
    let request = params.serialize_request(&key).context(say)?;
    Ok((key, request.der().to_vec()))
}

/// Has a certificate be renewed when whoever has signed it signs no more: in time while that is trusted, and at once when it is not.
fn turn(one: &mut Held, roots: &[Vec<u8>], now: SystemTime) {
    let Some(root) = &one.root else { return };
    if roots.first() == Some(root) {
        return;
    }
    let wait = if roots.contains(root) { SPREAD.mul_f64(chance()) } else { Duration::ZERO };
    one.due = one.due.min(now + wait);
}

/// How long it is until then.
fn until(then: SystemTime) -> Duration {
    then.duration_since(SystemTime::now()).unwrap_or_default()
}

/// From 0 to 1: what began together does not go on together.
fn chance() -> f64 {
    let chance = RandomState::new().build_hasher().finish() % 1000;
    f64::from(u32::try_from(chance).unwrap_or_default()) / 1000.0
}

#[cfg(test)]
mod tests {
    use smi::model::{Shared, Workload};

    use super::*;

    fn pod(name: &str, node: &str, account: &str, mode: Mode) -> Shared {
        let workload = Workload {
            addresses: Vec::new(),
            node: Some(node.into()),
            identity: format!("spiffe://cluster.local/ns/shop/sa/{account}"),
            mode,
            policies: Vec::new(),
        };
        Shared { key: Key::Workload(Name::new("shop", name)), entry: Arc::new(Entry::Workload(workload)) }
    }

    #[test]
    fn identities_are_those_of_the_nodes_members() {
        let mut wanted = Wanted::of("node-1");
        let mut all = wanted.all();
        let mut take = |wanted: &mut Wanted, set: Vec<Shared>, removed: Vec<Key>| {
            wanted.take(&Delta { set, removed });
            let is_news = all.has_changed().unwrap();
            let names: Vec<String> = all
                .borrow_and_update()
                .iter()
                .map(|one| one.rsplit('/').next().unwrap().to_owned())
                .collect();
            (is_news, names.join(" "))
        };
        let set = vec![
            pod("a", "node-1", "web", Mode::Permissive),
            pod("b", "node-1", "web", Mode::Strict),
            pod("c", "node-1", "outside", Mode::Outside),
            pod("d", "node-2", "far", Mode::Permissive),
        ];
        assert_eq!(take(&mut wanted, set, vec![]), (true, "web".into()));
        let c = vec![pod("c", "node-1", "inside", Mode::Permissive)];
        assert_eq!(take(&mut wanted, c, vec![]), (true, "inside web".into()));
        // One of two that are the same.
        let gone = vec![Key::Workload(Name::new("shop", "a"))];
        assert_eq!(take(&mut wanted, vec![], gone), (false, "inside web".into()));
        let moved = vec![pod("b", "node-2", "web", Mode::Strict)];
        assert_eq!(take(&mut wanted, moved, vec![]), (true, "inside".into()));
    }

    #[test]
    fn a_certificate_is_renewed_when_its_root_signs_no_more() {
        let now = SystemTime::now();
        let later = now + Duration::from_secs(40_000);
        let after = |roots: &[Vec<u8>]| {
            let mut one = Held { due: later, root: Some(vec![1]), ..Held::new() };
            turn(&mut one, roots, now);
            one.due.duration_since(now).unwrap()
        };
        assert_eq!(after(&[vec![1], vec![2]]), Duration::from_secs(40_000));
        assert!(after(&[vec![2], vec![1]]) <= SPREAD);
        assert_eq!(after(&[vec![2]]), Duration::ZERO);
    }

    #[test]
    fn each_request_has_a_key_of_its_own() {
        let identity = "spiffe://cluster.local/ns/shop/sa/web";
        let (one, first) = request(identity).unwrap();
        let (two, second) = request(identity).unwrap();
        assert_ne!(one.public_key_raw(), two.public_key_raw());
        assert!(first != second && first.windows(identity.len()).any(|part| part == identity.as_bytes()));
    }
}
