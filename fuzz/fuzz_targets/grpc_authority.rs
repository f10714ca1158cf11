//! Any bytes as what an HTTP/2 client sends behind its preface, in pieces of any size, to a server that takes any authority: no panic,
//! pieces do not matter, and nothing becomes longer (so no entry of the table of fields goes earlier than its sender thinks).

use grpc::wire::any_authority;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub fn run(bytes: &[u8]) {
    let Some((&size, frames)) = bytes.split_first() else { return };
    let sent = [PREFACE, frames].concat();
    let whole = any_authority([sent.as_slice()]);
    assert_eq!(any_authority(sent.chunks(usize::from(size).max(1))), whole, "pieces do not matter");
    assert!(whole.starts_with(PREFACE) && whole.len() <= sent.len());
}
