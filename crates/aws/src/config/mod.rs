//! How the provider is told to behave: the file of `--cloud-config`, and the environment.
//!
//! The file is the one that AWS' own provider reads, with the same names.

mod environment;
pub(crate) mod ini;

use std::path::Path;

pub use environment::Environment;

use self::ini::{Kind, Section};
use crate::Error;

/// A service that is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Service {
    Ec2,
    Elb,
    Sts,
}

impl Service {
    /// What it is called in signatures, addresses and rights.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ec2 => "ec2",
            Self::Elb => "elasticloadbalancing",
            Self::Sts => "sts",
        }
    }

    /// What it is called in the names of variables that say where it is.
    pub(crate) fn variable(self) -> &'static str {
        match self {
            Self::Ec2 => "AWS_ENDPOINT_URL_EC2",
            Self::Elb => "AWS_ENDPOINT_URL_ELASTIC_LOAD_BALANCING_V2",
            Self::Sts => "AWS_ENDPOINT_URL_STS",
        }
    }
}

/// Where a service is instead of where it would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Override {
    pub(crate) service: Service,
    /// It holds for this region alone.
    pub(crate) region: String,
    pub(crate) url: http::Uri,
    pub(crate) signing_region: String,
    pub(crate) signing_name: Option<String>,
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    pub(crate) region: Option<String>,
    pub(crate) vpc: Option<String>,
    pub(crate) subnet: Option<String>,
    pub(crate) route_table: Option<String>,
    pub(crate) role: Option<String>,
    /// What the cluster is called in tags, instead of what the controllers call it.
    pub(crate) cluster: Option<String>,
    /// No rules are made for nodes.
    pub(crate) no_rules: bool,
    /// Which addresses nodes have, in this order; none: all, those of IPv4 first.
    pub(crate) families: Vec<Family>,
    /// Where all services without `externalTrafficPolicy: Local` are asked for their health.
    pub(crate) shared_probe: Option<(u16, String)>,
    pub(crate) overrides: Vec<Override>,
}

/// Settings of AWS' provider that are not here, and why.
const NOT_HERE: &[(&str, &str)] = &[
    ("ElbSecurityGroup", "it is for classic load balancers, which are not made"),
    ("NLBSecurityGroupMode", "load balancers get no security group of their own; rules are made for nodes"),
    ("SourceARN", "roles are taken on without it"),
    ("SupportedTopologyInstanceTypePattern", "the topology of instances is not asked for"),
];

/// Services of AWS that other providers call.
const NOT_CALLED: &[&str] = &["elastic load balancing", "kms", "autoscaling", "auto scaling"];

impl Config {
    /// Reads the file of `--cloud-config`.
    ///
    /// # Errors
    /// It cannot be read, or what is wrong in it.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let wrong = |cause: String| Error::Config { path: path.into(), cause };
        let text = environment::text(path).map_err(wrong)?;
        text.parse().map_err(wrong)
    }
}

impl std::str::FromStr for Config {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut config = Self::default();
        let (mut zone, mut probe, mut legacy) = (None, Probe::default(), None);
        for section in ini::read(text, Kind::Git)? {
            if section.name.eq_ignore_ascii_case("Global") && section.sub.is_empty() {
                for one in section.settings.iter().filter(|one| !one.value.is_empty()) {
                    let set = global(&mut config, &mut zone, &mut probe, &mut legacy, &one.key, &one.value);
                    set.map_err(|why| format!("line {}: {}: {why}", one.line, one.key))?;
                }
            } else if section.name.eq_ignore_ascii_case("ServiceOverride") {
                config.overrides.extend(overridden(&section)?);
            } else {
                return Err(format!(
                    "line {}: section [{}] is not known; there are [Global] and [ServiceOverride \"1\"]",
                    section.line, section.name
                ));
            }
        }
        config.cluster = config.cluster.or(legacy);
        config.region = config.region.or_else(|| zone.as_deref().and_then(region_of));
        if probe.is_shared {
            let path = probe.path.unwrap_or_else(|| "/healthz".into());
            config.shared_probe = Some((probe.port.unwrap_or(10256), path));
        }
        Ok(config)
    }
}

/// The settings of a health probe that all services share.
#[derive(Default)]
struct Probe {
    is_shared: bool,
    port: Option<u16>,
    path: Option<String>,
}

