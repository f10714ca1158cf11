//! Against rustls as the peer, in both roles, and against records that no peer would send.

use std::cell::Cell;
use std::io::{Read as _, Write as _};
use std::net::Ipv4Addr;
use std::rc::Rc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::version::TLS13;
use rustls::{AlertDescription, Connection, RootCertStore, SupportedCipherSuite};

use super::key::LONGEST;
use super::*;

fn suites() -> [SupportedCipherSuite; 3] {
    [
        aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
        aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
        aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ]
}

/// Our side, and rustls at the other.
struct Pair {
    ours: Tls,
    theirs: Connection,
    /// What came here and was not taken.
    came: Vec<u8>,
    /// What was read on either side.
    here: Vec<u8>,
    there: Vec<u8>,
}

impl Pair {
    fn new(suite: SupportedCipherSuite, serves: bool) -> Self {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let provider = CryptoProvider { cipher_suites: vec![suite], ..aws_lc_rs::default_provider() };
        let provider = Arc::new(provider);
        let mut client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = vec![b"h2".to_vec()];
        client.enable_secret_extraction = true;
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        server.alpn_protocols = vec![b"h2".to_vec()];
        server.enable_secret_extraction = true;
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (ours, mut theirs) = if serves {
            let name = ServerName::IpAddress(address.into());
            let theirs = rustls::ClientConnection::new(Arc::new(client), name).unwrap();
            (Tls::server(Arc::new(server)).unwrap(), Connection::Client(theirs))
        } else {
            let theirs = rustls::ServerConnection::new(Arc::new(server)).unwrap();
            (Tls::client(Arc::new(client), address).unwrap(), Connection::Server(theirs))
        };
        theirs.set_buffer_limit(None);
        let mut pair = Self { ours, theirs, came: Vec::new(), here: Vec::new(), there: Vec::new() };
        pair.talk().unwrap();
        assert!(pair.ours.is_ready() && !pair.theirs.is_handshaking());
        assert_eq!(pair.ours.protocol(), Some(&b"h2"[..]));
        pair
    }

    /// Has rustls take what is to be sent there.
    fn give(&mut self) -> Result<(), Error> {
        let out = self.ours.output().to_vec();
        self.ours.sent(out.len());
        let mut rest = &out[..];
        while !rest.is_empty() {
            self.theirs.read_tls(&mut rest).unwrap();
            self.theirs.process_new_packets()?;
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = self.theirs.reader().read(&mut piece) {
                self.there.extend_from_slice(&piece[..count]);
            }
        }
        Ok(())
    }

    /// What rustls sends.
    fn fetch(&mut self) {
        while self.theirs.wants_write() {
            self.theirs.write_tls(&mut self.came).unwrap();
        }
    }

    fn hear(&mut self) -> Result<(), Failure> {
        let here = &mut self.here;
        let taken = self.ours.receive(&mut self.came, &mut |record| here.extend_from_slice(record))?;
        self.came.drain(..taken);
        Ok(())
    }

    /// Until neither has anything to say.
    fn talk(&mut self) -> Result<(), Failure> {
        for _ in 0..8 {
            self.give()?;
            self.fetch();
            self.hear()?;
        }
        Ok(())
    }

    fn records(&mut self) -> &mut Records {
        let Side::Records(records) = &mut self.ours.side else { panic!("the handshake is not over") };
        records
    }

    /// What each sends comes to the other.
    fn exchanges(&mut self, bytes: &[u8]) {
        self.ours.send(bytes).unwrap();
        self.theirs.writer().write_all(bytes).unwrap();
        self.talk().unwrap();
        assert!(self.here == bytes && self.there == bytes, "{} {}", self.here.len(), self.there.len());
        self.here.clear();
        self.there.clear();
    }
}

fn pairs() -> impl Iterator<Item = Pair> {
    let all = suites().into_iter().flat_map(|suite| [(suite, false), (suite, true)]);
    all.map(|(suite, serves)| Pair::new(suite, serves))
}

fn text(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n % 251) as u8).collect()
}

