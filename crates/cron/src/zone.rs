//! Time zones of the machine's database, by their names.

use std::path::Path;

use jiff::tz::TimeZone;

/// Where systems keep the time zone database.
const DATABASES: &[&str] =
    &["/usr/share/zoneinfo", "/usr/share/lib/zoneinfo", "/usr/lib/locale/TZ", "/etc/zoneinfo"];

/// Says whether the machine knows the time zone `name`. A machine without a database knows none and takes each that is
/// well formed.
///
/// # Errors
/// `unknown time zone x`.
pub fn check(name: &str) -> Result<(), String> {
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

/// The time zone `name`; the empty name is that of UTC.
///
/// # Errors
/// `unknown time zone x`: the machine knows none of this name, or cannot read what it knows of it.
pub fn load(name: &str) -> Result<TimeZone, String> {
    if matches!(name, "" | "UTC") {
        return Ok(TimeZone::UTC);
    }
    let unknown = || format!("unknown time zone {name}");
    if name.split('/').any(|part| part.is_empty() || part.starts_with('.')) {
        return Err(unknown());
    }
    let data = DATABASES.iter().find_map(|folder| std::fs::read(Path::new(folder).join(name)).ok());
    TimeZone::tzif(name, &data.ok_or_else(unknown)?).map_err(|error| format!("{}: {error}", unknown()))
}

/// Whether the file begins as those of the database do (RFC 9636).
fn is_zone(path: &Path) -> bool {
    use std::io::Read as _;
    let mut magic = [0; 4];
    std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *b"TZif"
}

/// Whether a part between the slashes of a name may stand there.
#[must_use]
pub fn is_part(part: &str) -> bool {
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
        assert_eq!(check("UTC"), Ok(()));
        assert_eq!(check("/etc/passwd"), Err("time: invalid location name".to_owned()));
        if DATABASES.iter().any(|folder| Path::new(folder).is_dir()) {
            assert_eq!(check("Nowhere/Land"), Err("unknown time zone Nowhere/Land".to_owned()));
        }
        for none in ["../etc/passwd", "/etc/passwd", "Nowhere/Land"] {
            assert_eq!(load(none).unwrap_err(), format!("unknown time zone {none}"));
        }
        assert_eq!(load(""), Ok(TimeZone::UTC));
        assert!(is_part("Europe") && !is_part("..") && !is_part("-x") && !is_part("a-very-long-name"));
    }
}
