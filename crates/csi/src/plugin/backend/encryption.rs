//! Volumes that only a key shows: a directory of an ext4 that the file system encrypts (fscrypt, of images), or all their sectors
//! (dm-crypt, in `crypt.rs`).
//!
//! The key is 64 to 128 hexadecimal digits in the secret `key` of the node stage. The kernel has it as long as the volume is
//! mounted, or its device is there.

use std::collections::BTreeMap;

use grpc::Failure;
use kernel::fscrypt;

use crate::plugin::pool::record::Volume;

/// The parameter of a class that asks for it.
pub(super) const PARAMETER: &str = "encryption";
/// Its values.
pub(super) const FSCRYPT: &str = "fscrypt";
pub(super) const DM_CRYPT: &str = "dm-crypt";
/// The secret.
pub(super) const KEY: &str = "key";

/// How a volume is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encryption {
    None,
    Fscrypt,
    DmCrypt,
}

impl Encryption {
    pub(super) fn of(volume: &Volume) -> Encryption {
        match volume.parameters.get(PARAMETER).map(String::as_str) {
            None => Encryption::None,
            Some(DM_CRYPT) => Encryption::DmCrypt,
            Some(_) => Encryption::Fscrypt,
        }
    }
}

/// A key, which is overwritten when it is used no more. The text that it was read from is the request's, and stays in memory
/// until that is used for something else.
pub(super) struct Key(pub(super) Vec<u8>);

impl Drop for Key {
    fn drop(&mut self) {
        self.0.fill(0);
        std::hint::black_box(&self.0);
    }
}

/// The key among secrets. Messages never show it.
pub(super) fn key(volume: &str, secrets: &BTreeMap<String, String>) -> Result<Key, Failure> {
    let field = format!("secrets[{KEY}]");
    let Some(text) = secrets.get(KEY) else {
        let hint = "name it in the class (csi.storage.k8s.io/node-stage-secret-name)";
        return Err(Failure::invalid(field, format!("is missing: volume {volume} is encrypted; {hint}")));
    };
    let text = text.trim_ascii();
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    let mut key = Key(Vec::with_capacity(text.len() / 2));
    for pair in text.as_bytes().chunks(2) {
        match pair {
            [high, low] => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => key.0.push(high << 4 | low),
                _ => {
                    return Err(Failure::invalid(field, "has what is no hexadecimal digit; write 64 to 128"));
                }
            },
            _ => {
                return Err(Failure::invalid(
                    field,
                    "has an odd number of hexadecimal digits; write 64 to 128",
                ));
            }
        }
    }
    if !(fscrypt::KEY_AT_LEAST..=fscrypt::KEY_AT_MOST).contains(&key.0.len()) {
        let message = format!("has {} hexadecimal digits; write 64 to 128", text.len());
        return Err(Failure::invalid(field, message));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_none_is_refused_without_showing_it() {
        let read = |text: &str| {
            key("v", &BTreeMap::from([(KEY.to_owned(), text.to_owned())])).map(|key| key.0.clone())
        };
        assert_eq!(read(&format!("{}\n", "0aF1".repeat(16))).unwrap(), [0x0a, 0xf1].repeat(16));
        for (text, wanted) in [
            ("abcd".repeat(15), "has 60 hexadecimal digits"),
            ("ab".repeat(65), "has 130 hexadecimal digits"),
            (format!("{}a", "ab".repeat(32)), "odd number"),
            ("xy".repeat(32), "no hexadecimal digit"),
            ("é".repeat(32), "no hexadecimal digit"),
        ] {
            let failure = read(&text).unwrap_err().to_string();
            assert!(failure.contains(wanted) && !failure.contains(&text), "{failure}");
        }
        assert!(key("v", &BTreeMap::new()).err().unwrap().to_string().contains("is missing"));
    }
}
