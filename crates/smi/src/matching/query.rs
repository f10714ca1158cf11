//! Parameters of a query, as forms write them.

use std::borrow::Cow;

/// Whether the first parameter of this name has a value of which this is true. Gateway API says so: the others do not count.
pub(super) fn first(query: &str, name: &str, is: impl FnOnce(&[u8]) -> bool) -> bool {
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let found = pairs.find(|(key, _)| *key == name || *decoded(key) == *name.as_bytes());
    found.is_some_and(|(_, value)| is(&decoded(value)))
}

/// With `+` for a blank and `%` before two digits; what is none of these stands for itself.
fn decoded(text: &str) -> Cow<'_, [u8]> {
    let bytes = text.as_bytes();
    if !bytes.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(bytes);
    }
    let (mut out, mut rest) = (Vec::with_capacity(bytes.len()), bytes);
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        let escaped = match (byte, behind) {
            (b'%', [high, low, behind @ ..]) => {
                let digit =
                    |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                digit(high).zip(digit(low)).map(|(high, low)| (high * 16 + low, behind))
            }
            _ => None,
        };
        match escaped {
            Some((byte, behind)) => {
                out.push(byte);
                rest = behind;
            }
            None => out.push(if *byte == b'+' { b' ' } else { *byte }),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::{decoded, first};

    #[test]
    fn parameters_are_read_as_forms_write_them() {
        for (text, wanted) in
            [("a", "a"), ("a+b", "a b"), ("%61%2B", "a+"), ("%6", "%6"), ("%zz", "%zz"), ("%", "%")]
        {
            assert_eq!(&*decoded(text), wanted.as_bytes(), "{text}");
        }
    }

    #[test]
    fn of_parameters_with_one_name_the_first_counts() {
        assert!(first("a=1&b=2&a=3", "a", |value| value == b"1"));
        assert!(!first("a=1&b=2&a=3", "a", |value| value == b"3"));
        assert!(first("x&%61=", "a", <[u8]>::is_empty));
        assert!(!first("", "a", |_| true));
    }
}
