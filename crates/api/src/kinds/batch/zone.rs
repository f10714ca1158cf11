//! Names of time zones.

use std::path::Path;

/// Where systems keep the time zone database.
const DATABASES: &[&str] =
    &["/usr/share/zoneinfo", "/usr/share/lib/zoneinfo", "/usr/lib/locale/TZ", "/etc/zoneinfo"];

/// Says whether the machine knows the time zone `name`. A machine without a database knows none and takes each that is
/// well formed.
///
/// # Errors
/// `unknown time zone x`.
pub(super) fn load(name: &str) -> Result<(), String> {
    if matches!(name, "" | "UTC" | "Local") {
        return Ok(());
    }
    if name.starts_with('/') || name.contains("..") || name.contains('\\') {
        return Err("time: invalid location name".to_owned());
    }
    let mut databases = DATABASES.iter().map(Path::new).filter(|folder| folder.is_dir()).peekable();
    if databases.peek().is_none() || databases.any(|folder| is_zone(&folder.join(name))) {
        return Ok(());
    }
    Err(format!("unknown time zone {name}"))
}

/// Whether the file begins as those of the database do (RFC 9636).
fn is_zone(path: &Path) -> bool {
    use std::io::Read as _;
    let mut magic = [0; 4];
    std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *b"TZif"
}

/// Whether a part between the slashes of a name may stand there.
pub(super) fn is_part(part: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'+');
    !matches!(part, "." | "..")
        && !part.starts_with('-')
        && (1..=14).contains(&part.len())
        && part.bytes().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_none() {
        assert_eq!(load("UTC"), Ok(()));
        assert_eq!(load("/etc/passwd"), Err("time: invalid location name".to_owned()));
        if DATABASES.iter().any(|folder| Path::new(folder).is_dir()) {
            assert_eq!(load("Nowhere/Land"), Err("unknown time zone Nowhere/Land".to_owned()));
        }
        assert!(is_part("Europe") && !is_part("..") && !is_part("-x") && !is_part("a-very-long-name"));
    }
}
