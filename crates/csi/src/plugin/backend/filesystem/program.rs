//! The programs of others that make, check and enlarge file systems that are not mounted.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use grpc::Failure;

use super::kind::Kind;
use super::size::{BTRFS_MIXED_BELOW, ext4_journal};
use crate::plugin::backend::encryption::Encryption;

/// Where they are besides what PATH says: a daemon's may lack them.
const PLACES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// Makes an empty file system in an image or on a device, whose every byte is zero, unless dm-crypt has made something else of
/// zeros.
pub(in crate::plugin::backend) fn make(
    kind: Kind,
    image: &Path,
    capacity: u64,
    encryption: Encryption,
) -> Result<(), Failure> {
    let arguments: &[&str] = match kind {
        Kind::Block => return Ok(()),
        Kind::Ext4 => return make_ext4(image, capacity, encryption),
        // Sectors of 4 KiB, so that it is mounted from disks of either size; laid out as in a file on devices, too.
        Kind::Xfs => {
            &["-q", "-f", "-K", "-d", "noalign", "-s", "size=4096", "-l", "size=64m", "-m", "reflink=1"]
        }
        Kind::Btrfs if capacity < BTRFS_MIXED_BELOW => {
            &["-q", "-f", "-K", "-M", "-s", "4096", "-m", "single", "-d", "single"]
        }
        Kind::Btrfs => &["-q", "-f", "-K", "-s", "4096", "-m", "single", "-d", "single"],
    };
    let name = if kind == Kind::Xfs { "mkfs.xfs" } else { "mkfs.btrfs" };
    let said = run(name, arguments.iter().map(OsStr::new).chain([image.as_os_str()]))?;
    if said.status.success() { Ok(()) } else { Err(failed(name, "make a file system in", image, &said)) }
}

fn make_ext4(image: &Path, capacity: u64, encryption: Encryption) -> Result<(), Failure> {
    let journal = format!("size={}", ext4_journal(capacity) >> 20);
    // The first knows that the image is zero, and leaves nothing to be written later; older programs do not know it.
    let ways: &[&str] = match encryption {
        Encryption::DmCrypt => &["nodiscard,lazy_itable_init=1"],
        _ => &["nodiscard,assume_storage_prezeroed=1", "nodiscard,lazy_itable_init=1,lazy_journal_init=1"],
    };
    let mut last = None;
    for extended in ways {
        let mut arguments = vec![
            "-q", "-F", "-b", "4096", "-I", "256", "-i", "16384", "-m", "0", "-J", &journal, "-E", extended,
        ];
        if encryption == Encryption::Fscrypt {
            arguments.extend(["-O", "encrypt"]);
        }
        let said = run("mkfs.ext4", arguments.iter().map(OsStr::new).chain([image.as_os_str()]))?;
        if said.status.success() {
            return Ok(());
        }
        let unknown = String::from_utf8_lossy(&said.stderr).contains("Bad option(s) specified");
        last = Some(failed("mkfs.ext4", "make a file system in", image, &said));
        if !unknown {
            break;
        }
    }
    last.map_or(Ok(()), Err)
}

/// Mends an ext4 that has found itself damaged, as far as that is safe without a person.
pub(in crate::plugin::backend) fn check_ext4(image: &Path) -> Result<(), Failure> {
    let said = run("fsck.ext4", [OsStr::new("-p"), image.as_os_str()])?;
    // 1 and 2: errors were corrected.
    match said.status.code() {
        Some(0..=2) => Ok(()),
        _ => {
            let hint = "run fsck.ext4 by hand: it wants decisions";
            let mut failure = failed("fsck.ext4", "mend", image, &said);
            failure.message = format!("{}; {hint}", failure.message);
            Err(failure)
        }
    }
}

/// Has an ext4 that is not mounted fill its image. Who is killed meanwhile may leave it half moved.
pub(in crate::plugin::backend) fn resize_ext4(image: &Path) -> Result<(), Failure> {
    let said = run("resize2fs", [OsStr::new("-f"), image.as_os_str()])?;
    if said.status.success() {
        Ok(())
    } else {
        Err(failed("resize2fs", "grow the file system in", image, &said))
    }
}

/// Whether the program is here that makes such a file system.
pub(in crate::plugin::backend) fn can_make(kind: Kind) -> bool {
    kind == Kind::Block || find(&format!("mkfs.{}", kind.name())).is_some()
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(PLACES.iter().map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}

fn run<'a>(name: &str, arguments: impl IntoIterator<Item = &'a OsStr>) -> Result<Output, Failure> {
    let Some(program) = find(name) else {
        let package = match name {
            "mkfs.xfs" => "xfsprogs",
            "mkfs.btrfs" => "btrfs-progs",
            _ => "e2fsprogs",
        };
        return Err(Failure::precondition(format!("cannot run {name}: it is not here; install {package}")));
    };
    let mut command = Command::new(&program);
    command.args(arguments).env("LC_ALL", "C").stdin(Stdio::null());
    kernel::command::dies_with_thread(&mut command);
    command.output().map_err(|e| Failure::internal(format!("cannot run {}: {e}", program.display())))
}

fn failed(name: &str, act: &str, image: &Path, said: &Output) -> Failure {
    let text = String::from_utf8_lossy(if said.stderr.is_empty() { &said.stdout } else { &said.stderr });
    let text: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let text: String = text.join("; ").chars().take(1000).collect();
    Failure::internal(format!("cannot {act} {}: {name}: {}: {text}", image.display(), said.status))
}
