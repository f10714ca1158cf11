//! An identity in a certificate, or a text that should be one: what is read is written as it was, and has the parts that it should have.

use mesh::identity::Identity;

pub fn run(text: &str) {
    let Ok(identity) = Identity::parse(text) else { return };
    assert_eq!(identity.as_str(), text);
    let parts: Vec<&str> = text.split('/').collect();
    let ["spiffe:", "", domain, "ns", namespace, "sa", account] = parts[..] else {
        panic!("{text:?} was taken for an identity");
    };
    assert_eq!(identity.domain(), domain);
    for part in [domain, namespace, account] {
        assert!(
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_graphic() && !b"%?#@:".contains(&byte))
        );
    }
}
