//! What expressions give, by themselves.

use super::evaluate;
use proptest::prelude::*;
use serde_json::json;

fn value(source: &str) -> String {
    let own = json!({
        "list": [3, 1, 2], "texts": ["b", "a"], "map": {"a": 1, "b-c": 2}, "name": "Web", "zero": 0, "null": null,
        "nested": [{"k": 1}, {"k": 2}],
    });
    evaluate(source, &own).unwrap_or_else(|error| format!("! {error}"))
}

#[test]
fn expressions_give_what_the_language_says() {
    for (source, wanted) in [
        ("1 + 2 * 3", "7"),
        ("-7 / 2", "-3"),
        ("-7 % 3", "-1"),
        ("1 / 0", "! division by zero"),
        ("9223372036854775807 + 1", "! integer overflow"),
        ("'a' + \"b\" + '''c\nd'''", "abc\nd"),
        (r"r'\d' == '\\d'", "true"),
        ("b'\\xff' == b'\\377'", "true"),
        ("'\\u00e9'.size()", "1"),
        ("true ? 1 : 2", "1"),
        ("false && self.none == 1 || true", "true"),
        ("self.none == 1 || true", "true"),
        ("self.none == 1", "! no such key: none"),
        ("has(self.none) || !has(self.name)", "false"),
        ("self.list.all(x, x > 0)", "true"),
        ("self.list.all(x, x / (x - 1) > 100)", "false"),
        ("self.list.exists_one(x, x == 2)", "true"),
        ("self.list.map(x, x * 2)", "[6, 2, 4]"),
        ("self.list.map(x, x > 1, x * 2)", "[6, 4]"),
        ("self.list.filter(x, x > 1)", "[3, 2]"),
        ("self.map.all(k, self.map[k] > 0)", "true"),
        ("self.list.exists(i, v, i == 1 && v == 1)", "true"),
        ("self.list.transformList(i, v, i + v)", "[3, 2, 4]"),
        ("self.map.transformMap(k, v, v + 1)", "{\"a\":2, \"b-c\":3}"),
        ("2 in self.list && 'a' in self.map", "true"),
        ("self.list.sort()", "[1, 2, 3]"),
        ("self.nested.sortBy(x, -x.k)[0].k", "2"),
        ("self.list.sum() == 6 && self.list.max() == 3 && self.list.min() == 1", "true"),
        ("[1, 2].isSorted() && ![2, 1].isSorted()", "true"),
        ("[1, 2, 1].lastIndexOf(1)", "2"),
        ("sets.contains([1, 2], [1]) && sets.intersects([1], [1, 2])", "true"),
        ("self.?name.orValue('x')", "Web"),
        ("self.?none.?more.orValue('x')", "x"),
        ("self.?name.optMap(n, n + '!').orValue('')", "Web!"),
        ("optional.none().hasValue()", "false"),
        ("[?optional.none(), 1]", "[1]"),
        ("1 < 1.5 && 2u > 1 && 1.0 == 1", "! ERROR"),
        ("'%s has %d of %.2f'.format([dyn('x'), 3, 1.5])", "x has 3 of 1.50"),
        ("'abc'.substring(1, 2) + 'aXb'.lowerAscii() + ' t '.trim()", "baxbt"),
        ("'a,b,c'.split(',', 2)", "[\"a\", \"b,c\"]"),
        ("['a', 'b'].join('-')", "a-b"),
        ("'foo123'.find('[0-9]+')", "123"),
        ("'a1b2'.findAll('[0-9]')", "[\"1\", \"2\"]"),
        ("'abc'.matches('^a.c$')", "true"),
        ("duration('1h30m').getMinutes()", "90"),
        ("timestamp('2024-02-29T12:00:00Z').getMonth()", "1"),
        ("timestamp('2024-02-29T12:00:00Z') - timestamp('2024-02-28T12:00:00Z') == duration('24h')", "true"),
        ("url('https://a.example:80/p?q=1').getHostname()", "a.example"),
        ("isURL('not a url')", "false"),
        ("ip('10.0.0.1').family() == 4 && !isIP('10.0.0')", "true"),
        ("cidr('10.0.0.0/8').containsIP('10.1.1.1')", "true"),
        ("cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16')", "true"),
        ("quantity('1Gi').isGreaterThan(quantity('1G'))", "true"),
        ("semver('1.2.3-rc.1').isLessThan(semver('1.2.3'))", "true"),
        ("format.dns1123Label().validate('a_b').hasValue()", "true"),
        ("type(1) == int", "true"),
        ("string(1.0) + string(true)", "1true"),
        ("int(self.name)", "! type conversion error from 'string' to 'int'"),
        ("int('x')", "! program instantiation failed: type conversion error from 'string' to 'int'"),
        ("{'a': 1}.a", "1"),
        ("[1, 2][5]", "! index out of bounds: 5"),
    ] {
        let got = value(source);
        let fits = if wanted == "! ERROR" { got.starts_with("! ERROR") } else { got == wanted };
        assert!(fits, "{source}: {got}, not {wanted}");
    }
}

