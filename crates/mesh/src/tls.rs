//! TLS without I/O: what came goes in, what is to be sent waits in it.
//!
//! It is rustls with buffers of ours: records are decrypted and shown one by one, and what is sent is encrypted into one buffer, which a single call
//! of the kernel can take. A connection that rests holds none.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{ClientConfig, Error, ServerConfig};

/// The most that is encrypted at a time, in bytes: what the kernel takes at once of a connection that is not slow.
pub(crate) const AT_ONCE: usize = 64 << 10;
/// A record has so many bytes of payload at most (RFC 8446, 5.1).
pub(crate) const RECORD: usize = 16 << 10;
/// What is added to a record: its head, the type of its content, and the tag (RFC 8446, 5.2).
pub(crate) const ADDED: usize = 5 + 1 + 16;
/// For a message of the handshake at first.
const MESSAGE: usize = 4 << 10;

enum Side {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
}

/// One side of a connection.
pub(crate) struct Tls {
    side: Side,
    /// Bytes to be sent are those from `start` to `end`; what is behind is only room.
    out: Vec<u8>,
    start: usize,
    end: usize,
    /// Plain bytes can be sent.
    ready: bool,
    /// The peer sends nothing more, and has said so.
    closed: bool,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("ready", &self.ready)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

/// What a look at the state came to.
enum Step {
    /// Another look is needed.
    Again,
    /// There is nothing more to do until something comes.
    Wait,
    /// It was ready to encrypt, and did if there was something.
    Written,
}

/// Room for bytes behind those that are to be sent.
struct Out<'a> {
    bytes: &'a mut Vec<u8>,
    end: &'a mut usize,
}

impl Out<'_> {
    /// Room for so many bytes.
    fn room(&mut self, size: usize) -> &mut [u8] {
        let end = *self.end;
        if self.bytes.len() < end + size {
            self.bytes.resize(end + size, 0);
        }
        self.bytes.get_mut(end..).unwrap_or_default()
    }
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
        tls.receive(&mut [], &mut |_| {})?;
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
        Self { side, out: Vec::new(), start: 0, end: 0, ready: false, closed: false }
    }

    /// Takes bytes that came and shows what they say, record by record. Gives how many were taken; a record that is not whole is not.
    ///
    /// # Errors
    /// The connection cannot go on. What is to be sent tells the peer why.
    pub(crate) fn receive(&mut self, came: &mut [u8], show: &mut dyn FnMut(&[u8])) -> Result<usize, Error> {
        let mut taken = 0;
        loop {
            let rest = came.get_mut(taken..).unwrap_or_default();
            let (used, step) = self.step(rest, &[], show);
            taken += used;
            match step {
                Ok(Step::Again) => {}
                Ok(Step::Wait) => return Ok(taken),
                Ok(Step::Written) => {
                    self.ready = true;
                    return Ok(taken);
                }
                Err(e) => {
                    self.ready = false;
                    // What is no record of TLS would be found wrong once more, and nothing behind it is one.
                    let is_unread = matches!(
                        e,
                        Error::InvalidMessage(_) | Error::DecryptError | Error::PeerSentOversizedRecord
                    );
                    let rest = if is_unread { came.len() } else { taken };
                    self.tell_why(came.get_mut(rest..).unwrap_or_default());
                    return Err(e);
                }
            }
        }
    }

    /// Takes what is to be sent to a peer of a connection that cannot go on.
    fn tell_why(&mut self, came: &mut [u8]) {
        while let (_, Ok(Step::Again)) = self.step(came, &[], &mut |_| {}) {}
    }

    /// Encrypts bytes to be sent behind what was. It is only for a connection that [`Tls::is_ready`], and all that came is to be given to
    /// [`Tls::receive`] before; `came` is what of it was left.
    ///
    /// # Errors
    /// The connection cannot go on.
    pub(crate) fn send(&mut self, came: &mut [u8], plain: &[u8]) -> Result<(), Error> {
        for piece in plain.chunks(AT_ONCE) {
            loop {
                let (_, step) = self.step(came, piece, &mut |_| {});
                match step? {
                    Step::Again => {}
                    Step::Written => break,
                    Step::Wait => return Err(Error::HandshakeNotComplete),
                }
            }
        }
        Ok(())
    }

    /// Says that nothing more is sent.
    pub(crate) fn finish(&mut self, came: &mut [u8]) {
        let mut out = Out { bytes: &mut self.out, end: &mut self.end };
        // Where it cannot be said there is nobody to hear it.
        let _unsaid = match &mut self.side {
            Side::Client(client) => close(client.process_tls_records(came), &mut out),
            Side::Server(server) => close(server.process_tls_records(came), &mut out),
        };
    }

    fn step(
        &mut self,
        came: &mut [u8],
        plain: &[u8],
        show: &mut dyn FnMut(&[u8]),
    ) -> (usize, Result<Step, Error>) {
        let mut out = Out { bytes: &mut self.out, end: &mut self.end };
        let closed = &mut self.closed;
        match &mut self.side {
            Side::Client(client) => step(client.process_tls_records(came), plain, show, &mut out, closed),
            Side::Server(server) => step(server.process_tls_records(came), plain, show, &mut out, closed),
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
        self.out.get(self.start..self.end).unwrap_or_default()
    }

    /// So many bytes of the output were sent.
    pub(crate) fn sent(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Holds no buffer while there is nothing to be sent.
    pub(crate) fn rest(&mut self) {
        if self.end == 0 {
            self.out = Vec::new();
        }
    }

    /// The peer's certificate, once the handshake is over.
    pub(crate) fn peer(&self) -> Option<&CertificateDer<'static>> {
        let chain = match &self.side {
            Side::Client(client) => client.peer_certificates(),
            Side::Server(server) => server.peer_certificates(),
        };
        chain?.first()
    }

    /// The protocol within, once the handshake is over.
    pub(crate) fn protocol(&self) -> Option<&[u8]> {
        match &self.side {
            Side::Client(client) => client.alpn_protocol(),
            Side::Server(server) => server.alpn_protocol(),
        }
    }
}

