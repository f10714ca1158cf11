//! Selectors of labels as queries have them.

use kube::core::{Expression, Selector};

/// A selector as queries have it: `a=b,c!=d,e in (f,g),h,!i`.
///
/// # Errors
/// A text for people: it is none.
pub fn selector(text: &str) -> Result<Selector, String> {
    let mut depth = 0_u32;
    let parts = text.split(|letter| {
        depth = depth + u32::from(letter == '(') - u32::from(letter == ')' && depth > 0);
        letter == ',' && depth == 0
    });
    parts.map(str::trim).filter(|part| !part.is_empty()).map(expression).collect()
}

fn expression(part: &str) -> Result<Expression, String> {
    let set = |rest: &str| {
        let values = rest.trim().strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        values.map(|values| values.split(',').map(|value| value.trim().to_owned()).collect())
    };
    let plain = |text: &str| text.trim().to_owned();
    if let Some((key, values)) = part.split_once(" notin ").and_then(|(key, rest)| Some((key, set(rest)?))) {
        return Ok(Expression::NotIn(plain(key), values));
    }
    if let Some((key, values)) = part.split_once(" in ").and_then(|(key, rest)| Some((key, set(rest)?))) {
        return Ok(Expression::In(plain(key), values));
    }
    if let Some((key, value)) = part.split_once("!=") {
        return Ok(Expression::NotEqual(plain(key), plain(value)));
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Ok(Expression::Equal(plain(key), plain(value)));
    }
    if part.contains([' ', '(', ')']) {
        return Err(format!("unable to parse requirement: {part:?} is no requirement of labels"));
    }
    Ok(match part.strip_prefix('!') {
        Some(key) => Expression::DoesNotExist(plain(key)),
        None => Expression::Exists(plain(part)),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kube::core::SelectorExt as _;

    use super::*;

    #[test]
    fn selectors_are_read_as_queries_have_them() {
        let labels: BTreeMap<String, String> =
            [("app", "web"), ("tier", "a")].map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        for good in ["", "app=web", "app==web,tier in (a, b)", "app,!other", "tier notin (c),app!=db"] {
            assert!(selector(good).unwrap().matches(&labels), "{good}");
        }
        for bad in ["app=db", "tier in (b,c)", "other", "!app", "app=web,tier!=a"] {
            assert!(!selector(bad).unwrap().matches(&labels), "{bad}");
        }
        assert!(selector("a in b c").is_err());
    }
}
