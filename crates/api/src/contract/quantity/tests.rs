//! Texts and numbers of quantities, as Kubernetes answers them.

use super::*;
use proptest::prelude::*;

fn canonical(text: &str) -> String {
    Quantity::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).to_string()
}

#[test]
fn texts_become_canonical() {
    for (text, expected) in [
        ("0", "0"),
        ("0Ki", "0"),
        ("1", "1"),
        ("1.5", "1500m"),
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("0.5Gi", "512Mi"),
        ("0.5Ki", "512"),
        ("0.5", "500m"),
        (".5", "500m"),
        (".", "0"),
        ("-", "0"),
        ("1.", "1."),
        ("1Gi", "1Gi"),
        ("1024Mi", "1Gi"),
        ("1000Mi", "1000Mi"),
        ("1023", "1023"),
        ("8Ki", "8Ki"),
        ("1000", "1k"),
        ("1000000", "1M"),
        ("1e3", "1e3"),
        ("1E3", "1E3"),
        ("10e2", "1e3"),
        ("1e4", "10e3"),
        ("100m", "100m"),
        ("0.001n", "1n"),
        ("1e-10", "1e-9"),
        ("-1.5", "-1500m"),
        ("1.1Ki", "1126400m"),
        ("0.1Ki", "102400m"),
        ("0.0001Ki", "102400u"),
        ("+1", "+1"),
        ("1.100", "1.100"),
        ("05", "05"),
        ("16Ei", "9223372036854775807"),
        ("1000E", "1e21"),
        ("123456789012345678901234567890", "123456789012345678901234567890e0"),
    ] {
        let expected = expected.strip_suffix("e0").unwrap_or(expected);
        assert_eq!(canonical(text), expected, "{text}");
    }
}

#[test]
fn errors_are_kubernetes_own() {
    for text in ["", "a", "1 ", "1.2.3", "1mx", "1e5e"] {
        assert_eq!(Quantity::parse(text), Err(Error::Format), "{text}");
    }
    for text in ["1mi", "1e", "1Kim", "1KI", "--1", "1e99999999999999999999", "1e2147483648", "100e999999999"]
    {
        let error = Quantity::parse(text).unwrap_err();
        assert!(matches!(error, Error::Suffix | Error::Format), "{text}: {error}");
    }
    assert_eq!(Quantity::parse("1K").unwrap_err().to_string(), "unable to parse quantity's suffix");
}

#[test]
fn numbers_round_away_from_zero_and_stay_in_bounds() {
    let of = |text: &str| Quantity::parse(text).unwrap();
    assert_eq!((of("1500m").value(), of("1500m").milli_value()), (2, 1500));
    assert_eq!((of("-1500m").value(), of("1u").milli_value()), (-2, 1));
    assert_eq!((of("1Gi").value(), of("1Gi").exact()), (1 << 30, Some(1 << 30)));
    assert_eq!((of("1e30").value(), of("-1e30").value()), (i64::MAX, i64::MIN));
    assert_eq!((of("1e900000000").value(), of("1e-2000000000").value()), (i64::MAX, 1));
    assert_eq!((of("0.5").exact(), of("9223372036854775807").exact()), (None, Some(i64::MAX)));
    assert!(of("1") == of("1000m") && of("1Ki") > of("1k") && of("-1") < of("0") && of("-2") < of("-1"));
    assert!(of("1e900000000") > of("1E"));
}

#[test]
fn sums_keep_the_form_of_the_first() {
    let of = |text: &str| Quantity::parse(text).unwrap();
    for (one, other, sum, difference) in [
        ("1Gi", "512Mi", "1536Mi", "512Mi"),
        ("1", "500m", "1500m", "500m"),
        ("0", "1Gi", "1Gi", "-1Gi"),
        ("1Gi", "1", "1073741825", "1073741823"),
        ("100m", "100m", "200m", "0"),
        ("1e3", "1", "1001", "999"),
        ("0.5", "0.7", "1200m", "-200m"),
        ("999n", "1n", "1u", "998n"),
    ] {
        assert_eq!(of(one).plus(&of(other)).to_string(), sum, "{one} + {other}");
        assert_eq!(of(one).minus(&of(other)).to_string(), difference, "{one} - {other}");
    }
    assert_eq!(of("1e900000000").plus(&of("1")).to_string(), "1e900000000");
}

proptest! {
    #[test]
    fn texts_are_read_as_what_they_are(text in "[-+]?[0-9]{0,22}[.]?[0-9]{0,12}(Ki|Mi|Gi|Ei|n|m|k|E|e[-+]?[0-9]{1,2})?") {
        if let Ok(quantity) = Quantity::parse(&text) {
            let again = Quantity::parse(&quantity.to_string());
            prop_assert_eq!(again.as_ref(), Ok(&quantity));
            prop_assert_eq!(again.unwrap().to_string(), quantity.to_string());
        }
    }

    #[test]
    fn sums_agree_with_integers(one in -1_000_000_000_000_i64..1_000_000_000_000, other in -1_000_000_000_000_i64..1_000_000_000_000) {
        let (first, second) = (Quantity::of_milli(one, Form::Decimal), Quantity::of_milli(other, Form::Decimal));
        prop_assert_eq!(first.plus(&second).milli_value(), one + other);
        prop_assert_eq!(first.minus(&second).milli_value(), one - other);
        prop_assert_eq!(first.cmp(&second), one.cmp(&other));
    }
}
