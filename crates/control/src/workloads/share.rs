//! Shares of a whole: a number, or so many percent.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Which way a part of one is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Round {
    Up,
    Down,
}

/// So much of `total`; what is neither a number nor percent is nothing.
pub(super) fn of(share: &IntOrString, total: i32, round: Round) -> i32 {
    match share {
        IntOrString::Int(count) => *count,
        IntOrString::String(text) => {
            let percent =
                text.strip_suffix('%').and_then(|number| number.parse::<i64>().ok()).unwrap_or_default();
            let parts = percent.saturating_mul(total.into());
            let parts = if round == Round::Up { parts.saturating_add(99) } else { parts };
            let count = parts.div_euclid(100);
            i32::try_from(count).unwrap_or(i32::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_are_rounded_as_they_are_asked_for() {
        let share = |text: &str| IntOrString::String(text.into());
        assert_eq!(of(&share("25%"), 3, Round::Up), 1);
        assert_eq!(of(&share("25%"), 3, Round::Down), 0);
        assert_eq!(of(&share("100%"), 7, Round::Down), 7);
        assert_eq!(of(&share("9223372036854775807%"), 7, Round::Up), i32::MAX);
        assert_eq!((of(&share("x"), 7, Round::Up), of(&IntOrString::Int(2), 7, Round::Up)), (0, 2));
    }
}
