//! Rules about Rust files: where `unsafe` may be, what a crate's documentation says, words that must not stay.

use std::path::{Path, PathBuf};

use super::{Finding, text};
use crate::{Result, codegen};

const FORBIDDEN_NAMES: &[&str] = &["util", "utils", "common", "manager"];
/// Programs whose work the product does itself.
const FORBIDDEN_PROGRAMS: &[&str] = &[
    "ip",
    "nft",
    "iptables",
    "ip6tables",
    "mount",
    "umount",
    "losetup",
    "tar",
    "gzip",
    "zstd",
    "modprobe",
    "sh",
];
/// Where the product executes programs of others at all: CNI and NRI plugins, credential helpers, hooks, containerd's
/// loggers, other OCI runtimes and shims by handler, and AppArmor's compiler of profiles (the kernel takes compiled ones alone).
const EXECUTES: &[&str] = &[
    "crates/cni/src/caller/exec.rs",
    "crates/cri/src/plugin/container/spec/apparmor.rs",
    "crates/cri/src/plugin/handlers/features.rs",
    "crates/cri/src/plugin/nri/launch.rs",
    "crates/csi/src/plugin/backend/filesystem/program.rs",
    "crates/oci-image/src/registry/credentials/helper.rs",
    "crates/oci-runtime/src/hooks.rs",
    "crates/sextant/src/commands/up/programs.rs",
    "crates/shim/src/server/runtime/call.rs",
    "crates/shim/src/server/task/io.rs",
];
const LONG: usize = 500;

pub(super) fn check(files: &[PathBuf]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in files {
        let text = text(file)?;
        let code = code(&text);
        check_name(file, &mut findings);
        if is_crate_root(file) {
            check_crate_docs(file, &text, &mut findings);
        }
        let mut tests = is_test(file);
        for (number, (line, code)) in text.lines().zip(code.lines()).enumerate() {
            let place = format!("{}:{}", file.display(), number + 1);
            tests |= code.trim() == "#[cfg(test)]";
            let broken = check_line(file, line, code, tests);
            findings.extend(broken.into_iter().map(|what| Finding::new(&place, what)));
        }
    }
    Ok(findings)
}

/// Whether the whole file is for tests or by way of example.
fn is_test(file: &Path) -> bool {
    let within = |dir: &str| file.components().any(|part| part.as_os_str() == dir);
    within("tests") || within("examples") || file.ends_with("tests.rs")
}

fn check_line(file: &Path, line: &str, code: &str, tests: bool) -> Vec<String> {
    let mut broken = Vec::new();
    let words = || code.split(|c: char| !c.is_alphanumeric() && c != '_');
    if !file.starts_with("crates/kernel") && words().any(|word| word == "unsafe") {
        broken.push("unsafe belongs into crates/kernel".into());
    }
    for mark in [["TO", "DO"], ["FIX", "ME"], ["XX", "X"]].map(|halves| halves.concat()) {
        if line.split(|c: char| !c.is_alphanumeric()).any(|word| word == mark) {
            broken.push(format!("{mark}: do it, or open an issue"));
        }
    }
    for call in ["dbg!(", "todo!(", "unimplemented!("] {
        if code.contains(call) {
            broken.push(format!("{call}...) must not stay"));
        }
    }
    let product = file.starts_with("crates") && !file.starts_with("crates/testkit");
    let executes = ["Command::new(", "spawn_path("].iter().any(|call| code.contains(call));
    if product && !tests && executes {
        if !EXECUTES.iter().any(|allowed| file == Path::new(allowed)) && !file.starts_with("crates/kernel") {
            broken.push(
                "the product executes programs in few places: this is none of them (EXECUTES in tidy)".into(),
            );
        }
        let forked = line.split("Command::new(\"").nth(1).and_then(|rest| rest.split('"').next());
        if let Some(program) = forked.filter(|program| FORBIDDEN_PROGRAMS.contains(program)) {
            broken.push(format!("the product forks no {program}: ask the kernel itself"));
        }
    }
    broken
}

fn check_name(file: &Path, findings: &mut Vec<Finding>) {
    let parts = file.with_extension("");
    let bad = parts.iter().filter_map(|part| part.to_str()).find(|part| FORBIDDEN_NAMES.contains(part));
    if let Some(bad) = bad {
        findings.push(Finding::new(file.display(), format!("no module is named {bad}: say what it does")));
    }
}

fn is_crate_root(file: &Path) -> bool {
    let parts: Vec<_> = file.iter().filter_map(|part| part.to_str()).collect();
    matches!(parts.as_slice(), ["crates", _, "src", "lib.rs"] | ["xtask", "src", "main.rs"])
        || (file.ends_with("src/main.rs") && !file.with_file_name("lib.rs").exists())
}

