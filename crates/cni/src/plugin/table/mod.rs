//! The nftables tables of an instance, one a family: made once, then only elements come and go.
//!
//! Each plugin describes what it has there in its own folder, as a [`Part`]; [`parts`] is the list of them. A table has a
//! chain without rules whose name is the number of its layout: one of an older version gets its chains and rules anew, in one
//! transaction, and keeps its elements.

mod held;
pub(super) mod packet;
mod part;

use std::collections::BTreeSet;
use std::error::Error as StdError;
use std::sync::{Mutex, PoisonError};

use kernel::Error as KernelError;
use kernel::netlink::{IpNet, Socket};
use kernel::nft::{self, Chain, ChainInfo, Element, Family, Transaction, Value};
use ledger::{Effect, Record};
use rustix::io::Errno;

pub(super) use held::Held;
pub(super) use part::{Part, Rule, base};

use crate::contract::{Error, Keys, hash};

/// Which version of [`parts`] this is: every change of a part that was released raises it. A set whose key or value is to be
/// another gets another name with that, for elements are kept as they are.
const LAYOUT: u32 = 3;
/// What the name of the chain begins with that tells a table's layout.
const MARKER: &str = "layout_";
/// How often a table is made while others change it underfoot.
const ATTEMPTS: usize = 8;

/// What all plugins have in the tables.
fn parts() -> Vec<Part> {
    let [firewall, firewall_of_bridges] = super::firewall::parts();
    let bridge = super::bridge::part();
    vec![super::portmap::part(), super::masquerade::part(), bridge, firewall, firewall_of_bridges]
}

fn parts_of(family: Family) -> impl Iterator<Item = Part> {
    parts().into_iter().filter(move |part| part.family == family)
}

/// The name of the shared effect that all are users of who are behind `link`: the link itself and elements for it are its
/// parts.
pub(super) fn behind(link: &str) -> String {
    format!("cni-behind-{}", hash(&["behind", link]))
}

/// An instance's table, by its name.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) name: String,
}

