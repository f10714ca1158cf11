use kernel::netlink::{IpNet, Socket};
use kernel::nft::{self, Chain, ChainInfo, Expression, Family, Meta, Register, Transaction, Value, Verdict};
use rustix::io::Errno;

use crate::contract::{Code, Error, Keys, hash};
use crate::plugin::table::packet;

/// What a packet must be like to be sent to a container: `conditionsV4` or `conditionsV6`, as the reference plugin takes
/// them for nftables. Of nft's language the part is understood that tells where packets come from and go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Conditions {
    v4: bool,
    tests: Vec<Test>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    Address { source: bool, network: IpNet, equal: bool },
    InputName { name: String, equal: bool },
}

impl Conditions {
    /// Those of one family; none if there are none.
    pub(super) fn of(keys: &Keys<'_>, v4: bool) -> Result<Option<Self>, Error> {
        let key = if v4 { "conditionsV4" } else { "conditionsV6" };
        let fragments: Vec<String> = keys.decode(key)?.unwrap_or_default();
        let text = fragments.join(" ");
        let tokens: Vec<&str> = text.split_whitespace().collect();
        if tokens.is_empty() {
            return Ok(None);
        }
        let mut rest = tokens.as_slice();
        let mut tests = Vec::new();
        while !rest.is_empty() {
            let Some(test) = read(&mut rest, v4) else { return Err(unsupported(key, &text)) };
            tests.push(test);
        }
        Ok(Some(Self { v4, tests }))
    }

    /// The chain that stands for them: the same conditions are the same chain, whoever has them.
    pub(super) fn chain(&self) -> String {
        let hash = hash(&["conditions", &format!("{self:?}")]);
        format!("{CONDITIONS}{}", hash.get(..13).unwrap_or_default())
    }

    /// Makes the chain, or makes it anew: what meets the conditions returns, all else is not sent to a container.
    pub(super) fn make(&self, table: &str, change: &mut Transaction) {
        let name = self.chain();
        change.add_chain(Family::Inet, table, &Chain { name: &name, base: None });
        change.flush_chain(Family::Inet, table, &name);
        let mut met: Vec<Expression<'_>> =
            self.tests.iter().flat_map(|test| test.expressions(self.v4)).collect();
        met.push(Expression::Verdict(Verdict::Return));
        change.add_rule(Family::Inet, table, &name, &met, None);
        change.add_rule(Family::Inet, table, &name, &[Expression::Verdict(Verdict::Accept)], None);
    }
}

/// How the names of chains of conditions begin.
pub(in crate::plugin) const CONDITIONS: &str = "hostports_if_";

/// Deletes the chains of conditions that nothing is sent to any more.
pub(super) fn sweep(table: &str, socket: &mut Socket) -> Result<(), Error> {
    let of_conditions = |chain: &ChainInfo| {
        chain.family == Family::Inet && chain.table == table && chain.name.starts_with(CONDITIONS)
    };
    for chain in nft::chains(socket)?.into_iter().filter(of_conditions) {
        let mut change = Transaction::new();
        change.delete_chain(Family::Inet, table, &chain.name);
        match change.commit(socket) {
            // Somebody has the same conditions; or another was quicker.
            Err(e) if matches!(e.errno(), Some(Errno::BUSY | Errno::NOENT)) => {}
            outcome => outcome?,
        }
    }
    Ok(())
}

/// Reads `ip saddr [==|!=] NETWORK`, `ip daddr ...` (`ip6` for IPv6) or `[meta] iifname [==|!=] NAME`.
fn read(rest: &mut &[&str], v4: bool) -> Option<Test> {
    let mut next = || {
        let (first, others) = rest.split_first()?;
        *rest = others;
        Some(*first)
    };
    let of_family = if v4 { "ip" } else { "ip6" };
    let source = match next()? {
        "iifname" => None,
        "meta" => (next()? == "iifname").then_some(None)?,
        word if word == of_family => match next()? {
            "saddr" => Some(true),
            "daddr" => Some(false),
            _ => return None,
        },
        _ => return None,
    };
    let (equal, value) = match next()? {
        "==" => (true, next()?),
        "!=" => (false, next()?),
        value => (true, value),
    };
    match source {
        Some(source) => {
            let network = value.parse().ok().or_else(|| value.parse().ok().map(IpNet::host))?;
            (network.is_ipv4() == v4).then_some(Test::Address { source, network: network.network(), equal })
        }
        None => {
            let name = value.trim_matches('"');
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '@');
            let is_name = !name.is_empty() && name.len() <= 15 && name.chars().all(plain);
            is_name.then(|| Test::InputName { name: name.to_owned(), equal })
        }
    }
}

