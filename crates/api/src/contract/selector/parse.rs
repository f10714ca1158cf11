//! The grammar of label selectors in queries.

use super::label::{Operator, Requirement, key_error};

type Result<T> = std::result::Result<T, String>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    End,
    Close,
    Comma,
    Not,
    DoubleEquals,
    Equals,
    Greater,
    Identifier,
    In,
    Less,
    NotEquals,
    NotIn,
    Open,
}

#[derive(Clone, Copy)]
struct Token<'a> {
    kind: Kind,
    text: &'a str,
}

const END: Token<'static> = Token { kind: Kind::End, text: "" };

/// The requirements of a selector, in the order written.
pub(super) fn requirements(text: &str) -> Result<Vec<Requirement>> {
    let mut parser = Parser { rest: text, ahead: None };
    let mut requirements = Vec::new();
    loop {
        let first = parser.peek();
        match first.kind {
            Kind::End => return Ok(requirements),
            Kind::Identifier | Kind::Not => {}
            _ => return Err(format!("found '{}', expected: !, identifier, or 'end of string'", first.text)),
        }
        let requirement = parser.requirement();
        requirements.push(requirement.map_err(|cause| format!("unable to parse requirement: {cause}"))?);
        let next = parser.next();
        match next.kind {
            Kind::End => return Ok(requirements),
            Kind::Comma => {
                let after = parser.peek();
                if !matches!(after.kind, Kind::Identifier | Kind::Not) {
                    return Err(format!("found '{}', expected: identifier after ','", after.text));
                }
            }
            _ => return Err(format!("found '{}', expected: ',' or 'end of string'", next.text)),
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
    ahead: Option<Token<'a>>,
}

impl<'a> Parser<'a> {
    /// The next token where a value (or key) may stand: there `in` and `notin` are names like any other.
    fn peek(&mut self) -> Token<'a> {
        as_value(self.look())
    }

    fn next(&mut self) -> Token<'a> {
        as_value(self.take())
    }

    fn look(&mut self) -> Token<'a> {
        if let Some(token) = self.ahead {
            return token;
        }
        let (token, rest) = token(self.rest);
        self.rest = rest;
        *self.ahead.insert(token)
    }

    fn take(&mut self) -> Token<'a> {
        let token = self.look();
        self.ahead = None;
        token
    }

    fn requirement(&mut self) -> Result<Requirement> {
        let mut token = self.next();
        let not = token.kind == Kind::Not;
        if not {
            token = self.next();
        }
        if token.kind != Kind::Identifier {
            return Err(format!("found '{}', expected: identifier", token.text));
        }
        let key = token.text;
        // Kubernetes looks at the key twice, here without a path, which its message shows as nil.
        if let Some(error) = key_error(key, "<nil>") {
            return Err(error.to_string());
        }
        if matches!(self.peek().kind, Kind::End | Kind::Comma) {
            let operator = if not { Operator::DoesNotExist } else { Operator::Exists };
            return Requirement::new(key, operator, Vec::new());
        }
        // A `!` before a comparison is read and, as in Kubernetes, means nothing.
        let operator = self.operator()?;
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => vec![self.exact_value()?],
        };
        Requirement::new(key, operator, values)
    }

    fn operator(&mut self) -> Result<Operator> {
        let token = self.take();
        Ok(match token.kind {
            Kind::In => Operator::In,
            Kind::NotIn => Operator::NotIn,
            Kind::Equals => Operator::Equals,
            Kind::DoubleEquals => Operator::DoubleEquals,
            Kind::NotEquals => Operator::NotEquals,
            Kind::Greater => Operator::GreaterThan,
            Kind::Less => Operator::LessThan,
            _ => return Err(format!("found '{}', expected: in, notin, =, ==, !=, gt, lt", token.text)),
        })
    }

    /// `(a,b)`, sorted and each once; a missing value between commas is the empty one.
    fn values(&mut self) -> Result<Vec<String>> {
        let open = self.next();
        if open.kind != Kind::Open {
            return Err(format!("found '{}' expected: '('", open.text));
        }
        let first = self.peek();
        let mut values = match first.kind {
            Kind::Close => vec![String::new()],
            Kind::Identifier | Kind::Comma => self.list()?,
            _ => return Err(format!("found '{}', expected: ',', ')' or identifier", first.text)),
        };
        self.next();
        values.sort_unstable();
        values.dedup();
        Ok(values)
    }

    /// What stands in the parentheses, up to the closing one.
    fn list(&mut self) -> Result<Vec<String>> {
        let mut values = Vec::new();
        loop {
            let token = self.next();
            let after = self.peek();
            match (token.kind, after.kind) {
                (Kind::Identifier, Kind::Comma) => values.push(token.text.to_owned()),
                (Kind::Identifier, Kind::Close) => {
                    values.push(token.text.to_owned());
                    return Ok(values);
                }
                (Kind::Identifier, _) => return Err(format!("found '{}', expected: ',' or ')'", after.text)),
                (Kind::Comma, _) => {
                    if values.is_empty() || matches!(after.kind, Kind::Close | Kind::Comma) {
                        values.push(String::new());
                    }
                    if after.kind == Kind::Close {
                        return Ok(values);
                    }
                }
                _ => return Err(format!("found '{}', expected: ',', or identifier", token.text)),
            }
        }
    }

    fn exact_value(&mut self) -> Result<String> {
        if matches!(self.peek().kind, Kind::End | Kind::Comma) {
            return Ok(String::new());
        }
        let token = self.next();
        match token.kind {
            Kind::Identifier => Ok(token.text.to_owned()),
            _ => Err(format!("found '{}', expected: identifier", token.text)),
        }
    }
}

