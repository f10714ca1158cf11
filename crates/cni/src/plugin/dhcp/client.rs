//! The client's part of RFC 2131 for one lease, without sockets and clocks: it is told what time it is and what has come,
//! and says what to send and what has become of the lease.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use kernel::netlink::Mac;
use kernel::packet::datagram;

use super::message::{Kind, Message, Options, option};
use super::{CLIENT_PORT, SERVER_PORT};

/// Since boot: it goes on while the machine sleeps, as a lease does.
pub(super) type Time = Duration;

pub(super) const BROADCAST: Mac = Mac([0xff; 6]);
/// RFC 2131, section 4.1: before the first repetition, and how far each may be off. Its example is 4 s; but a link that has
/// just come up often loses the first message, and its server is near.
const FIRST_DELAY: Duration = Duration::from_secs(1);
const JITTER: Duration = Duration::from_secs(1);
/// After a refusal, before it begins anew.
const REFUSED_DELAY: Duration = Duration::from_secs(2);
/// A request that is sent so often is not answered.
const REQUESTS: u32 = 3;
/// Section 4.4.5: between repetitions while a lease is renewed.
const RENEWAL_DELAY: Duration = Duration::from_secs(60);
/// Where the server says no time.
const LEASE_TIME: u32 = 3600;

/// How patient a client is, by the daemon's flags.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Before the first repetition, at most.
    pub(super) timeout: Duration,
    /// Between repetitions, at most.
    pub(super) resend_max: Duration,
    /// For all tries to get a lease.
    pub(super) resend_timeout: Duration,
    /// Servers shall broadcast their answers.
    pub(super) broadcast: bool,
}

/// What a server has granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) ack: Message,
    /// The server's neighbour or the server: where its answer came from.
    pub(super) neighbour: Mac,
    pub(super) renewal: Time,
    pub(super) rebinding: Time,
    pub(super) expiry: Time,
}

impl Lease {
    fn new(ack: Message, neighbour: Mac, since: Time) -> Self {
        let seconds = |code| ack.seconds_of(code).filter(|seconds| *seconds > 0);
        let whole = seconds(option::LEASE_TIME).unwrap_or(LEASE_TIME);
        let rebinding =
            seconds(option::REBINDING_TIME).filter(|t| *t < whole).unwrap_or(whole / 8 * 7 + whole % 8);
        let rebinding = rebinding.min(whole);
        let renewal =
            seconds(option::RENEWAL_TIME).filter(|t| *t < rebinding).unwrap_or(whole / 2).min(rebinding);
        let after = |seconds: u32| since + Duration::from_secs(seconds.into());
        Self { renewal: after(renewal), rebinding: after(rebinding), expiry: after(whole), ack, neighbour }
    }

    pub(super) fn server(&self) -> Ipv4Addr {
        self.ack.addresses(option::SERVER).first().copied().unwrap_or(Ipv4Addr::UNSPECIFIED)
    }
}

/// What is to be done, or has come about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Output {
    /// Send an IPv4 packet to a neighbour.
    Send { packet: Vec<u8>, to: Mac },
    /// The lease is granted, or granted again.
    Granted,
    /// No server granted one in time.
    Failed,
    /// The address may not be used any more.
    Lost(&'static str),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Selecting,
    Requesting(Message),
    Bound,
    Renewing,
    Rebinding,
    Ended,
}

/// One client: a link that has, or wants, an address.
#[derive(Debug)]
pub(super) struct Client {
    mac: Mac,
    options: Options,
    patience: Patience,
    state: State,
    lease: Option<Lease>,
    xid: u32,
    /// When it began to ask.
    began: Time,
    /// Messages of the state that were sent.
    sent: u32,
    /// Discoveries of all tries that were sent: the more, the longer the delays.
    discovered: u32,
    next: Time,
    random: u64,
}

