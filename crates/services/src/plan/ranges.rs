use kernel::netlink::IpNet;

/// The same addresses without a network that another contains: the kernel takes no two that overlap.
pub fn disjoint(nets: impl IntoIterator<Item = IpNet>) -> Vec<IpNet> {
    let mut nets: Vec<IpNet> = nets.into_iter().map(IpNet::network).collect();
    nets.sort_by_key(|net| (net.prefix(), net.address()));
    let mut kept: Vec<IpNet> = Vec::new();
    for net in nets {
        if !kept.iter().any(|wider| wider.is_ipv4() == net.is_ipv4() && wider.contains(net.address())) {
            kept.push(net);
        }
    }
    kept
}
