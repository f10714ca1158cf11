//! Amounts as Kubernetes writes them: `10Gi`, `1.5G`, `1e9`.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// How many bytes that is, a part of one counted whole; what is more than 2^63 - 1 is that. `None` where it is no quantity.
#[must_use]
pub fn bytes(quantity: &Quantity) -> Option<i64> {
    let text = quantity.0.trim();
    let (is_negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let part = part.trim_end_matches('0');
    if whole.is_empty() && part.is_empty() && number != "0" || part.contains('.') {
        return None;
    }
    let (factor, exponent) = scale(suffix)?;
    let exponent = exponent - i32::try_from(part.len()).ok()?;
    let digits = format!("{whole}{part}");
    let digits = if digits.trim_start_matches('0').is_empty() { "0" } else { digits.trim_start_matches('0') };
    let most = i128::from(i64::MAX);
    // More digits than an i128 holds are more than anything, unless the exponent takes them back.
    let value = match digits.parse::<i128>().ok().and_then(|digits| digits.checked_mul(factor)) {
        Some(0) => 0,
        Some(value) => match u32::try_from(exponent) {
            Ok(up) => 10_i128.checked_pow(up).and_then(|ten| value.checked_mul(ten)).unwrap_or(most),
            Err(_) => match 10_i128.checked_pow(exponent.unsigned_abs()) {
                Some(ten) if is_negative => value / ten,
                Some(ten) => value / ten + i128::from(value % ten > 0),
                None => i128::from(!is_negative),
            },
        },
        None => most,
    };
    let value = i64::try_from(value.min(most)).ok()?;
    Some(if is_negative { -value } else { value })
}

/// A suffix as a factor and a power of ten.
fn scale(suffix: &str) -> Option<(i128, i32)> {
    if let Some(power) = BINARY.iter().position(|name| *name == suffix) {
        return Some((1024_i128.pow(u32::try_from(power).ok()? + 1), 0));
    }
    let power = match suffix {
        "n" => -9,
        "u" => -6,
        "m" => -3,
        "" => 0,
        "k" => 3,
        "M" => 6,
        "G" => 9,
        "T" => 12,
        "P" => 15,
        "E" => 18,
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            exponent.parse::<i32>().ok().filter(|power| power.abs() < 1000)?
        }
    };
    Some((1, power))
}

/// So many bytes, in the largest binary unit that they are a whole number of.
#[must_use]
pub fn of(bytes: i64) -> Quantity {
    let (mut count, mut unit) = (bytes, "");
    for name in BINARY {
        if count == 0 || count % 1024 != 0 {
            break;
        }
        (count, unit) = (count / 1024, name);
    }
    Quantity(format!("{count}{unit}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_bytes() {
        let cases = [
            ("0", 0),
            ("1", 1),
            ("10Gi", 10 << 30),
            ("1.5Gi", 3 << 29),
            ("1.5G", 1_500_000_000),
            ("1e9", 1_000_000_000),
            ("12E2", 1200),
            ("500m", 1),
            ("1500m", 2),
            ("0.1", 1),
            (".5Ki", 512),
            ("5.", 5),
            ("+3k", 3000),
            ("-2Ki", -2048),
            ("9E", 9_000_000_000_000_000_000),
            ("8Ei", i64::MAX),
            ("1e30", i64::MAX),
            ("1n", 1),
        ];
        for (text, value) in cases {
            assert_eq!(bytes(&Quantity(text.into())), Some(value), "{text}");
        }
        for text in ["", "Gi", "1Kib", "1.2.3", "x", "1 Gi", "e9", "1g"] {
            assert_eq!(bytes(&Quantity(text.into())), None, "{text}");
        }
    }

    #[test]
    fn bytes_are_quantities() {
        let cases =
            [(0, "0"), (1, "1"), (1000, "1000"), (1 << 20, "1Mi"), (1025 << 10, "1025Ki"), (1 << 60, "1Ei")];
        for (value, text) in cases {
            assert_eq!(of(value).0, text);
            assert_eq!(bytes(&of(value)), Some(value));
        }
    }
}
