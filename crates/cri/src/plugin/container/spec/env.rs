//! The environment: the runtime's own words, the image's, the configuration's; the last word about a name counts.

use oci_image::contract::ImageConfig;
use oci_runtime::default_spec;

use crate::contract::Error;
use crate::contract::v1::{ContainerConfig, KeyValue};

/// The environment; `HOME` is what the runtime adds where nobody names one.
pub(super) fn env(
    config: &ContainerConfig,
    image: &ImageConfig,
    hostname: &str,
) -> Result<Vec<String>, Error> {
    let mut env = Environment::default();
    env.set(default_spec::PATH.to_owned());
    if config.tty {
        env.set("TERM=xterm".to_owned());
    }
    env.set(format!("HOSTNAME={hostname}"));
    for word in &image.config.env {
        // A name without a value says nothing that a program could read.
        if word.contains('=') && !word.contains('\0') {
            env.set(word.clone());
        }
    }
    for (index, KeyValue { key, value }) in config.envs.iter().enumerate() {
        // config.json, by which a runtime gets it, is text.
        let value = std::str::from_utf8(value).map_err(|_| {
            let rule = "must be UTF-8, as all of a runtime's configuration: encode it, or mount it as a file";
            Error::invalid(format!("config.envs[{index}].value"), format!("of {key:?} {rule}"))
        })?;
        env.set(format!("{key}={value}"));
    }
    Ok(env.0)
}

/// Variables in the order in which their names came first.
#[derive(Default)]
pub(crate) struct Environment(pub(crate) Vec<String>);

impl Environment {
    /// Sets a variable by its `NAME=value`, in its old place if it has one.
    pub(crate) fn set(&mut self, word: String) {
        let name = |word: &str| word.split_once('=').map_or(word.len(), |(name, _)| name.len());
        let same = |old: &String| old[..name(old)] == word[..name(&word)];
        match self.0.iter().position(same) {
            Some(at) => self.0[at] = word,
            None => self.0.push(word),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::container::spec::tests::image;

    fn with(words: &[(&str, &[u8])], tty: bool) -> Result<Vec<String>, Error> {
        let envs = words.iter().map(|(k, v)| KeyValue { key: (*k).into(), value: v.to_vec() }).collect();
        let config = ContainerConfig { envs, tty, ..ContainerConfig::default() };
        let mut image = image();
        image.config.env = ["A=image", "PATH=/bin", "HOSTNAME=other", "NOTHING"].map(str::to_owned).to_vec();
        env(&config, &image, "pod")
    }

    #[test]
    fn later_words_replace_earlier_ones_in_place() {
        let env = with(&[("B", b"1"), ("A", b"mine=x"), ("B", b"2")], true).unwrap();
        assert_eq!(env, ["PATH=/bin", "TERM=xterm", "HOSTNAME=other", "A=mine=x", "B=2"]);
        assert!(!with(&[], false).unwrap().iter().any(|word| word.starts_with("TERM")));
    }

    #[test]
    fn what_is_no_text_is_refused() {
        let error = with(&[("A", b"x"), ("B", b"\xff")], false).unwrap_err();
        assert_eq!(error.field.as_deref(), Some("config.envs[1].value"));
    }
}
