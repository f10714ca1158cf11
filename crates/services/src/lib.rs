//! Services and DNS of a node: nftables maps in place of kube-proxy, names in place of CoreDNS.
//!
//! It never: looks at a packet itself, runs a program, or touches a table of others.
