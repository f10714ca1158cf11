//! `-v`, `--mount` and `--tmpfs`.

use std::fs;
use std::path::{Component, Path, PathBuf};

use oci_runtime::contract::Mount;

use crate::cli::RunArgs;
use crate::failure::{Context, Failure, Result};
use crate::instance::Instance;

/// The mounts a person asked for, and the names of the volumes among them.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) mounts: Vec<Mount>,
    pub(super) volumes: Vec<String>,
}

enum From {
    Directory(PathBuf),
    Volume(String),
}

pub(super) fn plan(instance: &Instance, args: &RunArgs) -> Result<Asked> {
    let mut asked = Asked::default();
    for text in &args.volume {
        asked.volume(instance, text)?;
    }
    for text in &args.mount {
        asked.long(instance, text)?;
    }
    for text in &args.tmpfs {
        let (target, options) = text.split_once(':').unwrap_or((text, ""));
        let options: Vec<&str> = options.split(',').filter(|o| !o.is_empty()).collect();
        if let Some(unknown) = options.iter().find(|o| !is_tmpfs_option(o)) {
            return Err(wrong(
                "--tmpfs",
                text,
                &format!("no option {unknown:?}; size=64m and mode=700 are the usual ones"),
            ));
        }
        asked.mounts.push(tmpfs(&absolute("--tmpfs", text, target)?, options.into_iter()));
    }
    Ok(asked)
}

fn wrong(option: &str, text: &str, hint: &str) -> Failure {
    Failure::new(format!("cannot use {option} {text:?}: {hint}")).with_code(125)
}

fn absolute(option: &str, text: &str, target: &str) -> Result<String> {
    let path = Path::new(target);
    if !path.is_absolute() || path.components().any(|c| matches!(c, Component::ParentDir)) {
        return Err(wrong(option, text, &format!("{target:?} must be a path from / without '..'")));
    }
    if path == Path::new("/") {
        return Err(wrong(option, text, "the container's root cannot be mounted on"));
    }
    Ok(target.to_owned())
}

fn tmpfs<'a>(target: &str, options: impl Iterator<Item = &'a str>) -> Mount {
    let mut all: Vec<String> = ["nosuid", "nodev"].map(str::to_owned).to_vec();
    all.extend(options.map(str::to_owned));
    Mount {
        destination: target.into(),
        kind: "tmpfs".into(),
        source: "tmpfs".into(),
        options: all,
        ..Mount::default()
    }
}

/// What tmpfs(5) has, and the flags of every mount.
fn is_tmpfs_option(option: &str) -> bool {
    match option.split_once('=') {
        Some((key, value)) => {
            !value.is_empty()
                && matches!(
                    key,
                    "size" | "mode" | "uid" | "gid" | "nr_inodes" | "nr_blocks" | "huge" | "mpol"
                )
        }
        None => matches!(
            option,
            "ro" | "rw"
                | "exec"
                | "noexec"
                | "suid"
                | "nosuid"
                | "dev"
                | "nodev"
                | "sync"
                | "noswap"
                | "atime"
                | "noatime"
                | "diratime"
                | "nodiratime"
                | "relatime"
                | "norelatime"
                | "strictatime"
        ),
    }
}

impl Asked {
    /// `FROM:TO[:OPTIONS]`.
    fn volume(&mut self, instance: &Instance, text: &str) -> Result<()> {
        let hint =
            "give FROM:TO or FROM:TO:ro, where FROM is a path (beginning with / or .) or a volume's name";
        let mut parts = text.split(':');
        let (Some(from), Some(to)) = (parts.next().filter(|f| !f.is_empty()), parts.next()) else {
            return Err(wrong("--volume", text, hint));
        };
        let options = parts.next().unwrap_or_default();
        if parts.next().is_some() {
            return Err(wrong("--volume", text, hint));
        }
        let from = if from.starts_with(['/', '.', '~']) {
            From::Directory(PathBuf::from(from))
        } else {
            From::Volume(from.to_owned())
        };
        let target = absolute("--volume", text, to)?;
        let mut all = Vec::new();
        for option in options.split(',').filter(|o| !o.is_empty()) {
            match option {
                "ro" | "rw" | "rprivate" | "private" | "rslave" | "slave" | "rshared" | "shared"
                | "noexec" | "nosuid" | "nodev" | "rro" => all.push(option.to_owned()),
                // Labels for SELinux, which this machine's mounts do not need.
                "z" | "Z" => {}
                other => {
                    return Err(wrong(
                        "--volume",
                        text,
                        &format!("no option {other:?}; ro and rw are the usual ones"),
                    ));
                }
            }
        }
        self.bind(instance, "--volume", text, from, target, all, true)
    }

