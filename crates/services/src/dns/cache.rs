use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::BinEncodable as _;

use super::Outcome;

/// Answers of one generation: there are two, and the older one goes when the younger is full.
const GENERATION: usize = 2048;
/// An answer with more records is asked for again each time,
const LARGEST: usize = 64;
/// and one of as many bytes.
const BYTES: usize = 4096;
/// The longest that an answer is kept.
const LONGEST: Duration = Duration::from_secs(3600);
/// The longest that it is kept that there is none.
const LONGEST_NEGATIVE: Duration = Duration::from_secs(300);

type Key = (Name, RecordType, bool);

/// What others have said, for as long as they have said that it is true.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Key, Kept>,
    old: HashMap<Key, Kept>,
}

#[derive(Debug)]
struct Kept {
    since: Instant,
    until: Instant,
    outcome: Outcome,
}

impl Cache {
    /// What was said, with the time that is left.
    pub(super) fn get(&self, name: &Name, kind: RecordType, dnssec: bool) -> Option<Outcome> {
        self.get_at(name, kind, dnssec, Instant::now())
    }

    fn get_at(&self, name: &Name, kind: RecordType, dnssec: bool, now: Instant) -> Option<Outcome> {
        let key = (name.to_lowercase(), kind, dnssec);
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !generations.young.contains_key(&key) {
            let kept = generations.old.remove(&key).filter(|kept| now < kept.until)?;
            generations.add(key.clone(), kept);
        }
        let kept = generations.young.get(&key).filter(|kept| now < kept.until)?;
        let age = u32::try_from(now.saturating_duration_since(kept.since).as_secs()).unwrap_or(u32::MAX);
        let mut outcome = kept.outcome.clone();
        for record in outcome.answers.iter_mut().chain(&mut outcome.authorities) {
            record.ttl = record.ttl.saturating_sub(age);
            // Whoever asks sees the name as he wrote it.
            if record.name.to_lowercase() == key.0 {
                record.name = name.clone();
            }
        }
        Some(outcome)
    }

    /// Keeps what was said.
    pub(super) fn keep(&self, name: &Name, kind: RecordType, dnssec: bool, outcome: &Outcome) {
        self.keep_at(name, kind, dnssec, outcome, Instant::now());
    }

    fn keep_at(&self, name: &Name, kind: RecordType, dnssec: bool, outcome: &Outcome, now: Instant) {
        let Some(time) = time_to_live(outcome).filter(|time| !time.is_zero()) else { return };
        let records = || outcome.answers.iter().chain(&outcome.authorities);
        let length = |record: &Record| record.to_bytes().map_or(BYTES, |bytes| bytes.len());
        if records().count() > LARGEST || records().map(length).sum::<usize>() >= BYTES {
            return;
        }
        let mut outcome = outcome.clone();
        outcome.additionals.clear();
        let kept = Kept { since: now, until: now + time, outcome };
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        generations.add((name.to_lowercase(), kind, dnssec), kept);
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        generations.young.len() + generations.old.len()
    }
}

impl Generations {
    fn add(&mut self, key: Key, kept: Kept) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, kept);
    }
}

