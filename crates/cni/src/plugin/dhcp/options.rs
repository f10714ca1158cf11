//! What a client tells a server and asks of it, by the configuration; and what a result says of an answer.

use std::net::{IpAddr, Ipv4Addr};

use kernel::netlink::IpNet;
use serde::Deserialize;

use super::message::{Message, Options, option};
use crate::contract::{AddResult, Attachment, Code, Dns, Error, Ip, Keys, Route};

/// Named as in dhcp-options(5), as far as the reference plugin knows names.
const NAMES: [(&str, u8); 6] = [
    ("dhcp-client-identifier", option::CLIENT_ID),
    ("subnet-mask", option::SUBNET_MASK),
    ("routers", option::ROUTER),
    ("host-name", option::HOST_NAME),
    ("user-class", option::USER_CLASS),
    ("vendor-class-identifier", option::VENDOR_CLASS),
];
/// The largest message we take, which servers are told: what Ethernet carries.
const MAX_SIZE: u16 = 1500;

/// An entry of `provide`.
#[derive(Debug, Deserialize)]
struct Provide {
    #[serde(default)]
    option: String,
    #[serde(default)]
    value: String,
    #[serde(default, rename = "fromArg")]
    from_arg: String,
}

/// An entry of `request`.
#[derive(Debug, Deserialize)]
struct Wanted {
    #[serde(default)]
    option: String,
    #[serde(default, rename = "skipDefault")]
    skip_default: bool,
}

/// The options of each message to a server.
pub(super) fn of_configuration(
    ipam: &Keys<'_>,
    attachment: &Attachment,
    network: &str,
) -> Result<Options, Error> {
    let mut options = Options::new();
    let mut id = format!("{}/{network}/{}", attachment.container_id, attachment.ifname).into_bytes();
    id.truncate(254);
    options.insert(option::CLIENT_ID, [&[0], &id[..]].concat());
    options.insert(option::MAX_SIZE, MAX_SIZE.to_be_bytes().to_vec());
    let provide: Vec<Provide> = ipam.decode("provide")?.unwrap_or_default();
    for entry in &provide {
        let code = code(ipam, "provide", &entry.option)?;
        let of_arg = attachment.arg(&entry.from_arg).filter(|_| !entry.from_arg.is_empty());
        for value in [Some(entry.value.as_str()).filter(|v| !v.is_empty()), of_arg].into_iter().flatten() {
            if value.len() > 255 {
                let wanted = format!("at most 255 bytes for option {:?}", entry.option);
                return Err(ipam.refuse("provide", wanted));
            }
            options.insert(code, value.as_bytes().to_vec());
        }
    }
    let request: Vec<Wanted> = ipam.decode("request")?.unwrap_or_default();
    let mut parameters = Vec::new();
    for entry in request.iter().filter(|entry| !entry.option.is_empty()) {
        parameters.push(code(ipam, "request", &entry.option)?);
    }
    if !request.iter().any(|entry| entry.skip_default) {
        parameters.extend([option::ROUTER, option::SUBNET_MASK]);
    }
    if !parameters.is_empty() {
        let mut seen = std::collections::BTreeSet::new();
        parameters.retain(|code| seen.insert(*code));
        options.insert(option::PARAMETERS, parameters);
    }
    Ok(options)
}

fn code(ipam: &Keys<'_>, key: &str, name: &str) -> Result<u8, Error> {
    let known = NAMES.iter().find(|(known, _)| *known == name).map(|(_, code)| *code);
    let code = known.or_else(|| name.parse().ok()).filter(|code| !matches!(code, 0 | 255));
    // The client itself says what a message is.
    let code = code.filter(|code| !matches!(*code, option::KIND | option::OVERLOAD));
    code.ok_or_else(|| {
        let names = NAMES.map(|(known, _)| known).join(", ");
        ipam.refuse(key, format!("an option: {name:?} is neither a number nor one of {names}"))
    })
}

