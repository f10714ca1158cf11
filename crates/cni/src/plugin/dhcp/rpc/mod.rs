//! How a plugin speaks with a daemon: as the reference's do, Go's net/rpc over HTTP's CONNECT. So either side may be the
//! reference's.

mod gob;

use std::net::{IpAddr, Ipv4Addr};

use kernel::netlink::IpNet;

use crate::contract::{AddResult, Code, Error, Ip, Route};
use gob::{BYTES, Decoder, Fields, INT, TEXT, UINT, Value, Writer, define_list, define_struct};

/// What begins a conversation, and what answers it; headers may follow either line.
const CONNECT: &[u8] = b"CONNECT /_goRPC_ HTTP/1.0\n\n";
const CONNECTED: &[u8] = b"HTTP/1.0 200 Connected to Go RPC\n\n";
const GREETING: &[u8] = b"HTTP/1.0 200 Connected to Go RPC\n";
/// More than any call or answer has, in bytes.
pub(super) const LONGEST: usize = 8 << 20;

/// What a daemon is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    /// Get a lease, or say again what it is.
    Allocate,
    /// Give it back.
    Release,
}

impl Method {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Allocate => "DHCP.Allocate",
            Self::Release => "DHCP.Release",
        }
    }
}

/// A call: the plugin's own arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) container_id: String,
    pub(super) netns: String,
    pub(super) ifname: String,
    /// `CNI_ARGS`.
    pub(super) args: String,
    /// The plugin's configuration, JSON.
    pub(super) conf: Vec<u8>,
}

const HEAD: i64 = 65;
const BODY: i64 = 66;

impl Call {
    /// What a plugin writes once it is [connected](is_connected).
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let fields = [
            ("ContainerID", TEXT),
            ("Netns", TEXT),
            ("IfName", TEXT),
            ("Args", TEXT),
            ("Path", TEXT),
            ("NetnsOverride", TEXT),
            ("StdinData", BYTES),
        ];
        let head = Writer::message(HEAD, |writer| {
            writer.structure(|head| head.bytes(1, self.method.as_str().as_bytes()));
        });
        let body = Writer::message(BODY, |writer| {
            writer.structure(|body| {
                let texts = [&self.container_id, &self.netns, &self.ifname, &self.args];
                for (number, text) in (1..).zip(texts) {
                    body.bytes(number, text.as_bytes());
                }
                body.bytes(7, &self.conf);
            });
        });
        [
            define_struct(HEAD, "Request", &[("ServiceMethod", TEXT), ("Seq", UINT)]),
            head,
            define_struct(BODY, "CmdArgs", &fields),
            body,
        ]
        .concat()
    }
}

/// What a daemon has read of a conversation so far.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// More has to come.
    Part,
    /// The conversation has begun: [`greeting`] is to be sent before the plugin says more.
    Connect,
    /// The call, and its number.
    Call(Call, u64),
}

/// What begins a conversation.
pub(super) fn opening() -> &'static [u8] {
    CONNECT
}

/// The daemon has greeted: what comes before that is lost on the reference's.
pub(super) fn is_connected(bytes: &[u8]) -> Result<bool, Error> {
    Ok(behind_head(bytes, GREETING)?.is_some())
}

/// What greets a plugin.
pub(super) fn greeting() -> &'static [u8] {
    CONNECTED
}

/// Reads all that a plugin has sent.
pub(super) fn hear(bytes: &[u8]) -> Result<Heard, Error> {
    let Some(mut stream) = behind_head(bytes, b"CONNECT ")? else { return Ok(Heard::Part) };
    let mut decoder = Decoder::new();
    let (head, body) = match next_two(&mut decoder, &mut stream)? {
        Some(both) => both,
        None => return Ok(Heard::Connect),
    };
    let method = head.text("ServiceMethod");
    let method = [Method::Allocate, Method::Release]
        .into_iter()
        .find(|known| known.as_str() == method)
        .ok_or_else(|| {
            Error::new(
                Code::Decode,
                format!("cannot serve {method:?}: there are DHCP.Allocate and DHCP.Release"),
            )
        })?;
    let number = match head.field("Seq") {
        Some(Value::Uint(number)) => *number,
        _ => 0,
    };
    let call = Call {
        method,
        container_id: body.text("ContainerID"),
        netns: body.text("Netns"),
        ifname: body.text("IfName"),
        args: body.text("Args"),
        conf: body.bytes("StdinData").to_vec(),
    };
    Ok(Heard::Call(call, number))
}

