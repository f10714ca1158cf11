use super::Family;
use super::datatype::{Field, Target, concatenation, field_lengths, length};
use super::expression::{Expression, Verdict, put_value, put_verdict};
use super::uapi::*;
use crate::Result;
use crate::netlink::uapi::{NFNL_SUBSYS_NFTABLES, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};
use crate::netlink::{Batch, Message, Socket};

/// Changes that happen all at once or not at all.
#[derive(Debug)]
pub struct Transaction {
    batch: Batch,
    sets: u32,
}

/// A chain to be made.
#[derive(Debug, Clone, Copy)]
pub struct Chain<'a> {
    /// Its name.
    pub name: &'a str,
    /// Where packets enter it; none for a chain that others jump to.
    pub base: Option<Base>,
}

/// How a chain hangs in the packet path.
#[derive(Debug, Clone, Copy)]
pub struct Base {
    /// "filter", "nat" or "route".
    pub kind: &'static str,
    /// Where.
    pub hook: Hook,
    /// In which order: -300 raw, -100 dstnat, 0 filter, 100 srcnat.
    pub priority: i32,
    /// What becomes of packets at its end: true for accept.
    pub accept: bool,
}

/// The places in the packet path (inet families).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Before routing.
    Prerouting,
    /// To this machine.
    Input,
    /// Through this machine.
    Forward,
    /// From this machine.
    Output,
    /// About to leave.
    Postrouting,
}

/// A set or map to be made.
#[derive(Debug, Clone, Copy)]
pub struct Set<'a> {
    /// Its name.
    pub name: &'a str,
    /// The fields of its key.
    pub key: &'a [Field],
    /// What elements lead to: a map if given.
    pub target: Option<Target<'a>>,
    /// Keys are ranges, field by field. Needs a key of two fields or more.
    pub interval: bool,
}

/// An element of a set or map.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Element {
    /// Its key; of an interval the first key.
    pub key: Vec<u8>,
    /// Of an interval the last key.
    pub key_end: Option<Vec<u8>>,
    /// The value it leads to, in a map of values.
    pub value: Option<Vec<u8>>,
    /// Words for people, shown by `nft list`: at most 127 bytes.
    pub comment: Option<String>,
}

impl Element {
    /// Its comment names `holder` (as far as a comment reaches).
    pub fn is_held_by(&self, holder: &str) -> bool {
        self.comment.as_deref() == Some(cut(holder))
    }
}

impl Default for Transaction {
    fn default() -> Self {
        Self::new()
    }
}

/// `struct nfgenmsg`.
pub(super) fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

impl Transaction {
    /// No change yet.
    pub fn new() -> Self {
        let mut batch = Batch::new();
        batch.message(
            NFNL_MSG_BATCH_BEGIN,
            0,
            &header(0, NFNL_SUBSYS_NFTABLES),
            "begin",
            "an nftables transaction",
        );
        Self { batch, sets: 0 }
    }