/// What ADD says of an acknowledged lease.
pub(super) fn result(ack: &Message, priority: Option<u32>) -> Result<AddResult, Error> {
    let refuse = |what: &str| Error::new(Code::Other(100), format!("cannot use the server's answer: {what}"));
    let mask = ack.addresses(option::SUBNET_MASK);
    let mask = mask.first().ok_or_else(|| refuse("DHCP option Subnet Mask not found in DHCPACK"))?.to_bits();
    if mask.leading_ones() + mask.trailing_zeros() < 32 {
        return Err(refuse(&format!("its subnet mask {} has gaps", Ipv4Addr::from_bits(mask))));
    }
    let address =
        IpNet::new(ack.yours.into(), mask.leading_ones() as u8).ok_or_else(|| refuse("no address"))?;
    let gateway = ack.addresses(option::ROUTER).first().map(|router| IpAddr::from(*router));
    let mut routes = routes(ack, gateway).ok_or_else(|| refuse("its routes are malformed"))?;
    for route in &mut routes {
        route.priority = priority;
    }
    let dns = Dns {
        nameservers: ack.addresses(option::DNS).iter().map(ToString::to_string).collect(),
        domain: ack.text(option::DOMAIN).unwrap_or_default(),
        search: ack.options.get(&option::DOMAIN_SEARCH).and_then(|v| domains(v)).unwrap_or_default(),
        options: Vec::new(),
    };
    Ok(AddResult { ips: vec![Ip { address, gateway, interface: None }], routes, dns, ..AddResult::default() })
}

/// Classless routes alone if there are any (RFC 3442), or the old ones and the default route.
fn routes(ack: &Message, gateway: Option<IpAddr>) -> Option<Vec<Route>> {
    if let Some(value) = ack.options.get(&option::CLASSLESS_ROUTES).filter(|value| !value.is_empty()) {
        return classless(value);
    }
    let mut routes = Vec::new();
    let old = ack.options.get(&option::STATIC_ROUTES).map(Vec::as_slice).unwrap_or_default();
    for [a, b, c, d, gateway @ ..] in old.as_chunks::<8>().0 {
        let prefix = match a {
            0..128 => 8,
            128..192 => 16,
            _ => 24,
        };
        let dst = IpNet::new(Ipv4Addr::new(*a, *b, *c, *d).into(), prefix)?.network();
        routes.push(Route::to(dst, Some(Ipv4Addr::from(*gateway).into())));
    }
    if gateway.is_some() {
        routes.push(Route::to(IpNet::new(Ipv4Addr::UNSPECIFIED.into(), 0)?, gateway));
    }
    Some(routes)
}

/// Option 121: a prefix length, as much of the destination as it has, a router; no router for what is on the link.
fn classless(mut bytes: &[u8]) -> Option<Vec<Route>> {
    const SCOPE_LINK: u8 = 253;
    let mut routes = Vec::new();
    while let Some((&prefix, rest)) = bytes.split_first() {
        let (significant, rest) = rest.split_at_checked(usize::from(prefix).div_ceil(8))?;
        let (router, rest) = rest.split_first_chunk::<4>()?;
        let mut octets = [0; 4];
        octets.get_mut(..significant.len())?.copy_from_slice(significant);
        let dst = IpNet::new(Ipv4Addr::from(octets).into(), prefix)?.network();
        let router = Ipv4Addr::from(*router);
        let scope = router.is_unspecified().then_some(SCOPE_LINK);
        routes.push(Route { scope, ..Route::to(dst, Some(router.into())) });
        bytes = rest;
    }
    Some(routes)
}