#[test]
fn complaints_point_at_the_place() {
    for (source, wanted) in [
        ("foo", "ERROR: <input>:1:1: undeclared reference to 'foo' (in container '')\n | foo\n | ^"),
        (
            "1 + 'a'",
            "ERROR: <input>:1:3: found no matching overload for '_+_' applied to '(int, string)'\n | 1 + 'a'\n | ..^",
        ),
        (
            "self.all(x.y, true)",
            "ERROR: <input>:1:11: argument must be a simple name\n | self.all(x.y, true)\n | ..........^",
        ),
    ] {
        assert_eq!(evaluate(source, &json!({})).unwrap_err(), wanted);
    }
}

#[test]
fn evaluation_ends_at_its_limit() {
    let list: Vec<i64> = (0..2000).collect();
    let source = "self.all(a, self.all(b, self.all(c, a + b + c >= 0)))";
    let failure = evaluate(source, &json!(list)).unwrap_err();
    assert_eq!(failure, "operation cancelled: actual cost limit exceeded");
}

#[test]
fn deep_expressions_are_refused_and_long_ones_are_not() {
    let deep = format!("{}1{}", "(".repeat(10_000), ")".repeat(10_000));
    assert!(evaluate(&deep, &json!(1)).unwrap_err().contains("recursion limit"));
    assert!(evaluate(&"-".repeat(50_000), &json!(1)).is_err());
    let long = vec!["true"; 5_000].join(" && ");
    assert_eq!(evaluate(&long, &json!(1)).as_deref(), Ok("true"));
}

proptest! {
    #[test]
    fn no_text_breaks_the_reader(source in "[a-c0-9 .,?:!&|+*/%<>=()\\[\\]{}'\"\\\\-]{0,40}") {
        let _ = evaluate(&source, &json!({"a": [1], "b": "x", "c": {"d": null}}));
    }

    #[test]
    fn arithmetic_is_that_of_the_machine(a in -1000_i64..1000, b in -1000_i64..1000) {
        let got = evaluate(&format!("({a}) * ({b}) + ({a}) - ({b})"), &json!(null));
        prop_assert_eq!(got, Ok((a * b + a - b).to_string()));
    }

    #[test]
    fn sorting_sorts(mut list in proptest::collection::vec(-50_i64..50, 0..20)) {
        let got = evaluate("self.sort()", &json!(list)).unwrap();
        list.sort_unstable();
        let wanted: Vec<String> = list.iter().map(i64::to_string).collect();
        prop_assert_eq!(got, format!("[{}]", wanted.join(", ")));
    }
}

#[test]
fn what_is_too_tall_is_refused() {
    let mut source = "1".to_owned();
    for _ in 0..40 {
        source = format!("({source}{})", "+1".repeat(40));
    }
    assert!(value(&source).contains("recursion limit"), "{}", value(&source));
}

