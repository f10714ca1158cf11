//! Elements and who holds them: their comments say so.

use kernel::netlink::Socket;
use kernel::nft::{self, Element, Family, Transaction};
use ledger::{Effect, Record};
use rustix::io::Errno;

use super::Table;
use crate::contract::{Error, Holders};
use crate::plugin::portmap;

/// An element of one of the tables' sets and maps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::plugin) struct Held {
    pub(in crate::plugin) family: Family,
    pub(in crate::plugin) set: &'static str,
    pub(in crate::plugin) element: Element,
}

impl Held {
    /// An element of the table of family inet with this key, which `holder` holds.
    pub(in crate::plugin) fn new(set: &'static str, key: Vec<u8>, holder: &str) -> Self {
        let element = Element { key, comment: Some(holder.to_owned()), ..Element::default() };
        Self { family: Family::Inet, set, element }
    }

    pub(in crate::plugin) fn in_family(self, family: Family) -> Self {
        Self { family, ..self }
    }

    fn key_alone(&self) -> Element {
        let Element { key, key_end, .. } = &self.element;
        Element { key: key.clone(), key_end: key_end.clone(), ..Element::default() }
    }
}

/// The families of the tables that they are in.
pub(super) fn families(held: &[Held]) -> impl Iterator<Item = Family> {
    [Family::Inet, Family::Bridge].into_iter().filter(|family| held.iter().any(|one| one.family == *family))
}

impl Table {
    /// What is there under the key of `like`, whoever holds it.
    pub(in crate::plugin) fn find(&self, like: &Held, socket: &mut Socket) -> Result<Option<Element>, Error> {
        Ok(nft::element(socket, like.family, &self.name, like.set, &like.key_alone())?)
    }

    /// Those of `held` that are there and have the holder that they say.
    pub(in crate::plugin) fn of_those(
        &self,
        held: impl IntoIterator<Item = Held>,
        socket: &mut Socket,
    ) -> Result<Vec<Held>, Error> {
        let mut there = Vec::new();
        for one in held {
            let found = self.find(&one, socket)?.filter(|found| found.comment == one.element.comment);
            there.extend(found.map(|element| Held { element, ..one }));
        }
        Ok(there)
    }

    /// What is there under the keys of `held` and is another's: of a container that had the address or port before.
    pub(in crate::plugin) fn of_others<'a>(
        &self,
        held: impl IntoIterator<Item = &'a Held>,
        socket: &mut Socket,
    ) -> Result<Vec<Held>, Error> {
        let mut of_others = Vec::new();
        for one in held {
            let found = self.find(one, socket)?.filter(|found| found.comment != one.element.comment);
            of_others.extend(found.map(|element| Held { element, ..one.clone() }));
        }
        Ok(of_others)
    }

    /// All elements of `sets` whose comment `is` so: lists them. A set that is not there has none.
    pub(in crate::plugin) fn held(
        &self,
        sets: &[(Family, &'static str)],
        is: impl Fn(&Element) -> bool,
        socket: &mut Socket,
    ) -> Result<Vec<Held>, Error> {
        let mut held = Vec::new();
        for (family, set) in sets.iter().copied() {
            let there = match nft::elements(socket, family, &self.name, set) {
                Err(e) if e.errno() == Some(Errno::NOENT) => continue,
                there => there?,
            };
            held.extend(there.into_iter().filter(|e| is(e)).map(|element| Held { family, set, element }));
        }
        Ok(held)
    }

    /// Makes elements, each recorded before; one whose key is there is an error.
    pub(in crate::plugin) fn add(
        &self,
        held: &[Held],
        socket: &mut Socket,
        record: &mut dyn Record,
    ) -> Result<(), Error> {
        self.record(held, record)?;
        self.put(held, true, socket)
    }

    /// Makes elements without a record; with `new`, one whose key is there is an error.
    pub(in crate::plugin) fn put(&self, held: &[Held], new: bool, socket: &mut Socket) -> Result<(), Error> {
        for family in families(held) {
            self.change(family, socket, |change| {
                for Held { set, element, .. } in held.iter().filter(|one| one.family == family) {
                    change.add_elements(family, &self.name, set, std::slice::from_ref(element), new);
                }
            })?;
        }
        Ok(())
    }

    /// GC: the elements of `sets` whose holders are stale.
    pub(in crate::plugin) fn stale(
        &self,
        sets: &[(Family, &'static str)],
        holders: &Holders,
        socket: &mut Socket,
    ) -> Result<Vec<Held>, Error> {
        let is =
            |element: &Element| element.comment.as_deref().is_some_and(|holder| holders.is_stale(holder));
        self.held(sets, is, socket)
    }

    /// Writes down that `held` are about to be made.
    pub(in crate::plugin) fn record(&self, held: &[Held], record: &mut dyn Record) -> Result<(), Error> {
        held.iter().try_for_each(|one| record.record(self.effect(one)).map(drop))?;
        Ok(())
    }

    /// Says that `held` are gone, and all that they made with them.
    pub(in crate::plugin) fn undone(&self, held: &[Held], record: &mut dyn Record) -> Result<(), Error> {
        Ok(held.iter().try_for_each(|one| record.undone(&self.effect(one)))?)
    }

    fn effect(&self, held: &Held) -> Effect {
        let Held { family, set, element } = held;
        Effect::NftElement {
            family: family.to_string(),
            table: self.name.clone(),
            set: (*set).to_owned(),
            key: element.key.clone(),
            holder: element.comment.clone().unwrap_or_default(),
            sent: portmap::sent(held),
        }
    }

    /// Makes elements of one family. One whose key another holds is his no more: of a container that had the address before.
    pub(in crate::plugin) fn take_over(
        &self,
        family: Family,
        held: &[Held],
        socket: &mut Socket,
    ) -> Result<(), Error> {
        let add = |new: bool, socket: &mut Socket| {
            self.change(family, socket, |change| {
                for Held { set, element, .. } in held {
                    change.add_elements(family, &self.name, set, std::slice::from_ref(element), new);
                }
            })
        };
        match add(true, socket) {
            // Rarely, so that it is looked for only then.
            Err(e) if e.errno() == Some(Errno::EXIST) => {
                let of_others = self.of_others(held, socket)?;
                self.delete(&of_others, socket)?;
                Ok(add(false, socket)?)
            }
            outcome => Ok(outcome?),
        }
    }

    /// Deletes elements; those that are gone meanwhile count as done.
    pub(in crate::plugin) fn delete(&self, held: &[Held], socket: &mut Socket) -> Result<(), Error> {
        let delete = |held: &[Held], socket: &mut Socket| {
            let mut change = Transaction::new();
            for one in held {
                change.delete_elements(one.family, &self.name, one.set, &[one.key_alone()]);
            }
            match change.commit(socket) {
                Err(e) if e.errno() == Some(Errno::NOENT) => Ok(false),
                outcome => outcome.map(|()| true),
            }
        };
        if !delete(held, socket)? {
            for one in held {
                delete(std::slice::from_ref(one), socket)?;
            }
        }
        Ok(())
    }
}
