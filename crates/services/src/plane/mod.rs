//! Makes plans true in the kernel: the difference between what is in the table and what is to be, in one transaction. Chains that it
//! needs, and that are not there, come in one before it.

mod books;
mod flows;
mod networks;

use std::collections::{BTreeMap, BTreeSet};

use client::cache::Name;
use kernel::netlink::{Protocol, Socket};
use kernel::nft::{self, Element, Family, Transaction, Verdict};

use crate::plan::Plan;
use crate::table::{self, Held, Pick, Value};
use books::{Books, Key};
pub use networks::Networks;

/// The elements of each set and map, by their keys.
type Elements = BTreeMap<&'static str, BTreeMap<Vec<u8>, Value>>;

/// The table of an instance, as it is and as it is to be.
#[derive(Debug)]
pub struct Plane {
    table: String,
    socket: Socket,
    books: Books,
    networks: Networks,
    there: Elements,
    chains: BTreeSet<String>,
    state: State,
}

/// What is known of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// `there` is what is in it.
    Known,
    /// There is none.
    Absent,
    /// There is one that is to go as a whole.
    Foreign,
    /// Nothing.
    Unknown,
}

/// What a change did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changed {
    /// Elements that were added, or lead elsewhere now.
    pub added: usize,
    /// Elements that were deleted, those that lead elsewhere now among them.
    pub deleted: usize,
}

impl Plane {
    /// That of this table (family inet) in the caller's network namespace. Nothing is changed yet.
    ///
    /// # Errors
    /// The kernel gives no socket.
    pub fn open(table: impl Into<String>, networks: Networks) -> kernel::Result<Self> {
        Ok(Self {
            table: table.into(),
            socket: Socket::open(Protocol::Netfilter)?,
            books: Books::default(),
            networks,
            there: Elements::new(),
            chains: BTreeSet::new(),
            state: State::Unknown,
        })
    }