    fn message(
        &mut self,
        kind: u16,
        flags: u16,
        family: Family,
        verb: &'static str,
        object: String,
    ) -> Message<'_> {
        self.batch.message(kind, flags, &header(family.number(), 0), verb, object)
    }

    /// Makes a table if it is not there; with `new`, one that is there is an error (EEXIST).
    pub fn add_table(&mut self, family: Family, table: &str, new: bool, comment: Option<&str>) {
        let flags = NLM_F_CREATE | if new { NLM_F_EXCL } else { 0 };
        self.new_table(flags, family, table, 0, comment);
    }

    /// Makes a table that belongs to the socket over which this is committed (Linux 5.12): nobody else can change it, no `flush ruleset` takes
    /// it along, and it goes, with all in it, when that socket is closed, however its process ends. One that is there is an error (EEXIST).
    pub fn add_owned_table(&mut self, family: Family, table: &str, comment: Option<&str>) {
        self.new_table(NLM_F_CREATE | NLM_F_EXCL, family, table, NFT_TABLE_F_OWNER, comment);
    }

    fn new_table(&mut self, flags: u16, family: Family, table: &str, marks: u32, comment: Option<&str>) {
        let object = format!("nftables table {family} {table}");
        let mut m = self.message(NEWTABLE, flags, family, "create", object);
        m.text(NFTA_TABLE_NAME, table);
        if marks != 0 {
            m.be32(NFTA_TABLE_FLAGS, marks);
        }
        if let Some(words) = comment {
            m.bytes(NFTA_TABLE_USERDATA, &userdata(words));
        }
    }

    /// Deletes a table and all in it; one that is not there is an error (ENOENT).
    pub fn delete_table(&mut self, family: Family, table: &str) {
        self.message(DELTABLE, 0, family, "delete", format!("nftables table {family} {table}"))
            .text(NFTA_TABLE_NAME, table);
    }

    /// Makes a table, empty, in place of what there may be of that name with all in it.
    pub fn remake_table(&mut self, family: Family, table: &str, comment: Option<&str>) {
        // What is deleted has to be there.
        self.add_table(family, table, false, None);
        self.delete_table(family, table);
        self.add_table(family, table, true, comment);
    }

    /// Makes a chain; one of that name stays.
    pub fn add_chain(&mut self, family: Family, table: &str, chain: &Chain<'_>) {
        self.new_chain(NLM_F_CREATE, family, table, chain);
    }

    /// Makes a chain; one of that name is an error (EEXIST).
    pub fn add_new_chain(&mut self, family: Family, table: &str, chain: &Chain<'_>) {
        self.new_chain(NLM_F_CREATE | NLM_F_EXCL, family, table, chain);
    }

    fn new_chain(&mut self, flags: u16, family: Family, table: &str, chain: &Chain<'_>) {
        let object = format!("nftables chain {family} {table} {}", chain.name);
        let mut m = self.message(NEWCHAIN, flags, family, "create", object);
        m.text(NFTA_CHAIN_TABLE, table).text(NFTA_CHAIN_NAME, chain.name);
        let Some(base) = chain.base else { return };
        let hook = match base.hook {
            Hook::Prerouting => 0,
            Hook::Input => 1,
            Hook::Forward => 2,
            Hook::Output => 3,
            Hook::Postrouting => 4,
        };
        m.text(NFTA_CHAIN_TYPE, base.kind)
            .nest(NFTA_CHAIN_HOOK, |m| {
                m.be32(NFTA_HOOK_HOOKNUM, hook).be32(NFTA_HOOK_PRIORITY, base.priority.cast_unsigned());
            })
            .be32(NFTA_CHAIN_POLICY, u32::from(base.accept));
    }

    /// Deletes a chain with its rules; one that packets are sent to from a rule or an element is refused (EBUSY).
    pub fn delete_chain(&mut self, family: Family, table: &str, chain: &str) {
        let object = format!("nftables chain {family} {table} {chain}");
        self.message(DELCHAIN, 0, family, "delete", object)
            .text(NFTA_CHAIN_TABLE, table)
            .text(NFTA_CHAIN_NAME, chain);
    }

    /// Appends a rule to a chain.
    pub fn add_rule(
        &mut self,
        family: Family,
        table: &str,
        chain: &str,
        rule: &[Expression<'_>],
        comment: Option<&str>,
    ) {
        let object = format!("rule of nftables chain {family} {table} {chain}");
        let mut m = self.message(NEWRULE, NLM_F_CREATE | NLM_F_APPEND, family, "add", object);
        m.text(NFTA_RULE_TABLE, table).text(NFTA_RULE_CHAIN, chain);
        m.nest(NFTA_RULE_EXPRESSIONS, |list| rule.iter().for_each(|expression| expression.write(list)));
        if let Some(words) = comment {
            m.bytes(NFTA_RULE_USERDATA, &userdata(words));
        }
    }

    /// Deletes all rules of a chain.
    pub fn flush_chain(&mut self, family: Family, table: &str, chain: &str) {
        let object = format!("rules of nftables chain {family} {table} {chain}");
        self.message(DELRULE, 0, family, "delete", object)
            .text(NFTA_RULE_TABLE, table)
            .text(NFTA_RULE_CHAIN, chain);
    }

    /// Makes a set or map.
    pub fn add_set(&mut self, family: Family, table: &str, set: &Set<'_>) {
        self.new_set(family, table, set, None);
    }

    /// Makes a set or map to which rules add elements ([`Expression::Update`]), `size` at most. Each has a time to live.
    pub fn add_dynamic_set(&mut self, family: Family, table: &str, set: &Set<'_>, size: u32) {
        self.new_set(family, table, set, Some(size));
    }

    fn new_set(&mut self, family: Family, table: &str, set: &Set<'_>, dynamic: Option<u32>) {
        self.sets += 1;
        let id = self.sets;
        let flags = if set.target.is_some() { NFT_SET_MAP } else { 0 }
            | if set.interval { NFT_SET_INTERVAL | NFT_SET_CONCAT } else { 0 }
            | if dynamic.is_some() { NFT_SET_TIMEOUT | NFT_SET_EVAL } else { 0 };
        let object = format!("nftables set {family} {table} {}", set.name);
        let mut m = self.message(NEWSET, NLM_F_CREATE, family, "create", object);
        m.text(NFTA_SET_TABLE, table).text(NFTA_SET_NAME, set.name).be32(NFTA_SET_FLAGS, flags);
        m.be32(NFTA_SET_KEY_TYPE, concatenation(set.key)).be32(NFTA_SET_KEY_LEN, length(set.key) as u32);
        if let Some(target) = set.target {
            m.be32(NFTA_SET_DATA_TYPE, target.id()).be32(NFTA_SET_DATA_LEN, target.length() as u32);
        }
        m.be32(NFTA_SET_ID, id);
        if let Some(size) = dynamic {
            m.nest(NFTA_SET_DESC, |m| {
                m.be32(NFTA_SET_DESC_SIZE, size);
            });
        }
        if set.interval {
            m.nest(NFTA_SET_DESC, |m| {
                m.nest(NFTA_SET_DESC_CONCAT, |m| {
                    for len in field_lengths(set.key) {
                        m.nest(NFTA_LIST_ELEM, |m| {
                            m.be32(NFTA_SET_FIELD_LEN, len as u32);
                        });
                    }
                });
            });
        }
    }

    /// Adds elements; with `new`, one whose key is there already is an error (EEXIST).
    pub fn add_elements(&mut self, family: Family, table: &str, set: &str, elements: &[Element], new: bool) {
        let flags = NLM_F_CREATE | if new { NLM_F_EXCL } else { 0 };
        self.elements(NEWSETELEM, flags, family, (table, set), "add", elements, None);
    }

    /// Adds elements of a verdict map.
    pub fn add_verdicts(
        &mut self,
        family: Family,
        table: &str,
        map: &str,
        elements: &[Element],
        verdict: Verdict<'_>,
    ) {
        self.elements(NEWSETELEM, NLM_F_CREATE, family, (table, map), "add", elements, Some(verdict));
    }

    /// Deletes elements by their keys; one that is not there is an error (ENOENT).
    pub fn delete_elements(&mut self, family: Family, table: &str, set: &str, elements: &[Element]) {
        self.elements(DELSETELEM, 0, family, (table, set), "delete", elements, None);
    }

    /// A message holds 64 kB at most: many elements take several.
    #[allow(clippy::too_many_arguments, reason = "private, and each is needed")]
    fn elements(
        &mut self,
        kind: u16,
        flags: u16,
        family: Family,
        (table, set): (&str, &str),
        verb: &'static str,
        elements: &[Element],
        verdict: Option<Verdict<'_>>,
    ) {
        for chunk in elements.chunks(100) {
            let object = format!("element of nftables set {family} {table} {set}");
            let mut m = self.message(kind, flags, family, verb, object);
            put_elements(&mut m, table, set, chunk, verdict);
        }
    }

    /// Makes all changes, or none and says which one was refused.
    pub fn commit(mut self, socket: &mut Socket) -> Result<()> {
        if self.batch.requests.len() < 2 {
            return Ok(());
        }
        self.batch.acknowledge_last();
        self.batch.message(
            NFNL_MSG_BATCH_END,
            0,
            &header(0, NFNL_SUBSYS_NFTABLES),
            "end",
            "an nftables transaction",
        );
        socket.transact(&self.batch)
    }
}