#[test]
fn rustls_understands_what_is_sent_and_is_understood() {
    for mut pair in pairs() {
        for length in [1, RECORD - 1, RECORD, RECORD + 1, 200_000] {
            pair.exchanges(&text(length));
        }
        // Both make another key now and then, and are asked for one.
        for _ in 0..5 {
            pair.theirs.refresh_traffic_keys().unwrap();
            pair.exchanges(&text(40_000));
            pair.records().keys().0.set_limit(0);
            pair.exchanges(&text(40_000));
            assert!(!pair.records().keys().0.is_worn(1), "it has another key");
        }
        pair.theirs.send_close_notify();
        pair.talk().unwrap();
        assert!(pair.ours.is_closed());
        pair.ours.finish();
        pair.give().unwrap();
        assert!(pair.theirs.process_new_packets().unwrap().peer_has_closed());
    }
}

#[test]
fn what_comes_byte_by_byte_is_the_same() {
    for mut pair in pairs() {
        pair.theirs.writer().write_all(&text(3000)).unwrap();
        pair.theirs.refresh_traffic_keys().unwrap();
        pair.theirs.writer().write_all(b"behind it").unwrap();
        let (mut all, mut kept) = (Vec::new(), std::mem::take(&mut pair.came));
        pair.fetch();
        std::mem::swap(&mut all, &mut pair.came);
        pair.came.append(&mut kept);
        for byte in all {
            pair.came.push(byte);
            pair.hear().unwrap();
        }
        assert!(
            pair.came.is_empty() && pair.here[..3000] == text(3000) && pair.here[3000..] == *b"behind it"
        );
    }
}

