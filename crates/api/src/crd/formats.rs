//! The formats of strings that schemas of custom resources can ask for.

use jiff::civil::Date;
use regex::Regex;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

/// The formats that are looked at, without dashes; all others are ignored.
const KNOWN: [&str; 26] = [
    "bsonobjectid",
    "uri",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "cidr",
    "mac",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
    "isbn",
    "isbn10",
    "isbn13",
    "creditcard",
    "ssn",
    "hexcolor",
    "rgbcolor",
    "byte",
    "password",
    "date",
    "duration",
    "datetime",
    "k8sshortname",
    "k8slongname",
];

/// Whether the format is one that values are checked by.
pub(crate) fn is_known(format: &str) -> bool {
    let plain = format.replace('-', "");
    KNOWN.contains(&plain.as_str())
}

/// Whether `text` is of the format (`date-time` and `datetime` are the same); of an unknown one everything is.
pub(crate) fn is(format: &str, text: &str) -> bool {
    match format.replace('-', "").as_str() {
        "bsonobjectid" => text.len() == 24 && text.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "uri" => crate::cel::is_url(text),
        "email" => is_email(text),
        "hostname" => is_hostname(text),
        "ipv4" => is_ipv4(text),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => crate::contract::names::parse_cidr(text).is_some(),
        "mac" => is_mac(text),
        "uuid" => UUID.is_match(text),
        "uuid3" => UUID.is_match(text) && version(text) == '3',
        "uuid4" => UUID.is_match(text) && version(text) == '4' && variant(text),
        "uuid5" => UUID.is_match(text) && version(text) == '5' && variant(text),
        "isbn" => is_isbn10(text) || is_isbn13(text),
        "isbn10" => is_isbn10(text),
        "isbn13" => is_isbn13(text),
        "creditcard" => is_credit_card(text),
        "ssn" => text.len() == 11 && SSN.is_match(text),
        "hexcolor" => COLOR.is_match(text),
        "rgbcolor" => is_rgb(text),
        "byte" => is_base64(text),
        "date" => text.len() == 10 && text.parse::<Date>().is_ok(),
        "duration" => is_duration(text),
        "datetime" => is_date_time(text),
        "k8sshortname" => crate::contract::names::dns_label(text, false).is_empty(),
        "k8slongname" => crate::contract::names::dns_subdomain(text, false).is_empty(),
        _ => true,
    }
}

fn fixed(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is written here")
}

static UUID: LazyLock<Regex> =
    LazyLock::new(|| fixed("(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$"));
static SSN: LazyLock<Regex> = LazyLock::new(|| fixed("^[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}$"));
static COLOR: LazyLock<Regex> = LazyLock::new(|| fixed("^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$"));
static RGB: LazyLock<Regex> =
    LazyLock::new(|| fixed(r"^rgb\(\s*([0-9]{1,3})\s*,\s*([0-9]{1,3})\s*,\s*([0-9]{1,3})\s*\)$"));
static DATE_TIME: LazyLock<Regex> =
    LazyLock::new(|| fixed(r"^([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))$"));
/// A number and the unit behind it.
static SPAN: LazyLock<Regex> = LazyLock::new(|| fixed(r"([0-9]+)[\t\n\x0C\r ]*([A-Za-zµ]+)"));
/// A letter, or a letter or symbol, that is not of ASCII.
static LETTER: LazyLock<Regex> = LazyLock::new(|| fixed(r"^\p{L}$"));
static SYMBOL: LazyLock<Regex> = LazyLock::new(|| fixed(r"^[\p{L}\p{S}]$"));

/// The digit of a UUID that tells its version.
fn version(text: &str) -> char {
    text.replace('-', "").chars().nth(12).unwrap_or(' ')
}

fn variant(text: &str) -> bool {
    matches!(text.replace('-', "").chars().nth(16), Some('8' | '9' | 'a' | 'b' | 'A' | 'B'))
}

fn is_email(text: &str) -> bool {
    let address = match text.rsplit_once('<') {
        Some((_, rest)) => match rest.strip_suffix('>') {
            Some(address) => address,
            None => return false,
        },
        None => text.trim(),
    };
    let Some((local, domain)) = address.rsplit_once('@') else { return false };
    let atom = |text: &str| {
        !text.is_empty()
            && text.split('.').all(|part| !part.is_empty())
            && text.chars().all(|c| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c))
    };
    let quoted = local.len() > 2 && local.starts_with('"') && local.ends_with('"');
    (quoted || atom(local)) && (atom(domain) || (domain.starts_with('[') && domain.ends_with(']')))
}

/// One label, or several of which the last has letters alone.
fn is_hostname(text: &str) -> bool {
    let among = |class: &Regex, c: char| class.is_match(c.encode_utf8(&mut [0; 4]));
    let known = |c: char| {
        c.is_ascii_alphanumeric() || "$+<=>^`|~".contains(c) || (!c.is_ascii() && among(&SYMBOL, c))
    };
    let letter = |c: char| c.is_ascii_alphabetic() || (!c.is_ascii() && among(&LETTER, c));
    let Some((before, last)) = text.rsplit_once('.') else {
        let mut rest = text.chars();
        let begins = rest.next().is_some_and(known);
        let rest = rest.as_str();
        let rest = rest.strip_prefix('-').unwrap_or(rest);
        return begins && text.len() <= 63 && rest.chars().all(known);
    };
    let label = |label: &str| {
        label.len() <= 63
            && label.starts_with(known)
            && label.ends_with(known)
            && label.chars().all(|c| c == '-' || known(c))
    };
    let letters = last.chars().count();
    text.len() <= 255
        && before.split('.').all(label)
        && (2..=63).contains(&letters)
        && last.len() <= 63
        && last.chars().all(letter)
}

