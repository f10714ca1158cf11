//! A command, and what it has to say.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::program::Program;
use crate::Result;
use crate::program::output;

/// Files that the steps name, laid into the folder they run in.
const FILES: &[(&str, &str)] = &[
    ("all.yaml", include_str!("files/all.yaml")),
    ("cm.yaml", include_str!("files/cm.yaml")),
    ("crd.yaml", include_str!("files/crd.yaml")),
    ("csr.yaml", include_str!("files/csr.yaml")),
    ("deploy.yaml", include_str!("files/deploy.yaml")),
    ("policy.yaml", include_str!("files/policy.yaml")),
    ("rbac.yaml", include_str!("files/rbac.yaml")),
    ("widget.yaml", include_str!("files/widget.yaml")),
    ("kust/kustomization.yaml", include_str!("files/kustomization.yaml")),
];

/// Applies what `$SED` says to the file it is given: an editor without hands.
const EDITOR: &str = "#!/bin/sh\nexec sed -i \"$SED\" \"$1\"\n";

/// Longer than any step takes on a machine that does much else.
const SECONDS: &str = "400";

/// See the module. Expected lines are compared with runs of blanks made one; `*` stands for anything. They have to come in this
/// order, with others between them; `- LINE` says that no line may be so. Without any the command has to say nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    command: &'static str,
    code: i32,
    says: &'static [&'static str],
    /// Of 1.x, both in it.
    since: u32,
    until: u32,
}

/// A command that succeeds.
pub(in crate::interop) const fn ok(command: &'static str, says: &'static [&'static str]) -> Step {
    fails(command, 0, says)
}

/// A command that ends with a code.
pub(super) const fn fails(command: &'static str, code: i32, says: &'static [&'static str]) -> Step {
    Step { command, code, says, since: 0, until: u32::MAX }
}

impl Step {
    /// Only for kubectls from 1.x on.
    pub(super) const fn since(mut self, minor: u32) -> Self {
        self.since = minor;
        self
    }

    /// Only for kubectls up to 1.x.
    pub(super) const fn until(mut self, minor: u32) -> Self {
        self.until = minor;
        self
    }

    pub(super) fn is_for(&self, program: &Program) -> bool {
        (self.since..=self.until).contains(&program.minor)
    }

    /// Whether a command that ended so did what it should.
    fn judge(&self, code: Option<i32>, said: &str) -> Result<(), String> {
        if code != Some(self.code) {
            return Err(format!("ended with {code:?}, not {}", self.code));
        }
        let lines: Vec<String> = said.lines().map(plain).filter(|line| !line.is_empty()).collect();
        if self.says.is_empty() && !lines.is_empty() {
            return Err("had to say nothing".into());
        }
        let mut rest = lines.iter();
        for wanted in self.says {
            match wanted.strip_prefix("- ") {
                Some(never) if lines.iter().any(|line| matches(&plain(never), line)) => {
                    return Err(format!("may not say {never:?}"));
                }
                Some(_) => {}
                None if rest.any(|line| matches(&plain(wanted), line)) => {}
                None => return Err(format!("does not say {wanted:?} (in its place)")),
            }
        }
        Ok(())
    }
}

/// Runs of blanks are one.
fn plain(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether `line` is as `pattern` says; `*` is anything, also nothing.
fn matches(pattern: &str, line: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == line };
    let Some(line) = line.strip_prefix(head) else { return false };
    line.char_indices().map(|(at, _)| at).chain([line.len()]).any(|at| matches(rest, &line[at..]))
}

/// Where steps run: files, a kubeconfig of its own, and the kubectl in question under that name; and in which network, if not in this one.
pub(in crate::interop) struct Folder {
    dir: PathBuf,
    path: String,
    network: Option<String>,
}

impl Folder {
    pub(in crate::interop) fn new(
        above: &Path,
        kubeconfig: &Path,
        program: &Program,
        network: Option<String>,
    ) -> Result<Self> {
        let dir = above.join("walk");
        for (name, text) in FILES {
            let file = dir.join(name);
            std::fs::create_dir_all(file.parent().unwrap_or(&dir))?;
            std::fs::write(file, text)?;
        }
        executable(&dir.join("editor"), EDITOR)?;
        std::fs::copy(kubeconfig, dir.join("config"))?;
        std::fs::create_dir(dir.join("bin"))?;
        std::os::unix::fs::symlink(&program.path, dir.join("bin/kubectl"))?;
        let path = format!("{}:{}", dir.join("bin").display(), std::env::var("PATH").unwrap_or_default());
        Ok(Self { dir, path, network })
    }

    /// Runs a step and judges it.
    pub(super) fn take(&self, step: &Step) -> Result<(), String> {
        let mut shell = match &self.network {
            None => Command::new("timeout"),
            Some(network) => {
                let mut within = Command::new("nsenter");
                within.arg(format!("--net={network}")).args(["--", "timeout"]);
                within
            }
        };
        shell.args(["--kill-after", "5", SECONDS, "bash", "-c", step.command]).current_dir(&self.dir);
        shell.env_clear().env("PATH", &self.path).env("HOME", &self.dir).env("LC_ALL", "C.UTF-8");
        shell.env("KUBECONFIG", self.dir.join("config")).env("EDITOR", self.dir.join("editor"));
        let output = output(&mut shell).map_err(|e| e.to_string())?;
        let words = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let said = words.join("\n");
        step.judge(output.status.code(), &said)
            .map_err(|why| format!("$ {}\n{why}; it said:\n{said}", step.command))
    }
}

fn executable(path: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text)?;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_and_in_order() {
        let step = ok("x", &["a  1", "b *", "- c*"]);
        assert_eq!(step.judge(Some(0), "z\na 1\n\nb    2\n"), Ok(()));
        for (code, said) in [
            (Some(1), "a 1\nb 2"),
            (None, "a 1\nb 2"),
            (Some(0), "a 11\nb 2"),
            (Some(0), "b 2\na 1"),
            (Some(0), "a 1\nb 2\nc"),
        ] {
            assert!(step.judge(code, said).is_err(), "{said}");
        }
        assert!(ok("x", &[]).judge(Some(0), "anything").is_err());
        assert_eq!(fails("x", 1, &[]).judge(Some(1), " \n"), Ok(()));
    }

    #[test]
    fn a_star_is_anything() {
        assert!(matches("a*c*", "abbcd") && matches("*", "") && matches("a*", "a"));
        assert!(!matches("a*c", "abcd") && !matches("a", "ab"));
    }
}