impl Client {
    /// A client without a lease; it begins with the first [`wake`](Self::wake). `random` is anything but predictable.
    pub(super) fn new(mac: Mac, options: Options, patience: Patience, now: Time, random: u64) -> Self {
        let (state, lease) = (State::Selecting, None);
        let mut client = Self {
            mac,
            options,
            patience,
            state,
            lease,
            xid: 0,
            began: now,
            sent: 0,
            discovered: 0,
            next: now,
            random: random | 1,
        };
        client.enter(State::Selecting, now);
        client
    }

    /// A client that goes on with the lease that another process got.
    pub(super) fn resume(mac: Mac, options: Options, patience: Patience, lease: Lease, random: u64) -> Self {
        let next = lease.renewal;
        let client = Self::new(mac, options, patience, next, random);
        Self { state: State::Bound, lease: Some(lease), next, ..client }
    }

    /// When it wants to be woken; never if that is none.
    pub(super) fn next(&self) -> Option<Time> {
        (self.state != State::Ended).then_some(self.next)
    }

    /// Whether answers are to be listened for.
    pub(super) fn listens(&self) -> bool {
        !matches!(self.state, State::Bound | State::Ended)
    }

    /// The lease, if it is good.
    pub(super) fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    /// What is to be done now that the time has come.
    pub(super) fn wake(&mut self, now: Time) -> Option<Output> {
        if self.next()? > now {
            return None;
        }
        match self.state.clone() {
            State::Selecting | State::Requesting(_) if now >= self.deadline() => {
                self.state = State::Ended;
                Some(Output::Failed)
            }
            State::Selecting => Some(self.discover(now)),
            State::Requesting(_) if self.sent >= REQUESTS => {
                self.enter(State::Selecting, now);
                Some(self.discover(now))
            }
            State::Requesting(offer) => Some(self.request(&offer, now)),
            State::Bound | State::Renewing | State::Rebinding => self.keep(now),
            State::Ended => None,
        }
    }

