//! A response's head as a backend sends it: refused, or written again so that a client finds the same answer. The first byte says what was
//! asked.

use mesh::http1::{Bounds, Edits, Ending, Framing, Head, Method, response};

pub fn run(data: &[u8]) {
    let Some((&first, bytes)) = data.split_first() else { return };
    let method = match first % 4 {
        0 => Method::Idempotent,
        1 => Method::Other,
        2 => Method::Head,
        _ => Method::Connect,
    };
    let bounds = Bounds { head: 4096, headers: 32 };
    let Ok(Some(length)) = Ending::default().find(bytes, &bounds) else { return };
    let bytes = bytes.get(..length).expect("no more than there was");
    let mut head = Head::default();
    if head.response(bytes, method, &bounds).is_err() {
        return;
    }
    let mut edits = Edits::default();
    edits.set("server", "mesh");
    let plain = first & 0x80 != 0 && head.framing() == Framing::Chunked;
    let mut out = Vec::new();
    response(&mut out, bytes, &head, Some(&edits), plain.then_some("close"), plain);
    let more = Bounds { head: 1 << 20, headers: 64 };
    assert_eq!(Ending::default().find(&out, &more), Ok(Some(out.len())), "one head and nothing behind it");
    let mut read = Head::default();
    read.response(&out, method, &more).expect("what is written can be read");
    assert_eq!((read.status(), read.upgrades()), (head.status(), head.upgrades()));
    assert_eq!(read.framing(), if plain { Framing::Close } else { head.framing() });
    let servers = read.headers(&out).filter(|(name, _)| name.eq_ignore_ascii_case(b"server"));
    assert_eq!(servers.count(), 1);
}
