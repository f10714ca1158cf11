//! Names: of Services, their endpoints and pods, from what is known of them; all others by asking elsewhere.
//!
//! The names are those of Kubernetes' specification of DNS-based discovery, 1.1.0. A pod's search domains make `web.default` the name
//! that is asked for, so most questions with a wrong domain are answered here, without asking anybody.

mod cache;
mod object;
mod reply;
mod request;
mod serve;
mod upstream;
mod zone;

use std::sync::Arc;

use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};
use tokio::sync::Semaphore;

use crate::world::World;
use cache::Cache;
pub use object::announce;
pub use reply::LARGEST_DATAGRAM;
use request::{Request, Understood};
pub use serve::{Listeners, serve};
pub use upstream::{Source, Upstream};
use zone::{Found, Zone};

/// Questions that wait for somebody else's answer at the same time.
const FLYING: usize = 512;
/// Names that a name may lead to, one after the other.
const ALIASES: usize = 8;

/// Answers questions.
#[derive(Debug)]
pub struct Resolver {
    world: Arc<World>,
    zone: Zone,
    upstream: Upstream,
    cache: Cache,
    flying: Semaphore,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Outcome {
    code: ResponseCode,
    answers: Vec<Record>,
    authorities: Vec<Record>,
    additionals: Vec<Record>,
    /// It is of a name that we have the say on.
    authoritative: bool,
}

impl Outcome {
    fn of(code: ResponseCode) -> Self {
        let (answers, authorities, additionals) = (Vec::new(), Vec::new(), Vec::new());
        Self { code, answers, authorities, additionals, authoritative: false }
    }
}

/// What can be said without asking anybody.
#[derive(Debug)]
pub enum Said {
    /// Nothing, as it is no request.
    Nothing,
    /// This.
    Reply(Vec<u8>),
    /// Others are to be asked.
    Ask(Box<Asked>),
}

/// A request that others are to be asked for.
#[derive(Debug)]
pub struct Asked {
    request: Request,
    /// What is known of the answer so far: names that lead to others.
    aliases: Vec<Record>,
    name: Name,
}

impl Resolver {
    /// One that has the names below `domain` (`cluster.local`).
    ///
    /// # Errors
    /// `domain` is none.
    pub fn new(world: Arc<World>, domain: &str, upstream: Upstream) -> Result<Self, String> {
        let zone = Zone::new(domain)?;
        Ok(Self { world, zone, upstream, cache: Cache::default(), flying: Semaphore::new(FLYING) })
    }

    /// The reply to a request; none where there is nothing to reply to.
    pub async fn reply(&self, bytes: &[u8], datagram: bool) -> Option<Vec<u8>> {
        match self.say(bytes, datagram) {
            Said::Nothing => None,
            Said::Reply(reply) => Some(reply),
            Said::Ask(asked) => Some(self.ask(*asked, datagram).await),
        }
    }

    /// What can be said at once.
    pub fn say(&self, bytes: &[u8], datagram: bool) -> Said {
        let request = match request::understand(bytes) {
            Understood::Nothing => return Said::Nothing,
            Understood::Refused(reply) => return Said::Reply(reply),
            Understood::Request(request) => request,
        };
        let mut aliases: Vec<Record> = Vec::new();
        let mut name = request.query.name.clone();
        let known = self.world.read();
        for _ in 0..ALIASES {
            match self.zone.answer(&known, &name, request.query.query_type) {
                Found::Elsewhere => return Said::Ask(Box::new(Asked { request, aliases, name })),
                Found::Alias(record, target) => {
                    aliases.push(*record);
                    name = target;
                }
                Found::Here(mut outcome) => {
                    aliases.append(&mut outcome.answers);
                    outcome.answers = aliases;
                    return Said::Reply(reply::encode(&request, outcome, datagram));
                }
            }
        }
        Said::Reply(reply::encode(&request, Outcome::of(ResponseCode::ServFail), datagram))
    }

    /// Asks others, or remembers what they said.
    pub async fn ask(&self, asked: Asked, datagram: bool) -> Vec<u8> {
        let Asked { request, mut aliases, name } = asked;
        let kind = request.query.query_type;
        let mut outcome = match self.cache.get(&name, kind, request.dnssec) {
            Some(outcome) => outcome,
            None => match self.flying.try_acquire() {
                Ok(_place) => self.ask_upstream(&name, kind, request.dnssec).await,
                Err(_) => Outcome::of(ResponseCode::ServFail),
            },
        };
        aliases.append(&mut outcome.answers);
        outcome.answers = aliases;
        reply::encode(&request, outcome, datagram)
    }

    async fn ask_upstream(&self, name: &Name, kind: RecordType, dnssec: bool) -> Outcome {
        let mut query = Query::query(name.clone(), kind);
        query.set_query_class(DNSClass::IN);
        match self.upstream.ask(query, dnssec).await {
            Some(outcome) => {
                self.cache.keep(name, kind, dnssec, &outcome);
                outcome
            }
            None => Outcome::of(ResponseCode::ServFail),
        }
    }
}

#[cfg(test)]
mod tests;
