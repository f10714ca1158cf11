//! Resource quantities: `1500m`, `512Mi`, `1e3`.
//!
//! A quantity is an exact decimal number and the form in which it was written. What Kubernetes does to one that it reads
//! is done here too: finer than a billionth is rounded away from zero, and binary ones end at 2^63-1.
//!
//! Two things differ, both where Kubernetes loses the number: a decimal quantity beyond `E` is written with an exponent
//! (Kubernetes drops the suffix), and [`Quantity::value`] stops at the ends of `i64` (Kubernetes' wraps or becomes 0).

mod decimal;
mod parse;

use decimal::Decimal;
use std::cmp::Ordering;
use std::fmt;

/// What is wrong with the text of a quantity, in Kubernetes' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is no number with a suffix at all.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// The number is none.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    /// There is no such suffix.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// How a quantity is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// `12e6`.
    Exponent,
    /// `12Mi`: 12 * 2^20.
    Binary,
    /// `12M`: 12 * 10^6.
    #[default]
    Decimal,
}

/// A resource quantity. Compared by its number alone: `1` and `1000m` are equal.
#[derive(Clone, Debug, Default)]
pub struct Quantity {
    number: Decimal,
    form: Form,
    /// As it was written, where Kubernetes keeps that.
    written: Option<Box<str>>,
}

impl Quantity {
    /// Reads a quantity.
    ///
    /// # Errors
    /// Where the text is none; the error's text is Kubernetes'.
    pub fn parse(text: &str) -> Result<Quantity, Error> {
        parse::quantity(text)
    }

    /// Reads a quantity as it may stand in an object: a string (blanks around it do not count), a number, or null for 0.
    ///
    /// # Errors
    /// As [`parse`](Quantity::parse).
    pub fn from_json(value: &serde_json::Value) -> Result<Quantity, Error> {
        match value {
            serde_json::Value::Null => Ok(Quantity::default()),
            serde_json::Value::String(text) => Quantity::parse(text.trim()),
            serde_json::Value::Number(number) => {
                let text = number.to_string();
                Quantity::parse(text.strip_suffix(".0").unwrap_or(&text))
            }
            _ => Err(Error::Format),
        }
    }

    /// `value` units.
    #[must_use]
    pub fn of(value: i64, form: Form) -> Quantity {
        Quantity { number: Decimal::new(value, 0), form, written: None }
    }

    /// `value` thousandths.
    #[must_use]
    pub fn of_milli(value: i64, form: Form) -> Quantity {
        Quantity { number: Decimal::new(value, -3), form, written: None }
    }

    /// How it is written.
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// Whether it is 0.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.number.is_zero()
    }

    /// Whether it is less than 0.
    #[must_use]
    pub fn is_negative(&self) -> bool {
        self.number.is_negative()
    }

    /// In units, rounded away from zero, at the ends of `i64` when it lies beyond.
    #[must_use]
    pub fn value(&self) -> i64 {
        self.number.scaled(0)
    }

    /// In thousandths, rounded away from zero, at the ends of `i64` when it lies beyond.
    #[must_use]
    pub fn milli_value(&self) -> i64 {
        self.number.scaled(-3)
    }

    /// The number of units if it is a whole one that `i64` holds.
    #[must_use]
    pub fn exact(&self) -> Option<i64> {
        let value = self.value();
        (self.number == Decimal::new(value, 0)).then_some(value)
    }

    /// The sum, in the form of this one (of the other, if this one is 0).
    #[must_use]
    pub fn plus(&self, other: &Quantity) -> Quantity {
        let form = if self.is_zero() { other.form } else { self.form };
        Quantity { number: self.number.plus(&other.number), form, written: None }
    }

    /// The difference, in the form of this one (of the other, if this one is 0).
    #[must_use]
    pub fn minus(&self, other: &Quantity) -> Quantity {
        self.plus(&other.negated())
    }

    /// The same below zero, or above.
    #[must_use]
    pub fn negated(&self) -> Quantity {
        Quantity { number: self.number.clone().negated(), form: self.form, written: None }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Quantity) -> bool {
        self.number == other.number
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Quantity) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Quantity) -> Ordering {
        self.number.cmp(&other.number)
    }
}

impl std::str::FromStr for Quantity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Quantity, Error> {
        Quantity::parse(text)
    }
}

/// The canonical text: no fraction, as large a suffix as goes.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(written) = &self.written {
            return f.write_str(written);
        }
        if self.is_zero() {
            return f.write_str("0");
        }
        if self.form == Form::Binary
            && let Some(whole) = self.number.whole()
            && !self.number.is_within(1024)
        {
            let (digits, times) = whole.without_factors_of_1024();
            let suffix = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].get(times).copied().unwrap_or_default();
            return write!(f, "{digits}{suffix}");
        }
        let (digits, exponent) = self.number.by_thousands();
        let suffix = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
        let at = usize::try_from(exponent / 3 + 3).ok();
        match at.and_then(|at| suffix.get(at)) {
            Some(suffix) if self.form != Form::Exponent => write!(f, "{digits}{suffix}"),
            _ if exponent == 0 => f.write_str(&digits),
            _ => write!(f, "{digits}e{exponent}"),
        }
    }
}

#[cfg(test)]
mod tests;
