//! The matcher against one that tries each match in turn.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
struct Request {
    method: String,
    path: String,
    query: Option<String>,
    headers: Vec<(String, String)>,
}

impl Head for Request {
    fn method(&self) -> &str {
        &self.method
    }
    fn path(&self) -> &str {
        &self.path
    }
    fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }
    fn any_header(&self, name: &str, is: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.headers.iter().any(|(found, value)| found == name && is(value.as_bytes()))
    }
}

fn get(path: &str) -> Request {
    Request { method: "GET".into(), path: path.into(), query: None, headers: Vec::new() }
}

/// Says the same in the plainest words.
fn naive(matches: &[HttpMatch], request: &Request) -> Option<usize> {
    let is = |value: &TextMatch, text: &str| match value {
        TextMatch::Exact(wanted) => wanted == text,
        TextMatch::Regex(pattern) => regex::Regex::new(pattern).expect("it is one").is_match(text),
    };
    matches.iter().position(|one| {
        let path = match &one.path {
            PathMatch::Exact(path) => *path == request.path,
            PathMatch::Prefix(prefix) => {
                let rest = request.path.strip_prefix(prefix.as_str());
                prefix.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            PathMatch::Regex(pattern) => {
                regex::Regex::new(pattern).expect("it is one").is_match(&request.path)
            }
        };
        let header = |pair: &Pair| {
            request.headers.iter().any(|(name, value)| *name == pair.name && is(&pair.value, value))
        };
        let parameter = |pair: &Pair| {
            let pairs = request.query.iter().flat_map(|query| query.split('&'));
            let mut pairs = pairs.map(|text| text.split_once('=').unwrap_or((text, "")));
            pairs.find(|(name, _)| *name == pair.name).is_some_and(|(_, value)| is(&pair.value, value))
        };
        path && (one.methods.is_empty() || one.methods.contains(&request.method))
            && one.headers.iter().all(header)
            && one.query.iter().all(parameter)
    })
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["", "a", "b", "aa", "ä"]), 0..5)
        .prop_map(|elements| format!("/{}", elements.join("/")))
}

fn text() -> impl Strategy<Value = TextMatch> {
    let pattern = |text: String| TextMatch::Regex(http::whole(&format!("{text}+")));
    prop_oneof!["[ab]{1,2}".prop_map(TextMatch::Exact), "[ab]{1,2}".prop_map(pattern)]
}

fn pairs() -> impl Strategy<Value = Vec<Pair>> {
    prop::collection::vec(("[xy]", text()).prop_map(|(name, value)| Pair { name, value }), 0..2)
}

fn one() -> impl Strategy<Value = HttpMatch> {
    let path = prop_oneof![
        path().prop_map(PathMatch::Exact),
        path().prop_map(|path| PathMatch::prefix(&path)),
        path().prop_map(|path| PathMatch::Regex(http::beginning(&path))),
        path().prop_map(|path| PathMatch::Regex(http::whole(&format!("{path}.*a")))),
    ];
    let methods = prop::sample::subsequence(vec!["GET".to_owned(), "POST".to_owned()], 0..=2);
    (path, methods, pairs(), pairs()).prop_map(|(path, methods, headers, query)| HttpMatch {
        path,
        methods,
        headers,
        query,
    })
}

fn request() -> impl Strategy<Value = Request> {
    let pairs = || prop::collection::vec(("[xy]", "[ab]{1,3}"), 0..3);
    (
        prop::sample::select(vec!["GET", "POST", "PUT"]),
        prop_oneof![path(), Just("*".into())],
        pairs(),
        pairs(),
    )
        .prop_map(|(method, path, headers, query)| {
            let query: Vec<String> =
                query.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
            Request {
                method: method.into(),
                path,
                query: (!query.is_empty()).then(|| query.join("&")),
                headers,
            }
        })
}

proptest! {
    #[test]
    fn the_first_match_that_fits_is_found(
        matches in prop::collection::vec(one(), 0..20),
        requests in prop::collection::vec(request(), 1..20),
    ) {
        let matcher = Matcher::new(&matches).expect("all patterns are right");
        for request in &requests {
            prop_assert_eq!(matcher.find(request), naive(&matches, request), "{:?}", request);
        }
    }
}

#[test]
fn prefixes_are_of_elements() {
    let matches = [HttpMatch { path: PathMatch::prefix("/v2/"), ..HttpMatch::default() }];
    let matcher = Matcher::new(&matches).expect("it is right");
    for (path, wanted) in
        [("/v2", true), ("/v2/", true), ("/v2/a", true), ("/v2a", false), ("/", false), ("*", false)]
    {
        assert_eq!(matcher.find(&get(path)).is_some(), wanted, "{path}");
    }
}

#[test]
fn parameters_are_matched_as_they_are_meant() {
    let pair = Pair { name: "q".into(), value: TextMatch::Exact("a b".into()) };
    let matcher =
        Matcher::new(&[HttpMatch { query: vec![pair], ..HttpMatch::default() }]).expect("it is right");
    for (query, wanted) in
        [("q=a+b", true), ("q=a%20b", true), ("%71=a%20b&q=x", true), ("q=x&q=a+b", false), ("", false)]
    {
        let request = Request { query: Some(query.into()), ..get("/") };
        assert_eq!(matcher.find(&request).is_some(), wanted, "{query}");
    }
}

#[test]
fn a_header_that_is_no_text_can_be_matched() {
    struct Raw;
    impl Head for Raw {
        fn method(&self) -> &str {
            "GET"
        }
        fn path(&self) -> &str {
            "/"
        }
        fn query(&self) -> Option<&str> {
            None
        }
        fn any_header(&self, name: &str, is: &mut dyn FnMut(&[u8]) -> bool) -> bool {
            name == "x" && is(b"a\xff")
        }
    }
    let with = |value| HttpMatch { headers: vec![Pair { name: "x".into(), value }], ..HttpMatch::default() };
    let matches = [with(TextMatch::Exact("a".into())), with(TextMatch::Regex("^a".into()))];
    assert_eq!(Matcher::new(&matches).expect("both are right").find(&Raw), Some(1));
}

#[test]
fn a_pattern_that_is_none_is_refused_with_its_place() {
    let matches =
        [HttpMatch::default(), HttpMatch { path: PathMatch::Regex("(".into()), ..HttpMatch::default() }];
    let error = Matcher::new(&matches).expect_err("it is none");
    assert_eq!((error.place, error.pattern.as_str()), (1, "("));
}