/// Does what the state asks for; gives how many of the bytes that came are used up.
fn step<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    plain: &[u8],
    show: &mut dyn FnMut(&[u8]),
    out: &mut Out<'_>,
    closed: &mut bool,
) -> (usize, Result<Step, Error>) {
    let UnbufferedStatus { mut discard, state } = status;
    let step = match state {
        Err(e) => Err(e),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => {
            let mut read = Ok(Step::Again);
            while let Some(record) = traffic.next_record() {
                match record {
                    Ok(record) => {
                        discard += record.discard;
                        show(record.payload);
                    }
                    Err(e) => {
                        read = Err(e);
                        break;
                    }
                }
            }
            read
        }
        Ok(ConnectionState::EncodeTlsData(mut encode)) => {
            let mut size = MESSAGE;
            loop {
                match encode.encode(out.room(size)) {
                    Ok(count) => {
                        *out.end += count;
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
        Ok(ConnectionState::WriteTraffic(mut traffic)) => {
            if plain.is_empty() {
                return (discard, Ok(Step::Written));
            }
            let mut size = plain.len() + ADDED * plain.len().div_ceil(RECORD);
            loop {
                match traffic.encrypt(plain, out.room(size)) {
                    Ok(count) => {
                        *out.end += count;
                        break Ok(Step::Written);
                    }
                    Err(EncryptError::InsufficientSize(needed)) if needed.required_size > size => {
                        size = needed.required_size;
                    }
                    Err(e) => break Err(Error::General(e.to_string())),
                }
            }
        }
        Ok(ConnectionState::PeerClosed) => {
            *closed = true;
            Ok(Step::Again)
        }
        // Nothing is asked for that may come before the handshake is over, and of a state that is not known nothing can be said.
        Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => Ok(Step::Wait),
        Ok(_) => Err(Error::General("early data, which nobody has offered".into())),
    };
    (discard, step)
}

/// Writes the last word, if there may be one now.
fn close<Data>(status: UnbufferedStatus<'_, '_, Data>, out: &mut Out<'_>) -> Result<(), EncryptError> {
    if let Ok(ConnectionState::WriteTraffic(mut traffic)) = status.state {
        let count = traffic.queue_close_notify(out.room(MESSAGE))?;
        *out.end += count;
    }
    Ok(())
}
