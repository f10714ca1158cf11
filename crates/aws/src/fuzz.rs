//! What the fuzz targets call: each reads bytes as somebody outside would have sent them.

use crate::api::xml;
use crate::config::ini::{self, Kind};
use crate::{Config, credentials, ec2, elb};

/// Answers of services: any is read or refused, and refusals are short.
pub fn answers(text: &str) {
    let read = xml::read(text, |root| {
        let _ = (ec2::instances(root), ec2::subnets(root), ec2::groups(root), ec2::tables(root));
        let _ = (elb::balancers(root), elb::groups(root), elb::listeners(root), elb::targets(root));
        let _ = (elb::tags(root), elb::attributes(root));
    });
    if let Err(error) = read {
        assert!(error.len() <= 1 << 10, "{error}");
        assert_eq!(xml::refusal(text), None);
    }
    let _ = credentials::role(text, "AssumeRole");
}

/// Credentials as agents tell them.
pub fn credentials(bytes: &[u8]) {
    if let Err(error) = credentials::told(bytes) {
        assert!(error.len() <= 256, "{error}");
    }
}

/// Files of sections, and the cloud's configuration.
pub fn files(text: &str) {
    let _ = text.parse::<Config>();
    for kind in [Kind::Git, Kind::Shared] {
        if let Ok(sections) = ini::read(text, kind) {
            for section in sections {
                assert!(!section.name.is_empty());
                assert!(section.settings.iter().all(|one| !one.key.is_empty() && one.line > 0));
            }
        }
    }
}

/// What a service wants of its load balancer.
pub fn service(service: &cpi::contract::Service) {
    if let Some(error) = crate::balancers::fuzz(service) {
        assert!(error.len() <= 4096, "{} bytes", error.len());
    }
}
