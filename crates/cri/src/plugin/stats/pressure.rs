//! Pressure stall information: how long tasks waited for CPU, memory, input and output.

use std::path::Path;

use super::counters::Reader;
use crate::contract::v1::{PsiData, PsiStats};

/// The pressure in the file of `resource` (`cpu`, `memory`, `io`); none with cgroups v1.
pub(crate) fn read(reader: &Reader, cgroup: &Path, resource: &str) -> Option<PsiStats> {
    if !reader.is_unified() {
        return None;
    }
    parse(&reader.text(resource, cgroup, &format!("{resource}.pressure"))?)
}

fn parse(text: &str) -> Option<PsiStats> {
    let line = |kind: &str| -> Option<PsiData> {
        let words = text.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(' '))?;
        let word = |key: &str| {
            words.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default()
        };
        let average = |key: &str| word(key).parse().unwrap_or(0.0);
        Some(PsiData {
            // The kernel counts microseconds.
            total: word("total").parse::<u64>().ok()? * 1000,
            avg10: average("avg10"),
            avg60: average("avg60"),
            avg300: average("avg300"),
        })
    };
    Some(PsiStats { full: line("full"), some: Some(line("some")?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines() {
        let text = "some avg10=1.50 avg60=0.10 avg300=0.00 total=1234\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=5\n";
        let stats = parse(text).unwrap();
        assert_eq!(stats.some.map(|s| (s.total, s.avg10)), Some((1_234_000, 1.5)));
        assert_eq!(stats.full.map(|s| s.total), Some(5000));
        assert_eq!(parse("nothing\n"), None);
    }
}
