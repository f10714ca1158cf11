//! Two connections in one: pieces with the number of the connection that they are of.

use shim::protocol::{HEADER_LENGTH, MAX_PAYLOAD};

/// The connection on which the plugin serves.
pub const PLUGIN: u32 = 1;
/// The connection on which the node serves.
pub const RUNTIME: u32 = 2;
/// The longest piece, bytes: a ttrpc frame of the longest payload.
pub const MAX_CHUNK: usize = HEADER_LENGTH + MAX_PAYLOAD;

/// Bytes before a piece: the connection and the length, both big-endian.
const HEADER: usize = 8;

/// What the usual plugins' buffered reader takes at once. It gives up the connection on a piece that is longer than the
/// room it has: this much, or what it still wants of a frame whose beginning it has.
const FIRST_CHUNK: usize = 4096;

/// A piece of a connection's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The connection's number.
    pub connection: u32,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Bytes that are no piece. The whole connection is of no use any more.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ChunkError {
    /// Longer than [`MAX_CHUNK`].
    #[error("cannot read a piece: {0} bytes are more than the {MAX_CHUNK} that NRI allows")]
    TooLong(usize),
}

/// Appends a ttrpc frame of `connection` to `out`, in pieces that every plugin can take.
pub fn encode(connection: u32, frame: &[u8], out: &mut Vec<u8>) {
    let (first, rest) = frame.split_at(frame.len().min(FIRST_CHUNK));
    for piece in std::iter::once(first).chain(rest.chunks(MAX_CHUNK)) {
        out.extend(connection.to_be_bytes());
        out.extend((piece.len() as u32).to_be_bytes());
        out.extend(piece);
    }
}

/// Takes the first piece off `bytes`; `None` while it is not whole yet.
///
/// # Errors
/// The piece is too long.
pub fn decode(bytes: &mut Vec<u8>) -> Result<Option<Chunk>, ChunkError> {
    let Some((header, _)) = bytes.split_first_chunk::<HEADER>() else { return Ok(None) };
    let [a, b, c, d, e, f, g, h] = *header;
    let length = u32::from_be_bytes([e, f, g, h]) as usize;
    if length > MAX_CHUNK {
        return Err(ChunkError::TooLong(length));
    }
    if bytes.len() < HEADER + length {
        return Ok(None);
    }
    let piece = bytes.drain(..HEADER + length).skip(HEADER).collect();
    Ok(Some(Chunk { connection: u32::from_be_bytes([a, b, c, d]), bytes: piece }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_survive_any_cut() {
        let mut wire = Vec::new();
        encode(PLUGIN, b"hello", &mut wire);
        encode(RUNTIME, b"", &mut wire);
        encode(7, &[9; 300], &mut wire);
        for step in 1..wire.len() {
            let (mut buffer, mut got) = (Vec::new(), Vec::new());
            for part in wire.chunks(step) {
                buffer.extend(part);
                while let Some(chunk) = decode(&mut buffer).unwrap() {
                    got.push((chunk.connection, chunk.bytes));
                }
            }
            assert_eq!(
                got,
                [(PLUGIN, b"hello".to_vec()), (RUNTIME, vec![]), (7, vec![9; 300])],
                "steps of {step}"
            );
        }
    }

    #[test]
    fn a_long_frame_is_read_by_a_reader_with_a_small_buffer() {
        let frame: Vec<u8> = (0..20_000u32).map(|n| n as u8).collect();
        let mut wire = Vec::new();
        encode(PLUGIN, &frame, &mut wire);
        let lengths: Vec<usize> =
            std::iter::from_fn(|| decode(&mut wire).unwrap()).map(|c| c.bytes.len()).collect();
        assert_eq!(lengths, [4096, 20_000 - 4096]);
    }

    #[test]
    fn what_is_too_long_is_refused() {
        assert_eq!(decode(&mut vec![0, 0, 0, 1, 0xff, 0, 0, 0]), Err(ChunkError::TooLong(0xff00_0000)));
        assert_eq!(decode(&mut vec![0, 0, 0, 1, 0, 0, 0]), Ok(None));
    }
}
