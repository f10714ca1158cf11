use super::{Kind, Kinds};
use crate::failure::{Failure, Result};

/// What words of a command line name: a kind, and one object or all of them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) kind: Kind,
    /// None for all.
    pub(crate) name: Option<String>,
}

/// Reads `pods`, `pods,services`, `pod web other`, `pod/web service/web`, `all`.
///
/// # Errors
/// No kind is called so, or the forms are mixed.
pub(crate) fn named(kinds: &Kinds, words: &[String]) -> Result<Vec<Named>> {
    let with_slash = words.iter().filter(|word| word.contains('/')).count();
    if with_slash > 0 && with_slash < words.len() {
        let word = words.iter().find(|word| !word.contains('/')).map_or("", String::as_str);
        return Err(Failure::new(format!(
            "cannot tell which kind {word:?} is of: give TYPE/NAME for each, or TYPE NAME..."
        )));
    }
    let mut all = Vec::new();
    if with_slash > 0 {
        for word in words {
            let (kind, name) = word.split_once('/').unwrap_or((word, ""));
            if name.is_empty() || name.contains('/') {
                return Err(Failure::new(format!("cannot read {word:?}: give TYPE/NAME")));
            }
            checked(name)?;
            all.extend(
                known(kinds, kind)?.into_iter().map(|kind| Named { kind, name: Some(name.to_owned()) }),
            );
        }
        return Ok(all);
    }
    let Some((types, names)) = words.split_first() else { return Ok(all) };
    names.iter().try_for_each(|name| checked(name))?;
    let mut found = Vec::new();
    for word in types.split(',').filter(|word| !word.is_empty()) {
        found.extend(known(kinds, word)?);
    }
    for kind in found {
        if names.is_empty() {
            all.push(Named { kind, name: None });
        } else {
            all.extend(names.iter().map(|name| Named { kind: kind.clone(), name: Some(name.clone()) }));
        }
    }
    Ok(all)
}

/// Whether a name stays one in a path: with none, or with what ends a path, all objects of the kind would be meant.
pub(super) fn checked(name: &str) -> Result<()> {
    if name.is_empty() || matches!(name, "." | "..") || name.contains(['/', '%', '?', '#']) {
        return Err(Failure::new(format!(
            "cannot use the name {name:?}: it is empty, or has `/`, `%`, `?` or `#` in it"
        )));
    }
    Ok(())
}

fn known(kinds: &Kinds, word: &str) -> Result<Vec<Kind>> {
    let found: Vec<Kind> = kinds.find(word).into_iter().cloned().collect();
    if found.is_empty() {
        return Err(Failure::new(format!("the server has no kind {word:?} (is its definition applied?)")));
    }
    Ok(found)
}
