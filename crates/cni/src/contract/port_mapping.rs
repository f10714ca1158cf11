use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::{Code, Error, Keys};

/// A transport protocol that has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the variants are their own names")]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// Its number in IP headers.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// In lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Sctp].into_iter().find(|p| p.as_str().eq_ignore_ascii_case(text))
    }
}

/// An entry of the capability `portMappings`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// The port of the host.
    pub host_port: u16,
    /// The port inside.
    pub container_port: u16,
    /// TCP if none is given.
    pub protocol: Protocol,
    /// The host's address it is published on; all of them if none.
    #[serde(rename = "hostIP", skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
}

impl<'de> Deserialize<'de> for PortMapping {
    /// The case of keys is no matter: containerd writes `HostPort`.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_object(&Map::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl PortMapping {
    /// The list of them under `key`; none if the key is absent.
    pub(crate) fn list(keys: &Keys<'_>, key: &str) -> Result<Vec<Self>, Error> {
        let one = |value: &Value| Self::from_object(value.as_object()?).ok();
        let all = keys.get(key).and_then(Value::as_array).and_then(|all| all.iter().map(one).collect());
        // What is wrong is told as it is of other lists.
        all.map_or_else(|| Ok(keys.decode(key)?.unwrap_or_default()), Ok)
    }

    fn from_object(object: &Map<String, Value>) -> Result<Self, Error> {
        let keys = Keys::new(object, "a port mapping");
        let port = |key: &str| {
            let number = keys.number(key)?.and_then(|port| u16::try_from(port).ok());
            number.ok_or_else(|| keys.refuse(key, "a port"))
        };
        let protocol = match keys.text("protocol")? {
            None | Some("") => Protocol::Tcp,
            Some(text) => Protocol::parse(text).ok_or_else(|| keys.refuse("protocol", "tcp, udp or sctp"))?,
        };
        Ok(Self {
            host_port: port("hostPort")?,
            container_port: port("containerPort")?,
            protocol,
            host_ip: keys.parse("hostIP")?,
        })
    }

    /// Reads the form people type: `[HOST_IP:]HOST_PORT:PORT[/PROTOCOL]`, with ranges of equal length on both sides.
    pub fn parse(text: &str) -> Result<Vec<Self>, Error> {
        let refuse = |why: &str| {
            Error::new(Code::InvalidConfig, format!("cannot publish {text:?}: {why}"))
                .hint("write HOST_PORT:CONTAINER_PORT, such as 8080:80, 127.0.0.1:8080:80 or 5353:53/udp")
        };
        let (ports, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
        let protocol =
            Protocol::parse(protocol).ok_or_else(|| refuse("the protocol is not tcp, udp or sctp"))?;
        let (rest, inside) = ports.rsplit_once(':').ok_or_else(|| refuse("the host's port is missing"))?;
        let (host_ip, outside) = match rest.rsplit_once(':') {
            Some((ip, port)) => {
                let ip = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
                (Some(ip.parse().map_err(|_| refuse("the address is not one"))?), port)
            }
            None => (None, rest),
        };
        let inside = range(inside).ok_or_else(|| refuse("the container's port is not 1 to 65535"))?;
        let outside = range(outside).ok_or_else(|| refuse("the host's port is not 1 to 65535"))?;
        if inside.len() != outside.len() {
            return Err(refuse("the two ranges differ in length"));
        }
        let mapping = |(host_port, container_port)| Self { host_port, container_port, protocol, host_ip };
        Ok(outside.zip(inside).map(mapping).collect())
    }
}

fn range(text: &str) -> Option<std::ops::RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0 && !text.starts_with('+'));
    let (first, last) = (port(first)?, port(last)?);
    (first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_people_type_them() {
        let one = |text| PortMapping::parse(text).unwrap().remove(0);
        assert_eq!(
            one("8080:80"),
            PortMapping { host_port: 8080, container_port: 80, protocol: Protocol::Tcp, host_ip: None }
        );
        assert_eq!(one("127.0.0.1:53:5353/UDP").host_ip, Some([127, 0, 0, 1].into()));
        assert_eq!(one("[::1]:53:5353/udp").host_ip, Some("::1".parse().unwrap()));
        assert_eq!(PortMapping::parse("8000-8002:80-82").unwrap()[2].container_port, 82);
        for bad in
            ["80", "", ":80", "80:", "0:80", "80:70000", "a:80:80", "1-2:3", "80:80/icmp", "2-1:2-1", "+1:1"]
        {
            assert!(PortMapping::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn as_runtimes_write_them() {
        let read = |text| serde_json::from_str::<PortMapping>(text);
        let mapping = read(r#"{"hostPort":1,"containerPort":2,"protocol":"TCP","hostIP":""}"#).unwrap();
        assert_eq!((mapping.protocol, mapping.host_ip), (Protocol::Tcp, None));
        let of_containerd = r#"{"ContainerPort":2,"HostIP":"","HostPort":1,"Protocol":"tcp"}"#;
        assert_eq!(read(of_containerd).unwrap(), mapping);
        for bad in [
            r#"{"hostPort":70000,"containerPort":2}"#,
            r#"{"hostPort":1,"containerPort":2,"protocol":"icmp"}"#,
            r#"{"hostPort":1,"containerPort":2,"hostIP":"x"}"#,
            r#"{"hostPort":1}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
