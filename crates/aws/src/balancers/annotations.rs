//! Annotations of services, `service.beta.kubernetes.io/aws-load-balancer-*`, read one by one.

use std::collections::{BTreeMap, BTreeSet};

use cpi::contract::Service;

/// What all of them begin with.
const PREFIX: &str = "service.beta.kubernetes.io/aws-load-balancer-";
/// As much of a value is repeated, in characters.
const SHOWN: usize = 64;

/// A service's annotations for us.
pub(super) struct Annotations<'a> {
    all: BTreeMap<&'a str, &'a str>,
    asked: BTreeSet<&'static str>,
}

impl<'a> Annotations<'a> {
    pub(super) fn of(service: &'a Service) -> Self {
        let all = service.metadata.annotations.iter().flatten();
        let ours = all.filter_map(|(key, value)| Some((key.strip_prefix(PREFIX)?, value.trim())));
        Self { all: ours.collect(), asked: BTreeSet::new() }
    }

    /// One, if it is there and says something.
    pub(super) fn text(&mut self, name: &'static str) -> Option<&'a str> {
        self.asked.insert(name);
        self.all.get(name).copied().filter(|value| !value.is_empty())
    }

    /// What is wrong with one.
    pub(super) fn wrong(&self, name: &str, why: &str) -> String {
        let value = self.all.get(name).copied().unwrap_or_default();
        let shown: String = value.chars().take(SHOWN).collect();
        format!("annotation {PREFIX}{name}: {shown:?} {why}")
    }

    /// One that is true or false.
    pub(super) fn boolean(&mut self, name: &'static str) -> Result<Option<bool>, String> {
        match self.text(name) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(self.wrong(name, "is neither true nor false")),
        }
    }

    /// One of several words.
    pub(super) fn word(
        &mut self,
        name: &'static str,
        words: &[&'static str],
    ) -> Result<Option<&'static str>, String> {
        let Some(value) = self.text(name) else { return Ok(None) };
        match words.iter().find(|word| word.eq_ignore_ascii_case(value)) {
            Some(word) => Ok(Some(word)),
            None => Err(self.wrong(name, &format!("is none of {}", words.join(", ")))),
        }
    }

    /// A number within bounds.
    pub(super) fn number(
        &mut self,
        name: &'static str,
        least: u16,
        most: u16,
    ) -> Result<Option<u16>, String> {
        let Some(value) = self.text(name) else { return Ok(None) };
        match value.parse().ok().filter(|number| (least..=most).contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(self.wrong(name, &format!("is no number of {least} to {most}"))),
        }
    }

    /// A list with commas.
    pub(super) fn list(&mut self, name: &'static str) -> Vec<&'a str> {
        let text = self.text(name).unwrap_or_default();
        text.split(',').map(str::trim).filter(|one| !one.is_empty()).collect()
    }

    /// A list of `key=value` with commas.
    pub(super) fn pairs(&mut self, name: &'static str) -> Result<BTreeMap<String, String>, String> {
        let mut all = BTreeMap::new();
        for one in self.list(name) {
            let (key, value) = one.split_once('=').unwrap_or((one, ""));
            let key = key.trim();
            if key.is_empty() {
                return Err(self.wrong(name, "has a part without a key; write it as key=value,other=value"));
            }
            all.insert(key.to_owned(), value.trim().to_owned());
        }
        Ok(all)
    }

    /// Comes last: whether there are any that nobody has asked for.
    pub(super) fn done(self) -> Result<(), String> {
        match self.all.keys().find(|name| !self.asked.contains(*name)) {
            Some(name) => Err(format!(
                "annotation {PREFIX}{name}: is not supported; remove it (docs/aws.md lists those that are)"
            )),
            None => Ok(()),
        }
    }
}
