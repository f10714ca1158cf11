use super::net::IpNet;
use super::route::put;
use super::socket::Socket;
use super::uapi::{
    AF_INET, AF_INET6, AF_UNSPEC, FR_ACT_TO_TBL, FRA_PRIORITY, FRA_SRC, FRA_TABLE, NLM_F_ACK, NLM_F_CREATE,
    NLM_F_DUMP, NLM_F_EXCL, RTM_DELRULE, RTM_GETRULE, RTM_NEWRULE,
};
use super::wire::{Attributes, Batch, Message, Received};
use crate::Result;

/// A policy rule: packets from `source` are routed by `table`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Where the packets come from; anywhere if none.
    pub source: Option<IpNet>,
    /// IPv4, not IPv6: a rule is of one family, whatever it says of addresses.
    pub ipv4: bool,
    /// The routing table.
    pub table: u32,
    /// Its place among the rules; before all that there are (but the first) if none.
    pub priority: Option<u32>,
}

impl Rule {
    /// Packets from one network are routed by `table`; the kernel chooses the place.
    pub fn from_source(source: IpNet, table: u32) -> Self {
        Self { source: Some(source), ipv4: source.is_ipv4(), table, priority: None }
    }

    /// `struct fib_rule_hdr`.
    fn header(&self) -> [u8; 12] {
        let family = if self.ipv4 { AF_INET } else { AF_INET6 };
        let prefix = self.source.map_or(0, IpNet::prefix);
        // Tables above 255 travel in FRA_TABLE alone.
        let table = u8::try_from(self.table).unwrap_or(0);
        [family, 0, prefix, 0, table, 0, 0, FR_ACT_TO_TBL, 0, 0, 0, 0]
    }

    fn write(&self, m: &mut Message<'_>) {
        if let Some(source) = self.source.filter(|source| source.prefix() > 0) {
            put(m, FRA_SRC, source.network().address());
        }
        m.u32(FRA_TABLE, self.table);
        if let Some(priority) = self.priority {
            m.u32(FRA_PRIORITY, priority);
        }
    }

    fn read(message: Received<'_>) -> Option<Self> {
        let [family, _, prefix, _, table, _, _, action] = *message.body.first_chunk()?;
        let attributes = Attributes::after(message.body, 12);
        if message.kind != RTM_NEWRULE || action != FR_ACT_TO_TBL {
            return None;
        }
        let number = |kind| attributes.find(kind).and_then(|a| a.u32());
        let source = attributes.find(FRA_SRC).and_then(|a| a.address());
        Some(Self {
            source: source.and_then(|source| IpNet::new(source, prefix)),
            ipv4: family == AF_INET,
            table: number(FRA_TABLE).unwrap_or(u32::from(table)),
            priority: Some(number(FRA_PRIORITY).unwrap_or(0)),
        })
    }

    fn words(&self) -> String {
        match self.source {
            Some(source) => format!("rule from {source} to table {}", self.table),
            None => format!("rule to table {}", self.table),
        }
    }
}

impl Batch {
    /// Adds a policy rule; the same one again is an error (EEXIST).
    pub fn add_rule(&mut self, rule: &Rule) {
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        rule.write(&mut self.message(RTM_NEWRULE, flags, &rule.header(), "add", rule.words()));
    }

    /// Deletes the first policy rule that fits.
    pub fn delete_rule(&mut self, rule: &Rule) {
        rule.write(&mut self.message(RTM_DELRULE, NLM_F_ACK, &rule.header(), "delete", rule.words()));
    }
}

/// The policy rules of the socket's namespace that lead to a table. They may look at more than the source.
pub fn rules(socket: &mut Socket) -> Result<Vec<Rule>> {
    let mut batch = Batch::new();
    batch.message(RTM_GETRULE, NLM_F_DUMP, &[AF_UNSPEC; 12], "list", "policy rules");
    socket.dump(&batch, Rule::read)
}
