//! Lists of CPUs and of memory nodes as the words that system calls take.

use crate::contract;
use crate::{Error, Result};

/// More than any kernel is built for.
const MOST: usize = 8192;

/// The bits of a list as in `0-3,7`; `field` is where it stands.
pub(super) fn mask(list: &str, field: &str) -> Result<Vec<u64>> {
    let mut words = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let ends = first.trim().parse::<usize>().ok().zip(last.trim().parse::<usize>().ok());
        let Some((first, last)) = ends.filter(|&(first, last)| first <= last && last < MOST) else {
            let rule = format!("must be a list of numbers below {MOST} and of ranges; write it as in 0-3,7");
            return Err(Error::Config(contract::Error::Invalid {
                field: field.into(),
                value: format!("{list:?}"),
                rule,
            }));
        };
        words.resize(words.len().max(last / 64 + 1), 0);
        for id in first..=last {
            words[id / 64] |= 1_u64 << (id % 64);
        }
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_become_bits() {
        assert_eq!(mask("", "x").unwrap(), [] as [u64; 0]);
        assert_eq!(mask("0-3,7", "x").unwrap(), [0x8f]);
        assert_eq!(mask("63-64, 130", "x").unwrap(), [1 << 63, 1, 4]);
        for bad in ["3-1", "a", "0-99999", "-1", "8192"] {
            let error = mask(bad, "process.execCPUAffinity.final").unwrap_err().to_string();
            assert!(error.contains("process.execCPUAffinity.final is "), "{error}");
        }
    }
}
