use super::*;

fn spec(holder: &str, renewed: i64) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(holder.into()),
        lease_duration_seconds: Some(15),
        renew_time: Some(MicroTime(Timestamp::from_second(renewed).unwrap())),
        ..Default::default()
    }
}

#[test]
fn the_usual_terms_are_client_gos() {
    let seconds = |terms: Terms| [terms.lease, terms.renew, terms.retry].map(|time| time.as_secs());
    assert_eq!(seconds(Terms::default()), [15, 10, 2]);
}

#[test]
fn a_lease_is_free_once_it_has_not_changed_for_as_long_as_it_says() {
    let (mut seen, start) = (Seen::default(), Instant::now());
    let at = |seconds: u64| start + Duration::from_secs(seconds);
    // A renewal long ago says nothing: the holder's clock may be wrong.
    assert!(!seen.is_free(&spec("a", 0), at(0)));
    assert!(!seen.is_free(&spec("a", 0), at(15)));
    assert!(!seen.is_free(&spec("a", 1), at(16)), "it was renewed");
    assert!(!seen.is_free(&spec("a", 1), at(31)));
    assert!(seen.is_free(&spec("a", 1), at(32)));
    assert!(!seen.is_free(&spec("b", 1), at(32)), "another has taken it");
    assert!(seen.is_free(&spec("", 2), at(33)), "it was given back");
    assert!(seen.is_free(&LeaseSpec::default(), at(33)));
}
