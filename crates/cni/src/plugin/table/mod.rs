//! The nftables tables of an instance, one a family: made once, then only elements come and go.
//!
//! Each plugin describes what it has there in its own folder, as a [`Part`]; [`parts`] is the list of them.

mod held;
pub(super) mod packet;
mod part;

use kernel::Error as KernelError;
use kernel::netlink::{IpNet, Protocol, Socket};
use kernel::nft::{Element, Family, Transaction, Value, table_exists};
use ledger::{Effect, Record};
use rustix::io::Errno;

pub(super) use held::Held;
pub(super) use part::{Part, Rule, base};

use crate::contract::{Error, Keys, hash};

/// What all plugins have in the tables.
fn parts() -> Vec<Part> {
    let [firewall, firewall_of_bridges] = super::firewall::parts();
    vec![super::portmap::part(), super::masquerade::part(), firewall, firewall_of_bridges]
}

/// An instance's table, by its name.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) name: String,
}

impl Table {
    /// `sextant.table` of a configuration; `sextant` if it says nothing.
    pub(super) fn of(keys: &Keys<'_>) -> Result<Self, Error> {
        let own = keys.object("sextant")?;
        let name = match own.map(|own| Keys::new(own, "\"sextant\"")) {
            Some(own) => {
                let name = own.text("table")?.unwrap_or("sextant");
                let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
                if name.is_empty() || name.len() > 100 || !name.chars().all(plain) {
                    return Err(own.refuse("table", "a name of letters, digits, '_', '.' and '-'"));
                }
                name
            }
            None => "sextant",
        };
        Ok(Self { name: name.to_owned() })
    }

    /// The table's part in the name of a shared effect.
    pub(super) fn shared(&self, what: &str) -> String {
        format!("cni-{}-{what}", self.name)
    }

    /// Makes the table of `family`, or joins those who use it.
    pub(super) fn join(&self, family: Family, record: &mut dyn Record) -> Result<(), Error> {
        let shared = match family {
            Family::Inet => self.shared("table"),
            other => self.shared(&format!("table-{other}")),
        };
        record.share(&shared, &mut |record| {
            record.record(Effect::NftTable { family: family.to_string(), table: self.name.clone() })?;
            let mut socket = Socket::open(Protocol::Netfilter)?;
            if !record.counts_users() {
                return Ok(self.make(family, &mut socket)?);
            }
            let mut change = Transaction::new();
            // Nobody uses one that is there: it is of a life before.
            change.add_table(family, &self.name, false, None);
            change.delete_table(family, &self.name);
            self.build(family, &mut change);
            Ok(change.commit(&mut socket)?)
        })?;
        Ok(())
    }

    /// Joins those whose traffic through `link` from `network` is in `set`.
    pub(super) fn join_network(
        &self,
        set: &'static str,
        link: &str,
        network: IpNet,
        record: &mut dyn Record,
    ) -> Result<(), Error> {
        let name = self.shared(&format!("{set}-{}", hash(&[link, &network.to_string()])));
        let value = |address| Value::new().ifname(link).address(address).into_bytes();
        let (first, last) = (value(network.network().address()), value(network.last()));
        let element = Element { key: first, key_end: Some(last), ..Element::default() };
        self.join_element(set, element, name, record)
    }

    /// Joins those who want `link` (and whatever follows it in `key`) in `set`.
    pub(super) fn join_link(
        &self,
        set: &'static str,
        link: &str,
        key: Vec<u8>,
        record: &mut dyn Record,
    ) -> Result<(), Error> {
        let name = self.shared(&format!("{set}-{}", hash(&[link])));
        self.join_element(set, Element { key, ..Element::default() }, name, record)
    }

    /// Joins those who want an element that none of them holds alone: it goes with the last of them.
    fn join_element(
        &self,
        set: &'static str,
        element: Element,
        name: String,
        record: &mut dyn Record,
    ) -> Result<(), Error> {
        let element = Element { comment: Some(name.clone()), ..element };
        record.share(&name, &mut |record| {
            record.record(Effect::NftElement {
                family: Family::Inet.to_string(),
                table: self.name.clone(),
                set: set.into(),
                key: [element.key.as_slice(), element.key_end.as_deref().unwrap_or_default()].concat(),
                holder: name.clone(),
            })?;
            let mut socket = Socket::open(Protocol::Netfilter)?;
            self.change(Family::Inet, &mut socket, |change| {
                change.add_elements(Family::Inet, &self.name, set, std::slice::from_ref(&element), false);
            })?;
            Ok(())
        })?;
        Ok(())
    }

    /// Makes a change of elements. Somebody may have flushed the ruleset: then the table is made again, once.
    pub(super) fn change(
        &self,
        family: Family,
        socket: &mut Socket,
        build: impl Fn(&mut Transaction),
    ) -> Result<(), KernelError> {
        let attempt = |socket: &mut Socket| {
            let mut change = Transaction::new();
            build(&mut change);
            change.commit(socket)
        };
        match attempt(socket) {
            Err(e) if e.errno() == Some(Errno::NOENT) && !table_exists(socket, family, &self.name)? => {
                self.make(family, socket)?;
                attempt(socket)
            }
            outcome => outcome,
        }
    }

    /// Makes the table if it is not there.
    fn make(&self, family: Family, socket: &mut Socket) -> Result<(), KernelError> {
        if table_exists(socket, family, &self.name)? {
            return Ok(());
        }
        let mut change = Transaction::new();
        self.build(family, &mut change);
        match change.commit(socket) {
            // Another was quicker.
            Err(e) if e.errno() == Some(Errno::EXIST) => Ok(()),
            outcome => outcome,
        }
    }

    fn build(&self, family: Family, change: &mut Transaction) {
        let table = self.name.as_str();
        change.add_table(family, table, true, Some("made by sextant; changes are overwritten"));
        let parts: Vec<Part> = parts().into_iter().filter(|part| part.family == family).collect();
        parts.iter().for_each(|part| part.add_sets(table, change));
        parts.iter().for_each(|part| part.add_chains(table, change));
    }
}
