//! Exact decimal numbers, as many digits as it takes.

use std::cmp::Ordering;

/// Sums of numbers that are further apart than this many digits are the larger one: exponents reach 2^31, and nobody can
/// hold as many digits.
const MOST_APART: i64 = 10_000;

/// `digits * 10^exponent`, without zeros at either end of the digits; no digits are 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Decimal {
    negative: bool,
    /// Values from 0 to 9, the most significant first.
    digits: Vec<u8>,
    exponent: i64,
}

impl Decimal {
    pub(super) fn new(value: i64, exponent: i64) -> Decimal {
        let digits = value.unsigned_abs().to_string().bytes().map(|digit| digit - b'0').collect();
        Decimal { negative: value < 0, digits, exponent }.trimmed()
    }

    /// Of ASCII digits before and after the point.
    pub(super) fn from_digits(negative: bool, whole: &str, fraction: &str) -> Decimal {
        let digits = whole.bytes().chain(fraction.bytes()).map(|digit| digit - b'0').collect();
        let exponent = -i64::try_from(fraction.len()).unwrap_or(i64::MAX);
        Decimal { negative, digits, exponent }.trimmed()
    }

    fn trimmed(mut self) -> Decimal {
        let leading = self.digits.iter().take_while(|digit| **digit == 0).count();
        self.digits.drain(..leading);
        while self.digits.last() == Some(&0) {
            self.digits.pop();
            self.exponent += 1;
        }
        if self.digits.is_empty() { Decimal::default() } else { self }
    }

    pub(super) fn is_zero(&self) -> bool {
        self.digits.is_empty()
    }

    pub(super) fn is_negative(&self) -> bool {
        self.negative
    }

    pub(super) fn negated(mut self) -> Decimal {
        self.negative = !self.negative && !self.is_zero();
        self
    }

    /// Times `10^by`.
    pub(super) fn shift(&mut self, by: i32) {
        if !self.is_zero() {
            self.exponent += i64::from(by);
        }
    }

    /// Whether it is so large that nothing but zeros stands below this power of ten.
    pub(super) fn is_multiple_of_ten_to_the(&self, exponent: i64) -> bool {
        self.exponent >= exponent
    }

    /// Times `2^power`, which is at most 60.
    pub(super) fn times_power_of_two(&self, power: i32) -> Decimal {
        let factor = 1_u128 << power.clamp(0, 60);
        let mut digits = Vec::with_capacity(self.digits.len() + 20);
        let mut carry = 0_u128;
        for digit in self.digits.iter().rev() {
            carry += u128::from(*digit) * factor;
            digits.push(last_digit(carry));
            carry /= 10;
        }
        while carry > 0 {
            digits.push(last_digit(carry));
            carry /= 10;
        }
        digits.reverse();
        Decimal { digits, ..*self }.trimmed()
    }

    /// Away from zero to a whole number of billionths.
    pub(super) fn round_to_nano(&mut self) {
        *self = self.rounded(-9);
    }

    /// Away from zero to a multiple of `10^exponent`.
    fn rounded(&self, exponent: i64) -> Decimal {
        let excess = exponent.saturating_sub(self.exponent);
        if excess <= 0 || self.is_zero() {
            return self.clone();
        }
        let keep = usize::try_from(excess).map_or(0, |excess| self.digits.len().saturating_sub(excess));
        // No digit is a zero at the end, so something is cut off, and the rest grows by one.
        let kept = Decimal { negative: self.negative, digits: self.digits[..keep].to_vec(), exponent };
        kept.plus(&Decimal { negative: self.negative, digits: vec![1], exponent })
    }

    /// No further from zero than 2^63-1.
    pub(super) fn end_at_i64(&mut self) {
        let most = Decimal::new(i64::MAX, 0);
        if self.magnitude_cmp(&most) == Ordering::Greater {
            *self = Decimal { negative: self.negative, ..most };
        }
    }

    /// Whether it is less than `bound` away from zero.
    pub(super) fn is_within(&self, bound: i64) -> bool {
        self.magnitude_cmp(&Decimal::new(bound, 0)) == Ordering::Less
    }

    /// Itself, if it is a whole number of bounded length.
    pub(super) fn whole(&self) -> Option<&Decimal> {
        (0..=MOST_APART).contains(&self.exponent).then_some(self)
    }