#[test]
fn bytes_are_read_to_where_they_are_encrypted() {
    let piece = RECORD - 9;
    for mut pair in pairs() {
        for (most, there_are) in
            [(1, 9), (100, 30), (piece, piece), (piece + 1, piece + 1), (1 << 20, 1 << 20), (500, 0)]
        {
            let bytes = text(there_are);
            let mut rest = &bytes[..];
            // Also where another key is due just then.
            pair.records().keys().0.set_limit(1);
            let mut read = |places: &mut [IoSliceMut<'_>]| rest.read_vectored(places).unwrap();
            let count = pair.ours.fill(most, |length| [length as u8; 9], &mut read).unwrap();
            assert_eq!(count, there_are.min(most).min(RECORDS * piece));
            pair.give().unwrap();
            let mut expected = Vec::new();
            for piece in bytes[..count].chunks(piece) {
                expected.extend_from_slice(&[piece.len() as u8; 9]);
                expected.extend_from_slice(piece);
            }
            assert!(pair.there == expected, "{most} {there_are}");
            pair.there.clear();
        }
        pair.exchanges(b"and what is sent otherwise");
    }
}

#[test]
fn a_changed_bit_ends_it_and_the_peer_is_told() {
    // Of a record of 20 bytes within: its type, its version, what is encrypted, and the tag.
    let places = [(0, AlertDescription::UnexpectedMessage), (1, AlertDescription::BadRecordMac)];
    let inside = [5, 20, 25, 26, 30, 41].map(|place| (place, AlertDescription::BadRecordMac));
    for (place, alert) in places.into_iter().chain(inside) {
        for mut pair in pairs() {
            pair.theirs.writer().write_all(&text(20)).unwrap();
            pair.fetch();
            assert_eq!(pair.came.len(), 20 + ADDED);
            pair.came[place] ^= 1;
            assert!(pair.hear().is_err() && !pair.ours.is_ready() && pair.here.is_empty(), "{place}");
            assert_eq!(pair.give(), Err(Error::AlertReceived(alert)), "{place}");
        }
    }
}

#[test]
fn a_record_comes_once_and_in_its_turn() {
    for mut pair in pairs() {
        pair.theirs.writer().write_all(b"one").unwrap();
        pair.fetch();
        let again = pair.came.clone();
        pair.hear().unwrap();
        pair.came = again;
        assert!(matches!(pair.hear(), Err(Failure::Records(Fault::Mac))));
        assert_eq!(pair.here, b"one");
    }
}

#[test]
fn an_alert_of_the_peer_is_its_reason() {
    let mut pair = Pair::new(suites()[0], true);
    pair.ours.send(b"x").unwrap();
    let mut wrong = pair.ours.output().to_vec();
    pair.ours.sent(wrong.len());
    wrong[10] ^= 1;
    pair.theirs.read_tls(&mut &wrong[..]).unwrap();
    assert!(pair.theirs.process_new_packets().is_err());
    pair.fetch();
    let failure = pair.hear().unwrap_err();
    assert_eq!(failure.to_string(), "received fatal alert: BadRecordMac");
    assert!(pair.ours.output().is_empty(), "an alert is not answered by one");
}

/// A key by its number, the same for both sides.
fn key(number: u8) -> Key {
    Key::new(Suite::Aes128Gcm, &[number; 16], [number; 12], 0).unwrap()
}

/// Counts its keys and tickets up.
struct Counted(Rc<[Cell<u8>; 3]>);

fn up(cell: &Cell<u8>) -> u8 {
    cell.set(cell.get() + 1);
    cell.get()
}

impl Keys for Counted {
    fn sealing(&mut self) -> Result<Key, Fault> {
        Ok(key(100 + up(&self.0[0])))
    }

    fn opening(&mut self) -> Result<Key, Fault> {
        Ok(key(up(&self.0[1])))
    }

    fn ticket(&mut self, _: &[u8]) -> Result<(), Fault> {
        up(&self.0[2]);
        Ok(())
    }
}

/// Records that are opened, and who seals them.
struct Forge {
    records: Records,
    seal: Key,
    counts: Rc<[Cell<u8>; 3]>,
    out: Out,
    shown: Vec<u8>,
}

impl Forge {
    fn new() -> Self {
        let counts: Rc<[Cell<u8>; 3]> = Rc::default();
        let records = Records::new(key(100), key(0), Box::new(Counted(counts.clone())));
        Self { records, seal: key(0), counts, out: Out::default(), shown: Vec::new() }
    }

    /// What comes of a record with this within.
    fn send(&mut self, kind: u8, content: &[u8], padding: usize) -> Result<(), Fault> {
        let mut record = vec![0; HEAD];
        record.extend_from_slice(content);
        record.push(kind);
        record.resize(record.len() + padding + TAG, 0);
        self.seal.seal(&mut record).unwrap();
        self.came(&mut record)
    }

    fn came(&mut self, record: &mut [u8]) -> Result<(), Fault> {
        let shown = &mut self.shown;
        let taken = self.records.receive(record, &mut |data| shown.extend_from_slice(data))?;
        assert_eq!(taken, record.len());
        Ok(())
    }
}

const ASKING: &[u8] = &[24, 0, 0, 1, 1];
const TELLING: &[u8] = &[24, 0, 0, 1, 0];

#[test]
fn padding_is_taken_off() {
    let mut forge = Forge::new();
    for padding in [0, 1, 500, RECORD - 3] {
        forge.send(kind::DATA, b"abc", padding).unwrap();
    }
    forge.send(kind::DATA, b"d\0", 7).unwrap();
    assert_eq!(forge.shown, b"abcabcabcabcd\0");
    assert!(matches!(forge.send(0, b"\0\0", 3), Err(Fault::Unexpected(_))), "nothing but zeros");
}

#[test]
fn keys_change_in_either_direction() {
    let mut forge = Forge::new();
    forge.send(kind::HANDSHAKE, TELLING, 0).unwrap();
    assert!(forge.out.data().is_empty() && forge.counts[0].get() == 0);
    forge.seal = key(1);
    forge.send(kind::DATA, b"a", 0).unwrap();
    // One that is asked for goes with the old key, and what follows with the new.
    forge.send(kind::HANDSHAKE, ASKING, 9).unwrap();
    forge.seal = key(2);
    forge.send(kind::DATA, b"b", 0).unwrap();
    forge.records.send(b"answer", &mut forge.out).unwrap();
    let mut out = forge.out.data().to_vec();
    let (first, second) = out.split_at_mut(TELLING.len() + ADDED);
    assert_eq!(key(100).open(first), Ok((kind::HANDSHAKE, TELLING)));
    assert_eq!(key(101).open(second), Ok((kind::DATA, &b"answer"[..])));
    assert_eq!(forge.shown, b"ab");
}

#[test]
fn who_asks_again_and_again_for_another_key_is_answered_once_and_with_data() {
    let mut forge = Forge::new();
    for _ in 0..100 {
        forge.send(kind::HANDSHAKE, ASKING, 0).unwrap();
        forge.seal = key(forge.counts[1].get());
        // Between messages without data there is some, so that it is not their number.
        forge.send(kind::DATA, b"x", 0).unwrap();
    }
    assert!(forge.out.data().is_empty(), "{} bytes wait", forge.out.data().len());
    for _ in 0..2 {
        forge.records.send(b"answer", &mut forge.out).unwrap();
    }
    let mut out = forge.out.data().to_vec();
    let (first, rest) = out.split_at_mut(TELLING.len() + ADDED);
    assert_eq!(key(100).open(first), Ok((kind::HANDSHAKE, TELLING)));
    let (mut next, data) = (key(101), &b"answer"[..]);
    for record in rest.chunks_mut(data.len() + ADDED) {
        assert_eq!(next.open(record), Ok((kind::DATA, data)));
    }
    assert_eq!(forge.counts[0].get(), 1);
}

#[test]
fn messages_are_put_together() {
    let mut forge = Forge::new();
    let mut tickets = Vec::new();
    for length in [3_u8, 0, 200] {
        tickets.extend_from_slice(&[4, 0, 0, length]);
        tickets.resize(tickets.len() + usize::from(length), 7);
    }
    for piece in [1, 2, 50, 1000] {
        for part in tickets.chunks(piece).take(40) {
            forge.send(kind::HANDSHAKE, part, 0).unwrap_or_else(|e| assert!(piece < 50, "{e}"));
        }
        if piece < 50 {
            // In so small pieces there are too many.
            forge = Forge::new();
            continue;
        }
        forge.send(kind::DATA, b"x", 0).unwrap();
    }
    assert_eq!(forge.counts[2].get(), 6);
}

#[test]
fn what_may_not_come_ends_it() {
    let unexpected: &[(u8, &[u8])] = &[
        (20, &[1]),
        (25, b"x"),
        (kind::HANDSHAKE, &[]),
        (kind::HANDSHAKE, &[1]),
        (kind::HANDSHAKE, &[13, 0, 0, 0]),
        (kind::HANDSHAKE, &[24, 0, 0, 1, 0, 4]),
        (kind::ALERT, &[]),
    ];
    for (kind, content) in unexpected {
        let fault = Forge::new().send(*kind, content, 0).unwrap_err();
        assert!(matches!(fault, Fault::Unexpected(_)), "{kind} {content:?}: {fault}");
        assert_eq!(fault.alert(), Some(10));
    }
    let malformed: &[(u8, &[u8])] = &[
        (kind::HANDSHAKE, &[24, 0, 0, 2, 0, 0]),
        (kind::HANDSHAKE, &[24, 0, 0, 0]),
        (kind::HANDSHAKE, &[4, 1, 0, 1]),
        (kind::ALERT, &[1]),
        (kind::ALERT, &[1, 0, 1, 0]),
    ];
    for (kind, content) in malformed {
        let fault = Forge::new().send(*kind, content, 0).unwrap_err();
        assert!(matches!(fault, Fault::Malformed(_)), "{kind} {content:?}: {fault}");
    }
    let illegal = Forge::new().send(kind::HANDSHAKE, &[24, 0, 0, 1, 2], 0).unwrap_err();
    assert_eq!(illegal.alert(), Some(47));
    assert_eq!(Forge::new().send(kind::ALERT, &[1, 80], 0), Err(Fault::Alert(80)));
    // Between the parts of a message nothing else comes.
    let mut forge = Forge::new();
    forge.send(kind::HANDSHAKE, &[4, 0, 0, 9, 1], 0).unwrap();
    assert!(matches!(forge.send(kind::DATA, b"x", 0), Err(Fault::Unexpected(_))));
    // In plain text nothing comes at all.
    for kind in 19..23 {
        assert!(matches!(Forge::new().came(&mut [kind, 3, 3, 0, 1, 1]), Err(Fault::Unexpected(_))), "{kind}");
    }
}

#[test]
fn a_record_that_is_too_long_is_refused_before_it_has_come() {
    let [a, b] = u16::try_from(LONGEST + 1).unwrap().to_be_bytes();
    assert_eq!(Forge::new().came(&mut [23, 3, 3, a, b]), Err(Fault::Overflow));
    // And one that is too long without its padding, when it is there.
    let cipher = aws_lc_rs_aead(&[0; 16]);
    let mut record = vec![0_u8; HEAD];
    record.resize(HEAD + RECORD + 2, b'x');
    let length = u16::try_from(RECORD + 2 + TAG).unwrap().to_be_bytes();
    let head = [23, 3, 3, length[0], length[1]];
    record[..HEAD].copy_from_slice(&head);
    let nonce = ::aws_lc_rs::aead::Nonce::assume_unique_for_key([0; 12]);
    let tag = cipher
        .seal_in_place_separate_tag(nonce, ::aws_lc_rs::aead::Aad::from(head), &mut record[HEAD..])
        .unwrap();
    record.extend_from_slice(tag.as_ref());
    assert_eq!(Forge::new().came(&mut record), Err(Fault::Overflow));
}

fn aws_lc_rs_aead(key: &[u8]) -> ::aws_lc_rs::aead::LessSafeKey {
    use ::aws_lc_rs::aead::{AES_128_GCM, LessSafeKey, UnboundKey};
    LessSafeKey::new(UnboundKey::new(&AES_128_GCM, key).unwrap())
}

#[test]
fn what_costs_and_brings_nothing_is_bounded() {
    let endless = |kind: u8, content: &[u8]| {
        let mut forge = Forge::new();
        (0..1000_u32).find(|_| {
            let failed = forge.send(kind, content, 0).is_err();
            if content.first() == Some(&24) {
                forge.seal = key(forge.counts[1].get());
            }
            failed
        })
    };
    assert_eq!(endless(kind::DATA, b""), Some(32));
    assert_eq!(endless(kind::HANDSHAKE, ASKING), Some(32));
    assert_eq!(endless(kind::HANDSHAKE, TELLING), Some(32));
    assert_eq!(endless(kind::HANDSHAKE, &[4, 0, 0, 0]), Some(32));
    assert_eq!(endless(kind::ALERT, &[1, 90]), Some(4));
    assert_eq!(endless(kind::DATA, b"x"), None);
}

#[test]
fn nothing_counts_behind_the_end() {
    let mut forge = Forge::new();
    forge.send(kind::DATA, b"last", 0).unwrap();
    forge.send(kind::ALERT, &[1, 0], 0).unwrap();
    assert!(forge.records.is_closed());
    forge.came(&mut [1, 2, 3]).unwrap();
    forge.send(kind::DATA, b"more", 0).unwrap();
    assert_eq!(forge.shown, b"last");
}

#[test]
fn a_key_that_is_worn_is_another_before_the_record_that_would_be_too_many() {
    let mut forge = Forge::new();
    forge.records.keys().0.set_limit(4);
    for _ in 0..5 {
        forge.records.send(b"x", &mut forge.out).unwrap();
    }
    let mut out = forge.out.data().to_vec();
    let (mut seal, mut kinds) = (key(100), Vec::new());
    let mut rest = &mut out[..];
    while !rest.is_empty() {
        let length = HEAD + usize::from(u16::from_be_bytes([rest[3], rest[4]]));
        let (record, behind) = rest.split_at_mut(length);
        rest = behind;
        let (kind, _) = seal.open(record).unwrap();
        kinds.push(kind);
        if kind == kind::HANDSHAKE {
            seal = key(101);
        }
    }
    assert_eq!(kinds, [23, 23, 23, 22, 23, 23]);
}

#[test]
fn a_key_is_not_shown() {
    assert_eq!(format!("{:?}", key(7)), "Key { sequence: 0, .. }");
    let wrong = Key::new(Suite::Aes256Gcm, &[0; 16], [0; 12], 0);
    assert!(wrong.is_err(), "a key of another length");
}
