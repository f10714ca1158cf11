//! A connection of TLS 1.3 behind its handshake (RFC 8446, 4.6, 5 and 6): records, and the few messages that are no data.

use rustls::Error;
use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;

use super::key::{ADDED, HEAD, Key, LONGEST, RECORD, kind};
use super::{Fault, Out};

/// So many messages that are no data may come in a row, and so many records without content. Each costs more than it brings.
const FRUITLESS: u8 = 32;
/// So many warnings may come in all.
const WARNINGS: u8 = 4;
/// No message that follows the handshake is longer, in bytes.
const MESSAGE: usize = 64 << 10;

const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;
const CLOSE_NOTIFY: u8 = 0;
const USER_CANCELED: u8 = 90;
const WARNING: u8 = 1;
const FATAL: u8 = 2;

/// Whoever makes the keys: what has done the handshake.
pub trait Keys {
    /// The next key to seal with.
    ///
    /// # Errors
    /// There is none.
    fn sealing(&mut self) -> Result<Key, Fault>;

    /// The next key to open with.
    ///
    /// # Errors
    /// There is none.
    fn opening(&mut self) -> Result<Key, Fault>;

    /// A ticket that came, without the head of its message.
    ///
    /// # Errors
    /// It is none, or none may come.
    fn ticket(&mut self, ticket: &[u8]) -> Result<(), Fault>;
}

fn sealing<Data>(connection: &mut KernelConnection<Data>) -> Result<Key, Fault> {
    let (sequence, secrets) = connection.update_tx_secret().map_err(|_| Fault::Own)?;
    Key::of(sequence, &secrets)
}

fn opening<Data>(connection: &mut KernelConnection<Data>) -> Result<Key, Fault> {
    let (sequence, secrets) = connection.update_rx_secret().map_err(|_| Fault::Own)?;
    Key::of(sequence, &secrets)
}

impl Keys for KernelConnection<ClientConnectionData> {
    fn sealing(&mut self) -> Result<Key, Fault> {
        sealing(self)
    }

    fn opening(&mut self) -> Result<Key, Fault> {
        opening(self)
    }

    fn ticket(&mut self, ticket: &[u8]) -> Result<(), Fault> {
        self.handle_new_session_ticket(ticket).map_err(|e| match e {
            Error::InvalidMessage(_) => Fault::Malformed("a ticket"),
            _ => Fault::Own,
        })
    }
}

impl Keys for KernelConnection<ServerConnectionData> {
    fn sealing(&mut self) -> Result<Key, Fault> {
        sealing(self)
    }

    fn opening(&mut self) -> Result<Key, Fault> {
        opening(self)
    }

    fn ticket(&mut self, _: &[u8]) -> Result<(), Fault> {
        Err(Fault::Unexpected("a ticket, as servers alone do"))
    }
}

/// Both directions of a connection.
pub struct Records {
    seal: Key,
    open: Key,
    keys: Box<dyn Keys>,
    /// The beginning of a message that is not whole.
    part: Vec<u8>,
    /// The peer sends nothing more, and has said so.
    closed: bool,
    /// The peer has asked for another key of this side, which is told in front of the next data: once, however often it has asked (RFC 8446, 4.6.3).
    /// An answer to each would pile up for a peer that asks and takes nothing.
    asked: bool,
    /// Messages, and records without content, since data came.
    messages: u8,
    empty: u8,
    warnings: u8,
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").field("closed", &self.closed).finish_non_exhaustive()
    }
}

/// One more of what is bounded.
fn count(counter: &mut u8, most: u8, what: &'static str) -> Result<(), Fault> {
    *counter += 1;
    if *counter > most { Err(Fault::Unexpected(what)) } else { Ok(()) }
}

impl Records {
    /// With the keys that the handshake has come to, and who makes the next ones.
    #[must_use]
    pub fn new(seal: Key, open: Key, keys: Box<dyn Keys>) -> Self {
        Self {
            seal,
            open,
            keys,
            part: Vec::new(),
            closed: false,
            asked: false,
            messages: 0,
            empty: 0,
            warnings: 0,
        }
    }

    /// Whether the peer has said that it sends nothing more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Takes the records of what came that are whole, decrypts them in place, and shows the data that they have. Gives how many bytes were taken.
    /// Another key that is asked for is told by [`Records::send`], in front of the data.
    ///
    /// # Errors
    /// The connection cannot go on; [`Records::tell`] tells the peer why.
    pub fn receive<'a>(
        &mut self,
        came: &'a mut [u8],
        show: &mut dyn FnMut(&'a [u8]),
    ) -> Result<usize, Fault> {
        let (all, mut rest) = (came.len(), came);
        loop {
            if self.closed {
                // Nothing behind that counts (RFC 8446, 6.1).
                return Ok(all);
            }
            let Some(length) = whole(rest)? else { return Ok(all - rest.len()) };
            let (record, behind) = std::mem::take(&mut rest).split_at_mut_checked(length).unwrap_or_default();
            rest = behind;
            let (kind, content) = self.open.open(record)?;
            if !self.part.is_empty() && kind != kind::HANDSHAKE {
                return Err(Fault::Unexpected("a record within a message"));
            }
            match kind {
                kind::DATA if content.is_empty() => {
                    count(&mut self.empty, FRUITLESS, "too many empty records")?
                }
                kind::DATA => {
                    (self.messages, self.empty) = (0, 0);
                    show(content);
                }
                kind::HANDSHAKE => self.handshake(content)?,
                kind::ALERT => self.alert(content)?,
                _ => return Err(Fault::Unexpected("a record of a kind that may not come")),
            }
        }
    }

