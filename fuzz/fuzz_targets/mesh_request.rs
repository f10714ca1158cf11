//! A request's head as a client sends it: refused, or written again so that whoever reads that finds the same request.

use mesh::http1::{Bounds, Ending, Forward, Head, Target, normal, request};

pub fn run(bytes: &[u8]) {
    let bounds = Bounds { head: 4096, headers: 32 };
    let whole = Ending::default().find(bytes, &bounds);
    // In pieces, the same is found.
    let mut ending = Ending::default();
    let mut parts = (0..=bytes.len().min(256)).chain([bytes.len()]);
    let pieces = parts.find_map(|part| ending.find(bytes.get(..part)?, &bounds).transpose()).transpose();
    assert_eq!(whole.ok(), pieces.ok());
    let Ok(Some(length)) = whole else { return };
    let bytes = bytes.get(..length).expect("no more than there was");
    let mut head = Head::default();
    if head.request(bytes, &bounds).is_err() {
        return;
    }
    assert!(head.count() <= bounds.headers);
    let method = head.method_name(bytes);
    let Ok(target) = Target::of(head.target(bytes), method) else { return };
    if target.path.starts_with('/') {
        let again = normal(&target.path).expect("what is normal is a path");
        assert_eq!(again, target.path, "what is normal stays so");
        assert!(!again.split('/').any(|segment| segment == ".." || segment == "."));
    }
    let host = head.host(bytes).is_none().then_some("host.example");
    let mut out = Vec::new();
    request(&mut out, bytes, &head, &Forward { host, ..Forward::default() });
    let mut read = Head::default();
    let end = Ending::default().find(&out, &Bounds { head: 1 << 20, ..bounds }).expect("it is whole");
    assert_eq!(end, Some(out.len()), "one head and nothing behind it");
    let more = Bounds { head: 1 << 20, headers: 64 };
    read.request(&out, &more).expect("what is written can be read");
    assert_eq!(read.framing(), head.framing());
    assert_eq!((read.method_name(&out), read.target(&out)), (method, head.target(bytes)));
    assert_eq!(read.upgrades(), head.upgrades());
    for (name, value) in read.headers(&out) {
        let barred = |option: &[u8]| {
            let option = option.trim_ascii().to_ascii_lowercase();
            option.starts_with(b"h2c") || option.starts_with(b"tls")
        };
        let upgrade = name.eq_ignore_ascii_case(b"upgrade");
        assert!(!upgrade || !value.split(|byte| *byte == b',').any(barred), "nobody would read what follows");
    }
    assert!(read.keeps_alive() && !read.is_old());
    assert_eq!(read.host(&out), head.host(bytes).or(host));
}