/// What a daemon answers: a result, nothing, or why not.
pub(super) fn answer(method: Method, number: u64, outcome: Result<&AddResult, &str>) -> Vec<u8> {
    let head = [("ServiceMethod", TEXT), ("Seq", UINT), ("Error", TEXT)];
    let mut bytes = define_struct(HEAD, "Response", &head);
    bytes.extend(Writer::message(HEAD, |writer| {
        writer.structure(|head| {
            head.bytes(1, method.as_str().as_bytes());
            if number != 0 {
                head.field(2).uint(number);
            }
            head.bytes(3, outcome.err().unwrap_or_default().as_bytes());
        });
    }));
    match outcome {
        Ok(result) if method == Method::Allocate => bytes.extend(write_result(result)),
        _ => {
            bytes.extend(define_struct(BODY, "", &[]));
            bytes.extend(Writer::message(BODY, |writer| {
                writer.structure(|_| {});
            }));
        }
    }
    bytes
}

/// Reads all that a daemon has sent; none if more has to come.
pub(super) fn read_answer(method: Method, bytes: &[u8]) -> Result<Option<AddResult>, Error> {
    let Some(mut stream) = behind_head(bytes, GREETING)? else { return Ok(None) };
    let Some((head, body)) = next_two(&mut Decoder::new(), &mut stream)? else { return Ok(None) };
    let error = head.text("Error");
    if !error.is_empty() {
        return Err(Error::new(Code::Other(100), format!("error calling {}: {error}", method.as_str())));
    }
    read_result(&body).map(Some).ok_or_else(|| malformed("its result has no addresses"))
}

/// What follows an HTTP head that begins with `begin`; none if it has not all come.
fn behind_head<'a>(bytes: &'a [u8], begin: &[u8]) -> Result<Option<&'a [u8]>, Error> {
    let length = begin.len().min(bytes.len());
    if bytes.get(..length) != begin.get(..length) {
        return Err(malformed("it does not begin as one"));
    }
    let end = bytes.windows(2).position(|two| two == b"\n\n").map(|at| at + 2);
    let end = end.or_else(|| bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4));
    Ok(end.and_then(|end| bytes.get(end..)))
}

fn next_two(decoder: &mut Decoder, stream: &mut &[u8]) -> Result<Option<(Value, Value)>, Error> {
    let mut next = || decoder.next(stream).map_err(|e| malformed(&e.to_string()));
    let Some(head) = next()? else { return Ok(None) };
    Ok(next()?.map(|body| (head, body)))
}

fn malformed(why: &str) -> Error {
    Error::new(Code::Decode, format!("cannot read a conversation of DHCP plugin and daemon: {why}"))
}

const IPS: i64 = 67;
const IP: i64 = 68;
const NET: i64 = 69;
const ROUTES: i64 = 70;
const ROUTE: i64 = 71;
const DNS: i64 = 72;
const TEXTS: i64 = 73;

fn write_result(result: &AddResult) -> Vec<u8> {
    let mut bytes = [
        define_struct(BODY, "Result", &[("IPs", IPS), ("Routes", ROUTES), ("DNS", DNS)]),
        define_list(IPS, IP),
        define_struct(IP, "IPConfig", &[("Address", NET), ("Gateway", BYTES)]),
        define_struct(NET, "IPNet", &[("IP", BYTES), ("Mask", BYTES)]),
        define_list(ROUTES, ROUTE),
        define_struct(ROUTE, "Route", &[("Dst", NET), ("GW", BYTES), ("Priority", INT), ("Scope", INT)]),
        define_struct(DNS, "DNS", &[("Nameservers", TEXTS), ("Domain", TEXT), ("Search", TEXTS)]),
        define_list(TEXTS, TEXT),
    ]
    .concat();
    let address = |address: Option<IpAddr>| match address {
        Some(IpAddr::V4(v4)) => v4.octets().to_vec(),
        Some(IpAddr::V6(v6)) => v6.octets().to_vec(),
        None => Vec::new(),
    };
    let net = |fields: &mut Fields<'_>, number: u64, net: IpNet| {
        let mask = u32::MAX.checked_shl(32 - u32::from(net.prefix().min(32))).unwrap_or(0);
        fields.field(number).structure(|fields| {
            fields.bytes(1, &address(Some(net.address())));
            fields.bytes(2, &mask.to_be_bytes());
        });
    };
    bytes.extend(Writer::message(BODY, |writer| {
        writer.structure(|body| {
            body.list(1, &result.ips, |writer, ip| {
                writer.structure(|fields| {
                    net(fields, 1, ip.address);
                    fields.bytes(2, &address(ip.gateway));
                });
            });
            body.list(2, &result.routes, |writer, route| {
                writer.structure(|fields| {
                    net(fields, 1, route.dst);
                    fields.bytes(2, &address(route.gw));
                    fields.int(3, route.priority.unwrap_or(0).into());
                    fields.int(4, route.scope.unwrap_or(0).into());
                });
            });
            let text = |writer: &mut Writer, text: &String| {
                writer.bytes(text.as_bytes());
            };
            body.field(3).structure(|dns| {
                dns.list(1, &result.dns.nameservers, text);
                dns.bytes(2, result.dns.domain.as_bytes());
                dns.list(3, &result.dns.search, text);
            });
        });
    }));
    bytes
}

