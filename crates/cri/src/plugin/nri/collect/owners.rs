//! Which plugin has set what: two that set the same do not know of each other.

use crate::contract::Error;
use crate::plugin::nri::wire::{Field, OwningPlugins};

/// A field, with its key where it has keys.
pub(super) type Claim<'a> = (Field, Option<&'a str>);

/// Who has set what so far.
#[derive(Debug, Default)]
pub(in crate::plugin::nri) struct Owners {
    pub(in crate::plugin::nri) wire: OwningPlugins,
}

impl Owners {
    fn owner(&self, container: &str, (field, key): Claim<'_>) -> Option<&str> {
        let fields = self.wire.owners.get(container)?;
        let owner = match key {
            Some(key) => fields.compound.get(&(field as i32))?.owners.get(key)?,
            None => fields.simple.get(&(field as i32))?,
        };
        Some(owner)
    }

    fn set(&mut self, container: &str, (field, key): Claim<'_>, owner: String) {
        let fields = self.wire.owners.entry(container.to_owned()).or_default();
        match key {
            Some(key) => {
                fields.compound.entry(field as i32).or_default().owners.insert(key.to_owned(), owner);
            }
            None => {
                fields.simple.insert(field as i32, owner);
            }
        }
    }

    /// All of `claims` are `plugin`'s from now on; none is if one is another's.
    pub(super) fn claim(&mut self, container: &str, claims: &[Claim<'_>], plugin: &str) -> Result<(), Error> {
        for claim in claims {
            let Some(owner) = self.owner(container, *claim) else { continue };
            // Whoever took it away may set it anew.
            let owner = owner.strip_prefix('-').unwrap_or(owner);
            if owner != plugin {
                let what = match claim {
                    (field, Some(key)) => format!("{field:?} {key:?}"),
                    (field, None) => format!("{field:?}"),
                };
                return Err(Error::internal(format!(
                    "NRI plugins {owner:?} and {plugin:?} both set {what} of container {container}: run one of them, or \
                     tell one to leave it"
                )));
            }
        }
        for claim in claims {
            self.set(container, *claim, plugin.to_owned());
        }
        Ok(())
    }

    /// What had been set is taken away by `plugin`, which alone may set it again.
    pub(super) fn clear(&mut self, container: &str, claim: Claim<'_>, plugin: &str) {
        self.set(container, claim, format!("-{plugin}"));
    }

    /// `plugin` is one of several owners.
    pub(super) fn share(&mut self, container: &str, claim: Claim<'_>, plugin: &str) {
        let owners = match self.owner(container, claim) {
            Some(owners) => format!("{owners},{plugin}"),
            None => plugin.to_owned(),
        };
        self.set(container, claim, owners);
    }
}
