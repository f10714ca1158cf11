use kernel::netlink::Socket;
use kernel::nft::{self, Element, Family, Transaction};
use ledger::{Effect, Record};
use rustix::io::Errno;

use super::Table;
use crate::contract::Error;

/// An element and the set or map that it is in.
pub(in crate::plugin) type Held = (&'static str, Element);

impl Table {
    /// The element with this key.
    pub(in crate::plugin) fn find(
        &self,
        family: Family,
        set: &str,
        key: &[u8],
        socket: &mut Socket,
    ) -> Result<Option<Element>, Error> {
        self.find_like(family, set, &Element { key: key.to_vec(), ..Element::default() }, socket)
    }

    /// The element with the key (or the interval) of `wanted`.
    pub(in crate::plugin) fn find_like(
        &self,
        family: Family,
        set: &str,
        wanted: &Element,
        socket: &mut Socket,
    ) -> Result<Option<Element>, Error> {
        let wanted =
            Element { key: wanted.key.clone(), key_end: wanted.key_end.clone(), ..Element::default() };
        Ok(nft::element(socket, family, &self.name, set, &wanted)?)
    }

    /// The elements of `sets` whose holder is wanted: lists them.
    pub(in crate::plugin) fn held(
        &self,
        family: Family,
        sets: &[&'static str],
        wanted: impl Fn(&str) -> bool,
        socket: &mut Socket,
    ) -> Result<Vec<Held>, Error> {
        let mut held = Vec::new();
        for set in sets {
            match nft::elements(socket, family, &self.name, set) {
                Err(e) if e.errno() == Some(Errno::NOENT) => {}
                there => {
                    let of = |element: &Element| element.comment.as_deref().is_some_and(&wanted);
                    held.extend(there?.into_iter().filter(of).map(|element| (*set, element)));
                }
            }
        }
        Ok(held)
    }

    /// Adds elements of one holder, each recorded before; one whose key is there is an error.
    pub(in crate::plugin) fn add(
        &self,
        family: Family,
        elements: &[Held],
        socket: &mut Socket,
        record: &mut dyn Record,
    ) -> Result<(), Error> {
        for (set, element) in elements {
            record.record(Effect::NftElement {
                family: family.to_string(),
                table: self.name.clone(),
                set: (*set).into(),
                key: element.key.clone(),
                holder: element.comment.clone().unwrap_or_default(),
            })?;
        }
        self.put(family, elements, true, socket)
    }

    /// Adds elements without a record; with `new`, one whose key is there is an error.
    pub(in crate::plugin) fn put(
        &self,
        family: Family,
        elements: &[Held],
        new: bool,
        socket: &mut Socket,
    ) -> Result<(), Error> {
        Ok(self.change(family, socket, |change| {
            for (set, element) in elements {
                change.add_elements(family, &self.name, set, std::slice::from_ref(element), new);
            }
        })?)
    }

    /// Deletes elements; those that are gone meanwhile count as done.
    pub(in crate::plugin) fn delete(
        &self,
        family: Family,
        held: &[Held],
        socket: &mut Socket,
    ) -> Result<(), Error> {
        let delete = |held: &[Held], socket: &mut Socket| {
            let mut change = Transaction::new();
            for (set, element) in held {
                let key = Element { key: element.key.clone(), ..Element::default() };
                change.delete_elements(family, &self.name, set, &[key]);
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