fn read_result(body: &Value) -> Option<AddResult> {
    let address = |bytes: &[u8]| -> Option<IpAddr> {
        match bytes.len() {
            4 => Some(Ipv4Addr::from(*bytes.first_chunk::<4>()?).into()),
            16 => Some(IpAddr::from(*bytes.first_chunk::<16>()?).to_canonical()),
            _ => None,
        }
    };
    let net = |value: &Value| -> Option<IpNet> {
        // An IPv4 mask may have been stretched to sixteen bytes.
        let mask = value.bytes("Mask");
        let mask = mask.get(mask.len().checked_sub(4)?..)?;
        let prefix = u32::from_be_bytes(*mask.first_chunk()?).leading_ones();
        IpNet::new(address(value.bytes("IP"))?, u8::try_from(prefix).ok()?)
    };
    let mut result = AddResult::default();
    for ip in body.list("IPs") {
        let gateway = address(ip.bytes("Gateway"));
        result.ips.push(Ip { address: net(ip.field("Address")?)?, gateway, interface: None });
    }
    for route in body.list("Routes") {
        result.routes.push(Route {
            priority: route.int("Priority").and_then(|n| u32::try_from(n).ok()),
            scope: route.int("Scope").and_then(|n| u8::try_from(n).ok()),
            ..Route::to(net(route.field("Dst")?)?, address(route.bytes("GW")))
        });
    }
    if let Some(dns) = body.field("DNS") {
        let texts = |field| {
            let text = |value: &Value| match value {
                Value::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
                _ => None,
            };
            dns.list(field).iter().filter_map(text).collect()
        };
        result.dns.nameservers = texts("Nameservers");
        result.dns.search = texts("Search");
        result.dns.domain = dns.text("Domain");
    }
    Some(result)
}

/// Reads any bytes as both sides do: for the fuzzer.
pub(super) fn exercise(bytes: &[u8]) {
    for begin in [CONNECT, CONNECTED] {
        let bytes = [begin, bytes].concat();
        if let Ok(Heard::Call(call, _)) = hear(&bytes) {
            assert!(
                matches!(hear(&[CONNECT, &call.to_bytes()].concat()), Ok(Heard::Call(again, 0)) if again == call)
            );
        }
        let _ = read_answer(Method::Allocate, &bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Dns;

    fn call() -> Call {
        Call {
            method: Method::Allocate,
            container_id: "c".repeat(300),
            netns: "/run/netns/c".into(),
            ifname: "eth0".into(),
            args: String::new(),
            conf: b"{}".to_vec(),
        }
    }

    #[test]
    fn a_call_is_heard_whole_however_it_comes() {
        let bytes = [opening(), &call().to_bytes()].concat();
        assert_eq!(hear(&bytes).unwrap(), Heard::Call(call(), 0));
        for length in 0..bytes.len() {
            let heard = hear(&bytes[..length]).unwrap();
            assert_eq!(heard, if length < CONNECT.len() { Heard::Part } else { Heard::Connect }, "{length}");
        }
        assert!(hear(b"GET / HTTP/1.0\n\n").is_err());
        let mut other = bytes.clone();
        let at = other.windows(8).position(|w| w == b"Allocate").unwrap();
        other[at] = b'X';
        assert!(hear(&other).unwrap_err().to_string().contains("DHCP.Xllocate"));
    }

    #[test]
    fn answers_come_back() {
        let result = AddResult {
            ips: vec![Ip {
                address: "10.0.0.5/20".parse().unwrap(),
                gateway: Some([10, 0, 0, 1].into()),
                interface: None,
            }],
            routes: vec![
                Route::to("0.0.0.0/0".parse().unwrap(), Some([10, 0, 0, 1].into())),
                Route {
                    scope: Some(253),
                    priority: Some(7),
                    ..Route::to("10.9.0.0/16".parse().unwrap(), Some([0; 4].into()))
                },
            ],
            dns: Dns {
                nameservers: vec!["10.0.0.53".into()],
                domain: "d".into(),
                search: vec!["a".into(), "b".into()],
                ..Dns::default()
            },
            ..AddResult::default()
        };
        let bytes = [greeting(), &answer(Method::Allocate, 3, Ok(&result))].concat();
        assert_eq!(read_answer(Method::Allocate, &bytes).unwrap(), Some(result));
        for length in 0..bytes.len() {
            assert_eq!(read_answer(Method::Allocate, &bytes[..length]).unwrap(), None, "{length}");
        }
        let bytes = [greeting(), &answer(Method::Release, 0, Ok(&AddResult::default()))].concat();
        assert_eq!(read_answer(Method::Release, &bytes).unwrap(), Some(AddResult::default()));
        let bytes = [greeting(), &answer(Method::Allocate, 0, Err("no more tries"))].concat();
        let error = read_answer(Method::Allocate, &bytes).unwrap_err();
        assert_eq!(error.to_string(), "error calling DHCP.Allocate: no more tries");
    }
}
