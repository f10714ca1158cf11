use kernel::nft::{Chain, Expression, Family, Nat, Register, Transaction, Verdict};

use super::kind::{Kind, address_registers, source};
use super::rules::family;

/// A chain that sends packets to one of so many targets: all Services of a kind that have as many share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pick {
    pub(crate) kind: Kind,
    pub(crate) targets: u32,
    /// Clients come to the same one again for so many seconds.
    pub(crate) affinity: Option<u32>,
}

impl Pick {
    /// `service4-3`, `service4-3-10800`.
    pub(crate) fn name(self) -> String {
        let (map, targets) = (self.kind.fronts(), self.targets);
        match self.affinity {
            None => format!("{map}-{targets}"),
            Some(seconds) => format!("{map}-{targets}-{seconds}"),
        }
    }

    /// Makes it.
    pub(crate) fn make(self, change: &mut Transaction, table: &str) {
        let name = self.name();
        change.add_new_chain(Family::Inet, table, &Chain { name: &name, base: None });
        let mut add = |rule: &[Expression<'_>], comment| {
            change.add_rule(Family::Inet, table, &name, rule, comment);
        };
        if let Some(seconds) = self.affinity {
            add(&self.known(seconds), Some("who has been here"));
            add(&self.thrown(Some(seconds)), Some("remembered"));
        }
        add(&self.thrown(None), None);
        // Each look into a map is at what is there at that moment. Between the look for the front and this one the target may have
        // gone: then the client tries again. Let go on, all of the connection would leave for where nobody has the address.
        add(&[Expression::Verdict(Verdict::Drop)], Some("changed on the way"));
    }

    /// Behind the key comes the client's address or a number; behind these the target.
    fn target(self) -> u8 {
        self.kind.registers() + address_registers(self.kind.ipv4)
    }

    fn client(self) -> Expression<'static> {
        source(self.kind.ipv4, Register(self.kind.registers()))
    }

    fn known(self, seconds: u32) -> Vec<Expression<'static>> {
        let target = Register(self.target());
        let mut rule = family(self.kind.ipv4);
        rule.extend(self.kind.load());
        rule.push(self.client());
        let map = self.kind.affinity();
        rule.push(Expression::Lookup { set: map, register: Register(0), to: Some(target), invert: false });
        rule.push(self.remember(seconds));
        rule.push(self.send());
        rule
    }

    fn thrown(self, affinity: Option<u32>) -> Vec<Expression<'static>> {
        let target = Register(self.target());
        let mut rule = family(self.kind.ipv4);
        rule.extend(self.kind.load());
        rule.push(Expression::Random { below: self.targets, to: Register(self.kind.registers()) });
        let map = self.kind.targets();
        rule.push(Expression::Lookup { set: map, register: Register(0), to: Some(target), invert: false });
        if let Some(seconds) = affinity {
            rule.push(self.client());
            rule.push(self.remember(seconds));
        }
        rule.push(self.send());
        rule
    }

    fn remember(self, seconds: u32) -> Expression<'static> {
        let (map, value) = (self.kind.affinity(), Register(self.target()));
        Expression::Update { map, key: Register(0), value, timeout: u64::from(seconds) * 1000 }
    }

    fn send(self) -> Expression<'static> {
        let port = Register(self.target() + address_registers(self.kind.ipv4));
        let (ipv4, address) = (self.kind.ipv4, Register(self.target()));
        Expression::Nat { kind: Nat::Destination, ipv4, address, port: Some(port) }
    }
}
