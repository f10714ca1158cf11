//! What is read as it stands, what is refused, and what is written.

use super::*;

fn read(text: &str) -> Result<Head, Fault> {
    let bounds = Bounds::default();
    let length = Ending::default().find(text.as_bytes(), &bounds)?.expect("it has an end");
    let mut head = Head::default();
    head.request(&text.as_bytes()[..length], &bounds).map(|()| head)
}

fn answered(text: &str, method: Method) -> Result<Head, Fault> {
    let mut head = Head::default();
    head.response(text.as_bytes(), method, &Bounds::default()).map(|()| head)
}

fn passed(text: &str, forward: &Forward<'_>) -> String {
    let mut out = Vec::new();
    request(&mut out, text.as_bytes(), &read(text).unwrap(), forward);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_request_is_read() {
    let text = "POST /a?b HTTP/1.1\r\nHost: web:80\r\nA:\r\nContent-Length:\t3 \r\nX: a b\r\n\r\nabc";
    let head = read(text).unwrap();
    let bytes = text.as_bytes();
    assert_eq!((head.method_name(bytes), head.target(bytes)), ("POST", "/a?b"));
    assert_eq!((head.host(bytes), head.framing()), (Some("web:80"), Framing::Length(3)));
    assert!(head.keeps_alive() && !head.is_old() && !head.upgrades() && !head.expects());
    let headers: Vec<_> = head.headers(bytes).collect();
    assert_eq!(headers[1], (&b"A"[..], &b""[..]));
    assert_eq!(headers[3], (&b"X"[..], &b"a b"[..]));
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    let host = "Host: a\r\n";
    for (text, status) in [
        // Two lengths, or one that is no number.
        ("Content-Length: 1\r\nContent-Length: 1\r\n", 400),
        ("Content-Length: 1\r\nContent-Length: 2\r\n", 400),
        ("Content-Length: 1, 1\r\n", 400),
        ("Content-Length: +1\r\n", 400),
        ("Content-Length: -1\r\n", 400),
        ("Content-Length: 0x1\r\n", 400),
        ("Content-Length: 1 1\r\n", 400),
        ("Content-Length: \r\n", 400),
        ("Content-Length: 9999999999999999999\r\n", 400),
        // A length and chunks, in both orders.
        ("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", 400),
        ("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", 400),
        ("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", 400),
        // Codings that some know and some do not.
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", 400),
        ("Transfer-Encoding: gzip, chunked\r\n", 501),
        ("Transfer-Encoding: chunked, identity\r\n", 501),
        ("Transfer-Encoding: identity\r\n", 501),
        ("Transfer-Encoding: xchunked\r\n", 501),
        ("Transfer-Encoding: \"chunked\"\r\n", 501),
        ("Transfer-Encoding: chunked,\r\n", 501),
        ("Transfer-Encoding:\r\n", 501),
        ("Transfer-Encoding: \x0bchunked\r\n", 400),
        // Blanks, folds and bare line ends.
        ("Transfer-Encoding : chunked\r\n", 400),
        ("Transfer-Encoding\t: chunked\r\n", 400),
        (" Transfer-Encoding: chunked\r\n", 400),
        ("A: b\r\n Transfer-Encoding: chunked\r\n", 400),
        ("A: b\r\n\tc\r\n", 400),
        ("A: b\nTransfer-Encoding: chunked\r\n", 400),
        ("A: b\rTransfer-Encoding: chunked\r\n", 400),
        ("A: b\r\rB: c\r\n", 400),
        ("A: b\0c\r\n", 400),
        ("A: b\x7fc\r\n", 400),
        (": a\r\n", 400),
        ("A\r\n", 400),
        ("A b: c\r\n", 400),
        ("A(b): c\r\n", 400),
        ("\u{c4}: c\r\n", 400),
        // Hosts.
        ("Host: b\r\n", 400),
        ("Connection: host\r\n", 400),
        ("Connection: close, Content-Length\r\nContent-Length: 5\r\n", 400),
        ("Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n", 400),
        (&format!("Connection: {}\r\n", "a, ".repeat(33)), 400),
        (&format!("Connection: {}\r\n", "close,".repeat(2000)), 400),
        (&"Connection: a, b, c\r\n".repeat(11), 400),
    ] {
        let whole = format!("POST / HTTP/1.1\r\n{host}{text}\r\n");
        assert_eq!(read(&whole).map_err(Fault::status).map(drop), Err(status), "{whole:?}");
    }
    for (line, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.12\r\nHost: a\r\n\r\n", 400),
        ("GET / http/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /\r\n\r\n", 400),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        ("GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505),
        ("GET /\u{e4} HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("G\u{e4}T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n", 400),
        ("GET / HTTP/1.1\nHost: a\n\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", 400),
    ] {
        assert_eq!(read(line).map_err(Fault::status).map(drop), Err(status), "{line:?}");
    }
}

#[test]
fn an_answer_that_could_be_read_in_two_ways_is_refused() {
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\n A: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        "HTTP/1.1 200 O\rK\r\n\r\n",
        "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 600 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "HTTP/1.1 101 Switching\r\n\r\n",
    ] {
        assert!(answered(text, Method::Idempotent).is_err(), "{text:?}");
    }
}

#[test]
fn the_end_of_an_answer_is_where_it_says() {
    for (text, method, framing) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Method::Idempotent, Framing::Length(5)),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Method::Head, Framing::None),
        ("HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", Method::Other, Framing::None),
        ("HTTP/1.1 304 No\r\nTransfer-Encoding: chunked\r\n\r\n", Method::Idempotent, Framing::None),
        ("HTTP/1.1 100\r\n\r\n", Method::Other, Framing::None),
        ("HTTP/1.1 200 \r\nTransfer-Encoding: Chunked\r\n\r\n", Method::Other, Framing::Chunked),
        ("HTTP/1.1 200 OK\r\n\r\n", Method::Idempotent, Framing::Close),
        ("HTTP/1.0 200 OK\r\n\r\n", Method::Idempotent, Framing::Close),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Method::Connect, Framing::None),
        ("HTTP/1.1 404 No\r\nContent-Length: 5\r\n\r\n", Method::Connect, Framing::Length(5)),
    ] {
        assert_eq!(answered(text, method).unwrap().framing(), framing, "{text:?}");
    }
    assert!(answered("HTTP/1.1 200 OK\r\n\r\n", Method::Connect).unwrap().upgrades());
    let switched = "HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert!(answered(switched, Method::Idempotent).unwrap().upgrades());
    assert!(!answered("HTTP/1.0 200 OK\r\n\r\n", Method::Other).unwrap().keeps_alive());
    assert!(
        answered("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", Method::Other).unwrap().keeps_alive()
    );
}

