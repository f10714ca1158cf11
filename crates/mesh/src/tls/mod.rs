//! TLS without I/O: what came goes in, what is to be sent waits in it (docs/adr/0035-records-of-tls-of-our-own.md).
//!
//! The handshake is rustls'. Once it is over, rustls makes the keys and [`Records`] protects and opens the records: in place, so that what is sent is
//! encrypted where it was read to, and what came is shown where it was decrypted. A connection that rests holds no buffer.

mod fault;
mod key;
mod out;
mod records;

#[cfg(test)]
mod tests;

use std::io::IoSliceMut;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{ClientConfig, Error, ExtractedSecrets, ProtocolVersion, ServerConfig};

pub use fault::Fault;
pub use key::{ADDED, HEAD, Key, RECORD, Suite, TAG, kind};
pub use out::Out;
pub use records::{Keys, Records};

/// The most that is encrypted at a time, in bytes: what the kernel takes at once of a connection that is not slow.
pub(crate) const AT_ONCE: usize = 64 << 10;
/// So many records are filled at a time: the fewer calls there are, and the fewer times whoever reads is woken, the less a byte costs.
pub(crate) const RECORDS: usize = 16;
/// For a message of the handshake at first.
const MESSAGE: usize = 4 << 10;
/// What the records of a handshake may have more than what they are decrypted to (RFC 5246, 6.2.3, which is what rustls goes by until it knows better).
const LENGTHENED: usize = 2 << 10;

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The handshake has failed.
    #[error(transparent)]
    Handshake(#[from] Error),
    /// What came behind it, or was to be sent, was wrong.
    #[error(transparent)]
    Records(#[from] Fault),
}

enum Side {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
    /// The handshake is over.
    Records(Box<Records>),
    /// It cannot go on.
    Failed,
}

/// One side of a connection.
pub(crate) struct Tls {
    side: Side,
    out: Out,
    /// What rustls was shown of what it has not taken, in bytes.
    shown: usize,
    /// Plain bytes can be sent.
    ready: bool,
    /// The peer sends nothing more, and has said so.
    closed: bool,
    /// Who the peer is and what is spoken within, once the handshake is over.
    peer: Option<CertificateDer<'static>>,
    protocol: Option<Vec<u8>>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("ready", &self.ready)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

/// What a look at the state of a handshake came to.
enum Step {
    /// Another look is needed.
    Again,
    /// There is nothing more to do until something comes.
    Wait,
    /// Data could be sent.
    Ready,
}

impl Tls {
    /// The side that begins, with a server at an address.
    ///
    /// # Errors
    /// Those of TLS.
    pub(crate) fn client(config: Arc<ClientConfig>, server: IpAddr) -> Result<Self, Error> {
        let client = UnbufferedClientConnection::new(config, ServerName::IpAddress(server.into()))?;
        let mut tls = Self::new(Side::Client(Box::new(client)));
        // It speaks first.
        tls.shake(&mut [])?;
        Ok(tls)
    }

    /// The side that answers.
    ///
    /// # Errors
    /// Those of TLS.
    pub(crate) fn server(config: Arc<ServerConfig>) -> Result<Self, Error> {
        Ok(Self::new(Side::Server(Box::new(UnbufferedServerConnection::new(config)?))))
    }

    fn new(side: Side) -> Self {
        Self { side, out: Out::default(), shown: 0, ready: false, closed: false, peer: None, protocol: None }
    }

    /// Takes bytes that came and shows what they say, record by record. Gives how many were taken; a record that is not whole is not.
    ///
    /// # Errors
    /// The connection cannot go on. What is to be sent tells the peer why.
    pub(crate) fn receive<'a>(
        &mut self,
        came: &'a mut [u8],
        show: &mut dyn FnMut(&'a [u8]),
    ) -> Result<usize, Failure> {
        let taken = if matches!(self.side, Side::Records(_)) { 0 } else { self.shake(came)? };
        let Self { side: Side::Records(records), out, ready, closed, .. } = self else { return Ok(taken) };
        match records.receive(came.get_mut(taken..).unwrap_or_default(), show) {
            Ok(count) => {
                *closed = records.is_closed();
                Ok(taken + count)
            }
            Err(fault) => {
                *ready = false;
                records.tell(fault, out);
                Err(fault.into())
            }
        }
    }

    /// Goes on with the handshake; how many bytes it took. rustls is shown one record after the other, for those behind the handshake are not its own:
    /// nothing is left in it that was read, and no number of a record is lost.
    fn shake(&mut self, came: &mut [u8]) -> Result<usize, Error> {
        let (mut taken, mut shown) = (0, self.shown);
        loop {
            let (used, step) = self.step(came.get_mut(taken..shown).unwrap_or_default());
            taken += used;
            match step {
                Ok(Step::Again) => {}
                Ok(Step::Ready) if taken == shown && self.is_over() => {
                    self.shown = 0;
                    self.convert()?;
                    return Ok(taken);
                }
                Ok(Step::Wait | Step::Ready) => match next(came.get(shown..).unwrap_or_default()) {
                    Some(length) => shown += length,
                    None => {
                        self.shown = shown - taken;
                        return Ok(taken);
                    }
                },
                Err(e) => {
                    // What is no record of TLS would be found wrong once more, and nothing behind it is one.
                    let is_unread = matches!(
                        e,
                        Error::InvalidMessage(_) | Error::DecryptError | Error::PeerSentOversizedRecord
                    );
                    let from = if is_unread { shown } else { taken };
                    self.tell_why(came.get_mut(from..shown).unwrap_or_default());
                    return Err(e);
                }
            }
        }
    }

    /// Takes what is to be sent to a peer whose handshake cannot go on.
    fn tell_why(&mut self, came: &mut [u8]) {
        while let (_, Ok(Step::Again)) = self.step(came) {}
    }

    fn step(&mut self, came: &mut [u8]) -> (usize, Result<Step, Error>) {
        match &mut self.side {
            Side::Client(client) => step(client.process_tls_records(came), &mut self.out),
            Side::Server(server) => step(server.process_tls_records(came), &mut self.out),
            Side::Records(_) | Side::Failed => (0, Err(Error::HandshakeNotComplete)),
        }
    }

    /// Whether both sides have finished the handshake.
    fn is_over(&self) -> bool {
        match &self.side {
            Side::Client(client) => !client.is_handshaking(),
            Side::Server(server) => !server.is_handshaking(),
            Side::Records(_) | Side::Failed => false,
        }
    }

    /// Takes the keys over.
    fn convert(&mut self) -> Result<(), Error> {
        (self.peer, self.protocol) = (self.peer().cloned(), self.protocol().map(<[u8]>::to_vec));
        let (version, secrets, keys): (_, ExtractedSecrets, _) =
            match std::mem::replace(&mut self.side, Side::Failed) {
                Side::Client(client) => {
                    let (secrets, keys) = client.dangerous_into_kernel_connection()?;
                    (keys.protocol_version(), secrets, Box::new(keys) as Box<dyn Keys>)
                }
                Side::Server(server) => {
                    let (secrets, keys) = server.dangerous_into_kernel_connection()?;
                    (keys.protocol_version(), secrets, Box::new(keys) as Box<dyn Keys>)
                }
                Side::Records(_) | Side::Failed => return Err(Error::HandshakeNotComplete),
            };
        if version != ProtocolVersion::TLSv1_3 {
            return Err(Error::General("it is not TLS 1.3".into()));
        }
        let unknown = |fault: Fault| Error::General(fault.to_string());
        let seal = Key::of(secrets.tx.0, &secrets.tx.1).map_err(unknown)?;
        let open = Key::of(secrets.rx.0, &secrets.rx.1).map_err(unknown)?;
        self.side = Side::Records(Box::new(Records::new(seal, open, keys)));
        self.ready = true;
        Ok(())
    }

    /// Encrypts bytes to be sent behind what was. It is only for a connection that [`Tls::is_ready`].
    ///
    /// # Errors
    /// The connection cannot go on.
    pub(crate) fn send(&mut self, plain: &[u8]) -> Result<(), Fault> {
        let Side::Records(records) = &mut self.side else { return Err(Fault::Own) };
        records.send(plain, &mut self.out)
    }

    /// Has bytes read to where they are encrypted, in records that each begin with what `head` says of the length of the rest of it, and says how many
    /// were read. They are as many as fit into [`RECORDS`], and no more than `most`.
    ///
    /// # Errors
    /// The connection cannot go on.
    pub(crate) fn fill<const N: usize>(
        &mut self,
        most: usize,
        head: impl Fn(usize) -> [u8; N],
        read: &mut dyn FnMut(&mut [IoSliceMut<'_>]) -> usize,
    ) -> Result<usize, Fault> {
        let Side::Records(records) = &mut self.side else { return Err(Fault::Own) };
        let piece = RECORD - N;
        let used = most.div_ceil(piece).min(RECORDS);
        records.renew(used, &mut self.out)?;
        let room = self.out.room(used * (RECORD + ADDED));
        let (mut slots, mut left) = (room.chunks_exact_mut(RECORD + ADDED), most);
        let mut places: [IoSliceMut<'_>; RECORDS] = std::array::from_fn(|_| {
            let length = piece.min(left);
            let place = slots.next().and_then(|slot| slot.get_mut(HEAD + N..HEAD + N + length));
            let place = place.unwrap_or_default();
            left -= place.len();
            IoSliceMut::new(place)
        });
        let count = read(places.get_mut(..used).unwrap_or_default());
        let (mut left, mut end) = (count, 0);
        for slot in room.chunks_exact_mut(RECORD + ADDED) {
            let length = piece.min(left);
            if length == 0 {
                break;
            }
            let record = slot.get_mut(..length + N + ADDED).ok_or(Fault::Own)?;
            record.get_mut(HEAD..HEAD + N).ok_or(Fault::Own)?.copy_from_slice(&head(length));
            *record.get_mut(HEAD + N + length).ok_or(Fault::Own)? = kind::DATA;
            records.sealing().seal(record)?;
            end += record.len();
            left -= length;
        }
        self.out.filled(end);
        Ok(count - left)
    }

    /// Says that nothing more is sent.
    pub(crate) fn finish(&mut self) {
        if let Side::Records(records) = &mut self.side {
            // Where it cannot be said there is nobody to hear it.
            let _unsaid = records.finish(&mut self.out);
        }
    }

    /// Whether the handshake is over, so that both sides are known.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready
    }

    /// Whether the peer has said that it sends nothing more.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// What is to be sent.
    pub(crate) fn output(&self) -> &[u8] {
        self.out.data()
    }

    /// So many bytes of the output were sent.
    pub(crate) fn sent(&mut self, count: usize) {
        self.out.sent(count);
    }

    /// Whether there is a buffer, for what is sent.
    pub(crate) fn holds(&self) -> bool {
        self.out.holds()
    }

    /// Holds no buffer while there is nothing to be sent.
    pub(crate) fn rest(&mut self) {
        self.out.rest();
    }

    /// The peer's certificate, once the handshake is over.
    pub(crate) fn peer(&self) -> Option<&CertificateDer<'static>> {
        match &self.side {
            Side::Client(client) => client.peer_certificates()?.first(),
            Side::Server(server) => server.peer_certificates()?.first(),
            Side::Records(_) | Side::Failed => self.peer.as_ref(),
        }
    }

    /// The protocol within, once the handshake is over.
    pub(crate) fn protocol(&self) -> Option<&[u8]> {
        match &self.side {
            Side::Client(client) => client.alpn_protocol(),
            Side::Server(server) => server.alpn_protocol(),
            Side::Records(_) | Side::Failed => self.protocol.as_deref(),
        }
    }
}

/// How many of the bytes that came rustls is shown next: those of a record; or all, where they are none, which is for rustls to say.
fn next(bytes: &[u8]) -> Option<usize> {
    let &[kind, major, _, a, b, ..] = bytes else { return None };
    let length = usize::from(u16::from_be_bytes([a, b]));
    if !(20..=23).contains(&kind) || major != 3 || length > RECORD + LENGTHENED {
        return Some(bytes.len());
    }
    (bytes.len() >= HEAD + length).then_some(HEAD + length)
}

/// Does what the state asks for; gives how many of the bytes that came are used up.
fn step<Data>(status: UnbufferedStatus<'_, '_, Data>, out: &mut Out) -> (usize, Result<Step, Error>) {
    let UnbufferedStatus { discard, state } = status;
    let step = match state {
        Err(e) => Err(e),
        Ok(ConnectionState::EncodeTlsData(mut encode)) => {
            let mut size = MESSAGE;
            loop {
                match encode.encode(out.room(size)) {
                    Ok(count) => {
                        out.filled(count);
                        break Ok(Step::Again);
                    }
                    Err(EncodeError::InsufficientSize(needed)) if needed.required_size > size => {
                        size = needed.required_size;
                    }
                    Err(e) => break Err(Error::General(e.to_string())),
                }
            }
        }
        Ok(ConnectionState::TransmitTlsData(transmit)) => {
            // It goes before whatever is encrypted later.
            transmit.done();
            Ok(Step::Again)
        }
        Ok(ConnectionState::WriteTraffic(_)) => Ok(Step::Ready),
        // Nothing is asked for that may come before the handshake is over.
        Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed | ConnectionState::PeerClosed) => {
            Ok(Step::Wait)
        }
        // Of a state that is not known nothing can be said.
        Ok(_) => Err(Error::General("data before the handshake is over, which nobody has offered".into())),
    };
    (discard, step)
}