/// How long it is true (RFC 2308 where there is no such thing); none for what is not to be kept.
fn time_to_live(outcome: &Outcome) -> Option<Duration> {
    let shortest = |records: &[Record]| records.iter().map(|record| record.ttl).min();
    let negative = || {
        let soa = outcome.authorities.iter().find_map(|record| match &record.data {
            RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
            _ => None,
        });
        soa.map(|seconds| Duration::from_secs(seconds.into()).min(LONGEST_NEGATIVE))
    };
    match (outcome.code, shortest(&outcome.answers)) {
        (ResponseCode::NXDomain, _) | (ResponseCode::NoError, None) => negative(),
        (ResponseCode::NoError, Some(seconds)) => Some(Duration::from_secs(seconds.into()).min(LONGEST)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::rdata::{A, SOA};

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn found(ttl: u32) -> Outcome {
        let record = Record::from_rdata(name("a.example."), ttl, RData::A(A::new(192, 0, 2, 1)));
        Outcome { answers: vec![record], ..Outcome::of(ResponseCode::NoError) }
    }

    #[test]
    fn answers_age_and_end() {
        let (cache, now) = (Cache::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        cache.keep_at(&name("A.example."), RecordType::A, false, &found(30), now);
        let later = cache.get_at(&name("a.EXAMPLE."), RecordType::A, false, at(12)).unwrap();
        assert_eq!((later.answers[0].ttl, later.answers[0].name.to_ascii().as_str()), (18, "a.EXAMPLE."));
        assert_eq!(cache.get_at(&name("a.example."), RecordType::AAAA, false, at(1)), None);
        assert_eq!(cache.get_at(&name("a.example."), RecordType::A, true, at(1)), None);
        assert_eq!(cache.get_at(&name("a.example."), RecordType::A, false, at(30)), None);
        cache.keep_at(&name("b.example."), RecordType::A, false, &found(0), now);
        assert_eq!(cache.get_at(&name("b.example."), RecordType::A, false, now), None);
    }

    #[test]
    fn that_there_is_none_is_kept_as_long_as_its_zone_says() {
        let (cache, now) = (Cache::default(), Instant::now());
        let soa = SOA::new(name("ns.example."), name("who.example."), 1, 1, 1, 1, 20);
        let soa = Record::from_rdata(name("example."), 900, RData::SOA(soa));
        let none = Outcome { authorities: vec![soa], ..Outcome::of(ResponseCode::NXDomain) };
        let get = |seconds| {
            cache.get_at(&name("n.example."), RecordType::A, false, now + Duration::from_secs(seconds))
        };
        cache.keep_at(&name("n.example."), RecordType::A, false, &none, now);
        assert_eq!(get(19).unwrap().code, ResponseCode::NXDomain);
        assert_eq!(get(20), None);
        cache.keep_at(&name("m.example."), RecordType::A, false, &Outcome::of(ResponseCode::NXDomain), now);
        cache.keep_at(&name("m.example."), RecordType::A, false, &Outcome::of(ResponseCode::ServFail), now);
        assert_eq!(cache.get_at(&name("m.example."), RecordType::A, false, now), None);
    }

    #[test]
    fn what_is_long_is_not_kept() {
        use hickory_proto::rr::rdata::TXT;
        let (cache, now) = (Cache::default(), Instant::now());
        let texts = |number| {
            let data = RData::TXT(TXT::new(vec!["x".repeat(250); number]));
            let records = vec![Record::from_rdata(name("t.example."), 60, data)];
            Outcome { answers: records, ..Outcome::of(ResponseCode::NoError) }
        };
        for (number, kept) in [(8, true), (BYTES / 250 + 1, false)] {
            let name = name(&format!("t{number}.example."));
            cache.keep_at(&name, RecordType::TXT, false, &texts(number), now);
            assert_eq!(cache.get_at(&name, RecordType::TXT, false, now).is_some(), kept, "{number}");
        }
        for (number, kept) in [(LARGEST, true), (LARGEST + 1, false)] {
            let outcome = Outcome {
                answers: (0..number).flat_map(|_| found(60).answers).collect(),
                ..Outcome::of(ResponseCode::NoError)
            };
            let name = name(&format!("a{number}.example."));
            cache.keep_at(&name, RecordType::A, false, &outcome, now);
            assert_eq!(cache.get_at(&name, RecordType::A, false, now).is_some(), kept, "{number}");
        }
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let (cache, now) = (Cache::default(), Instant::now());
        cache.keep_at(&name("used.example."), RecordType::A, false, &found(60), now);
        for n in 0..3 * GENERATION {
            cache.keep_at(&name(&format!("n{n}.example.")), RecordType::A, false, &found(60), now);
            assert!(cache.get_at(&name("used.example."), RecordType::A, false, now).is_some());
        }
        assert!(cache.len() <= 2 * GENERATION);
        assert_eq!(cache.get_at(&name("n0.example."), RecordType::A, false, now), None);
    }
}
