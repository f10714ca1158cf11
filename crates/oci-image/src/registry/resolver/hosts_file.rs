//! `/etc/hosts` (hosts(5)): address, then names; `#` begins a comment.

use std::net::IpAddr;

/// Every address that `text` gives `name`, in order; lines that cannot be read are skipped, as the C library does.
pub fn addresses(text: &[u8], name: &str) -> Vec<IpAddr> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let mut found = Vec::new();
    for line in String::from_utf8_lossy(text).lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else { continue };
        if words.any(|word| word.eq_ignore_ascii_case(name)) && !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_aliases_comments_and_junk() {
        let text = b"127.0.0.1 localhost # a b\n::1\tlocalhost ip6 \n\xff\xfe junk\n10.0.0.1 Reg.Example reg #reg2\n";
        assert_eq!(addresses(text, "localhost").len(), 2);
        assert_eq!(addresses(text, "REG"), ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(addresses(text, "reg.example.").len(), 1);
        assert!(addresses(text, "reg2").is_empty());
        assert!(addresses(text, "b").is_empty());
    }
}
