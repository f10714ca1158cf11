use rustix::io::Errno;

use super::Family;
use super::datatype::{Field, concatenation, offset_of};
use super::transaction::{Element, header, put_elements};
use super::uapi::*;
use crate::Result;
use crate::netlink::uapi::{NLM_F_ACK, NLM_F_DUMP};
use crate::netlink::{Attributes, Batch, Received, Socket};

/// A set as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetInfo {
    /// nft's number of its key's type.
    pub key_type: u32,
    /// Bytes of a key.
    pub key_len: usize,
    /// nft's number of the type its elements lead to; none for a set.
    pub data_type: Option<u32>,
}

impl SetInfo {
    /// If elements say where flows are sent (`... l4proto ... : address . port`): the key's offset of the protocol.
    pub(super) fn destination_map(&self) -> Option<usize> {
        let v4 = concatenation(&[Field::IPV4, Field::SERVICE]);
        let v6 = concatenation(&[Field::IPV6, Field::SERVICE]);
        self.data_type.filter(|t| *t == v4 || *t == v6)?;
        offset_of(self.key_type, Field::PROTOCOL)
    }
}

/// Describes a set; none if it, or its table, is not there.
pub fn set_info(socket: &mut Socket, family: Family, table: &str, set: &str) -> Result<Option<SetInfo>> {
    let mut batch = Batch::new();
    let object = format!("nftables set {family} {table} {set}");
    batch
        .question(GETSET, &header(family.number(), 0), "find", object)
        .text(NFTA_SET_TABLE, table)
        .text(NFTA_SET_NAME, set);
    let mut found = None;
    let outcome = socket.each(&batch, |message| found = read_set(message).or(found.take()));
    absent(outcome.map(|()| found))
}

fn read_set(message: Received<'_>) -> Option<SetInfo> {
    let attributes = Attributes::after(message.body, 4);
    let number = |kind| attributes.find(kind).and_then(|a| a.be32());
    (message.kind == NEWSET).then_some(())?;
    let (key_type, key_len) = (number(NFTA_SET_KEY_TYPE)?, number(NFTA_SET_KEY_LEN)?);
    Some(SetInfo { key_type, key_len: key_len as usize, data_type: number(NFTA_SET_DATA_TYPE) })
}

/// The maps of a table whose elements say where flows are sent: their names, and where in their keys the protocol is.
/// A table that is not there has none.
pub(super) fn maps(socket: &mut Socket, family: Family, table: &str) -> Result<Vec<(String, usize)>> {
    let mut batch = Batch::new();
    let object = format!("nftables sets of {family} {table}");
    batch
        .message(GETSET, NLM_F_DUMP, &header(family.number(), 0), "list", object)
        .text(NFTA_SET_TABLE, table);
    let found = socket.dump(&batch, |message| {
        let protocol_at = read_set(message)?.destination_map()?;
        let name = Attributes::after(message.body, 4).find(NFTA_SET_NAME)?;
        Some((name.text(), protocol_at))
    });
    Ok(absent(found.map(Some))?.unwrap_or_default())
}

/// The names of all tables of a family.
pub fn tables(socket: &mut Socket, family: Family) -> Result<Vec<String>> {
    let mut batch = Batch::new();
    let object = format!("nftables tables of family {family}");
    batch.message(GETTABLE, NLM_F_DUMP, &header(family.number(), 0), "list", object);
    socket.dump(&batch, |message| {
        let name = Attributes::after(message.body, 4).find(NFTA_TABLE_NAME);
        name.filter(|_| message.kind == NEWTABLE).map(|name| name.text())
    })
}

/// A table of that name is there.
pub fn table_exists(socket: &mut Socket, family: Family, table: &str) -> Result<bool> {
    let mut batch = Batch::new();
    batch
        .message(
            GETTABLE,
            NLM_F_ACK,
            &header(family.number(), 0),
            "find",
            format!("nftables table {family} {table}"),
        )
        .text(NFTA_TABLE_NAME, table);
    Ok(absent(socket.run(&batch).map(Some))?.is_some())
}

