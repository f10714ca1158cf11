//! Where services are.

use crate::config::{Config, Environment, Service, url};

/// Where a service is, and for what requests to it are signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) url: http::Uri,
    pub(crate) region: String,
    pub(crate) name: String,
}

impl Endpoint {
    /// What the configuration says, else the environment, else where AWS has it.
    ///
    /// # Errors
    /// What is named is no URL.
    pub(crate) fn of(
        service: Service,
        region: &str,
        config: &Config,
        environment: &Environment,
    ) -> Result<Self, String> {
        let named = config.overrides.iter().find(|one| one.service == service && one.region == region);
        if let Some(one) = named {
            let name = one.signing_name.clone().unwrap_or_else(|| service.name().into());
            return Ok(Self { url: one.url.clone(), region: one.signing_region.clone(), name });
        }
        let variables = [service.variable(), "AWS_ENDPOINT_URL"];
        let named = variables.iter().find_map(|name| Some((name, environment.get(name)?)));
        let at = match named {
            Some((name, value)) => url(value).map_err(|why| format!("{name}: {why}"))?,
            None => {
                let host = format!("https://{}.{region}.{}", service.name(), suffix(region));
                url(&host)?
            }
        };
        Ok(Self { url: at, region: region.into(), name: service.name().into() })
    }
}

/// AWS' partitions have names of their own.
fn suffix(region: &str) -> &'static str {
    const SUFFIXES: &[(&str, &str)] = &[
        ("cn-", "amazonaws.com.cn"),
        ("us-iso-", "c2s.ic.gov"),
        ("us-isob-", "sc2s.sgov.gov"),
        ("us-isof-", "csp.hci.ic.gov"),
        ("eu-isoe-", "cloud.adc-e.uk"),
        ("eusc-", "amazonaws.eu"),
    ];
    SUFFIXES
        .iter()
        .find(|(prefix, _)| region.starts_with(prefix))
        .map_or("amazonaws.com", |(_, suffix)| suffix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_services_are() {
        let none = (Config::default(), Environment::default());
        let of = |service, region: &str, (config, environment): &(Config, Environment)| {
            Endpoint::of(service, region, config, environment).map(|found| found.url.to_string())
        };
        assert_eq!(of(Service::Ec2, "eu-west-1", &none).unwrap(), "https://ec2.eu-west-1.amazonaws.com/");
        assert_eq!(
            of(Service::Elb, "cn-north-1", &none).unwrap(),
            "https://elasticloadbalancing.cn-north-1.amazonaws.com.cn/"
        );
        let text = "[ServiceOverride \"1\"]\nService=ec2\nRegion=eu-west-1\nURL=https://a.b\nSigningRegion=z-1\nSigningName=q\n";
        let variables = [("AWS_ENDPOINT_URL", "http://c:1"), ("AWS_ENDPOINT_URL_STS", "http://d:2")];
        let all = (text.parse().unwrap(), variables.into_iter().collect());
        assert_eq!(of(Service::Ec2, "eu-west-1", &all).unwrap(), "https://a.b/");
        assert_eq!(of(Service::Ec2, "eu-west-2", &all).unwrap(), "http://c:1/");
        assert_eq!(of(Service::Sts, "eu-west-1", &all).unwrap(), "http://d:2/");
        let found = Endpoint::of(Service::Ec2, "eu-west-1", &all.0, &all.1).unwrap();
        assert_eq!((found.region.as_str(), found.name.as_str()), ("z-1", "q"));
        let wrong = (Config::default(), [("AWS_ENDPOINT_URL", "moto")].into_iter().collect());
        assert!(
            of(Service::Ec2, "a-b-1", &wrong)
                .unwrap_err()
                .starts_with("AWS_ENDPOINT_URL: \"moto\" is no URL")
        );
    }
}