fn global(
    config: &mut Config,
    zone: &mut Option<String>,
    probe: &mut Probe,
    legacy: &mut Option<String>,
    key: &str,
    value: &str,
) -> Result<(), String> {
    let text = || Some(value.to_owned());
    match key.to_ascii_lowercase().as_str() {
        "region" => config.region = Some(region(value)?),
        "zone" => *zone = text(),
        "vpc" => config.vpc = Some(id(value, "vpc-")?),
        "subnetid" => config.subnet = Some(id(value, "subnet-")?),
        "routetableid" => config.route_table = Some(id(value, "rtb-")?),
        "rolearn" => config.role = text(),
        "kubernetesclusterid" => config.cluster = text(),
        "kubernetesclustertag" => *legacy = text(),
        "disablesecuritygroupingress" => config.no_rules = boolean(value)?,
        "nodeipfamilies" => config.families.push(match value.to_ascii_lowercase().as_str() {
            "ipv4" => Family::V4,
            "ipv6" => Family::V6,
            _ => return Err(format!("{value:?} is neither ipv4 nor ipv6")),
        }),
        "clusterserviceloadbalancerhealthprobemode" => {
            probe.is_shared = match value {
                "Shared" => true,
                "ServiceNodePort" => false,
                _ => return Err(format!("{value:?} is neither Shared nor ServiceNodePort")),
            }
        }
        "clusterservicesharedloadbalancerhealthprobeport" => {
            let port = value.parse().ok().filter(|port| *port > 0);
            probe.port = Some(port.ok_or_else(|| format!("{value:?} is no port; name one of 1 to 65535"))?);
        }
        "clusterservicesharedloadbalancerhealthprobepath" => {
            let path = text().filter(|path| path.starts_with('/'));
            probe.path = Some(path.ok_or_else(|| format!("{value:?} is no path; it begins with a slash"))?);
        }
        _ => {
            let known = NOT_HERE.iter().find(|(name, _)| name.eq_ignore_ascii_case(key));
            return Err(match known {
                Some((_, why)) => format!("is not supported: {why}; remove it"),
                None => "is no setting of [Global]; docs/aws.md lists them".into(),
            });
        }
    }
    Ok(())
}

fn overridden(section: &Section) -> Result<Option<Override>, String> {
    const KNOWN: &[&str] = &["Service", "Region", "URL", "SigningRegion", "SigningMethod", "SigningName"];
    let wrong = |line: usize, why: String| format!("line {line}: ServiceOverride {:?}: {why}", section.sub);
    if let Some(one) =
        section.settings.iter().find(|one| !KNOWN.iter().any(|k| k.eq_ignore_ascii_case(&one.key)))
    {
        return Err(wrong(one.line, format!("{} is not one of {}", one.key, KNOWN.join(", "))));
    }
    let must = |key| section.setting(key).ok_or_else(|| wrong(section.line, format!("{key} is missing")));
    let told = must("Service")?;
    let name = told.value.trim().to_ascii_lowercase();
    let service = match name.as_str() {
        "ec2" => Service::Ec2,
        "elastic load balancing v2" | "elasticloadbalancingv2" | "elasticloadbalancing" => Service::Elb,
        "sts" => Service::Sts,
        other if NOT_CALLED.contains(&other) => return Ok(None),
        _ => {
            let why = format!("Service {name:?} is not called; there are ec2, elasticloadbalancing and sts");
            return Err(wrong(told.line, why));
        }
    };
    if let Some(one) =
        section.setting("SigningMethod").filter(|method| !method.value.eq_ignore_ascii_case("v4"))
    {
        let why = format!("SigningMethod {:?} is not known; requests are signed by v4", one.value);
        return Err(wrong(one.line, why));
    }
    let region_of = |key| {
        let one = must(key)?;
        region(one.value.trim()).map_err(|why| wrong(one.line, format!("{key}: {why}")))
    };
    let at = must("URL")?;
    Ok(Some(Override {
        service,
        region: region_of("Region")?,
        url: url(&at.value).map_err(|why| wrong(at.line, format!("URL: {why}")))?,
        signing_region: region_of("SigningRegion")?,
        signing_name: section.get("SigningName").map(str::to_owned),
    }))
}

fn boolean(value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err(format!("{value:?} is neither true nor false")),
    }
}

/// What an id of AWS' looks like.
fn id(value: &str, prefix: &str) -> Result<String, String> {
    let is_id = value.strip_prefix(prefix).is_some_and(|rest| {
        !rest.is_empty() && rest.len() <= 64 && rest.bytes().all(|c| c.is_ascii_alphanumeric())
    });
    if is_id { Ok(value.into()) } else { Err(format!("{value:?} is no id that begins with {prefix}")) }
}

/// A region's name becomes part of a host's.
pub(crate) fn region(value: &str) -> Result<String, String> {
    let is_one = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    if !value.is_empty() && value.len() <= 63 && value.bytes().all(is_one) && !value.starts_with('-') {
        Ok(value.into())
    } else {
        let shown: String = value.chars().take(64).collect();
        Err(format!("{shown:?} is no region; write it as eu-central-1"))
    }
}

