//! Tables from distribution/reference's own tests, and properties.

use super::*;
use proptest::prelude::*;

const DIGEST: &str = "sha256:ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";

#[test]
fn completes_and_shortens() {
    let digest = |name: &str| format!("{name}@{DIGEST}");
    for (input, full, familiar) in [
        ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("docker.io/library/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("index.docker.io/busybox:1", "docker.io/library/busybox:1", "busybox:1"),
        ("index.docker.io/library/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("user/app", "docker.io/user/app:latest", "user/app:latest"),
        ("docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
        ("library/a", "docker.io/library/a:latest", "a:latest"),
        ("docker.io/a.b/c", "docker.io/a.b/c:latest", "docker.io/a.b/c:latest"),
        ("docker.io/docker.io/c", "docker.io/docker.io/c:latest", "docker.io/docker.io/c:latest"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("localhost:5000/a:b", "localhost:5000/a:b", "localhost:5000/a:b"),
        ("Uppercase/x", "Uppercase/x:latest", "Uppercase/x:latest"),
        ("quay.io/a/b/c:v1.0-rc_2", "quay.io/a/b/c:v1.0-rc_2", "quay.io/a/b/c:v1.0-rc_2"),
        ("127.0.0.1:5000/x", "127.0.0.1:5000/x:latest", "127.0.0.1:5000/x:latest"),
        ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
        ("[fd00:1:2::3]/x", "[fd00:1:2::3]/x:latest", "[fd00:1:2::3]/x:latest"),
        ("xn--n3h.com/x", "xn--n3h.com/x:latest", "xn--n3h.com/x:latest"),
        ("foo_bar.com:80/x", "", ""),
        ("foo__bar/x--y/z.w:T", "docker.io/foo__bar/x--y/z.w:T", "foo__bar/x--y/z.w:T"),
    ] {
        if full.is_empty() {
            assert!(Reference::parse(input).is_err(), "{input}");
            continue;
        }
        let reference = Reference::parse(input).unwrap();
        assert_eq!(reference.to_string(), full);
        assert_eq!(reference.familiar(), familiar);
        let pinned = Reference::parse(&digest(input)).unwrap();
        assert_eq!(pinned.digest().unwrap().to_string(), DIGEST);
        assert_eq!(pinned.selector(), DIGEST);
    }
    let both = Reference::parse(&digest("busybox:1")).unwrap();
    assert_eq!((both.tag(), both.selector().as_str()), (Some("1"), DIGEST));
    assert_eq!(Reference::parse(&digest("busybox")).unwrap().tag(), None);
}

#[test]
fn names_the_offending_part() {
    let long = format!("docker.io/{}", "a/".repeat(127) + "ab");
    let tag = format!("x:{}", "t".repeat(129));
    for (input, part) in [
        ("", "empty"),
        (":tag", "empty"),
        ("docker.io/", "empty"),
        ("a//b", "component \"\""),
        ("/a", "component \"\""),
        ("a/", "component \"\""),
        ("Foo", "\"Foo\" must be lower case"),
        ("localhost/Foo:T", "\"Foo\" must be lower case"),
        ("-foo/bar", "component \"-foo\""),
        ("foo-/bar", "component \"foo-\""),
        ("foo___bar", "component \"foo___bar\""),
        ("foo..bar", "component \"foo..bar\""),
        ("foo._bar", "component \"foo._bar\""),
        ("foo bar", "component \"foo bar\""),
        ("ex\u{e4}mple/x", "component"),
        ("-x.com/y", "registry \"-x.com\""),
        ("x.-com/y", "registry \"x.-com\""),
        ("a.com:/y", "registry \"a.com:\""),
        ("a.com:5x/y", "registry \"a.com:5x\""),
        ("[::1/x", "registry"),
        ("[::1]5000/x", "registry"),
        ("[fe80::1%eth0]/x", "registry"),
        ("2001:db8::1/x", "registry"),
        ("http://a.com/x", "registry \"http:\""),
        ("x:", "tag \"\""),
        ("x:-a", "tag \"-a\""),
        ("x:a/b", "registry"),
        ("y/x:a/b", "tag \"a/b\""),
        ("x@sha256:abc", "digest \"sha256:abc\""),
        ("x@", "digest \"\""),
        ("x@md5:d41d8cd98f00b204e9800998ecf8427e", "digest"),
        (long.as_str(), "characters, at most 255"),
        (tag.as_str(), "129 characters"),
        (&DIGEST[7..], "image id"),
    ] {
        let error = Reference::parse(input).unwrap_err().to_string();
        assert!(error.contains(part), "{input:?}: {error}");
    }
}

#[test]
fn retags() {
    let reference = Reference::parse(&format!("a.b/c@{DIGEST}")).unwrap();
    assert_eq!(reference.with_tag("v2").unwrap().to_string(), "a.b/c:v2");
    assert!(reference.with_tag("a b").is_err());
}

proptest! {
    #[test]
    fn never_panics(input in "\\PC{0,300}") {
        let _ = Reference::parse(&input);
    }

    #[test]
    fn both_forms_parse_back(
        host in prop_oneof![Just("docker.io/".to_owned()), "[a-z]{1,5}(-[a-z]{1,3})?\\.[a-zA-Z]{2,3}(:[0-9]{1,5})?/", Just("localhost:1/".into()), Just("[::1]/".into())],
        path in "[a-z0-9]{1,6}((\\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}(/[a-z0-9]{1,6}){0,3}",
        tag in proptest::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}"),
        pinned in any::<bool>(),
    ) {
        let mut input = format!("{host}{path}");
        if let Some(tag) = &tag { input += &format!(":{tag}"); }
        if pinned { input += &format!("@{DIGEST}"); }
        let reference = Reference::parse(&input).unwrap();
        prop_assert_eq!(&Reference::parse(&reference.to_string()).unwrap(), &reference);
        prop_assert_eq!(&Reference::parse(&reference.familiar()).unwrap(), &reference);
        prop_assert_eq!(reference.digest().is_some(), pinned);
    }
}
