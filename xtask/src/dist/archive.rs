//! One archive of all that is laid out: the same bytes for the same files, whoever packs them, and when.

use std::path::Path;
use std::process::Command;

use crate::Result;
use crate::program::{call, read, root};

/// What everything in the archive is below.
const TOP: &str = "sextant";

/// Packs `folders` of `dir` into the file `archive`, compressed as its name says.
///
/// Names are in order, owners are root, times are those of the commit or of `SOURCE_DATE_EPOCH`.
pub(super) fn pack(dir: &Path, folders: &[&str], archive: &Path, time: u64) -> Result<()> {
    let mut tar = Command::new("tar");
    // Of the format's variants ustar alone has no times, ids and numbers of the machine that packs.
    tar.args(["--format=ustar", "--sort=name", "--owner=root:0", "--group=root:0", "--mode=a+rX,u+w,go-w"]);
    tar.arg(format!("--mtime=@{time}")).arg(format!("--transform=flags=rSh;s,^,{TOP}/,"));
    tar.args(compressor(archive)?).arg("--file").arg(archive);
    call(tar.arg("--directory").arg(dir).arg("--create").args(folders).env("LC_ALL", "C"))
}

/// tar's arguments for a compressor that puts neither name nor time into its output.
fn compressor(archive: &Path) -> Result<&'static [&'static str]> {
    let name = archive.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let compressors: [(&str, &[&str]); 4] = [
        (".tar", &[]),
        (".tar.gz", &["--use-compress-program=gzip --no-name -9"]),
        (".tar.xz", &["--use-compress-program=xz --threads=1 -9"]),
        (".tar.zst", &["--use-compress-program=zstd --quiet -19"]),
    ];
    let found = compressors.into_iter().find(|(end, _)| name.ends_with(end));
    let unknown = || format!("cannot pack {}: name it .tar, .tar.gz, .tar.xz or .tar.zst", archive.display());
    Ok(found.ok_or_else(unknown)?.1)
}

/// Seconds since 1970 that files in the archive are of: `SOURCE_DATE_EPOCH` if it is set, else the commit's.
pub(super) fn time() -> Result<u64> {
    if let Ok(text) = std::env::var("SOURCE_DATE_EPOCH") {
        return text.parse().map_err(|e| format!("SOURCE_DATE_EPOCH is {text:?}: {e}").into());
    }
    let tree = root();
    let words = ["-C".as_ref(), tree.as_os_str(), "log".as_ref(), "-1".as_ref(), "--format=%ct".as_ref()];
    // An unpacked archive of the sources has no history.
    let time = read("git", words).ok().and_then(|text| text.trim().parse().ok());
    Ok(time.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;

    /// A tree of three names for two files, with `mode` for all it has; made in the order of `names`.
    fn tree(names: [&str; 2], mode: u32) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, name).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            // Only root can; anybody else's files are not root's anyway.
            let _ = std::os::unix::fs::chown(&path, Some(1000), Some(1000));
        }
        fs::hard_link(dir.path().join("bin/b"), dir.path().join("bin/a")).unwrap();
        dir
    }

    #[test]
    fn the_same_files_are_the_same_archive() {
        let out = tempfile::tempdir().unwrap();
        let trees = [tree(["bin/b", "man/m"], 0o700), tree(["man/m", "bin/b"], 0o770)];
        for end in ["tar", "tar.gz", "tar.xz", "tar.zst"] {
            let archives = [0, 1].map(|which| {
                let archive = out.path().join(format!("{which}.{end}"));
                pack(trees[which].path(), &["bin", "man"], &archive, 1_700_000_000).unwrap();
                fs::read(archive).unwrap()
            });
            assert!(archives[0] == archives[1], "{end} differs");
        }
    }

    #[test]
    fn an_archive_holds_the_tree_below_one_directory() {
        let out = tempfile::tempdir().unwrap();
        let archive = out.path().join("x.tar.gz");
        let tree = tree(["bin/b", "man/m"], 0o711);
        fs::write(tree.path().join("not-ours"), "").unwrap();
        pack(tree.path(), &["bin", "man"], &archive, 1_700_000_000).unwrap();
        let long = read("tar", ["--numeric-owner".as_ref(), "-tvf".as_ref(), archive.as_os_str()]).unwrap();
        assert!(long.lines().all(|line| line.split_whitespace().nth(1) == Some("0/0")), "{long}");
        let list = read("tar", ["--list".as_ref(), "--file".as_ref(), archive.as_os_str()]).unwrap();
        let names: Vec<&str> = list.lines().collect();
        assert_eq!(
            names,
            ["sextant/bin/", "sextant/bin/a", "sextant/bin/b", "sextant/man/", "sextant/man/m"]
        );
        call(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(out.path())).unwrap();
        let [a, b] = ["a", "b"].map(|name| fs::metadata(out.path().join("sextant/bin").join(name)).unwrap());
        assert_eq!((a.ino(), a.mtime(), a.mode() & 0o777), (b.ino(), 1_700_000_000, 0o755));
    }

    #[test]
    fn a_name_that_says_no_format_is_refused() {
        assert!(compressor(Path::new("sextant.zip")).is_err());
        assert!(compressor(Path::new("sextant.tar")).unwrap().is_empty());
    }
}
