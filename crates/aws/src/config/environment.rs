//! The environment, and the files that it names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::ini::{self, Kind, Section};

/// Variables of the environment that count here: `AWS_*` and `HOME`. Their values may be secrets, and are not shown.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(all: I) -> Self {
        let all = all.into_iter().map(|(key, value)| (key.into(), value.into()));
        Self(all.filter(|(key, _)| key.starts_with("AWS_") || key == "HOME").collect())
    }
}

impl Environment {
    /// This process' own.
    #[must_use]
    pub fn of_process() -> Self {
        std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    /// A variable, if it is set and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// Whether a variable says yes.
    pub(crate) fn says(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// The profile that is used, and whether somebody has asked for it.
    pub(crate) fn profile(&self) -> (&str, bool) {
        match self.get("AWS_PROFILE") {
            Some(name) => (name, true),
            None => ("default", false),
        }
    }

    fn shared(&self, variable: &str, name: &str) -> Option<PathBuf> {
        let named = self.get(variable).map(PathBuf::from);
        named.or_else(|| Some(Path::new(self.get("HOME")?).join(".aws").join(name)))
    }

    /// All settings of a profile, from both of AWS' files; `None` where neither has it. What `credentials` says goes before.
    ///
    /// # Errors
    /// One of the files cannot be read, or is wrong; one that is not there has nothing.
    pub(crate) fn settings(&self, profile: &str) -> Result<Option<Section>, String> {
        let mut merged: Option<Section> = None;
        let files =
            [("AWS_CONFIG_FILE", "config", true), ("AWS_SHARED_CREDENTIALS_FILE", "credentials", false)];
        for (variable, name, is_config) in files {
            let Some(path) = self.shared(variable, name) else { continue };
            if !path.exists() {
                continue;
            }
            let wrong = |why: String| format!("cannot use {}: {why}", path.display());
            for section in ini::read(&text(&path).map_err(wrong)?, Kind::Shared).map_err(wrong)? {
                let is_it = if is_config && section.name == "profile" {
                    section.sub == profile
                } else {
                    let whole = format!("{} {}", section.name, section.sub);
                    whole.trim_end() == profile && (!is_config || profile == "default")
                };
                if is_it {
                    merged.get_or_insert_default().settings.extend(section.settings);
                }
            }
        }
        Ok(merged)
    }
}

/// A file's text, if it is not too long.
pub(super) fn text(path: &Path) -> Result<String, String> {
    use std::io::Read as _;
    let file = std::fs::File::open(path).map_err(|e| e.to_string())?;
    let mut text = String::new();
    let most = ini::LONGEST as u64 + 1;
    file.take(most).read_to_string(&mut text).map_err(|e| e.to_string())?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_of_both_files() {
        let dir = tempfile::tempdir().unwrap();
        let (config, credentials) = (dir.path().join("c"), dir.path().join("s"));
        std::fs::write(
            &config,
            "[default]\nregion = a-b-1\n[profile x]\nregion = x-y-2\naws_access_key_id = C\n[x]\nregion = no\n",
        )
        .unwrap();
        std::fs::write(&credentials, "[x]\naws_access_key_id = K\naws_secret_access_key = S\n").unwrap();
        let all: Environment = [
            ("AWS_CONFIG_FILE", config.to_str().unwrap()),
            ("AWS_SHARED_CREDENTIALS_FILE", credentials.to_str().unwrap()),
            ("PATH", "/bin"),
        ]
        .into_iter()
        .collect();
        assert_eq!(all.get("PATH"), None);
        let x = all.settings("x").unwrap().unwrap();
        assert_eq!((x.get("region"), x.get("aws_access_key_id")), (Some("x-y-2"), Some("K")));
        assert_eq!(all.settings("default").unwrap().unwrap().get("region"), Some("a-b-1"));
        assert_eq!(all.settings("y").unwrap(), None);
        assert!(!format!("{all:?}").contains(config.to_str().unwrap()));
        std::fs::write(&credentials, "nonsense").unwrap();
        let error = all.settings("x").unwrap_err();
        assert!(error.contains("line 1") && error.contains(credentials.to_str().unwrap()), "{error}");
    }
}
