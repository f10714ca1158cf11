//! `WWW-Authenticate` (RFC 9110, 11.6.1): schemes with parameters, several to a header.

use std::collections::BTreeMap;

/// More than any registry sends; a header that has more is not read further.
const PARAMETERS_MAX: usize = 64;

/// One challenge: what the server wants to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// Lower case: `bearer`, `basic`, ...
    pub scheme: String,
    /// `realm`, `service`, `scope`, ...; names in lower case.
    pub parameters: BTreeMap<String, String>,
}

impl Challenge {
    /// A parameter's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }
}

/// The challenges of one header; what does not fit the grammar is skipped.
pub fn parse_challenges(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = header;
    for _ in 0..PARAMETERS_MAX {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        let (word, after) = token(rest);
        if word.is_empty() {
            break;
        }
        match after.trim_start_matches([' ', '\t']).strip_prefix('=') {
            // `name=value` belongs to the scheme before it.
            Some(value) => {
                let (value, after) = parameter_value(value.trim_start_matches([' ', '\t']));
                if let Some(challenge) = challenges.last_mut() {
                    challenge.parameters.entry(word.to_ascii_lowercase()).or_insert(value);
                }
                rest = after;
            }
            None => {
                challenges.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: BTreeMap::new() });
                rest = after;
            }
        }
    }
    challenges
}

fn token(text: &str) -> (&str, &str) {
    let in_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    text.split_at(text.find(|c| !in_token(c)).unwrap_or(text.len()))
}

/// A token or a quoted string; an unquoted value may have more characters than the grammar gives it.
fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = text.split_at(text.find([',', ' ']).unwrap_or(text.len()));
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return (value, quoted.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_registries_send() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/x:pull,push""#;
        let [bearer] = parse_challenges(hub).try_into().unwrap();
        assert_eq!(bearer.scheme, "bearer");
        assert_eq!(bearer.get("scope"), Some("repository:library/x:pull,push"));
        let both = parse_challenges(
            r#"Basic realm="a \"b\"", charset=UTF-8, BEARER Realm=https://x/y , error="invalid_token""#,
        );
        assert_eq!((both[0].get("realm"), both[0].get("charset")), (Some("a \"b\""), Some("UTF-8")));
        assert_eq!((both[1].scheme.as_str(), both[1].get("realm")), ("bearer", Some("https://x/y")));
        assert_eq!(parse_challenges("Basic")[0].scheme, "basic");
        assert_eq!(parse_challenges("Negotiate, Basic realm=x").len(), 2);
        assert_eq!(parse_challenges("Basic realm=\"open").first().unwrap().get("realm"), Some("open"));
        assert!(parse_challenges("").is_empty() && parse_challenges("=x").is_empty());
    }

    proptest! {
        #[test]
        fn never_panics(header in "\\PC{0,200}") {
            parse_challenges(&header);
        }
    }
}
