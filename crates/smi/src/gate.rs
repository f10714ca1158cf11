//! Decides whether a peer may ask.
//!
//! A [`Gate`] is made of the policies that guard a workload. It is asked when a connection comes, and, where that depends on requests,
//! for each of them. A workload without policies has no gate: what its mode says is all there is.

use std::net::IpAddr;

use crate::matching::{Head, Matcher, Uncompiled};
use crate::model::{HttpMatch, Policy, Ports, Principal, Transport};

/// Who asks, as far as that was proved.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    /// The SPIFFE identity of its certificate; none for plain text. Over UDP nothing is proved: it is that of the workload that has
    /// the address.
    pub identity: Option<&'a str>,
    /// Its address.
    pub address: IpAddr,
}

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may send what it wants.
    Allowed,
    /// Each of its requests is to be asked about; what is no HTTP is refused.
    ByRequest,
    /// It is refused.
    Refused,
}

/// The policies that guard a workload.
#[derive(Debug)]
pub struct Gate {
    policies: Vec<Checked>,
}

#[derive(Debug)]
struct Checked {
    sources: Vec<Principal>,
    tcp: Ports,
    http: Option<Matcher>,
    udp: Ports,
}

impl Checked {
    fn knows(&self, peer: &Peer<'_>) -> bool {
        let Some(identity) = peer.identity else { return false };
        // Those of one identity stand together: first the one that holds anywhere, then the one for some addresses.
        let from = self.sources.partition_point(|source| source.identity.as_str() < identity);
        let same = self.sources.iter().skip(from).take_while(|source| source.identity == identity);
        let mut same = same;
        same.any(|source| {
            source.addresses.as_ref().is_none_or(|addresses| addresses.binary_search(&peer.address).is_ok())
        })
    }
}

impl Gate {
    /// Of the policies of a workload that are there. One that it names and that is not there (yet) must have no part in this: what it
    /// allows is not known. Of no policies at all it is a gate that nobody passes.
    ///
    /// # Errors
    /// A pattern is none, which those of a compiled model never are.
    pub fn new<'p>(policies: impl IntoIterator<Item = &'p Policy>) -> Result<Self, Uncompiled> {
        let checked = |policy: &Policy| {
            let matcher = |matches: &Vec<HttpMatch>| Matcher::new(matches);
            let mut sources = policy.sources.clone();
            sources.sort();
            for addresses in sources.iter_mut().filter_map(|source| source.addresses.as_mut()) {
                addresses.sort_unstable();
            }
            Ok(Checked {
                sources,
                tcp: policy.tcp.ports.clone(),
                http: policy.tcp.http.as_ref().map(matcher).transpose()?,
                udp: policy.udp.clone(),
            })
        };
        Ok(Self { policies: policies.into_iter().map(checked).collect::<Result<_, _>>()? })
    }

    /// Whether a peer may connect to this port of the pod, or send to it over UDP.
    #[must_use]
    pub fn connection(&self, peer: &Peer<'_>, transport: Transport, port: u16) -> Verdict {
        let mut verdict = Verdict::Refused;
        for policy in &self.policies {
            let ports = match transport {
                Transport::Tcp => &policy.tcp,
                Transport::Udp => &policy.udp,
            };
            if !ports.has(port) || !policy.knows(peer) {
                continue;
            }
            match &policy.http {
                Some(matcher) if transport == Transport::Tcp => {
                    if !matcher.is_empty() {
                        verdict = Verdict::ByRequest;
                    }
                }
                _ => return Verdict::Allowed,
            }
        }
        verdict
    }

    /// Whether a peer may ask this, over a connection to this port of the pod.
    #[must_use]
    pub fn request(&self, peer: &Peer<'_>, port: u16, head: &impl Head) -> bool {
        self.policies.iter().any(|policy| {
            policy.tcp.has(port)
                && policy.knows(peer)
                && policy.http.as_ref().is_none_or(|matcher| matcher.find(head).is_some())
        })
    }
}