    /// In multiples of `10^exponent`, away from zero, at the ends of `i64` when beyond.
    pub(super) fn scaled(&self, exponent: i64) -> i64 {
        let rounded = self.rounded(exponent);
        let mut value = 0_i64;
        for at in 0..rounded.length_from(exponent) {
            let digit = rounded.digits.get(at).copied().map_or(0, i64::from);
            let digit = if self.negative { -digit } else { digit };
            match value.checked_mul(10).and_then(|value| value.checked_add(digit)) {
                Some(next) => value = next,
                None => return if self.negative { i64::MIN } else { i64::MAX },
            }
        }
        value
    }

    /// How many digits there are from the first to the one at `10^exponent`.
    fn length_from(&self, exponent: i64) -> usize {
        let length = i64::try_from(self.digits.len()).unwrap_or(i64::MAX);
        if self.is_zero() {
            0
        } else {
            usize::try_from(length.saturating_add(self.exponent - exponent)).unwrap_or(0)
        }
    }

    /// Digits and an exponent that is a multiple of three, the largest there is.
    pub(super) fn by_thousands(&self) -> (String, i64) {
        let zeros = self.exponent.rem_euclid(3);
        let zeros = usize::try_from(zeros).unwrap_or(0);
        (self.text(zeros), self.exponent - self.exponent.rem_euclid(3))
    }

    /// Of a whole number: what is left of it without factors of 1024, and how many there were.
    pub(super) fn without_factors_of_1024(&self) -> (String, usize) {
        let mut digits = self.digits.clone();
        digits.resize(self.length_from(0), 0);
        let mut times = 0;
        while let Some(quotient) = divided_by_1024(&digits) {
            digits = quotient;
            times += 1;
        }
        (Decimal { negative: self.negative, digits, exponent: 0 }.text(0), times)
    }

    fn text(&self, zeros: usize) -> String {
        let sign = if self.negative { "-" } else { "" };
        let digits = self.digits.iter().map(|digit| char::from(b'0' + digit));
        sign.chars().chain(digits).chain(std::iter::repeat_n('0', zeros)).collect()
    }

    fn magnitude_cmp(&self, other: &Decimal) -> Ordering {
        if self.is_zero() || other.is_zero() {
            return other.is_zero().cmp(&self.is_zero());
        }
        let top = |number: &Decimal| i64::try_from(number.digits.len()).unwrap_or(i64::MAX) + number.exponent;
        top(self).cmp(&top(other)).then_with(|| self.digits.cmp(&other.digits))
    }

    pub(super) fn plus(&self, other: &Decimal) -> Decimal {
        if self.is_zero() || other.is_zero() {
            return if self.is_zero() { other.clone() } else { self.clone() };
        }
        let (larger, smaller) =
            if self.magnitude_cmp(other) == Ordering::Less { (other, self) } else { (self, other) };
        if larger.exponent.abs_diff(smaller.exponent) > MOST_APART.unsigned_abs() {
            return larger.clone();
        }
        let exponent = larger.exponent.min(smaller.exponent);
        let length = larger.length_from(exponent) + 1;
        // From here on the least significant digit is the first.
        let aligned = |number: &Decimal| {
            let zeros = usize::try_from(number.exponent - exponent).unwrap_or(0);
            let mut digits = vec![0; zeros];
            digits.extend(number.digits.iter().rev());
            digits.resize(length, 0);
            digits
        };
        let (mut sum, smaller_digits) = (aligned(larger), aligned(smaller));
        let same = larger.negative == smaller.negative;
        let mut carry = 0;
        for (digit, other) in sum.iter_mut().zip(smaller_digits) {
            if same {
                let added = *digit + other + carry;
                (*digit, carry) = (added % 10, added / 10);
            } else {
                let taken = other + carry;
                carry = u8::from(*digit < taken);
                *digit = *digit + 10 * carry - taken;
            }
        }
        sum.reverse();
        Decimal { negative: larger.negative, digits: sum, exponent }.trimmed()
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Decimal) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Decimal) -> Ordering {
        match (self.negative, other.negative) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => self.magnitude_cmp(other),
            (true, true) => other.magnitude_cmp(self),
        }
    }
}

fn last_digit(number: u128) -> u8 {
    u8::try_from(number % 10).expect("a remainder of ten is below ten")
}

/// The quotient, if nothing is left over.
fn divided_by_1024(digits: &[u8]) -> Option<Vec<u8>> {
    let mut left = 0_u32;
    let mut quotient = Vec::with_capacity(digits.len());
    for digit in digits {
        left = left * 10 + u32::from(*digit);
        let part = u8::try_from(left / 1024).ok()?;
        if part > 0 || !quotient.is_empty() {
            quotient.push(part);
        }
        left %= 1024;
    }
    (left == 0 && !quotient.is_empty()).then_some(quotient)
}
