//! On which links of this machine an address belongs.

use std::net::IpAddr;

use kernel::netlink::{self, IpNet, Mac, Socket};

/// Which links addresses are answered for on.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Links {
    /// Those with an address in the same network, else the way to everywhere.
    #[default]
    Fitting,
    /// All of these that are there.
    Named(Vec<String>),
}

/// A link that can take part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) mac: Mac,
    networks: Vec<IpNet>,
    is_default: [bool; 2],
}

impl Link {
    /// The addresses that the link has itself: its kernel answers for them.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.networks.iter().map(|net| net.address())
    }
}

/// The links that are there, up, and of Ethernet.
pub(crate) fn look(socket: &mut Socket) -> kernel::Result<Vec<Link>> {
    let all = netlink::links(socket)?;
    let addresses = netlink::addresses(socket, None)?;
    let routes = netlink::routes(socket)?;
    let leads_everywhere = |link: u32, is_ipv4: bool| {
        routes.iter().any(|route| {
            route.link == Some(link)
                && route.destination.prefix() == 0
                && route.destination.is_ipv4() == is_ipv4
        })
    };
    let of = |link: netlink::Link| {
        let mac = link
            .mac
            .filter(|_| link.is_running() && link.flags & NO_ARP == 0 && link.flags & LOOPBACK == 0)?;
        let networks = addresses.iter().filter(|one| one.link == link.index).map(|one| one.net).collect();
        let is_default = [true, false].map(|is_ipv4| leads_everywhere(link.index, is_ipv4));
        Some(Link { index: link.index, name: link.name, mac, networks, is_default })
    };
    Ok(all.into_iter().filter_map(of).collect())
}

const LOOPBACK: u32 = 0x8;
const NO_ARP: u32 = 0x80;

/// The numbers of the links on which an address belongs.
pub(crate) fn homes(address: IpAddr, links: &[Link], choice: &Links) -> Vec<u32> {
    let all =
        |is: &dyn Fn(&Link) -> bool| links.iter().filter(|link| is(link)).map(|link| link.index).collect();
    if let Links::Named(names) = choice {
        return all(&|link| names.contains(&link.name));
    }
    let is_in = |link: &Link| link.networks.iter().any(|net| net.prefix() > 0 && net.contains(address));
    let fitting: Vec<u32> = all(&is_in);
    match fitting.is_empty() {
        true => all(&|link| link.is_default[usize::from(address.is_ipv6())]),
        false => fitting,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, networks: &[&str], is_default: [bool; 2]) -> Link {
        let networks = networks.iter().map(|net| net.parse().unwrap()).collect();
        Link {
            index,
            name: format!("e{index}"),
            mac: Mac([2, 0, 0, 0, 0, index as u8]),
            networks,
            is_default,
        }
    }

    #[test]
    fn an_address_belongs_where_its_network_is_else_on_the_way_out() {
        let links = [
            link(1, &["192.0.2.5/24", "2001:db8::5/64"], [true, false]),
            link(2, &["198.51.100.5/24", "192.0.2.9/24"], [false, true]),
            link(3, &["10.0.0.1/0"], [false, false]),
        ];
        let homes = |address: &str, choice: &Links| homes(address.parse().unwrap(), &links, choice);
        assert_eq!(homes("192.0.2.77", &Links::Fitting), [1, 2]);
        assert_eq!(homes("198.51.100.77", &Links::Fitting), [2]);
        assert_eq!(homes("203.0.113.77", &Links::Fitting), [1]);
        assert_eq!(homes("2001:db8::77", &Links::Fitting), [1]);
        assert_eq!(homes("2001:db8:1::77", &Links::Fitting), [2]);
        assert_eq!(homes("192.0.2.77", &Links::Named(vec!["e3".into(), "e9".into()])), [3]);
    }
}