    /// `type=bind,source=...,target=...[,readonly]`.
    fn long(&mut self, instance: &Instance, text: &str) -> Result<()> {
        let (mut kind, mut source, mut target, mut options) = ("volume", None, None, Vec::new());
        for field in text.split(',') {
            let (key, value) = field.split_once('=').map_or((field, None), |(k, v)| (k, Some(v)));
            match (key, value) {
                ("type", Some(value)) => kind = value,
                ("source" | "src", Some(value)) => source = Some(value),
                ("target" | "dst" | "destination", Some(value)) => target = Some(value),
                ("readonly" | "ro", None | Some("true" | "1")) => options.push("ro".to_owned()),
                ("readonly" | "ro", Some("false" | "0")) => {}
                ("bind-propagation", Some(value)) => options.push(value.to_owned()),
                ("tmpfs-size", Some(value)) => options.push(format!("size={value}")),
                ("tmpfs-mode", Some(value)) => options.push(format!("mode={value}")),
                _ => return Err(wrong("--mount", text, &format!("no field {field:?}"))),
            }
        }
        let target = target.ok_or_else(|| wrong("--mount", text, "target=PATH is missing"))?;
        let target = absolute("--mount", text, target)?;
        let needed = |what: &str| wrong("--mount", text, &format!("source={what} is missing"));
        match kind {
            "tmpfs" => {
                self.mounts.push(tmpfs(&target, options.iter().map(String::as_str)));
                Ok(())
            }
            "bind" => {
                let from = From::Directory(source.ok_or_else(|| needed("PATH"))?.into());
                self.bind(instance, "--mount", text, from, target, options, false)
            }
            "volume" => {
                let from = From::Volume(source.ok_or_else(|| needed("NAME"))?.to_owned());
                self.bind(instance, "--mount", text, from, target, options, false)
            }
            other => Err(wrong("--mount", text, &format!("no type {other:?}; give bind, volume or tmpfs"))),
        }
    }

    fn bind(
        &mut self,
        instance: &Instance,
        option: &str,
        text: &str,
        from: From,
        target: String,
        mut options: Vec<String>,
        make: bool,
    ) -> Result<()> {
        let source = match from {
            From::Directory(path) => {
                if make && !path.exists() {
                    // As Docker does for -v, and not for --mount.
                    fs::create_dir_all(&path)
                        .context(|| format!("create {} for {option} {text:?}", path.display()))?;
                }
                fs::canonicalize(&path)
                    .map_err(|e| wrong(option, text, &format!("{} cannot be opened: {e}", path.display())))?
            }
            From::Volume(name) => {
                super::ids::check_name(&name)
                    .map_err(|_| wrong(option, text, "that is no name for a volume"))?;
                let path = instance.data.join("volumes").join(&name);
                fs::create_dir_all(&path).context(|| format!("create the volume {name}"))?;
                self.volumes.push(name);
                path
            }
        };
        options.insert(0, "rbind".into());
        if options.iter().rfind(|o| matches!(o.as_str(), "ro" | "rw")).is_some_and(|o| o == "ro") {
            // A read-only directory is read-only with what is mounted below it.
            options.push("rro".into());
        }
        let source = source.to_str().ok_or_else(|| wrong(option, text, "the path is not UTF-8"))?.to_owned();
        self.mounts.push(Mount {
            destination: target,
            kind: "bind".into(),
            source,
            options,
            ..Mount::default()
        });
        Ok(())
    }
}
