//! Relative links in the documents lead somewhere.

use std::path::{Path, PathBuf};

use super::{Finding, text};
use crate::Result;
use crate::program::root;

pub(super) fn check(files: &[PathBuf]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in files {
        for (number, line) in text(file)?.lines().enumerate() {
            for target in targets(line) {
                let path = target.split('#').next().unwrap_or_default();
                let from = file.parent().unwrap_or(Path::new(""));
                if !path.is_empty() && !root().join(from).join(path).exists() {
                    let place = format!("{}:{}", file.display(), number + 1);
                    findings.push(Finding::new(place, format!("links to {path}, which is not there")));
                }
            }
        }
    }
    Ok(findings)
}

/// What the line's inline links point at, without those that leave the checkout.
fn targets(line: &str) -> Vec<&str> {
    let links = line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
    links.filter(|target| !target.contains("://") && !target.starts_with(['#', '/', '<'])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_links_into_the_checkout_are_followed() {
        let line = "[a](docs/a.md#x) ![b](b.png \"t\") [c](https://x.y/) [d](#here) (not](a)";
        assert_eq!(targets(line), ["docs/a.md#x", "b.png", "a"]);
    }
}