#[test]
fn what_is_cheap_to_say_is_not_dear_to_evaluate() {
    const LIMIT: &str = "! operation cancelled: actual cost limit exceeded";
    let doubled = |first: &str, link: &str, times: usize| {
        let links = (0..times).map(|at| format!(".optMap(v{at}, {})", link.replace('v', &format!("v{at}"))));
        format!("{first}{}.value().size() > 0", links.collect::<String>())
    };
    let lists = format!("[{}].size()", vec!["lists.range(900000)"; 50].join(","));
    for source in [
        doubled("optional.of([1])", "v + v", 40),
        doubled("optional.of('ab')", "v + v", 40),
        lists,
        "lists.range(1000000).size() + lists.range(1000000).size()".to_owned(),
        "'%s'.format([lists.range(300000).map(x, 'abcdefghijklmnop' + string(x))])".to_owned(),
        format!("'{}'.replace('', '{}').size()", "x".repeat(20_000), "y".repeat(20_000)),
        format!("lists.range(40).map(a, '{}'.split('')).size()", "x".repeat(60_000)),
    ] {
        assert_eq!(value(&source), LIMIT, "{}", &source[..60]);
    }
    // What would double with each step is no type.
    let types = doubled("optional.of({1: 1})", "{v: v}", 60);
    assert!(value(&types).contains("type is made of more than 200 parts"), "{}", value(&types));
    let shared =
        doubled("optional.of([1])", "[v, v]", 7) + " && " + &doubled("optional.of([1])", "[v, v]", 7);
    assert_eq!(value(&shared), "true");
}

#[test]
fn patterns_are_those_of_go() {
    for (pattern, text, wanted) in [
        (r"^\d+$", "٣", "[]"),
        (r"^[^[]+$", "ab", "[\"ab\"]"),
        (r"^\${[a-z]+}$", "${x}", "[\"${x}\"]"),
        (r"\Qa.b\E+", "a.bb", "[\"a.bb\"]"),
        (r"[a&&b]+", "a&b", "[\"a&b\"]"),
        (r"\bé", "é", "[]"),
        (r"a{,2}", "a{,2}", "[\"a{,2}\"]"),
        (r"(?i)straſe|k", "STRASE K", "[\"STRASE\", \"K\"]"),
        (r"(?P<1a>x)|(?<b>y)", "xy", "[\"x\", \"y\"]"),
        (r"a(?i)*", "aa", "[\"aa\"]"),
        (r"[\x{D800}-\x{E000}]", "\u{E000}", "[\"\u{e000}\"]"),
        (r"\p{ lu }\PL", "A1", "[\"A1\"]"),
        ("(", "", "! missing closing ): `(`"),
        (r"a**", "", "! invalid nested repetition operator: `**`"),
        (r"(?=a)", "", "! invalid or unsupported Perl syntax: `(?=`"),
        (r"(?<=a)", "", "! invalid named capture: `(?<=a)`"),
        (r"\Z", "", r"! invalid escape sequence: `\Z`"),
        (r"[z-a]", "", "! invalid character class range: `z-a`"),
        (r"[[:foo:]]", "", "! invalid character class range: `[:foo:]`"),
        (r"\p{Foo}", "", r"! invalid character class range: `\p{Foo}`"),
        (r"a{1001}", "", "! invalid repeat count: `{1001}`"),
        (r"(a{100}){11}", "", "! invalid repeat count: `{11}`"),
        ("|*", "", "! missing argument to repetition operator: `*`"),
        ("a)", "", "! unexpected ): `a)`"),
        ("[a", "", "! missing closing ]: `[a`"),
        ("a\\", "", "! trailing backslash at end of expression: ``"),
    ] {
        let got = evaluate("self.t.findAll(self.p)", &json!({"t": text, "p": pattern}))
            .unwrap_or_else(|error| error.replace("Illegal regex: error parsing regexp:", "!"));
        assert_eq!(got, wanted, "{pattern}");
    }
    let deep = "(".repeat(10_000);
    assert!(
        evaluate("self.t.findAll(self.p)", &json!({"t": "", "p": deep})).unwrap_err().contains("too deeply")
    );
}