    /// The port of the socket by which it changes the table: what others delete is heard apart from that.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn port(&self) -> kernel::Result<u32> {
        self.socket.port()
    }

    /// Makes it so that these plans, and no others, are true. What is in the table already stays as it is.
    ///
    /// # Errors
    /// The kernel refuses. Then nothing has changed, and the next call of this or [`change`](Self::change) looks at all again.
    pub fn settle(&mut self, plans: impl IntoIterator<Item = (Name, Plan)>) -> kernel::Result<Changed> {
        self.books = Books::default();
        for (name, plan) in plans {
            self.books.enter(name, Some(plan));
        }
        self.state = State::Unknown;
        self.write()
    }

    /// Makes these plans true in place of those of the same names; one that is none is over.
    ///
    /// # Errors
    /// As [`settle`](Self::settle).
    pub fn change(
        &mut self,
        plans: impl IntoIterator<Item = (Name, Option<Plan>)>,
    ) -> kernel::Result<Changed> {
        for (name, plan) in plans {
            self.books.enter(name, plan);
        }
        self.write()
    }

    /// Says that the table may not be as this left it: the next change looks.
    pub fn distrust(&mut self) {
        self.state = State::Unknown;
    }

    /// Fronts that more than one Service claims: the front, who has it, and who waits for it.
    pub fn contested(&self) -> Vec<String> {
        self.books.contested()
    }

    fn write(&mut self) -> kernel::Result<Changed> {
        let outcome = self.make_so();
        if outcome.is_err() {
            self.state = State::Unknown;
        }
        outcome
    }

    fn make_so(&mut self) -> kernel::Result<Changed> {
        let whole = self.state != State::Known;
        if whole {
            self.read()?;
        }
        if self.networks.look(whole, self.books.addresses())? {
            self.books.enter_networks(self.networks.elements());
        }
        let touched = if whole { self.books.all(&self.there) } else { self.books.take_touched() };
        let (deleted, added) = self.difference(&touched);
        let done = Changed { added: added.len(), deleted: deleted.len() };
        self.commit(&deleted, &added)?;
        self.books.settled();
        let before = self.enter(&deleted, &added);
        flows::follow(&mut self.socket, &self.table, &before, &self.there, whole);
        Ok(done)
    }

    /// What is in the kernel and not wanted, and what is wanted and not in the kernel.
    fn difference(&self, touched: &BTreeSet<Key>) -> (Vec<Held>, Vec<Held>) {
        let (mut deleted, mut added) = (Vec::new(), Vec::new());
        for (set, key) in touched {
            let there = self.there.get(set).and_then(|elements| elements.get(key));
            let wanted = self.books.wanted(set, key);
            if there == wanted.as_ref().map(|held| &held.value) {
                continue;
            }
            if let Some(value) = there.filter(|_| self.state == State::Known) {
                let value = value.clone();
                deleted.push(Held { set, key: key.clone(), value, comment: None });
            }
            added.extend(wanted);
        }
        (deleted, added)
    }

    fn commit(&mut self, deleted: &[Held], added: &[Held]) -> kernel::Result<()> {
        let (table, family) = (self.table.as_str(), Family::Inet);
        let mut change = Transaction::new();
        if self.state == State::Foreign {
            change.delete_table(family, table);
        }
        if self.state != State::Known {
            table::make(&mut change, table);
        }
        let mut made = Vec::new();
        for pick in self.books.picks() {
            let name = pick.name();
            if !self.chains.contains(&name) && !made.contains(&name) {
                Pick::make(*pick, &mut change, table);
                made.push(name);
            }
        }
        if self.state == State::Known && !made.is_empty() {
            // A packet that is on its way through the rules finds new elements, but no rules of a chain that came with them: so
            // chains are there before anything leads to them.
            std::mem::replace(&mut change, Transaction::new()).commit(&mut self.socket)?;
        }
        for (set, held) in grouped(deleted, |held| held.set) {
            change.delete_elements(family, table, set, &elements(&held));
        }
        for ((set, chain), held) in grouped(added, |held| (held.set, chain(held))) {
            match chain {
                Some(chain) => {
                    change.add_verdicts(family, table, set, &elements(&held), Verdict::Goto(chain));
                }
                None => change.add_elements(family, table, set, &elements(&held), true),
            }
        }
        change.commit(&mut self.socket)?;
        self.chains.extend(made);
        self.state = State::Known;
        Ok(())
    }

    /// Keeps in mind what has changed; what was there before of the fronts that are concerned.
    fn enter(&mut self, deleted: &[Held], added: &[Held]) -> flows::Before {
        let before = flows::Before::of(&self.there, deleted.iter().chain(added));
        for held in deleted {
            self.there.entry(held.set).or_default().remove(&held.key);
        }
        for held in added {
            self.there.entry(held.set).or_default().insert(held.key.clone(), held.value.clone());
        }
        before
    }

    /// Reads what is in the table.
    fn read(&mut self) -> kernel::Result<()> {
        let (socket, table, family) = (&mut self.socket, self.table.as_str(), Family::Inet);
        self.there.clear();
        self.chains.clear();
        if !nft::table_exists(socket, family, table)? {
            self.state = State::Absent;
            return Ok(());
        }
        let chains = nft::chains(socket)?.into_iter();
        let mine = chains.filter(|chain| chain.family == family && chain.table == table);
        self.chains = mine.map(|chain| chain.name).collect();
        let rules = nft::rules(socket, family, table)?;
        // Somebody has flushed it, or another release has made it.
        let whole = self.chains.iter().all(|c| c == table::layout() || rules.iter().any(|r| r.chain == *c));
        if !self.chains.contains(table::layout()) || !whole {
            self.chains.clear();
            self.state = State::Foreign;
            return Ok(());
        }
        for (set, verdicts) in table::planned_sets() {
            let found = if verdicts {
                let found = nft::verdicts(socket, family, table, set)?;
                found.into_iter().map(|(key, chain)| (key, Value::Chain(chain))).collect()
            } else {
                nft::elements(socket, family, table, set)?.into_iter().map(value).collect()
            };
            self.there.insert(set, found);
        }
        self.state = State::Known;
        Ok(())
    }
}

fn value(element: Element) -> (Vec<u8>, Value) {
    let value = match (element.value, element.key_end) {
        (Some(target), _) => Value::Target(target),
        (None, Some(last)) => Value::Until(last),
        (None, None) => Value::Nothing,
    };
    (element.key, value)
}

fn chain(held: &Held) -> Option<&str> {
    match &held.value {
        Value::Chain(chain) => Some(chain),
        _ => None,
    }
}

fn elements(held: &[&Held]) -> Vec<Element> {
    held.iter().map(|held| held.element()).collect()
}

fn grouped<'a, K: Ord>(held: &'a [Held], by: impl Fn(&'a Held) -> K) -> BTreeMap<K, Vec<&'a Held>> {
    let mut groups: BTreeMap<K, Vec<&Held>> = BTreeMap::new();
    for one in held {
        groups.entry(by(one)).or_default().push(one);
    }
    groups
}
