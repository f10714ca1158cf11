/// A short name for `parts`, the same on every machine and in every release: 26 letters and digits.
///
/// FNV-1a of 128 bits: names of links and bridges are made from it, and need no secrecy.
pub fn hash(parts: &[&str]) -> String {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let step = |hash: u128, byte: u8| (hash ^ u128::from(byte)).wrapping_mul(PRIME);
    // A byte that no name has keeps ("a", "bc") and ("ab", "c") apart.
    let mut hash = parts.iter().fold(OFFSET, |hash, part| step(part.bytes().fold(hash, step), 0xff));
    let mut text = String::with_capacity(26);
    for _ in 0..26 {
        text.push(char::from(b"0123456789abcdefghijklmnopqrstuv"[(hash & 31) as usize]));
        hash >>= 5;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::hash;

    #[test]
    fn stable_and_apart() {
        assert_eq!(hash(&["a", "b"]), hash(&["a", "b"]));
        assert_ne!(hash(&["a", "bc"]), hash(&["ab", "c"]));
        assert_eq!(hash(&[]).len(), 26);
        let many: std::collections::BTreeSet<_> =
            (0..10_000).map(|i| hash(&[&i.to_string()])[..11].to_owned()).collect();
        assert_eq!(many.len(), 10_000);
    }
}