    /// What is no data and no alert.
    fn handshake(&mut self, content: &[u8]) -> Result<(), Fault> {
        if content.is_empty() {
            return Err(Fault::Unexpected("an empty record of a message"));
        }
        count(&mut self.empty, FRUITLESS, "too many records without data")?;
        if self.part.is_empty() {
            let used = self.messages(content)?;
            self.part.extend_from_slice(content.get(used..).unwrap_or_default());
            return Ok(());
        }
        self.part.extend_from_slice(content);
        let mut part = std::mem::take(&mut self.part);
        let used = self.messages(&part)?;
        if used < part.len() {
            part.drain(..used);
            self.part = part;
        }
        Ok(())
    }

    /// Takes the messages that are whole; how many bytes they have.
    fn messages(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let mut used = 0;
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            let &[kind, a, b, c, ref behind @ ..] = rest else {
                // Which one it is can be known before it is whole.
                return rest.first().map_or(Ok(used), |kind| known(*kind).map(|()| used));
            };
            known(kind)?;
            let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
            if length > MESSAGE || (kind == KEY_UPDATE && length != 1) {
                return Err(Fault::Malformed("a message of another length than it may have"));
            }
            let Some((message, behind)) = behind.split_at_checked(length) else { return Ok(used) };
            used = bytes.len() - behind.len();
            count(&mut self.messages, FRUITLESS, "too many messages without data")?;
            if kind == NEW_SESSION_TICKET {
                self.keys.ticket(message)?;
                continue;
            }
            // What comes next is protected by another key, so it cannot be in the same record (RFC 8446, 5.1).
            if !behind.is_empty() {
                return Err(Fault::Unexpected("a message behind a KeyUpdate in one record"));
            }
            let asked = match message {
                [0] => false,
                [1] => true,
                _ => return Err(Fault::Illegal("a KeyUpdate that asks for something else")),
            };
            self.open = self.keys.opening()?;
            self.asked |= asked;
        }
    }

    fn alert(&mut self, content: &[u8]) -> Result<(), Fault> {
        match *content {
            [] => Err(Fault::Unexpected("an empty alert")),
            [_, CLOSE_NOTIFY] => {
                self.closed = true;
                Ok(())
            }
            [_, USER_CANCELED] => count(&mut self.warnings, WARNINGS, "too many warnings"),
            // How grave it is said to be says nothing: all others are fatal (RFC 8446, 6).
            [_, alert] => Err(Fault::Alert(alert)),
            _ => Err(Fault::Malformed("an alert of another length than it has")),
        }
    }

    /// Has another key for what is sent from now on, and tells the peer.
    fn update(&mut self, out: &mut Out) -> Result<(), Fault> {
        let next = self.keys.sealing()?;
        self.put(kind::HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, 0], out)?;
        (self.seal, self.asked) = (next, false);
        Ok(())
    }

    /// Sees to it that the key may seal so many records of data more, and is another one if the peer has asked for that.
    pub(super) fn renew(&mut self, records: usize, out: &mut Out) -> Result<(), Fault> {
        // One more than those is the word that there is another.
        if self.asked || self.seal.is_worn(records as u64 + 1) { self.update(out) } else { Ok(()) }
    }

    /// The key that seals.
    pub(super) fn sealing(&mut self) -> &mut Key {
        &mut self.seal
    }

    /// Encrypts data behind what is to be sent.
    ///
    /// # Errors
    /// There is no key left.
    pub fn send(&mut self, data: &[u8], out: &mut Out) -> Result<(), Fault> {
        for piece in data.chunks(RECORD) {
            self.renew(1, out)?;
            self.put(kind::DATA, piece, out)?;
        }
        Ok(())
    }

    /// Says that nothing more is sent.
    ///
    /// # Errors
    /// There is no key left.
    pub fn finish(&mut self, out: &mut Out) -> Result<(), Fault> {
        self.put(kind::ALERT, &[WARNING, CLOSE_NOTIFY], out)
    }

    /// Tells the peer why it cannot go on.
    pub fn tell(&mut self, fault: Fault, out: &mut Out) {
        if let Some(alert) = fault.alert() {
            // Where it cannot be said, nothing can.
            let _unsaid = self.put(kind::ALERT, &[FATAL, alert], out);
        }
    }

    /// Puts one record behind what is to be sent.
    fn put(&mut self, kind: u8, content: &[u8], out: &mut Out) -> Result<(), Fault> {
        let size = content.len() + ADDED;
        let record = out.room(size);
        let inner = record.get_mut(HEAD..).and_then(|inner| inner.split_at_mut_checked(content.len()));
        let (place, behind) = inner.ok_or(Fault::Own)?;
        place.copy_from_slice(content);
        *behind.first_mut().ok_or(Fault::Own)? = kind;
        self.seal.seal(record)?;
        out.filled(size);
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn keys(&mut self) -> (&mut Key, &mut Key) {
        (&mut self.seal, &mut self.open)
    }
}

/// Whether a message may come.
fn known(kind: u8) -> Result<(), Fault> {
    match kind {
        NEW_SESSION_TICKET | KEY_UPDATE => Ok(()),
        _ => Err(Fault::Unexpected("a message of the handshake, which is over")),
    }
}

/// How many bytes the first record has, if it is whole.
fn whole(bytes: &[u8]) -> Result<Option<usize>, Fault> {
    let &[outside, _, _, a, b, ..] = bytes else { return Ok(None) };
    if outside != kind::DATA {
        // A ChangeCipherSpec, too, may not come any more (RFC 8446, 5).
        return Err(Fault::Unexpected("a record that is not encrypted"));
    }
    let length = usize::from(u16::from_be_bytes([a, b]));
    if length > LONGEST {
        return Err(Fault::Overflow);
    }
    Ok((bytes.len() >= HEAD + length).then_some(HEAD + length))
}
