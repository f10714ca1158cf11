use super::*;

fn none(errors: &[String]) {
    assert!(errors.is_empty(), "unexpected: {errors:?}");
}

#[test]
fn labels_of_dns() {
    none(&dns_label("a", false));
    none(&dns_label("0-9", false));
    assert_eq!(dns_label("a.b", false), ["must not contain dots"]);
    assert_eq!(
        dns_label("A.b", false),
        [
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end \
          with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
          '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
        ]
    );
    assert_eq!(dns_label(&"a".repeat(64), false), ["must be no more than 63 characters"]);
    none(&dns_label("x-", true));
    assert_eq!(dns_label("x-", false).len(), 1);
    assert_eq!(dns_label("é-", true).len(), 1, "a cut inside a letter is no panic");
}

#[test]
fn subdomains() {
    none(&dns_subdomain("a.b-c.9", false));
    assert_eq!(dns_subdomain(&"a".repeat(300), false), ["must be no more than 253 characters"]);
    assert_eq!(
        dns_subdomain("Bad_Name", false),
        [
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start \
          and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
          '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
        ]
    );
    assert_eq!(dns_subdomain("a..b", false).len(), 1);
    none(&dns_subdomain_with_underscore("_srv.a_b"));
    none(&wildcard_subdomain("*.a.b"));
    assert_eq!(wildcard_subdomain("*.*.b").len(), 1);
    none(&dns1035_label("a-1", false));
    assert_eq!(dns1035_label("1-a", false).len(), 1);
}

#[test]
fn keys_and_values_of_labels() {
    for key in ["a", "A_b.c-9", "example.com/x"] {
        none(&qualified_name(key));
    }
    let rule = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric \
                character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
                '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
    assert_eq!(qualified_name("-a"), [format!("name part {rule}")]);
    assert_eq!(qualified_name(""), ["name part must be non-empty".to_owned(), format!("name part {rule}")]);
    assert_eq!(qualified_name("/a"), ["prefix part must be non-empty"]);
    assert_eq!(qualified_name(&"a".repeat(64)), ["name part must be no more than 63 bytes"]);
    assert_eq!(
        qualified_name("a/b/c"),
        [format!(
            "a valid label key {rule} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        )]
    );
    none(&label_value(""));
    assert_eq!(
        label_value("not ok!"),
        [
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start \
          and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation \
          is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
        ]
    );
}

#[test]
fn ports_and_variables() {
    none(&port_name("http-1"));
    assert_eq!(port_name("HTTP").len(), 2);
    assert_eq!(port_name("80"), ["must contain at least one letter (a-z)"]);
    assert_eq!(
        port_name("-a--b-"),
        ["must not contain consecutive hyphens", "must not begin or end with a hyphen"]
    );
    assert_eq!(port_number(0), ["must be between 1 and 65535, inclusive"]);
    none(&env_name("a b+c"));
    assert_eq!(env_name("a=b").len(), 1);
    none(&config_key("a_B.c-9"));
    assert_eq!(config_key(".."), ["must not be '..'"]);
    assert_eq!(config_key("..a"), ["must not start with '..'"]);
    assert_eq!(path_segment(".", false), ["may not be '.'"]);
    none(&path_segment(".", true));
    assert_eq!(path_segment("a/b%", false), ["may not contain '/'", "may not contain '%'"]);
}

#[test]
fn addresses() {
    let path = crate::contract::field::Path::new("ip");
    let texts = |errors: crate::contract::field::FieldErrors| -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    };
    assert!(ip(&path, "10.0.0.1").is_empty());
    assert_eq!(
        texts(ip(&path, "1.2.3")),
        ["ip: Invalid value: \"1.2.3\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]
    );
    assert_eq!(texts(ip(&path, "010.0.0.1")), ["ip: Invalid value: \"010.0.0.1\": must not have leading 0s"]);
    assert_eq!(
        texts(ip(&path, "::ffff:1.2.3.4")),
        ["ip: Invalid value: \"::ffff:1.2.3.4\": must not be an IPv4-mapped IPv6 address"]
    );
    assert_eq!(
        texts(ip(&path, "2001:DB8::1")),
        ["ip: Invalid value: \"2001:DB8::1\": must be in canonical form (\"2001:db8::1\")"]
    );
    assert!(ip_of_old(&path, "010.0.0.1", false, &[]).is_empty());
    assert_eq!(parse_ip("256.0.0.1"), None);
    assert_eq!(parse_cidr("10.0.0.0/33"), None);
    assert!(
        parse_cidr("10.96.0.0/16")
            .is_some_and(|range| range.contains("10.96.255.1".parse().expect("an address")))
    );
    assert_eq!(
        texts(cidr(&path, "10.0.0.1/8", true, &[])),
        ["ip: Invalid value: \"10.0.0.1/8\": must not have bits set beyond the prefix length"]
    );
    assert_eq!(cidr_warnings(&path, "fd00::1/64").len(), 1);
}
