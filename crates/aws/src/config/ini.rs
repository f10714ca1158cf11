//! Files of sections: those that AWS' tools share, and the cloud's configuration, which is Git's kind of them.

/// The longest file that is read, in bytes.
pub(crate) const LONGEST: usize = 1 << 20;

/// Which kind of file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// AWS' `config` and `credentials`: what is indented belongs to the setting before it.
    Shared,
    /// Git's: values may be in quotes, and a setting without one is `true`.
    Git,
}

/// A section of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Section {
    /// Its first word.
    pub(crate) name: String,
    /// What follows: in quotes, or without.
    pub(crate) sub: String,
    /// Its settings, in order.
    pub(crate) settings: Vec<Setting>,
    /// Where it begins, counted from one.
    pub(crate) line: usize,
}

impl Section {
    /// The last setting of this name, if it is not empty.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.setting(key).map(|one| one.value.as_str())
    }

    /// The same, with its line.
    pub(crate) fn setting(&self, key: &str) -> Option<&Setting> {
        let found = self.settings.iter().rev().find(|one| one.key.eq_ignore_ascii_case(key));
        found.filter(|one| !one.value.is_empty())
    }
}

/// `key = value`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) key: String,
    pub(crate) value: String,
    /// Counted from one.
    pub(crate) line: usize,
}

/// Values may be secrets.
impl std::fmt::Debug for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setting").field("key", &self.key).field("line", &self.line).finish_non_exhaustive()
    }
}

/// Reads a file. Its values are not told in errors, as some are secrets.
///
/// # Errors
/// A text for people, with the line.
pub(crate) fn read(text: &str, kind: Kind) -> Result<Vec<Section>, String> {
    if text.len() > LONGEST {
        return Err(format!("it has {} bytes, {LONGEST} is the most", text.len()));
    }
    let mut sections: Vec<Section> = Vec::new();
    for (at, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let number = at + 1;
        let is_indented = line.starts_with([' ', '\t']);
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if line.starts_with('[') {
            let section = header(line)
                .ok_or_else(|| format!("line {number}: a section is written as [name] or [name \"more\"]"))?;
            sections.push(Section { line: number, ..section });
            continue;
        }
        let Some(section) = sections.last_mut() else {
            return Err(format!("line {number}: a setting stands before the first section"));
        };
        if kind == Kind::Shared && is_indented && !section.settings.is_empty() {
            continue;
        }
        let (key, value) = match (line.split_once('='), kind) {
            (Some((key, value)), Kind::Shared) => (key, plain(value).to_owned()),
            (Some((key, value)), Kind::Git) => {
                (key, quoted(value).ok_or_else(|| format!("line {number}: a quote is not closed"))?)
            }
            (None, Kind::Git) => (line, "true".to_owned()),
            (None, Kind::Shared) => {
                return Err(format!("line {number}: a setting is written as key = value"));
            }
        };
        let key = key.trim();
        if key.is_empty() || key.contains(char::is_whitespace) {
            return Err(format!("line {number}: a setting's name is one word"));
        }
        section.settings.push(Setting { key: key.into(), value, line: number });
    }
    Ok(sections)
}

fn header(line: &str) -> Option<Section> {
    let (inside, rest) = line.strip_prefix('[')?.split_once(']')?;
    let rest = rest.trim();
    if !rest.is_empty() && !rest.starts_with(['#', ';']) {
        return None;
    }
    let inside = inside.trim();
    let (name, sub) = inside.split_once(char::is_whitespace).unwrap_or((inside, ""));
    let sub = sub.trim();
    let sub = sub.strip_prefix('"').map_or(Some(sub), |sub| sub.strip_suffix('"'))?;
    (!name.is_empty()).then(|| Section { name: name.into(), sub: sub.into(), ..Section::default() })
}

/// A value of AWS' files: a comment in it begins behind a space.
fn plain(value: &str) -> &str {
    let end = [" #", "\t#", " ;", "\t;"].iter().filter_map(|mark| value.find(mark)).min();
    value.get(..end.unwrap_or(value.len())).unwrap_or_default().trim()
}

/// A value of Git's files; `None` where a quote is not closed.
fn quoted(value: &str) -> Option<String> {
    let (mut read, mut kept, mut is_within) = (String::new(), 0, false);
    let mut chars = value.trim().chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => is_within = !is_within,
            '\\' => match chars.next()? {
                'n' => read.push('\n'),
                't' => read.push('\t'),
                other => read.push(other),
            },
            '#' | ';' if !is_within => break,
            other => read.push(other),
        }
        if is_within || !c.is_whitespace() {
            kept = read.len();
        }
    }
    read.truncate(kept);
    (!is_within).then_some(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str, kind: Kind) -> Vec<(String, String)> {
        let sections = read(text, kind).unwrap();
        sections.into_iter().flat_map(|s| s.settings).map(|one| (one.key, one.value)).collect()
    }

    fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
        all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn shared_files() {
        let text = "# one\n[profile a b] ; x\r\nregion = eu-1\r\naws_secret_access_key = a#b=c # comment\ns3 =\n  max = 1\n\nq=\n";
        let sections = read(text, Kind::Shared).unwrap();
        assert_eq!((sections[0].name.as_str(), sections[0].sub.as_str()), ("profile", "a b"));
        let want = [("region", "eu-1"), ("aws_secret_access_key", "a#b=c"), ("s3", ""), ("q", "")];
        assert_eq!(settings(text, Kind::Shared), pairs(&want));
        assert_eq!((sections[0].get("REGION"), sections[0].get("q")), (Some("eu-1"), None));
        assert!(!format!("{sections:?}").contains("a#b=c"), "a secret is shown");
    }

    #[test]
    fn files_of_gits_kind() {
        let text = "[Global]\n  Zone = \"a \\\"b\\\" #c\" ; d\n  On\n x = a b  ; c\n[ServiceOverride \"1\"]\nURL=http://[::1]:5 # e\n";
        let want = [("Zone", "a \"b\" #c"), ("On", "true"), ("x", "a b"), ("URL", "http://[::1]:5")];
        assert_eq!(settings(text, Kind::Git), pairs(&want));
        let sections = read(text, Kind::Git).unwrap();
        assert_eq!((sections[1].sub.as_str(), sections[0].line, sections[1].line), ("1", 1, 5));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, kind, line) in [
            ("a = 1", Kind::Git, "line 1"),
            ("[a\n", Kind::Git, "line 1"),
            ("[]\n", Kind::Git, "line 1"),
            ("[a] b\n", Kind::Git, "line 1"),
            ("[a]\nb = \"c\n", Kind::Git, "line 2"),
            ("[a]\n\nb c = d\n", Kind::Git, "line 3"),
            ("[a]\nsecret\n", Kind::Shared, "line 2"),
            ("[a]\n= x\n", Kind::Shared, "line 2"),
        ] {
            let error = read(text, kind).unwrap_err();
            assert!(error.starts_with(line), "{text:?}: {error}");
        }
        assert!(read(&"x".repeat(LONGEST + 1), Kind::Git).unwrap_err().contains("is the most"));
    }
}
