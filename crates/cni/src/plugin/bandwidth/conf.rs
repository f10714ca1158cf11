use kernel::tc::TokenBucket;

use crate::contract::{Code, Error, Keys, Request};

/// What the plugin `bandwidth` is told, as seen from the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Conf {
    /// What it may receive.
    pub(super) ingress: Option<TokenBucket>,
    /// What it may send.
    pub(super) egress: Option<TokenBucket>,
}

const KEYS: [&str; 4] = ["ingressRate", "ingressBurst", "egressRate", "egressBurst"];
/// A packet that has waited this long for tokens is not worth sending any more: one in so many parts of a second.
const LATENCY: u64 = 40;

impl Conf {
    /// Keys of the configuration itself count alone, if there is one; else those of the capability `bandwidth`.
    pub(super) fn of(request: &Request<'_>) -> Result<Self, Error> {
        let keys = request.keys();
        if KEYS.iter().any(|key| keys.get(key).is_some()) {
            return Self::read(&keys);
        }
        let runtime = keys.object("runtimeConfig")?.map(|runtime| Keys::new(runtime, "\"runtimeConfig\""));
        match runtime.map(|runtime| runtime.object("bandwidth")).transpose()?.flatten() {
            Some(bandwidth) => Self::read(&Keys::new(bandwidth, "\"runtimeConfig.bandwidth\"")),
            None => Ok(Self { ingress: None, egress: None }),
        }
    }

    fn read(keys: &Keys<'_>) -> Result<Self, Error> {
        let [ingress_rate, ingress_burst, egress_rate, egress_burst] = KEYS;
        Ok(Self {
            ingress: bucket(keys, ingress_rate, ingress_burst)?,
            egress: bucket(keys, egress_rate, egress_burst)?,
        })
    }

    /// There is nothing to limit.
    pub(super) fn is_open(self) -> bool {
        self.ingress.is_none() && self.egress.is_none()
    }
}

/// A rate in bits a second and a burst in bits, which go together; none if both are 0 or absent.
fn bucket(keys: &Keys<'_>, rate_key: &str, burst_key: &str) -> Result<Option<TokenBucket>, Error> {
    let rate: u64 = keys.decode(rate_key)?.unwrap_or_default();
    let burst: u64 = keys.decode(burst_key)?.unwrap_or_default();
    match (rate, burst) {
        (0, 0) => return Ok(None),
        (0, _) => return Err(alone(burst_key, rate_key)),
        (_, 0) => return Err(alone(rate_key, burst_key)),
        (1..8, _) => return Err(keys.refuse(rate_key, "8 bits a second or more, which is a byte")),
        (_, 1..8) => return Err(keys.refuse(burst_key, "8 bits or more, which is a byte")),
        _ => {}
    }
    let (rate, burst) = (rate / 8, burst / 8);
    let burst = u32::try_from(burst).ok().filter(|burst| *burst < u32::MAX);
    let burst = burst.ok_or_else(|| keys.refuse(burst_key, "less than 4 GiB"))?;
    let limit = u32::try_from(rate / LATENCY).unwrap_or(u32::MAX).saturating_add(burst);
    Ok(Some(TokenBucket { rate, burst, limit }))
}

fn alone(given: &str, missing: &str) -> Error {
    let text = format!("cannot use {given:?} of bandwidth: {missing:?} must be set with it");
    Error::new(Code::InvalidConfig, text)
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;

    fn read(value: &Value) -> Result<Conf, Error> {
        Conf::read(&Keys::new(value.as_object().unwrap_or(&Map::new()), "bandwidth"))
    }

    #[test]
    fn bits_become_bytes_and_a_fortieth_of_a_second_may_wait() {
        let conf = read(&json!({ "ingressRate": 8000, "ingressBurst": 16000, "egressRate": 0 })).unwrap();
        assert_eq!(conf.ingress, Some(TokenBucket { rate: 1000, burst: 2000, limit: 2025 }));
        assert_eq!(conf.egress, None);
        let smallest = read(&json!({ "egressRate": 8, "egressBurst": 8 })).unwrap().egress;
        assert_eq!(smallest, Some(TokenBucket { rate: 1, burst: 1, limit: 1 }));
        let widest = read(&json!({ "egressRate": u64::MAX, "egressBurst": 34_359_738_000_u64 })).unwrap();
        assert_eq!(widest.egress.map(|bucket| bucket.limit), Some(u32::MAX));
        assert!(read(&json!({})).unwrap().is_open());
    }

    #[test]
    fn what_goes_together_is_asked_for_together() {
        for (value, words) in [
            (json!({ "ingressRate": 8000 }), "\"ingressBurst\" must be set"),
            (json!({ "ingressBurst": 8000 }), "\"ingressRate\" must be set"),
            (json!({ "egressRate": 8000 }), "\"egressBurst\" must be set"),
            (json!({ "egressRate": 7, "egressBurst": 8 }), "\"egressRate\""),
            (json!({ "egressRate": 8, "egressBurst": 7 }), "\"egressBurst\""),
            (json!({ "egressRate": 8, "egressBurst": 34_359_738_360_u64 }), "less than 4 GiB"),
            (json!({ "egressRate": -8, "egressBurst": 8 }), "\"egressRate\""),
            (json!({ "egressRate": "8", "egressBurst": 8 }), "\"egressRate\""),
        ] {
            let error = read(&value).unwrap_err();
            assert_eq!(error.code, Code::InvalidConfig, "{value}");
            assert!(error.to_string().contains(words), "{value}: {error}");
        }
    }
}