/// The element with the key of `wanted`; none if it, its set or its table is not there.
pub fn element(
    socket: &mut Socket,
    family: Family,
    table: &str,
    set: &str,
    wanted: &Element,
) -> Result<Option<Element>> {
    let mut batch = Batch::new();
    let object = format!("element of nftables set {family} {table} {set}");
    put_elements(
        &mut batch.question(GETSETELEM, &header(family.number(), 0), "find", object),
        table,
        set,
        std::slice::from_ref(wanted),
        None,
    );
    let mut found = Vec::new();
    let outcome = socket.each(&batch, |message| found.extend(read_elements(message)));
    Ok(absent(outcome.map(|()| Some(found)))?.and_then(|mut found| found.pop()))
}

/// All elements of a set.
pub fn elements(socket: &mut Socket, family: Family, table: &str, set: &str) -> Result<Vec<Element>> {
    let mut batch = Batch::new();
    let object = format!("elements of nftables set {family} {table} {set}");
    batch
        .message(GETSETELEM, NLM_F_DUMP, &header(family.number(), 0), "list", object)
        .text(NFTA_SET_ELEM_LIST_TABLE, table)
        .text(NFTA_SET_ELEM_LIST_SET, set);
    Ok(socket.dump(&batch, |message| Some(read_elements(message)))?.into_iter().flatten().collect())
}

/// The elements of a verdict map that lead to a chain: their keys, and the chain's name.
pub fn verdicts(
    socket: &mut Socket,
    family: Family,
    table: &str,
    map: &str,
) -> Result<Vec<(Vec<u8>, String)>> {
    let mut batch = Batch::new();
    let object = format!("elements of nftables map {family} {table} {map}");
    batch
        .message(GETSETELEM, NLM_F_DUMP, &header(family.number(), 0), "list", object)
        .text(NFTA_SET_ELEM_LIST_TABLE, table)
        .text(NFTA_SET_ELEM_LIST_SET, map);
    let found = socket.dump(&batch, |message| {
        let list = Attributes::after(message.body, 4).find(NFTA_SET_ELEM_LIST_ELEMENTS)?;
        let read = |attributes: Attributes<'_>| {
            let data = |kind| attributes.find(kind).map(|a| a.nested());
            let key = data(NFTA_SET_ELEM_KEY)?.find(NFTA_DATA_VALUE)?.value.to_vec();
            let verdict = data(NFTA_SET_ELEM_DATA)?.find(NFTA_DATA_VERDICT)?.nested();
            Some((key, verdict.find(NFTA_VERDICT_CHAIN)?.text()))
        };
        Some(list.nested().filter_map(|element| read(element.nested())).collect::<Vec<_>>())
    })?;
    Ok(found.into_iter().flatten().collect())
}

fn absent<T>(outcome: Result<Option<T>>) -> Result<Option<T>> {
    match outcome {
        Err(e) if e.errno() == Some(Errno::NOENT) => Ok(None),
        outcome => outcome,
    }
}

/// The elements in a message; none in any other.
pub(super) fn read_elements(message: Received<'_>) -> Vec<Element> {
    if message.kind != NEWSETELEM {
        return Vec::new();
    }
    let list = Attributes::after(message.body, 4).find(NFTA_SET_ELEM_LIST_ELEMENTS);
    list.map(|list| list.nested().filter_map(|element| read_element(element.nested())).collect())
        .unwrap_or_default()
}

fn read_element(attributes: Attributes<'_>) -> Option<Element> {
    let value = |kind| Some(attributes.find(kind)?.nested().find(NFTA_DATA_VALUE)?.value.to_vec());
    let comment = attributes.find(NFTA_SET_ELEM_USERDATA).and_then(|a| match a.value {
        [0, _, text @ ..] => Some(String::from_utf8_lossy(text).trim_end_matches('\0').to_owned()),
        _ => None,
    });
    Some(Element {
        key: value(NFTA_SET_ELEM_KEY)?,
        key_end: value(NFTA_SET_ELEM_KEY_END),
        value: value(NFTA_SET_ELEM_DATA),
        comment,
    })
}
