//! Amounts as Kubernetes writes them: `10Gi`, `1.5G`, `1e9`.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// How many bytes that is, a part of one counted whole, as Kubernetes does; what does not fit is the most (or the least) that does.
/// `None` where it is no quantity.
#[must_use]
pub fn bytes(quantity: &Quantity) -> Option<i64> {
    units(quantity, 0)
}

/// The same in thousandths: of a CPU, as a rule.
#[must_use]
pub fn thousandths(quantity: &Quantity) -> Option<i64> {
    units(quantity, 3)
}

/// In units of which one has 10 to this power.
fn units(quantity: &Quantity, power: i32) -> Option<i64> {
    let text = quantity.0.trim();
    let (is_negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && part.is_empty() || part.contains('.') {
        return None;
    }
    let (factor, exponent) = scale(suffix)?;
    let digits: Vec<i128> = whole.bytes().chain(part.bytes()).map(|digit| i128::from(digit - b'0')).collect();
    let digit = |at: i64| usize::try_from(at).ok().and_then(|at| digits.get(at)).copied().unwrap_or_default();
    let point = i64::try_from(whole.len()).ok()? + i64::from(exponent) + i64::from(power);
    // Beyond this it is more than anything, whatever the factor.
    let most = i128::from(i64::MAX) + 1;
    let units = (0..point).fold(0, |units: i128, at| (units * 10 + digit(at)).min(most));
    // What is behind the point, from its end: what is carried is whole, and what was lost on the way is told.
    let (mut carried, mut is_whole) = (0, true);
    for at in (point..i64::try_from(digits.len()).ok()?).rev() {
        let here = digit(at) * factor + carried;
        is_whole &= here % 10 == 0;
        carried = here / 10;
    }
    let value = units * factor + carried + i128::from(!is_whole);
    let value = if is_negative { -value } else { value };
    i64::try_from(value.clamp(i64::MIN.into(), i64::MAX.into())).ok()
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
            exponent.parse::<i32>().ok().filter(|power| (-999..1000).contains(power))?
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
            ("-1n", -1),
            (" 7 ", 7),
            // However many digits.
            ("1.0000000000000000000000000000000000000000000000001Ki", 1025),
            ("1.50000000000000000000000000000000000000000000000000Ki", 1536),
            ("100000000000000000000000000000000000000000000000000e-48", 100),
            ("0.00000000000000000000000000000000000000000000000001e50", 1),
            ("-1e30", i64::MIN),
            ("0e999", 0),
        ];
        for (text, value) in cases {
            assert_eq!(bytes(&Quantity(text.into())), Some(value), "{text}");
        }
        for text in ["", ".", "Gi", "1Kib", "1.2.3", "x", "1 Gi", "e9", "1g", "1e1000", "1e-2147483648"] {
            assert_eq!(bytes(&Quantity(text.into())), None, "{text}");
        }
    }

    #[test]
    fn quantities_are_thousandths() {
        let cases =
            [("1", 1000), ("250m", 250), ("0.5", 500), ("1500u", 2), ("2k", 2_000_000), ("1Ki", 1_024_000)];
        for (text, value) in cases {
            assert_eq!(thousandths(&Quantity(text.into())), Some(value), "{text}");
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
