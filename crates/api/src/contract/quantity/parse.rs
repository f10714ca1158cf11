//! Reading quantities.

use super::decimal::Decimal;
use super::{Error, Form, Quantity};

/// Larger powers of ten are no quantities; Kubernetes' exponents wrap at 2^31 and become small ones.
const MOST_EXPONENT: i64 = 1_000_000_000;

/// The parts of a quantity's text.
struct Parts<'a> {
    negative: bool,
    /// Digits before the point, without leading zeros; at least `0`.
    whole: &'a str,
    /// Digits after it.
    fraction: &'a str,
    suffix: &'a str,
}

pub(super) fn quantity(text: &str) -> Result<Quantity, Error> {
    if text.is_empty() {
        return Err(Error::Format);
    }
    let parts = parts(text)?;
    let (form, exponent) = suffix(parts.suffix)?;
    let mut number = Decimal::from_digits(parts.negative, parts.whole, parts.fraction);
    match form {
        Form::Binary => number = number.times_power_of_two(exponent),
        Form::Decimal | Form::Exponent => number.shift(exponent),
    }
    if number.is_multiple_of_ten_to_the(MOST_EXPONENT) {
        return Err(Error::Suffix);
    }
    let written = keeps_its_text(&parts, form, exponent).then(|| text.into());
    if written.is_some() || number.is_zero() {
        let written = written.or_else(|| (text == "0").then(|| text.into()));
        return Ok(Quantity { number, form, written });
    }
    number.round_to_nano();
    if form == Form::Binary {
        number.end_at_i64();
    }
    // A binary quantity below 1 has no binary form.
    let form = if form == Form::Binary && number.is_within(1) { Form::Decimal } else { form };
    Ok(Quantity { number, form, written: None })
}

fn parts(text: &str) -> Result<Parts<'_>, Error> {
    let negative = text.starts_with('-');
    let rest = text.strip_prefix(['-', '+']).unwrap_or(text).trim_start_matches('0');
    let (whole, rest) = digits(rest);
    let (fraction, suffix) = match rest.strip_prefix('.') {
        Some(rest) => digits(rest),
        None => ("", rest),
    };
    let after = suffix.trim_start_matches(|character| "eEinumkKMGTP".contains(character));
    let (_, left) = digits(after.strip_prefix(['-', '+']).unwrap_or(after));
    if !left.is_empty() {
        return Err(Error::Format);
    }
    Ok(Parts { negative, whole: if whole.is_empty() { "0" } else { whole }, fraction, suffix })
}

/// The digits at the beginning, and the rest.
fn digits(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

fn suffix(suffix: &str) -> Result<(Form, i32), Error> {
    Ok(match suffix {
        "" => (Form::Decimal, 0),
        "n" => (Form::Decimal, -9),
        "u" => (Form::Decimal, -6),
        "m" => (Form::Decimal, -3),
        "k" => (Form::Decimal, 3),
        "M" => (Form::Decimal, 6),
        "G" => (Form::Decimal, 9),
        "T" => (Form::Decimal, 12),
        "P" => (Form::Decimal, 15),
        "E" => (Form::Decimal, 18),
        "Ki" => (Form::Binary, 10),
        "Mi" => (Form::Binary, 20),
        "Gi" => (Form::Binary, 30),
        "Ti" => (Form::Binary, 40),
        "Pi" => (Form::Binary, 50),
        "Ei" => (Form::Binary, 60),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E']).ok_or(Error::Suffix)?;
            let exponent: i64 = exponent.parse().map_err(|_| Error::Suffix)?;
            let limited = exponent.clamp(-2 * MOST_EXPONENT, 2 * MOST_EXPONENT);
            (Form::Exponent, i32::try_from(limited).map_err(|_| Error::Suffix)?)
        }
    })
}

/// Whether Kubernetes writes the quantity as it was read. It does where a quick look says that the text is canonical, which
/// lets some texts pass that are not (`+1`, `1.100`).
fn keeps_its_text(parts: &Parts<'_>, form: Form, exponent: i32) -> bool {
    let count = i32::try_from(parts.whole.len() + parts.fraction.len()).unwrap_or(i32::MAX);
    if count > 18 {
        return false;
    }
    let digits = || parts.whole.bytes().chain(parts.fraction.bytes());
    if form == Form::Binary {
        let room = 15 - count - exponent * 3 / 10 - 1;
        let value = digits().fold(0_u64, |value, digit| value * 10 + u64::from(digit - b'0'));
        return parts.fraction.is_empty() && room >= 0 && value % 8 != 0;
    }
    let scale = i64::from(exponent) - i64::try_from(parts.fraction.len()).unwrap_or(i64::MAX);
    let thousands = digits().rev().take(3).eq([b'0'; 3]);
    scale >= -9 && scale % 3 == 0 && !thousands && digits().next() != Some(b'0')
}