impl Default for Table {
    fn default() -> Self {
        Self { name: "sextant".into() }
    }
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
            None => return Ok(Self::default()),
        };
        Ok(Self { name: name.to_owned() })
    }

    /// The table's part in the name of a shared effect.
    pub(super) fn shared(&self, what: &str) -> String {
        format!("cni-{}-{what}", self.name)
    }

    /// Makes the table of `family`, or joins those who use it.
    pub(super) fn join(
        &self,
        family: Family,
        socket: &mut Socket,
        record: &mut dyn Record,
    ) -> Result<(), Error> {
        record.share(&self.shared_table(family), &mut |record| self.make_shared(family, socket, record))?;
        self.look_once(family, socket)
    }

    /// The same, for as long as there is somebody behind `link`.
    pub(super) fn join_behind(
        &self,
        link: &str,
        family: Family,
        socket: &mut Socket,
        record: &mut dyn Record,
    ) -> Result<(), Error> {
        let table = self.shared_table(family);
        record.share_part(&behind(link), &table, &mut |record| {
            Ok(record.share(&table, &mut |record| self.make_shared(family, socket, record))?)
        })?;
        self.look_once(family, socket)
    }

    fn shared_table(&self, family: Family) -> String {
        match family {
            Family::Inet => self.shared("table"),
            other => self.shared(&format!("table-{other}")),
        }
    }

    fn make_shared(
        &self,
        family: Family,
        socket: &mut Socket,
        record: &mut dyn Record,
    ) -> Result<(), Box<dyn StdError + Send + Sync>> {
        record.record(Effect::NftTable { family: family.to_string(), table: self.name.clone() })?;
        if record.counts_users() {
            // Nobody uses one that is there: it is of a life before.
            nft::delete_table(&family.to_string(), &self.name)?;
        }
        Ok(self.make(family, socket)?)
    }

    /// The table may have been made by an older version: looks once in the life of a process.
    fn look_once(&self, family: Family, socket: &mut Socket) -> Result<(), Error> {
        static SEEN: Mutex<BTreeSet<(u64, String)>> = Mutex::new(BTreeSet::new());
        let Some(netns) = socket.netns_cookie() else { return Ok(self.make(family, socket)?) };
        let seen = || SEEN.lock().unwrap_or_else(PoisonError::into_inner);
        let what = (netns, format!("{family} {}", self.name));
        if !seen().contains(&what) {
            self.make(family, socket)?;
            seen().insert(what);
        }
        Ok(())
    }

    /// Joins those whose traffic through `link` from `network` is in `set`.
    pub(super) fn join_network(
        &self,
        set: &'static str,
        link: &str,
        network: IpNet,
        socket: &mut Socket,
        record: &mut dyn Record,
    ) -> Result<(), Error> {
        self.join_element(&behind(link), self.network(set, link, network), socket, record)
    }

    /// The element of `set` for what comes through `link` from `network`.
    pub(super) fn network(&self, set: &'static str, link: &str, network: IpNet) -> Held {
        let key = |address| Value::new().ifname(link).address(address).into_bytes();
        let name = self.shared(&format!("{set}-{}", hash(&[link, &network.to_string()])));
        let mut held = Held::new(set, key(network.network().address()), &name);
        held.element.key_end = Some(key(network.last()));
        held
    }

    /// The element of `set` for `link` (and whatever follows it in `key`).
    pub(super) fn link(&self, set: &'static str, link: &str, key: Vec<u8>) -> Held {
        Held::new(set, key, &self.shared(&format!("{set}-{}", hash(&[link]))))
    }

    /// Joins those who share `shared`, of which an element is a part that none of them holds alone, and that is named by its
    /// comment: it goes with the last of them.
    pub(super) fn join_element(
        &self,
        shared: &str,
        held: Held,
        socket: &mut Socket,
        record: &mut dyn Record,
    ) -> Result<(), Error> {
        let Held { set, element, .. } = held;
        let name = element.comment.clone().unwrap_or_default();
        record.share_part(shared, &name, &mut |record| {
            for set in super::masquerade::layers(set) {
                record.record(Effect::NftElement {
                    family: Family::Inet.to_string(),
                    table: self.name.clone(),
                    set: set.into(),
                    key: [element.key.as_slice(), element.key_end.as_deref().unwrap_or_default()].concat(),
                    holder: name.clone(),
                    sent: None,
                })?;
                if self.put_interval(set, &element, socket)? {
                    break;
                }
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Adds an interval. The kernel takes none that meets another: false, then, and what overlaps is as one of them is.
    fn put_interval(
        &self,
        set: &'static str,
        element: &Element,
        socket: &mut Socket,
    ) -> Result<bool, KernelError> {
        let added = self.change(Family::Inet, socket, |change| {
            change.add_elements(Family::Inet, &self.name, set, std::slice::from_ref(element), false);
        });
        match added {
            Err(e) if e.errno() == Some(Errno::EXIST) => {
                let key = Element { value: None, comment: None, ..element.clone() };
                let there = nft::element(socket, Family::Inet, &self.name, set, &key)?;
                Ok(there.is_some_and(|there| (there.key, there.key_end) == (key.key, key.key_end)))
            }
            outcome => outcome.map(|()| true),
        }
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
            Err(e) if e.errno() == Some(Errno::NOENT) && !self.is_made(family, socket)? => {
                self.make(family, socket)?;
                attempt(socket)
            }
            outcome => outcome,
        }
    }

    /// Puts back what somebody took out of the tables: chains and rules where they are not whole, then the elements.
    pub(super) fn restore(&self, held: &[Held], socket: &mut Socket) -> Result<(), Error> {
        for family in held::families(held) {
            if !self.is_whole(family, socket)? {
                self.build(family, socket)?;
            }
        }
        let (intervals, others): (Vec<Held>, Vec<Held>) =
            held.iter().cloned().partition(|one| one.element.key_end.is_some());
        for Held { set, element, .. } in &intervals {
            for set in super::masquerade::layers(set) {
                if self.put_interval(set, element, socket)? {
                    break;
                }
            }
        }
        self.put(&others, false, socket)
    }

    /// All chains of ours have all their rules.
    fn is_whole(&self, family: Family, socket: &mut Socket) -> Result<bool, KernelError> {
        if !self.is_made(family, socket)? {
            return Ok(false);
        }
        let there = nft::rules(socket, family, &self.name)?;
        let whole = parts_of(family).all(|part| {
            let ours = |chain: &str| part.chains.iter().any(|ours| ours.name == chain);
            there.iter().filter(|rule| ours(&rule.chain)).count() == part.rules.len()
        });
        Ok(whole)
    }

    fn marker() -> String {
        format!("{MARKER}{LAYOUT}")
    }

    /// It is there, in this layout.
    fn is_made(&self, family: Family, socket: &mut Socket) -> Result<bool, KernelError> {
        nft::chain_exists(socket, family, &self.name, &Self::marker())
    }

    /// Makes the table if it is not there, and brings one of another layout up to date.
    fn make(&self, family: Family, socket: &mut Socket) -> Result<(), KernelError> {
        let mut outcome = Ok(());
        for _ in 0..ATTEMPTS {
            if self.is_made(family, socket)? {
                return Ok(());
            }
            outcome = self.build(family, socket);
            // Another was quicker.
            if !outcome.as_ref().is_err_and(|e| matches!(e.errno(), Some(Errno::EXIST | Errno::NOENT))) {
                break;
            }
        }
        outcome
    }

    /// Sets, chains and rules as they are to be, in one transaction; elements stay. A table of a later version is left as it
    /// is: it has the sets that this one knows.
    fn build(&self, family: Family, socket: &mut Socket) -> Result<(), KernelError> {
        let table = self.name.as_str();
        let mut there = nft::chains(socket)?;
        there.retain(|chain| chain.family == family && chain.table == table);
        let layout = |name: &str| name.strip_prefix(MARKER).and_then(|number| number.parse::<u32>().ok());
        if there.iter().any(|chain| layout(&chain.name).is_some_and(|number| number > LAYOUT)) {
            return Ok(());
        }
        let mut change = Transaction::new();
        change.add_table(family, table, false, Some("made by sextant; changes are overwritten"));
        // Rules that stand for elements stay as those do.
        let made_with_elements = |chain: &&ChainInfo| chain.name.starts_with(super::portmap::CONDITIONS);
        there.iter().filter(|chain| !made_with_elements(chain)).for_each(|chain| {
            change.flush_chain(family, table, &chain.name);
        });
        // Chains that packets are sent to stay: elements of maps may send them there.
        for chain in there.iter().filter(|chain| chain.base.is_some() || layout(&chain.name).is_some()) {
            change.delete_chain(family, table, &chain.name);
        }
        parts_of(family).for_each(|part| part.add_sets(table, &mut change));
        // New, or somebody else has made all this since it was looked at: then nothing of it happens.
        change.add_new_chain(family, table, &Chain { name: &Self::marker(), base: None });
        parts_of(family).for_each(|part| part.add_chains(table, &mut change));
        change.commit(socket)
    }
}

#[cfg(test)]
mod tests;
