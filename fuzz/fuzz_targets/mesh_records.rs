//! What a peer sends once TLS' handshake is over, as it arrives in pieces: records that are protected as they should be, with whatever is within, and
//! bytes that are no records. The first byte says which suite protects them and how long the pieces are. However they come they say the same, are
//! answered the same, and nothing is shown but the data that was within, in its order.

use mesh::tls::{Fault, HEAD, Key, Keys, Out, Records, Suite, TAG, kind};

pub fn run(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    let suite = match first % 3 {
        0 => Suite::Aes128Gcm,
        1 => Suite::Aes256Gcm,
        _ => Suite::ChaCha20Poly1305,
    };
    let (came, sent) = wire(suite, rest);
    let whole = hear(suite, &came, usize::MAX);
    let pieces = hear(suite, &came, usize::from(first / 3) + 1);
    assert_eq!(whole, pieces);
    assert!(sent.starts_with(&whole.0), "something was shown that was not sent");
}

fn key(suite: Suite, number: u8) -> Key {
    let length = if suite == Suite::Aes128Gcm { 16 } else { 32 };
    Key::new(suite, &[number; 32][..length], [number; 12], 0).expect("it is as long as it should be")
}

/// Numbers them, from those on that a connection begins with.
struct Numbered(Suite, u8, u8);

impl Keys for Numbered {
    fn sealing(&mut self) -> Result<Key, Fault> {
        self.1 = self.1.wrapping_add(1);
        Ok(key(self.0, self.1))
    }

    fn opening(&mut self) -> Result<Key, Fault> {
        self.2 = self.2.wrapping_add(1);
        Ok(key(self.0, self.2))
    }

    fn ticket(&mut self, ticket: &[u8]) -> Result<(), Fault> {
        if ticket.first() == Some(&0xff) { Err(Fault::Malformed("a ticket")) } else { Ok(()) }
    }
}

/// The bytes on the wire, and the data within.
fn wire(suite: Suite, mut rest: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut came, mut sent) = (Vec::new(), Vec::new());
    let (mut seal, mut number) = (key(suite, 0), 0_u8);
    while let &[what, padding, length, ref behind @ ..] = rest {
        let (content, next) = behind.split_at(usize::from(length).min(behind.len()));
        rest = next;
        if what & 0x80 != 0 {
            came.extend_from_slice(content);
            continue;
        }
        let kind = match what % 8 {
            0..=2 => kind::DATA,
            3..=5 => kind::HANDSHAKE,
            6 => kind::ALERT,
            _ => padding,
        };
        let start = came.len();
        came.resize(start + HEAD, 0);
        came.extend_from_slice(content);
        came.push(kind);
        came.resize(came.len() + usize::from(padding) + TAG, 0);
        seal.seal(&mut came[start..]).expect("it is short");
        if kind == kind::DATA {
            sent.extend_from_slice(content);
        }
        if kind == kind::HANDSHAKE && matches!(content, [.., 24, 0, 0, 1, 0 | 1]) {
            number = number.wrapping_add(1);
            seal = key(suite, number);
        }
    }
    (came, sent)
}

/// What was shown, what is sent back, and why it has ended.
fn hear(suite: Suite, came: &[u8], piece: usize) -> (Vec<u8>, Vec<u8>, Option<Fault>) {
    let mut records = Records::new(key(suite, 128), key(suite, 0), Box::new(Numbered(suite, 128, 0)));
    let (mut shown, mut out, mut held) = (Vec::new(), Out::default(), Vec::new());
    for piece in came.chunks(piece.min(came.len().max(1))) {
        held.extend_from_slice(piece);
        match records.receive(&mut held, &mut |data| shown.extend_from_slice(data)) {
            Ok(taken) => drop(held.drain(..taken)),
            Err(fault) => {
                records.tell(fault, &mut out);
                return (shown, out.data().to_vec(), Some(fault));
            }
        }
    }
    // Another key, if it was asked for, goes in front of that.
    records.send(b"answer", &mut out).expect("there is a key");
    (shown, out.data().to_vec(), None)
}
