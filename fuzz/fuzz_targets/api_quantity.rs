//! Any text as two quantities: no panic, the canonical text is the same quantity, and sums are in order.

use api::contract::quantity::Quantity;

pub fn run(text: &str) {
    let (one, other) = text.split_once('\n').unwrap_or((text, "1"));
    let (Ok(one), Ok(other)) = (Quantity::parse(one), Quantity::parse(other)) else { return };
    let again = Quantity::parse(&one.to_string()).expect("what is written can be read");
    assert!(again == one, "{one} became {again}");
    let _ = (one.value(), one.milli_value(), one.exact());
    let sum = one.plus(&other);
    assert!(other.is_negative() || sum >= one);
    let _ = (sum.to_string(), one.minus(&other).to_string());
}