fn unsupported(key: &str, text: &str) -> Error {
    let short: String = text.chars().take(80).collect();
    let error = format!("portmap does not support the field {key:?} with the value {short:?}");
    Error::new(Code::UnsupportedField, error).hint(
        "understood are \"ip saddr\", \"ip daddr\" (ip6 for IPv6) and \"iifname\" with == or != and one value, as nft \
         has them",
    )
}

impl Test {
    fn expressions(&self, v4: bool) -> Vec<Expression<'static>> {
        let register = Register::FIRST;
        match self {
            Self::Address { source, network, equal } => {
                let bytes = Value::new().address(network.address()).into_bytes();
                let mask: Vec<u8> = (0..bytes.len()).map(|at| mask_byte(network.prefix(), at)).collect();
                vec![
                    packet::address(v4, *source, register),
                    Expression::Mask { register, mask },
                    Expression::Compare { register, equal: *equal, value: bytes },
                ]
            }
            Self::InputName { name, equal } => vec![
                Expression::Meta { key: Meta::InputName, to: register },
                Expression::Compare {
                    register,
                    equal: *equal,
                    value: Value::new().ifname(name).into_bytes(),
                },
            ],
        }
    }
}

/// The byte number `at` of the mask of a prefix.
fn mask_byte(prefix: u8, at: usize) -> u8 {
    let bits = usize::from(prefix).saturating_sub(at * 8).min(8);
    (0xff00_u16 >> bits) as u8
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn of(key: &str, value: serde_json::Value) -> Result<Option<Conditions>, Error> {
        let object = [(key.to_owned(), value)].into_iter().collect();
        Conditions::of(&Keys::new(&object, "portmap"), key == "conditionsV4")
    }

    #[test]
    fn what_tells_where_packets_come_from_and_go_to_is_understood() {
        let whole = of(
            "conditionsV4",
            json!(["ip saddr != 192.0.2.7/24", "ip", "daddr", "10.0.0.1", "iifname eth0"]),
        );
        let network = |text: &str| text.parse::<IpNet>().unwrap();
        let expected = [
            Test::Address { source: true, network: network("192.0.2.0/24"), equal: false },
            Test::Address { source: false, network: network("10.0.0.1/32"), equal: true },
            Test::InputName { name: "eth0".into(), equal: true },
        ];
        assert_eq!(whole.unwrap().unwrap().tests, expected);
        let same = of("conditionsV4", json!(["ip saddr 10.0.0.9/8"])).unwrap().unwrap();
        assert_eq!(
            same.chain(),
            of("conditionsV4", json!(["ip", "saddr == 10.0.0.0/8"])).unwrap().unwrap().chain()
        );
        assert!(
            of("conditionsV6", json!(["ip6 saddr fd00::/8", "meta iifname != \"br0\""])).unwrap().is_some()
        );
        assert_eq!(of("conditionsV4", json!([])).unwrap(), None);
        assert_eq!([0, 1, 2, 3].map(|at| mask_byte(20, at)), [255, 255, 240, 0]);
    }

    proptest! {
        /// Whatever the words, it is understood or refused; and what is understood is compiled.
        #[test]
        fn any_words_end_without_a_panic(
            words in proptest::collection::vec("ip|ip6|saddr|daddr|meta|iifname|==|!=|10.0.0.1/0|fd00::/128|::|e0|\\PC{0,20}", 0..8),
        ) {
            for key in ["conditionsV4", "conditionsV6"] {
                if let Ok(Some(conditions)) = of(key, json!(words)) {
                    conditions.make("t", &mut Transaction::new());
                    prop_assert!(conditions.chain().len() < 32);
                }
            }
        }
    }

    #[test]
    fn all_else_is_refused_with_the_key() {
        for (key, value, code) in [
            ("conditionsV4", json!(["!", "-d", "192.0.2.0/24"]), Code::UnsupportedField),
            ("conditionsV4", json!(["ip6 saddr fd00::/8"]), Code::UnsupportedField),
            ("conditionsV4", json!(["ip saddr fd00::/8"]), Code::UnsupportedField),
            ("conditionsV4", json!(["ip saddr { 10.0.0.1, 10.0.0.2 }"]), Code::UnsupportedField),
            ("conditionsV4", json!(["ip saddr"]), Code::UnsupportedField),
            ("conditionsV4", json!(["meta mark 7"]), Code::UnsupportedField),
            ("conditionsV6", json!(["iifname sixteen-letters-"]), Code::UnsupportedField),
            ("conditionsV6", json!("iifname eth0"), Code::InvalidConfig),
        ] {
            let error = of(key, value.clone()).unwrap_err();
            assert_eq!(error.code, code, "{value}: {error}");
            assert!(error.to_string().contains(&format!("{key:?}")), "{error}");
        }
    }
}
