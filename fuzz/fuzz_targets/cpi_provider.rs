//! Any bytes where a cloud provider's words are read: provider ids, ranges of addresses, answers and requests. No panic; what was read
//! is written and read the same; what is wrong is told briefly.

use cpi::contract::v1::*;
use cpi::contract::{Cidr, ProviderId, Service, Validate, health_check, load_balancer_name, source_ranges};
use prost::Message;

fn text(text: &str) {
    match text.parse::<ProviderId>() {
        Ok(id) => assert_eq!(id.to_string(), text),
        Err(error) => assert!(error.to_string().len() <= 4096, "{error}"),
    }
    match text.parse::<Cidr>() {
        Ok(range) => {
            assert_eq!(range.to_string().parse(), Ok(range));
            assert!(range.contains(range.first()) && range.contains(range.last()));
            assert_eq!(range.part(range.bits(), 0).map(|part| part.first()), Some(range.first()));
        }
        Err(error) => assert!(error.to_string().len() <= 4096, "{error}"),
    }
}

fn request<R: Message + Default + Validate>(bytes: &[u8]) {
    let Ok(request) = R::decode(bytes) else { return };
    let Err(error) = request.validate() else { return };
    assert!(error.field.as_deref().is_some_and(|field| !field.is_empty()), "{error}");
    assert!(error.message.len() <= 4096, "{} bytes", error.message.len());
}

pub fn run(bytes: &[u8]) {
    if let Ok(words) = std::str::from_utf8(bytes) {
        text(words);
    }
    cpi::caller::fuzz(bytes);
    request::<InitializeRequest>(bytes);
    request::<InstanceExistsRequest>(bytes);
    request::<EnsureLoadBalancerRequest>(bytes);
    request::<CreateRouteRequest>(bytes);
    request::<DeleteRouteRequest>(bytes);
    if let Ok(service) = serde_json::from_slice::<Service>(bytes) {
        assert!(load_balancer_name(&service).len() <= 32 * 4);
        let _ = (health_check(&service), source_ranges(&service));
    }
}
