//! Chains and rules as the kernel describes them, whoever made them.

use rustix::io::Errno;

use super::Family;
use super::expression::Count;
use super::transaction::header;
use super::uapi::*;
use crate::Result;
use crate::netlink::uapi::{NLM_F_ACK, NLM_F_DUMP};
use crate::netlink::{Attributes, Batch, Received, Socket};

/// A chain of any table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainInfo {
    /// The family of its table.
    pub family: Family,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Where packets enter it, if they do without being sent.
    pub base: Option<BaseInfo>,
}

/// How a chain hangs in the packet path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseInfo {
    /// "filter", "nat" or "route".
    pub kind: String,
    /// `NF_INET_*`: 2 is forward.
    pub hook: u32,
    /// In which order.
    pub priority: i32,
    /// What comes to its end is dropped.
    pub drops: bool,
}

impl BaseInfo {
    /// `NF_INET_FORWARD`.
    pub const FORWARD: u32 = 2;
}

/// What can be told of a rule without knowing each of its expressions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleInfo {
    /// Its chain.
    pub chain: String,
    /// It ends with "accept".
    pub accepts: bool,
    /// The constants that it compares something with (names of links, addresses, ...).
    pub compared: Vec<Vec<u8>>,
    /// What it has counted, if it counts.
    pub counted: Option<Count>,
}

/// All chains of all families that [`Family`] names.
pub fn chains(socket: &mut Socket) -> Result<Vec<ChainInfo>> {
    let mut batch = Batch::new();
    batch.message(GETCHAIN, NLM_F_DUMP, &header(0, 0), "list", "nftables chains");
    socket.dump(&batch, read_chain)
}

/// A chain of that name is there.
pub fn chain_exists(socket: &mut Socket, family: Family, table: &str, chain: &str) -> Result<bool> {
    let mut batch = Batch::new();
    let object = format!("nftables chain {family} {table} {chain}");
    batch
        .message(GETCHAIN, NLM_F_ACK, &header(family.number(), 0), "find", object)
        .text(NFTA_CHAIN_TABLE, table)
        .text(NFTA_CHAIN_NAME, chain);
    match socket.run(&batch) {
        Err(e) if e.errno() == Some(Errno::NOENT) => Ok(false),
        outcome => outcome.map(|()| true),
    }
}

/// All rules of a table; none if it is not there.
pub fn rules(socket: &mut Socket, family: Family, table: &str) -> Result<Vec<RuleInfo>> {
    let mut batch = Batch::new();
    let object = format!("rules of nftables table {family} {table}");
    batch
        .message(GETRULE, NLM_F_DUMP, &header(family.number(), 0), "list", object)
        .text(NFTA_RULE_TABLE, table);
    match socket.dump(&batch, RuleInfo::read) {
        Err(e) if e.errno() == Some(Errno::NOENT) => Ok(Vec::new()),
        outcome => outcome,
    }
}

fn read_chain(message: Received<'_>) -> Option<ChainInfo> {
    let attributes = Attributes::after(message.body, 4);
    let text = |kind| Some(attributes.find(kind)?.text());
    let base = attributes.find(NFTA_CHAIN_HOOK).and_then(|hook| {
        Some(BaseInfo {
            kind: text(NFTA_CHAIN_TYPE)?,
            hook: hook.nested().find(NFTA_HOOK_HOOKNUM)?.be32()?,
            priority: hook.nested().find(NFTA_HOOK_PRIORITY)?.be32()?.cast_signed(),
            drops: attributes.find(NFTA_CHAIN_POLICY).and_then(|a| a.be32()) == Some(NF_DROP.cast_unsigned()),
        })
    });
    (message.kind == NEWCHAIN).then_some(())?;
    Some(ChainInfo {
        family: Family::of_number(*message.body.first()?)?,
        table: text(NFTA_CHAIN_TABLE)?,
        name: text(NFTA_CHAIN_NAME)?,
        base,
    })
}

impl RuleInfo {
    /// The rule in a message; none in any other.
    pub fn read(message: Received<'_>) -> Option<Self> {
        (message.kind == NEWRULE).then_some(())?;
        let attributes = Attributes::after(message.body, 4);
        let chain = attributes.find(NFTA_RULE_CHAIN)?.text();
        let mut rule = Self { chain, accepts: false, compared: Vec::new(), counted: None };
        let expressions = attributes.find(NFTA_RULE_EXPRESSIONS).map(|list| list.nested());
        for expression in expressions.into_iter().flatten() {
            let name = expression.nested().find(NFTA_EXPR_NAME).map(|name| name.text());
            let Some(data) = expression.nested().find(NFTA_EXPR_DATA) else { continue };
            match name.as_deref() {
                Some("cmp") => {
                    let value = data.nested().find(NFTA_CMP_DATA);
                    let value = value.and_then(|data| data.nested().find(NFTA_DATA_VALUE));
                    rule.compared.extend(value.map(|value| value.value.to_vec()));
                }
                Some("immediate") => {
                    let verdict = data.nested().find(NFTA_IMMEDIATE_DATA);
                    let verdict = verdict.and_then(|data| data.nested().find(NFTA_DATA_VERDICT));
                    let code = verdict.and_then(|verdict| verdict.nested().find(NFTA_VERDICT_CODE)?.be32());
                    rule.accepts |= code == Some(NF_ACCEPT.cast_unsigned());
                }
                Some("counter") => {
                    let number = |kind| data.nested().find(kind)?.be64();
                    let numbers = number(NFTA_COUNTER_PACKETS).zip(number(NFTA_COUNTER_BYTES));
                    if let Some((packets, bytes)) = numbers {
                        *rule.counted.get_or_insert_default() += Count { packets, bytes };
                    }
                }
                _ => {}
            }
        }
        Some(rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_messages_do_not_panic() {
        for body in
            [&[][..], &[2, 0, 0, 0], &[2, 0, 0, 0, 255, 255, 1, 0], &[9, 0, 0, 0, 8, 0, 4, 128, 4, 0, 1, 0]]
        {
            for kind in [NEWCHAIN, NEWRULE, 0] {
                let message = Received { kind, flags: 0, sequence: 0, port: 0, body };
                assert_eq!((read_chain(message), RuleInfo::read(message)), (None, None));
            }
        }
    }
}
