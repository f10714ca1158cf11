//! What carrying bytes between two nodes costs in user space at least: one process that reads, encrypts and writes, and one that reads, decrypts and
//! writes, with the cipher that members choose. Each of them copies a record once, which could be spared.
//!
//! Nothing here is safe: both sides have one key that is written down, and nobody proves anything. It is the floor of `bench mesh`, beside what does
//! all of that.

use std::io::{Error, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use clap::{Args, ValueEnum};

use crate::Result;

/// Bytes of a record, as TLS has it (RFC 8446, 5.1), and what stands before and behind it.
const RECORD: usize = 16 << 10;
const HEAD: usize = 5;
const TAG: usize = 16;
/// Records that are read at once, at most.
const RECORDS: usize = 16;
const KEY: [u8; 16] = [7; 16];

/// Passes bytes on, one way, and encrypts or decrypts them.
#[derive(Debug, Args)]
pub(crate) struct Relay {
    /// What is done with what comes
    does: Does,
    /// Where it listens
    listen: SocketAddr,
    /// Where what comes goes to
    to: SocketAddr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Does {
    /// Plain text comes
    Seal,
    /// Records come
    Open,
}

/// Serves until it is ended.
pub(crate) fn run(relay: &Relay) -> Result<()> {
    let listener = TcpListener::bind(relay.listen);
    let listener = listener.map_err(|e| format!("cannot listen at {}: {e}", relay.listen))?;
    Ok(serve(&listener, relay.does, relay.to)?)
}

fn serve(listener: &TcpListener, does: Does, to: SocketAddr) -> std::io::Result<()> {
    loop {
        let (from, _) = listener.accept()?;
        std::thread::spawn(move || {
            if let Err(error) = pass(from, does, to) {
                eprintln!("warning: cannot pass on what comes: {error}");
            }
        });
    }
}

fn pass(mut from: TcpStream, does: Does, to: SocketAddr) -> std::io::Result<()> {
    let mut to = TcpStream::connect(to)?;
    to.set_nodelay(true)?;
    match does {
        Does::Seal => seal(&mut from, &mut to)?,
        Does::Open => open(&mut from, &mut to)?,
    }
    to.shutdown(Shutdown::Write)
}

fn key() -> std::io::Result<LessSafeKey> {
    let key = UnboundKey::new(&AES_128_GCM, &KEY).map_err(|_| Error::other("there is no key"))?;
    Ok(LessSafeKey::new(key))
}

/// Each record has a number of its own.
fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

fn seal(from: &mut TcpStream, to: &mut TcpStream) -> std::io::Result<()> {
    let key = key()?;
    let mut plain = vec![0; RECORDS * RECORD];
    let mut sealed = Vec::with_capacity(RECORDS * (HEAD + RECORD + TAG));
    let mut number = 0;
    loop {
        let count = from.read(&mut plain)?;
        if count == 0 {
            return Ok(());
        }
        sealed.clear();
        for record in plain[..count].chunks(RECORD) {
            let length = u16::try_from(record.len() + TAG).map_err(Error::other)?;
            sealed.extend_from_slice(&[23, 3, 3]);
            sealed.extend_from_slice(&length.to_be_bytes());
            let begin = sealed.len();
            sealed.extend_from_slice(record);
            let tag = key.seal_in_place_separate_tag(nonce(number), Aad::empty(), &mut sealed[begin..]);
            let tag = tag.map_err(|_| Error::other("it cannot be encrypted"))?;
            sealed.extend_from_slice(tag.as_ref());
            number += 1;
        }
        to.write_all(&sealed)?;
    }
}

fn open(from: &mut TcpStream, to: &mut TcpStream) -> std::io::Result<()> {
    let key = key()?;
    let mut held = vec![0; RECORDS * (HEAD + RECORD + TAG)];
    let mut plain = Vec::with_capacity(RECORDS * RECORD);
    let (mut end, mut number) = (0, 0);
    loop {
        let count = from.read(&mut held[end..])?;
        if count == 0 {
            return if end == 0 { Ok(()) } else { Err(Error::other("the last record is not whole")) };
        }
        end += count;
        plain.clear();
        let mut begin = 0;
        while end - begin >= HEAD {
            let length = usize::from(u16::from_be_bytes([held[begin + 3], held[begin + 4]]));
            if length > RECORD + TAG {
                return Err(Error::other(format!("a record of {length} bytes")));
            }
            let whole = begin + HEAD + length;
            if whole > end {
                break;
            }
            let opened = key.open_in_place(nonce(number), Aad::empty(), &mut held[begin + HEAD..whole]);
            plain.extend_from_slice(opened.map_err(|_| Error::other("a record is not what was sent"))?);
            number += 1;
            begin = whole;
        }
        held.copy_within(begin..end, 0);
        end -= begin;
        to.write_all(&plain)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(does: Does, to: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        std::thread::spawn(move || serve(&listener, does, to));
        at
    }

    /// What comes of `text` behind `at`, which leads to `listener`.
    fn carried(text: &[u8], at: SocketAddr, listener: &TcpListener) -> Vec<u8> {
        let text = text.to_vec();
        let sending = std::thread::spawn(move || {
            let mut stream = TcpStream::connect(at).unwrap();
            stream.write_all(&text).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        let (mut came, mut all) = (listener.accept().unwrap().0, Vec::new());
        came.read_to_end(&mut all).unwrap();
        sending.join().unwrap();
        all
    }

    #[test]
    fn what_is_sealed_cannot_be_read_and_is_what_it_was_when_it_is_opened() {
        let text: Vec<u8> = b"what is sent ".iter().copied().cycle().take(1_000_003).collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let sealed = carried(&text, started(Does::Seal, to), &listener);
        assert!(sealed.len() > text.len() + TAG * (text.len() / RECORD));
        assert!(!sealed.windows(12).any(|part| part == b"what is sent"));
        let both = started(Does::Seal, started(Does::Open, to));
        assert!(carried(&text, both, &listener) == text);
    }
}
