//! Amounts of bytes as Kubernetes writes them.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// What a suffix multiplies with: a numerator and a denominator.
const SUFFIXES: [(&str, i128, i128); 15] = [
    ("Ki", 1 << 10, 1),
    ("Mi", 1 << 20, 1),
    ("Gi", 1 << 30, 1),
    ("Ti", 1 << 40, 1),
    ("Pi", 1 << 50, 1),
    ("Ei", 1 << 60, 1),
    ("n", 1, 1_000_000_000),
    ("u", 1, 1_000_000),
    ("m", 1, 1_000),
    ("k", 1_000, 1),
    ("M", 1_000_000, 1),
    ("G", 1_000_000_000, 1),
    ("T", 1_000_000_000_000, 1),
    ("P", 1_000_000_000_000_000, 1),
    ("E", 1_000_000_000_000_000_000, 1),
];

/// A quantity's whole bytes, rounded up; `None` for what is none, is negative, or is more than anybody has.
#[must_use]
pub fn bytes(quantity: &Quantity) -> Option<i64> {
    let text = quantity.0.as_str();
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    // More digits than an amount of bytes has would be cut off by nobody but an attacker.
    if (whole.is_empty() && part.is_empty()) || whole.len() > 20 || part.len() > 9 {
        return None;
    }
    let digits: i128 = format!("{whole}{part}").parse().ok()?;
    let (times, over) = multiplier(suffix)?;
    let over = over.checked_mul(10_i128.checked_pow(u32::try_from(part.len()).ok()?)?)?;
    let product = digits.checked_mul(times)?;
    i64::try_from((product + over - 1) / over).ok()
}

fn multiplier(suffix: &str) -> Option<(i128, i128)> {
    if suffix.is_empty() {
        return Some((1, 1));
    }
    if let Some((_, times, over)) = SUFFIXES.iter().find(|(known, ..)| *known == suffix) {
        return Some((*times, *over));
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    let power = Some(exponent.unsigned_abs()).filter(|exponent| *exponent <= 20)?;
    let power = 10_i128.checked_pow(power)?;
    Some(if exponent < 0 { (1, power) } else { (power, 1) })
}

/// So many bytes, with the largest binary suffix that says them exactly.
#[must_use]
pub fn of_bytes(bytes: i64) -> Quantity {
    let fits = |(_, times, _): &&(&str, i128, i128)| i128::from(bytes) % times == 0;
    match SUFFIXES[..6].iter().rev().find(fits) {
        Some((suffix, times, _)) if bytes != 0 => Quantity(format!("{}{suffix}", i128::from(bytes) / times)),
        _ => Quantity(bytes.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<i64> {
        bytes(&Quantity(text.to_owned()))
    }

    #[test]
    fn amounts_are_read_as_kubernetes_writes_them() {
        for (text, wanted) in [
            ("0", 0),
            ("17", 17),
            ("+17", 17),
            ("1Gi", 1 << 30),
            ("1.5Gi", 3 << 29),
            (".5Ki", 512),
            ("5M", 5_000_000),
            ("1e3", 1000),
            ("1E3", 1000),
            ("1E", 1_000_000_000_000_000_000),
            ("1500m", 2),
            ("1e-3", 1),
            ("7Ei", 7 << 60),
        ] {
            assert_eq!(read(text), Some(wanted), "{text}");
        }
        for text in [
            "",
            "Gi",
            "-1",
            "1 Gi",
            "1gi",
            "1GB",
            "8Ei",
            "1..2",
            "e3",
            "1e",
            "1e30",
            "99999999999999999999999",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn amounts_are_written_exactly() {
        for (bytes, wanted) in [(0, "0"), (17, "17"), (1024, "1Ki"), (3 << 29, "1536Mi"), (1 << 60, "1Ei")] {
            assert_eq!(of_bytes(bytes).0, wanted);
            assert_eq!(read(wanted), Some(bytes));
        }
    }
}