/// `eu-central-1` of `eu-central-1a`. Local zones are called after their region too: `us-west-2-lax-1a`.
pub(crate) fn region_of(zone: &str) -> Option<String> {
    let mut end = 0;
    let mut parts = 0;
    for part in zone.split('-') {
        parts += 1;
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        if digits > 0 {
            end += digits;
            break;
        }
        end += part.len() + 1;
    }
    let found = zone.get(..end)?;
    (parts >= 3).then(|| region(found).ok()).flatten()
}

/// Where a service is.
pub(crate) fn url(value: &str) -> Result<http::Uri, String> {
    let wrong = || {
        let shown: String = value.chars().take(128).collect();
        format!("{shown:?} is no URL of a service; write it as https://ec2.example.com")
    };
    let uri: http::Uri = value.trim().parse().map_err(|_| wrong())?;
    let is_web = matches!(uri.scheme_str(), Some("http" | "https"));
    let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
    if is_web && !has_user && uri.host().is_some_and(|host| !host.is_empty()) && uri.query().is_none() {
        Ok(uri)
    } else {
        Err(wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_aws_own_provider() {
        let text = "[Global]\nZone = eu-central-1a\nVPC = vpc-0a1\nSubnetID=subnet-1\nRouteTableID=rtb-2\nKubernetesClusterTag = old\n\
                    KubernetesClusterID = shop\nDisableSecurityGroupIngress = true\nNodeIPFamilies = ipv6\nNodeIPFamilies = ipv4\n\
                    ClusterServiceLoadBalancerHealthProbeMode = Shared\n[ServiceOverride \"1\"]\nService = EC2\nRegion = eu-central-1\n\
                    URL = http://127.0.0.1:5000\nSigningRegion = x-1\n[ServiceOverride \"2\"]\nService = kms\n";
        let config: Config = text.parse().unwrap();
        assert_eq!(config.region.as_deref(), Some("eu-central-1"));
        assert_eq!((config.vpc.as_deref(), config.cluster.as_deref()), (Some("vpc-0a1"), Some("shop")));
        assert_eq!(config.families, [Family::V6, Family::V4]);
        assert_eq!(config.shared_probe, Some((10256, "/healthz".into())));
        assert!(config.no_rules);
        let [one] = &config.overrides[..] else { panic!("{:?}", config.overrides) };
        assert_eq!((one.service, one.url.to_string().as_str()), (Service::Ec2, "http://127.0.0.1:5000/"));
        assert_eq!("".parse::<Config>(), Ok(Config::default()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, told) in [
            ("[Global]\nVPX = 1\n", "line 2: VPX: is no setting of [Global]"),
            ("[Global]\nVPC = sub-1\n", "\"sub-1\" is no id that begins with vpc-"),
            ("[Global]\nRegion = a.b\n", "\"a.b\" is no region"),
            ("[Global]\nElbSecurityGroup = sg-1\n", "is not supported: it is for classic load balancers"),
            ("[Global]\nNodeIPFamilies = ipx\n", "\"ipx\" is neither ipv4 nor ipv6"),
            ("[Global]\nDisableSecurityGroupIngress = perhaps\n", "\"perhaps\" is neither true nor false"),
            ("[Global]\n\n[Globl]\n", "line 3: section [Globl] is not known"),
            (
                "[Global]\n[ServiceOverride \"1\"]\nService=ec2\nURL=http://x\n",
                "line 2: ServiceOverride \"1\": Region is missing",
            ),
            ("[ServiceOverride \"1\"]\n", "line 1: ServiceOverride \"1\": Service is missing"),
            (
                "[ServiceOverride \"1\"]\nService=ec3\n",
                "line 2: ServiceOverride \"1\": Service \"ec3\" is not called",
            ),
            ("[ServiceOverride \"1\"]\nUrl2=ec3\n", "line 2: ServiceOverride \"1\": Url2 is not one of"),
            (
                "[ServiceOverride \"1\"]\nService=ec2\nSigningMethod=v2\n",
                "line 3: ServiceOverride \"1\": SigningMethod \"v2\" is not known",
            ),
            (
                "[ServiceOverride \"1\"]\nService=ec2\nURL=http://x\nRegion=a.b\n",
                "line 4: ServiceOverride \"1\": Region: \"a.b\" is no region",
            ),
            (
                "[ServiceOverride \"1\"]\nService=ec2\nRegion=a\nURL=ftp://x\nSigningRegion=a\n",
                "line 4: ServiceOverride \"1\": URL: \"ftp://x\" is no URL of a service",
            ),
        ] {
            let error = text.parse::<Config>().unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn regions_of_zones() {
        for (zone, region) in [
            ("eu-central-1a", Some("eu-central-1")),
            ("us-gov-west-1b", Some("us-gov-west-1")),
            ("us-west-2-lax-1a", Some("us-west-2")),
            ("ap-southeast-12c", Some("ap-southeast-12")),
            ("a", None),
            ("", None),
            ("a-1", None),
        ] {
            assert_eq!(region_of(zone).as_deref(), region, "{zone}");
        }
    }
}