fn check_crate_docs(file: &Path, text: &str, findings: &mut Vec<Finding>) {
    let docs: String = text.lines().take_while(|line| line.starts_with("//!")).collect::<Vec<_>>().join("\n");
    if docs.is_empty() {
        findings
            .push(Finding::new(file.display(), "a crate starts with //!: what it does, what it never does"));
    } else if !docs.contains("never") {
        findings.push(Finding::new(file.display(), "the crate's //! must say what it never does"));
    }
}

/// Prints the files that are long enough to ask whether they do one thing; nobody reads what is generated.
pub(super) fn report_lengths(files: &[PathBuf]) -> Result<()> {
    let mut lengths = Vec::new();
    for file in files {
        let text = text(file)?;
        if !text.starts_with(codegen::MARKER) {
            lengths.push((text.lines().count(), file));
        }
    }
    lengths.sort_unstable();
    let median = lengths.get(lengths.len() / 2).map_or(0, |(lines, _)| *lines);
    println!("{} Rust files, {median} lines in the median", lengths.len());
    for (lines, file) in lengths.iter().rev().take_while(|(lines, _)| *lines > LONG) {
        println!("  {lines} lines: {}", file.display());
    }
    Ok(())
}

/// The text with the insides of comments, strings and characters blanked; lines stay lines.
fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = opaque(rest).unwrap_or(0);
        if length == 0 {
            // A whole word at once, so that the `r` of `for"` is no raw string.
            let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let taken = word.max(first.len_utf8());
            let (head, tail) = rest.split_at(taken);
            out.push_str(head);
            rest = tail;
        } else {
            let (hidden, tail) = rest.split_at(length.min(rest.len()));
            out.extend(hidden.chars().map(|c| if c == '\n' { c } else { ' ' }));
            rest = tail;
        }
    }
    out
}

/// How long the comment, string or character is that `text` starts with.
fn opaque(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return Some(text.find("*/").map_or(text.len(), |at| at + 2));
    }
    let raw = text.strip_prefix('b').unwrap_or(text);
    if let Some(raw) = raw.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw.get(hashes..).is_some_and(|quoted| quoted.starts_with('"')) {
            let end = format!("\"{}", "#".repeat(hashes));
            let body = text.len() - raw.len() + hashes + 1;
            return text.get(body..)?.find(&end).map(|at| body + at + end.len());
        }
    }
    let prefix =
        if text.starts_with("b\"") || text.starts_with("c\"") || text.starts_with("b'") { 1 } else { 0 };
    let quoted = text.get(prefix..)?;
    if quoted.starts_with('"') {
        return Some(prefix + 1 + closing(quoted.get(1..)?, '"') + 1);
    }
    if quoted.starts_with('\'') {
        // A lifetime has no closing quote right after its first character.
        let inner = quoted.get(1..)?;
        let one = inner.chars().next()?.len_utf8();
        if inner.starts_with('\\') || inner.get(one..).is_some_and(|after| after.starts_with('\'')) {
            return Some(prefix + 1 + closing(inner, '\'') + 1);
        }
    }
    None
}

/// Where the quote is that closes, past escapes.
fn closing(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_strings_and_characters_are_blanked() {
        let blank = |text: &str| code(text).split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(blank("a // unsafe\nb"), "a b");
        assert_eq!(blank("a /* unsafe */ b"), "a b");
        assert_eq!(blank(r#"f("unsafe \" unsafe", 'u', '\'', b"unsafe") x"#), "f( , , , ) x");
        assert_eq!(blank("f(r#\"unsafe \" unsafe\"#) x"), "f( ) x");
        assert_eq!(blank("fn f<'a>(x: &'a str) { unsafe {} }"), "fn f<'a>(x: &'a str) { unsafe {} }");
        assert_eq!(code("\"a\nb\" c").lines().count(), 2);
    }

    #[test]
    fn broken_rules_are_found() {
        let broken = |file: &str, line: &str| {
            check_line(Path::new(file), line, &code(line), is_test(Path::new(file))).len()
        };
        assert_eq!(broken("crates/cni/src/lib.rs", "unsafe { x() }"), 1);
        assert_eq!(broken("crates/kernel/src/lib.rs", "unsafe { x() }"), 0);
        assert_eq!(broken("crates/cni/src/lib.rs", "#![forbid(unsafe_code)]"), 0);
        assert_eq!(broken("crates/cni/src/lib.rs", "Command::new(\"nft\")"), 2);
        assert_eq!(broken("crates/cni/src/lib.rs", "Command::new(path)"), 1);
        assert_eq!(broken("crates/cni/src/caller/exec.rs", "Command::new(path)"), 0);
        assert_eq!(broken("crates/cni/examples/x.rs", "Command::new(path)"), 0);
        assert_eq!(broken("crates/cni/tests/x.rs", "Command::new(\"nft\")"), 0);
        assert_eq!(broken("xtask/src/main.rs", &["// TO", "DO later"].concat()), 1);
    }
}