pub(super) fn put_elements(
    m: &mut Message<'_>,
    table: &str,
    set: &str,
    elements: &[Element],
    verdict: Option<Verdict<'_>>,
) {
    m.text(NFTA_SET_ELEM_LIST_TABLE, table).text(NFTA_SET_ELEM_LIST_SET, set);
    m.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |list| {
        for element in elements {
            list.nest(NFTA_LIST_ELEM, |m| put_element(m, element, verdict));
        }
    });
}

fn put_element(m: &mut Message<'_>, element: &Element, verdict: Option<Verdict<'_>>) {
    m.nest(NFTA_SET_ELEM_KEY, |m| put_value(m, &element.key));
    if let Some(end) = &element.key_end {
        m.nest(NFTA_SET_ELEM_KEY_END, |m| put_value(m, end));
    }
    if let Some(value) = &element.value {
        m.nest(NFTA_SET_ELEM_DATA, |m| put_value(m, value));
    }
    if let Some(verdict) = verdict {
        m.nest(NFTA_SET_ELEM_DATA, |m| put_verdict(m, verdict));
    }
    if let Some(words) = &element.comment {
        m.bytes(NFTA_SET_ELEM_USERDATA, &userdata(words));
    }
}

/// A comment in nft's own form: type 0, length, NUL-terminated text.
fn userdata(words: &str) -> Vec<u8> {
    let text = cut(words).as_bytes();
    let mut bytes = vec![0, (text.len() + 1) as u8];
    bytes.extend_from_slice(text);
    bytes.push(0);
    bytes
}

/// nft takes comments of 127 bytes.
fn cut(words: &str) -> &str {
    let fits = |(start, c): (usize, char)| Some(start + c.len_utf8()).filter(|end| *end <= 127);
    let end = words.char_indices().map_while(fits).last().unwrap_or(0);
    words.get(..end).unwrap_or_default()
}