/// An IPv4 address, also within an IPv6 one; zeros before a number do not count.
fn is_ipv4(text: &str) -> bool {
    let (before, last) = text.rsplit_once(':').map_or(("", text), |(before, last)| (before, last));
    let numbers: Vec<&str> = last.split('.').collect();
    let Some(numbers) = numbers.into_iter().map(without_zeros).collect::<Option<Vec<_>>>() else {
        return false;
    };
    let address = numbers.join(".");
    if text.contains(':') {
        return format!("{before}:{address}").parse::<Ipv6Addr>().is_ok() && numbers.len() == 4;
    }
    address.parse::<Ipv4Addr>().is_ok()
}

/// A decimal number without the zeros before it.
fn without_zeros(number: &str) -> Option<&str> {
    let digits = !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit());
    let rest = digits.then(|| number.trim_start_matches('0'))?;
    Some(if rest.is_empty() { "0" } else { rest })
}

/// Base64 with its padding, of something.
fn is_base64(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    !body.is_empty()
        && text.len().is_multiple_of(4)
        && text.len() - body.len() <= 2
        && body.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(&byte))
}

fn is_mac(text: &str) -> bool {
    if matches!(text.len(), 12 | 16 | 40) && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return true;
    }
    let separator = if text.contains(':') {
        ':'
    } else if text.contains('-') {
        '-'
    } else {
        '.'
    };
    let (width, counts): (usize, &[usize]) =
        if separator == '.' { (4, &[3, 4, 10]) } else { (2, &[6, 8, 20]) };
    let parts: Vec<&str> = text.split(separator).collect();
    counts.contains(&parts.len())
        && parts.iter().all(|part| part.len() == width && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn digits(text: &str) -> Vec<u32> {
    text.chars().filter(|c| !matches!(c, '-' | ' ')).map(|c| c.to_digit(10).unwrap_or(99)).collect()
}

fn is_isbn10(text: &str) -> bool {
    let mut digits = digits(text);
    if let Some(last) = digits.last_mut()
        && text.ends_with(['x', 'X'])
    {
        *last = 10;
    }
    let body = digits.iter().rev().skip(1).all(|digit| *digit < 10);
    let sum: u32 = digits.iter().zip(1..).map(|(digit, place)| digit * place).sum();
    digits.len() == 10 && body && sum.is_multiple_of(11)
}

fn is_isbn13(text: &str) -> bool {
    let digits = digits(text);
    let sum: u32 = digits.iter().enumerate().map(|(at, digit)| digit * if at % 2 == 0 { 1 } else { 3 }).sum();
    digits.len() == 13 && digits.iter().all(|digit| *digit < 10) && sum.is_multiple_of(10)
}

/// By prefix, length and Luhn's sum.
fn is_credit_card(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(10)).collect();
    let number: String = digits.iter().map(u32::to_string).collect();
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| number.starts_with(prefix));
    let issued = match digits.len() {
        13 => begins(&["4"]),
        14 => begins(&["300", "301", "302", "303", "304", "305", "36", "38"]),
        15 => begins(&["34", "37", "2131", "1800", "35"]),
        16 => begins(&["4", "51", "52", "53", "54", "55", "6011", "65", "35"]),
        _ => false,
    };
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| if at % 2 == 0 { *digit } else { digit * 2 / 10 + digit * 2 % 10 })
        .sum();
    issued && sum.is_multiple_of(10)
}

fn is_rgb(text: &str) -> bool {
    let part = |part: &str| {
        part.parse::<u32>().is_ok_and(|value| value < 256) && (part == "0" || !part.starts_with('0'))
    };
    RGB.captures(text).is_some_and(|found| (1..4).all(|index| part(&found[index])))
}

/// A duration of Go, or anything in which a number with a unit stands: `2 weeks`.
fn is_duration(text: &str) -> bool {
    // The last name of each begins others: `hour`, `hours`, `hourly`.
    const UNITS: [(&[&str], &str); 8] = [
        (&["ns"], "nano"),
        (&["us", "µs"], "micro"),
        (&["ms"], "milli"),
        (&["s"], "sec"),
        (&["m"], "min"),
        (&["h", "hr"], "hour"),
        (&["d"], "day"),
        (&["w", "wk"], "week"),
    ];
    if crate::cel::is_duration(text) {
        return true;
    }
    let mut found = false;
    for span in SPAN.captures_iter(text) {
        if span[1].parse::<i64>().is_err() {
            return false;
        }
        let unit = span[2].to_lowercase();
        found |= UNITS.iter().any(|(names, stem)| names.contains(&unit.as_str()) || unit.starts_with(stem));
    }
    found
}

fn is_date_time(text: &str) -> bool {
    if text.len() < 4 {
        return false;
    }
    let lower = text.to_ascii_lowercase();
    let Some((date, time)) = lower.split_once('t') else { return false };
    let Some(found) = DATE_TIME.captures(time) else { return false };
    let part = |index: usize, most: u32| found[index].parse::<u32>().is_ok_and(|value| value <= most);
    date.len() == 10 && date.parse::<Date>().is_ok() && part(1, 23) && part(2, 59) && part(3, 59)
}
