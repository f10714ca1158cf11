//! Small notations: paths for the kernel, sizes as people write them, ids.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use grpc::Failure;

pub(super) use crate::contract::shown;

/// A path as the kernel takes it.
pub(crate) fn c_path(path: &Path) -> Result<CString, Failure> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Failure::internal(format!("{} has a NUL character in it", path.display())))
}

/// Bytes of a quantity as Kubernetes writes it: a whole number, or one with `Ki`, `Mi`, `Gi`, `Ti`, `Pi`, `k`, `M`, `G`, `T`, `P`.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 10] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("Pi", 1 << 50),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
        ("P", 1_000_000_000_000_000),
    ];
    let (number, unit) = UNITS
        .iter()
        .find_map(|(unit, bytes)| text.strip_suffix(unit).map(|number| (number, *bytes)))
        .unwrap_or((text, 1));
    let digits = !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit());
    number.parse::<u64>().ok().filter(|_| digits)?.checked_mul(unit)
}

/// 32 hexadecimal digits that nobody has had before.
pub(crate) fn random() -> Result<String, Failure> {
    let mut bytes = [0_u8; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|e| Failure::internal(format!("cannot get random bytes: {e}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_kubernetes_writes_them() {
        for (text, wanted) in
            [("0", 0), ("17", 17), ("1Gi", 1 << 30), ("5M", 5_000_000), ("2k", 2000), ("1Pi", 1 << 50)]
        {
            assert_eq!(bytes(text), Some(wanted), "{text}");
        }
        for text in ["", "Gi", "1.5Gi", "-1", "+1", "1 Gi", "1gi", "1GB", "99999999999999999999", "20000Pi"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }
}