    /// A message has come from a neighbour.
    pub(super) fn receive(&mut self, message: &Message, from: Mac, now: Time) -> Option<Output> {
        if !message.reply || message.xid != self.xid || message.mac != self.mac {
            return None;
        }
        match (self.state.clone(), message.kind) {
            (State::Selecting, Kind::Offer) if self.sent > 0 && is_offer(message) => {
                self.enter(State::Requesting(message.clone()), now);
                // An offer is answered under its own number.
                self.xid = message.xid;
                Some(self.request(message, now))
            }
            (State::Requesting(offer), Kind::Ack) if message.yours == offer.yours => {
                Some(self.grant(message, from, now))
            }
            (State::Requesting(_), Kind::Nak) => {
                self.enter(State::Selecting, now);
                self.next = (now + self.around(REFUSED_DELAY)).min(self.deadline());
                None
            }
            (State::Renewing | State::Rebinding, kind) => {
                let lease = self.lease.as_ref()?;
                match kind {
                    Kind::Ack if message.yours == lease.ack.yours => Some(self.grant(message, from, now)),
                    // Whoever has not granted it cannot take it away.
                    Kind::Nak if message.addresses(option::SERVER).first() == Some(&lease.server()) => {
                        Some(self.lose("the server refuses to renew it"))
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// Gives the lease back: what is to be sent, once; nothing answers it.
    pub(super) fn release(&mut self) -> Option<Output> {
        let lease = self.lease.take()?;
        self.state = State::Ended;
        self.xid = self.number();
        let server = lease.server();
        let mut message = Message { client: lease.ack.yours, ..self.message(Kind::Release, self.began) };
        message.options.retain(|code, _| *code == option::CLIENT_ID);
        message.options.insert(option::SERVER, server.octets().to_vec());
        Some(send(&message, server, lease.neighbour))
    }

    /// Keeps a lease: asks its server, then any server, until it ends.
    fn keep(&mut self, now: Time) -> Option<Output> {
        let lease = self.lease.clone()?;
        if now >= lease.expiry {
            return Some(self.lose("it has expired"));
        }
        let (state, end) = if now >= lease.rebinding {
            (State::Rebinding, lease.expiry)
        } else {
            (State::Renewing, lease.rebinding)
        };
        if self.state != state {
            self.enter(state.clone(), now);
            self.began = now;
        }
        let left = end.saturating_sub(now);
        self.next = now + (left / 2).max(RENEWAL_DELAY).min(left);
        let (to, neighbour) = match state {
            State::Renewing => (lease.server(), lease.neighbour),
            _ => (Ipv4Addr::BROADCAST, BROADCAST),
        };
        let message = Message { client: lease.ack.yours, ..self.message(Kind::Request, now) };
        Some(send(&message, to, neighbour))
    }

    fn discover(&mut self, now: Time) -> Output {
        let delay = self.delay(self.discovered);
        self.discovered += 1;
        self.sent += 1;
        self.next = (now + delay).min(self.deadline());
        send(&self.message(Kind::Discover, now), Ipv4Addr::BROADCAST, BROADCAST)
    }

    fn request(&mut self, offer: &Message, now: Time) -> Output {
        let delay = self.delay(self.sent);
        self.sent += 1;
        self.next = (now + delay).min(self.deadline());
        let mut message = self.message(Kind::Request, now);
        message.options.insert(option::REQUESTED_ADDRESS, offer.yours.octets().to_vec());
        if let Some(server) = offer.options.get(&option::SERVER) {
            message.options.insert(option::SERVER, server.clone());
        }
        send(&message, Ipv4Addr::BROADCAST, BROADCAST)
    }

    fn grant(&mut self, ack: &Message, from: Mac, now: Time) -> Output {
        // Counted from when it was asked for: ours ends before the server's.
        let lease = Lease::new(ack.clone(), from, now);
        self.next = lease.renewal;
        self.lease = Some(lease);
        self.state = State::Bound;
        Output::Granted
    }

    fn lose(&mut self, why: &'static str) -> Output {
        self.state = State::Ended;
        self.lease = None;
        Output::Lost(why)
    }

    fn enter(&mut self, state: State, now: Time) {
        self.state = state;
        self.sent = 0;
        self.next = now;
        self.xid = self.number();
    }

    fn deadline(&self) -> Time {
        self.began + self.patience.resend_timeout
    }

    /// The time before the next repetition: twice as long each time.
    fn delay(&mut self, sent: u32) -> Duration {
        let first = self.patience.timeout.min(FIRST_DELAY);
        let delay = first.saturating_mul(1 << sent.min(16)).min(self.patience.resend_max);
        self.around(delay)
    }

    /// A time that is off by a second at most, and by less if it is short.
    fn around(&mut self, delay: Duration) -> Duration {
        let span = JITTER.min(delay / 4);
        let part = f64::from(self.number()) / f64::from(u32::MAX);
        delay + span.mul_f64(2.0 * part) - span
    }

    /// xorshift64*.
    fn number(&mut self) -> u32 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    fn message(&self, kind: Kind, now: Time) -> Message {
        let none = Ipv4Addr::UNSPECIFIED;
        Message {
            kind,
            reply: false,
            xid: self.xid,
            seconds: u16::try_from(now.saturating_sub(self.began).as_secs()).unwrap_or(u16::MAX),
            broadcast: self.patience.broadcast,
            client: none,
            yours: none,
            relay: none,
            mac: self.mac,
            options: self.options.clone(),
        }
    }
}

/// An offer has an address and a server to ask it of.
fn is_offer(message: &Message) -> bool {
    !message.yours.is_unspecified() && message.addresses(option::SERVER).len() == 1
}

fn send(message: &Message, to: Ipv4Addr, neighbour: Mac) -> Output {
    let (from, to) = (SocketAddrV4::new(message.client, CLIENT_PORT), SocketAddrV4::new(to, SERVER_PORT));
    Output::Send { packet: datagram::wrap(from, to, &message.to_bytes()), to: neighbour }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