fn as_value(token: Token<'_>) -> Token<'_> {
    match token.kind {
        Kind::In | Kind::NotIn => Token { kind: Kind::Identifier, ..token },
        _ => token,
    }
}

/// The first token and what follows it.
fn token(text: &str) -> (Token<'_>, &str) {
    let text = text.trim_start_matches([' ', '\t', '\r', '\n']);
    let Some(first) = text.bytes().next().filter(|byte| *byte != 0) else { return (END, "") };
    let (kind, length) = match (first, text.as_bytes().get(1)) {
        (b'=', Some(b'=')) => (Kind::DoubleEquals, 2),
        (b'!', Some(b'=')) => (Kind::NotEquals, 2),
        (b'=', _) => (Kind::Equals, 1),
        (b'!', _) => (Kind::Not, 1),
        (b'(', _) => (Kind::Open, 1),
        (b')', _) => (Kind::Close, 1),
        (b',', _) => (Kind::Comma, 1),
        (b'>', _) => (Kind::Greater, 1),
        (b'<', _) => (Kind::Less, 1),
        _ => {
            let ends = |byte: u8| b"=!(),>< \t\r\n\0".contains(&byte);
            let length = text.bytes().position(ends).unwrap_or(text.len());
            let kind = match &text[..length] {
                "in" => Kind::In,
                "notin" => Kind::NotIn,
                _ => Kind::Identifier,
            };
            (kind, length)
        }
    };
    let (token, rest) = text.split_at(length);
    (Token { kind, text: token }, rest)
}

#[cfg(test)]
mod tests {
    use super::super::LabelSelector;
    use proptest::prelude::*;

    #[test]
    fn errors_are_kubernetes_own() {
        for (selector, message) in [
            ("a===b", "unable to parse requirement: found '=', expected: identifier"),
            ("=a", "found '=', expected: !, identifier, or 'end of string'"),
            ("a,", "found '', expected: identifier after ','"),
            ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
            ("a in (=", "unable to parse requirement: found '=', expected: ',', ')' or identifier"),
            ("a in (,=", "unable to parse requirement: found '=', expected: ',', or identifier"),
            ("!", "unable to parse requirement: found '', expected: identifier"),
            (
                "n>x",
                "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, \
                 the value must be an integer",
            ),
            (
                "a/b/c",
                "unable to parse requirement: <nil>: Invalid value: \"a/b/c\": a valid label key must consist of \
                 alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. \
                 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
                 '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. \
                 'example.com/MyName')",
            ),
        ] {
            assert_eq!(LabelSelector::parse(selector).unwrap_err().message, message, "{selector}");
        }
    }

    proptest! {
        #[test]
        fn what_it_writes_it_reads(text in "[a-c!=(), <>in\0]{0,20}") {
            if let Ok(selector) = LabelSelector::parse(&text) {
                let again = LabelSelector::parse(&selector.to_string());
                prop_assert_eq!(again.map_err(|status| status.message), Ok(selector));
            }
        }
    }
}