#[test]
fn heads_have_bounds() {
    let bounds = Bounds { head: 100, headers: 3 };
    let mut ending = Ending::default();
    assert_eq!(ending.find(&[b'a'; 99], &bounds), Ok(None));
    assert_eq!(ending.find(&[b'a'; 100], &bounds), Err(Fault::TooLarge(100)));
    let many = b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nC: d\r\nE: f\r\n\r\n";
    let mut head = Head::default();
    assert_eq!(head.request(many, &bounds).map_err(Fault::status), Err(431));
    assert_eq!(head.request(many, &Bounds { headers: 4, ..bounds }), Ok(()));
    // Its end is found wherever the pieces part.
    for part in 0..many.len() {
        let mut ending = Ending::default();
        assert_eq!(ending.find(&many[..part], &bounds), Ok(None));
        assert_eq!(ending.find(many, &bounds), Ok(Some(many.len())));
    }
}

#[test]
fn what_is_for_one_hop_is_not_passed_on() {
    let text = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Mine\r\nA: 1\r\nx-mine: 2\r\nKeep-Alive: 3\r\n\
                TE: trailers\r\nProxy-Connection: close\r\nB: 4\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n";
    assert_eq!(passed(text, &Forward::default()), "GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 4\r\n\r\n");
    // HTTP/2 over it would go past whoever reads requests.
    let text = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n";
    assert_eq!(passed(text, &Forward::default()), "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let text = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert!(read(text).unwrap().upgrades());
    let wanted = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nconnection: upgrade\r\n\r\n";
    assert_eq!(passed(text, &Forward::default()), wanted);
    // Nor is it hidden by a line before or behind.
    for lines in ["Upgrade: h2c\r\nUpgrade: websocket", "Upgrade: websocket\r\nUpgrade: x, TLS/1.2"] {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n{lines}\r\n\r\n");
        assert!(!read(&text).unwrap().upgrades());
        assert_eq!(passed(&text, &Forward::default()), "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let text = format!("HTTP/1.1 101 Switching\r\nConnection: upgrade\r\n{lines}\r\n\r\n");
        assert!(answered(&text, Method::Idempotent).is_err());
    }
    let options = format!("Connection: {}close", "x-mine, ".repeat(31));
    let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{options}\r\nX-Mine: 1\r\n\r\n");
    assert_eq!(passed(&text, &Forward::default()), "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
}

#[test]
fn a_route_changes_what_it_says() {
    let mut edits = Edits::default();
    edits.remove("a");
    edits.set("b", "2");
    edits.add("c", "3");
    let forward = Forward { path: Some("/new"), query: Some("q"), host: Some("other"), edits: Some(&edits) };
    let text = "GET /old?q HTTP/1.0\r\nA: 1\r\nHost: a\r\nB: 1\r\nC: 1\r\nb: 0\r\nD: 1\r\n\r\n";
    let wanted = "GET /new?q HTTP/1.1\r\nhost: other\r\nC: 1\r\nD: 1\r\nb: 2\r\nc: 3\r\n\r\n";
    assert_eq!(passed(text, &forward), wanted);
    edits.remove("C");
    edits.add("b", "5");
    assert!(passed(text, &forward_with(&edits)).ends_with("D: 1\r\nb: 2\r\nb: 5\r\n\r\n"));
    assert_eq!(edits.wrong(), None);
    for (name, value) in
        [("Content-Length", "1"), ("host", "a"), ("a b", "c"), ("a", "b\r\nc: d"), ("TE", "x")]
    {
        let mut edits = Edits::default();
        edits.set(name, value);
        assert_eq!(edits.wrong(), Some(name));
    }
}

fn forward_with(edits: &Edits) -> Forward<'_> {
    Forward { edits: Some(edits), ..Forward::default() }
}

#[test]
fn an_answer_is_written_again() {
    let text = "HTTP/1.1 200 Fine\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\nA: 1\r\n\r\n";
    let head = answered(text, Method::Other).unwrap();
    let write = |connection, plain| {
        let mut out = Vec::new();
        response(&mut out, text.as_bytes(), &head, None, connection, plain);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(write(None, false), "HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\nA: 1\r\n\r\n");
    assert_eq!(write(Some("close"), true), "HTTP/1.1 200 Fine\r\nA: 1\r\nconnection: close\r\n\r\n");
}

#[test]
fn bodies_end_where_they_say() {
    for (framing, text, rest) in [
        (Framing::None, "", "GET"),
        (Framing::Length(3), "abc", "GET"),
        (Framing::Chunked, "0\r\n\r\n", "GET"),
        (Framing::Chunked, "3\r\nabc\r\n00\r\n\r\n", "0"),
        (Framing::Chunked, "A;x=\"y\"\r\n0123456789\r\n1\r\n\n\r\n0;z\r\nTrailer-A: b\r\nC:\r\n\r\n", "\r\n"),
    ] {
        let all = format!("{text}{rest}");
        let mut body = Body::new(framing);
        assert_eq!(body.take(all.as_bytes()), Ok(text.len()), "{all:?}");
        assert!(body.is_done());
        // In pieces, too.
        for part in 0..text.len() {
            let mut body = Body::new(framing);
            assert_eq!(body.take(&all.as_bytes()[..part]), Ok(part), "{all:?} to {part}");
            assert!(!body.is_done());
            assert_eq!(body.take(&all.as_bytes()[part..]), Ok(text.len() - part), "{all:?} from {part}");
            assert!(body.is_done());
        }
    }
    let mut body = Body::new(Framing::Close);
    assert_eq!(body.take(b"anything"), Ok(8));
    assert!(body.ends_with_connection() && !body.is_done());
}

#[test]
fn data_is_told_from_what_surrounds_it() {
    let mut body = Body::new(Framing::Chunked);
    let (mut rest, mut data) = (&b"3;a\r\nabc\r\n2\r\nde\r\n0\r\nA: b\r\n\r\n"[..], Vec::new());
    while !body.is_done() {
        let piece = body.next(rest).unwrap();
        let (taken, behind) = rest.split_at(piece.used);
        if piece.data {
            data.extend_from_slice(taken);
        }
        rest = behind;
    }
    assert_eq!((data.as_slice(), rest), (&b"abcde"[..], &b""[..]));
}

#[test]
fn chunks_that_could_be_read_in_two_ways_are_refused() {
    let long = format!("1;{}\r\na", "x".repeat(300));
    let longer = format!("{}0\r\n\r\n", format!("1;{}\r\na\r\n", "x".repeat(200)).repeat(100));
    let trailers = format!("0\r\n{}\r\n", format!("a: {}\r\n", "b".repeat(1000)).repeat(9));
    for text in [
        "\r\n",
        "g\r\n",
        "-1\r\n",
        "+1\r\n",
        "0x1\r\na",
        " 1\r\na",
        "1 \r\na",
        "1\na",
        "1\r\r\na",
        "1;\n\r\na",
        "1;\ra",
        "1;\0\r\na",
        "1000000000000000\r\n",
        "1\r\nab\r\n",
        "1\r\na\n",
        "1\r\na\r\r",
        "0\r\n\n",
        "0\r\n\ra",
        "0\r\nA\r\n",
        "0\r\nA : b\r\n",
        "0\r\n A: b\r\n",
        "0\r\nA: b\n",
        "0\r\nA: b\r\r",
        "0\r\nA: b\0\r\n",
        "0\r\nContent-Length: 1\r\n",
        "0\r\nhost: a\r\n",
        "0\r\nTransfer-Encoding: chunked\r\n",
        "0\r\nconnection: close\r\n",
        &long,
        &longer,
        &trailers,
    ] {
        assert!(Body::new(Framing::Chunked).take(text.as_bytes()).is_err(), "{text:?}");
    }
}

#[test]
fn between_chunks_nothing_has_begun() {
    let text = b"a;x=1\r\n0123456789\r\n1\r\na\r\n0\r\nA: b\r\n\r\n";
    let mut body = Body::new(Framing::Chunked);
    let mut rests = vec![(0, body.has_begun())];
    for (at, byte) in text.iter().enumerate() {
        body.take(&[*byte]).unwrap();
        rests.push((at + 1, body.has_begun()));
    }
    let may: Vec<usize> = rests.into_iter().filter(|(_, begun)| !begun).map(|(at, _)| at).collect();
    // At the beginning, behind each chunk, and at the end.
    assert_eq!(may, [0, 19, 25, text.len()]);
    let mut body = Body::new(Framing::Length(2));
    assert!(body.has_begun());
    body.take(b"ab").unwrap();
    assert!(!body.has_begun());
    assert!(!Body::new(Framing::Close).has_begun() && !Body::new(Framing::None).has_begun());
}

#[test]
fn paths_are_what_the_backend_will_see() {
    for (path, wanted) in [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a//b/", "/a//b/"),
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/public/../admin", "/admin"),
        ("/public/%2e%2E/admin", "/admin"),
        ("/../../a", "/a"),
        ("/a/..", "/"),
        ("/a/b/..", "/a/"),
        ("/a/.", "/a/"),
        ("/a/.../b", "/a/.../b"),
        ("/.well-known", "/.well-known"),
        ("/%61%7e%2f%20", "/a~%2f%20"),
        ("/%252e", "/%252e"),
    ] {
        assert_eq!(normal(path).as_deref(), Ok(wanted), "{path}");
    }
    for path in ["/%", "/%2", "/%zz", "/a\\..\\b"] {
        assert!(normal(path).is_err(), "{path}");
    }
    let target = |text, method| {
        Target::of(text, method).map(|target| (target.authority, target.path.into_owned(), target.query))
    };
    assert_eq!(target("/a?b?c", "GET"), Ok((None, "/a".into(), Some("b?c"))));
    assert_eq!(target("HTTP://a:1/b", "GET"), Ok((Some("a:1"), "/b".into(), None)));
    assert_eq!(target("http://a?b", "GET"), Ok((Some("a"), "/".into(), Some("b"))));
    assert_eq!(target("*", "OPTIONS"), Ok((None, "*".into(), None)));
    assert_eq!(target("a:443", "CONNECT"), Ok((Some("a:443"), String::new(), None)));
    for (text, method) in [
        ("*", "GET"),
        ("a", "GET"),
        ("a:443", "GET"),
        ("/a", "CONNECT"),
        ("a", "CONNECT"),
        ("http:///a", "GET"),
        ("http://u@a/", "GET"),
        ("/a#b", "GET"),
        ("https://a/", "GET"),
    ] {
        assert!(target(text, method).is_err(), "{method} {text}");
    }
}