/// Option 119: names as DNS has them, compressed within the option (RFC 3397).
fn domains(bytes: &[u8]) -> Option<Vec<String>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let mut labels: Vec<&str> = Vec::new();
        let mut next = None;
        let mut here = at;
        loop {
            match *bytes.get(here)? {
                0 => break,
                length @ 1..64 => {
                    let label = bytes.get(here + 1..here + 1 + usize::from(length))?;
                    let label = std::str::from_utf8(label).ok()?;
                    let plain = label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
                    labels.push(Some(label).filter(|_| plain && labels.len() < 128)?);
                    here += 1 + usize::from(length);
                }
                high @ 192.. => {
                    let to = usize::from(high & 63) << 8 | usize::from(*bytes.get(here + 1)?);
                    next.get_or_insert(here + 2);
                    // Only back: else it would never end.
                    here = Some(to).filter(|to| *to < here)?;
                }
                _ => return None,
            }
        }
        at = next.unwrap_or(here + 1);
        found.push(labels.join("."));
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use kernel::netlink::Mac;
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::message::Kind;
    use super::*;

    fn ack(options: &[(u8, &[u8])]) -> Message {
        let unspecified = Ipv4Addr::UNSPECIFIED;
        let mut all = Options::from([(option::SUBNET_MASK, vec![255, 255, 255, 0])]);
        all.extend(options.iter().map(|(code, value)| (*code, value.to_vec())));
        Message {
            kind: Kind::Ack,
            reply: true,
            xid: 1,
            seconds: 0,
            broadcast: false,
            client: unspecified,
            yours: [10, 0, 0, 5].into(),
            relay: unspecified,
            mac: Mac([2, 0, 0, 0, 0, 1]),
            options: all,
        }
    }

    #[test]
    fn answers_become_results() {
        let dns = &[10, 0, 0, 53];
        let search = b"\x03one\x07example\x00\x03two\xc0\x04";
        let all = [
            (option::ROUTER, &[10, 0, 0, 1][..]),
            (option::DNS, dns),
            (option::DOMAIN, b"example\0"),
            (option::DOMAIN_SEARCH, search),
        ];
        let found = result(&ack(&all), Some(7)).unwrap();
        assert_eq!(found.ips[0].address.to_string(), "10.0.0.5/24");
        assert_eq!((found.routes.len(), found.routes[0].priority), (1, Some(7)));
        assert_eq!((found.dns.nameservers, found.dns.domain), (vec!["10.0.0.53".into()], "example".into()));
        assert_eq!(found.dns.search, ["one.example", "two.example"]);
        // Classless routes beat the others.
        let classless = [0, 10, 0, 0, 2, 24, 192, 168, 7, 0, 0, 0, 0];
        let old = [172, 16, 0, 0, 10, 0, 0, 3];
        let found = result(&ack(&[all[0], (121, &classless), (33, &old)]), None).unwrap();
        let texts: Vec<_> =
            found.routes.iter().map(|r| (r.dst.to_string(), r.gw.unwrap().to_string(), r.scope)).collect();
        assert_eq!(
            texts,
            [
                ("0.0.0.0/0".into(), "10.0.0.2".into(), None),
                ("192.168.7.0/24".into(), "0.0.0.0".into(), Some(253))
            ]
        );
        let found = result(&ack(&[all[0], (33, &old)]), None).unwrap();
        assert_eq!((found.routes.len(), found.routes[0].dst.to_string()), (2, "172.16.0.0/16".into()));
    }

    #[test]
    fn answers_that_nobody_can_use() {
        for (code, value) in
            [(1, &[][..]), (1, &[255, 0, 255, 0]), (121, &[33, 1, 2, 3, 4, 5, 0, 0, 0, 0]), (121, &[24, 10])]
        {
            assert!(result(&ack(&[(code, value)]), None).is_err(), "{code}");
        }
        for loops in [&b"\xc0\x00"[..], b"\x01a\xc0\x02", b"\x05a", b"\x40", b"\x03a.b\x00"] {
            assert_eq!(domains(loops), None, "{loops:?}");
        }
    }

    fn options(ipam: serde_json::Value) -> Result<Options, Error> {
        let mut attachment = Attachment::new("c", "eth0", None).unwrap();
        attachment.args.push(("K8S_POD_NAME".into(), "web".into()));
        of_configuration(&Keys::new(ipam.as_object().unwrap(), "\"ipam\""), &attachment, "net")
    }

    #[test]
    fn configurations_become_options() {
        let found = options(json!({})).unwrap();
        assert_eq!(found[&option::CLIENT_ID], b"\0c/net/eth0");
        assert_eq!(found[&option::PARAMETERS], [3, 1]);
        let found = options(json!({
            "provide": [{ "option": "host-name", "fromArg": "K8S_POD_NAME" }, { "option": "60", "value": "v" }, { "option": "12", "fromArg": "NONE" }],
            "request": [{ "option": "121" }, { "option": "routers" }, { "skipDefault": true }],
        })).unwrap();
        assert_eq!(
            (found[&12].as_slice(), found[&60].as_slice(), found[&55].as_slice()),
            (&b"web"[..], &b"v"[..], &[121, 3][..])
        );
        for (key, bad) in [
            ("provide", json!({ "provide": [{ "option": "x", "value": "v" }] })),
            ("provide", json!({ "provide": [{ "option": "53", "value": "v" }] })),
            ("provide", json!({ "provide": [{ "option": "12", "value": "v".repeat(256) }] })),
            ("request", json!({ "request": [{ "option": "256" }] })),
            ("request", json!({ "request": 7 })),
        ] {
            let error = options(bad).unwrap_err();
            assert!(
                error.code == Code::InvalidConfig && error.to_string().contains(&format!("{key:?}")),
                "{error}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_options(options in proptest::collection::btree_map(0u8..130, proptest::collection::vec(any::<u8>(), 0..40), 0..20)) {
            let mut message = ack(&[]);
            message.options.extend(options);
            let _ = result(&message, None);
        }
    }
}
