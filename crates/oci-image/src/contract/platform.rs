use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{
    error::{Error, Result, shortened},
    json,
};

/// What an image runs on, in Go's words (image-spec, "Image Index Property Descriptions").
///
/// ```
/// use oci_image::contract::Platform;
/// let p: Platform = "linux/arm64/v8".parse()?;
/// assert_eq!(p, "aarch64".parse()?);
/// # Ok::<(), oci_image::contract::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// GOARCH: amd64, arm64, ...
    pub architecture: String,
    /// GOOS: linux, ...
    pub os: String,
    /// The version of the OS (Windows).
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Features of the OS the image needs.
    #[serde(
        rename = "os.features",
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "json::null_default"
    )]
    pub os_features: Vec<String>,
    /// The variant of the CPU: v7, v8, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// A platform in its normal form: aliases resolved, the default variant left out.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let (os, architecture) = (os.to_ascii_lowercase(), architecture.to_ascii_lowercase());
        let variant = variant.map(str::to_ascii_lowercase).filter(|v| !v.is_empty());
        let (architecture, variant) = match (architecture.as_str(), variant.as_deref()) {
            ("x86_64" | "x86-64" | "amd64", None | Some("v1")) => ("amd64", None),
            ("x86_64" | "x86-64" | "amd64", v) => ("amd64", v),
            ("aarch64" | "arm64", None | Some("8" | "v8")) => ("arm64", None),
            ("aarch64" | "arm64", v) => ("arm64", v),
            ("armhf", _) | ("arm", None | Some("7")) => ("arm", Some("v7")),
            ("armel", _) | ("arm", Some("6")) => ("arm", Some("v6")),
            ("arm", Some("5")) => ("arm", Some("v5")),
            ("arm", Some("8")) => ("arm", Some("v8")),
            ("i386" | "i686" | "x86", _) => ("386", None),
            ("powerpc64le", v) => ("ppc64le", v),
            (a, v) => (a, v),
        };
        Self {
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
            os,
            os_version: None,
            os_features: Vec::new(),
        }
    }

    /// The platform this program runs on.
    pub fn host() -> Self {
        Self::new(std::env::consts::OS, std::env::consts::ARCH, None)
    }

    /// How far an image made for `offered` is from what runs best here: 0 is exact, `None` cannot run.
    ///
    /// A CPU runs images of its own variant and of lower ones; an arm64 CPU also 32-bit ones when nothing better is
    /// offered, as containerd has it.
    pub fn distance(&self, offered: &Self) -> Option<u32> {
        let wanted = Self::new(&self.os, &self.architecture, self.variant.as_deref());
        let offered = Self::new(&offered.os, &offered.architecture, offered.variant.as_deref());
        if wanted.os != offered.os {
            return None;
        }
        let (have, need) = (level(&wanted), level(&offered));
        match (wanted.architecture.as_str(), offered.architecture.as_str()) {
            (a, b) if a == b => match (have, need) {
                (Some(have), Some(need)) => have.checked_sub(need),
                _ => (wanted.variant == offered.variant).then_some(0),
            },
            ("arm64", "arm") => Some(100 + 8u32.checked_sub(need?)?),
            _ => None,
        }
    }
}

/// The rank of a variant among those of its architecture, `None` where variants are not ordered.
fn level(platform: &Platform) -> Option<u32> {
    let number = |default: u32| match platform.variant.as_deref() {
        None => Some(default * 10),
        Some(v) => {
            let (major, minor) = v.strip_prefix('v')?.split_once('.').unwrap_or((v.strip_prefix('v')?, "0"));
            major.parse::<u32>().ok()?.checked_mul(10)?.checked_add(minor.parse::<u32>().ok()?)
        }
    };
    match platform.architecture.as_str() {
        "amd64" => number(1),
        "arm64" => number(8),
        "arm" => number(7).map(|n| n / 10),
        _ => None,
    }
}

impl FromStr for Platform {
    type Err = Error;

    /// Reads `os/arch[/variant]`, or an OS or an architecture alone with the host's other half.
    fn from_str(text: &str) -> Result<Self> {
        let fail = |reason| Err(Error::Platform { value: shortened(text), reason });
        let clean =
            |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(|p| clean(p)) {
            return fail("expected os/architecture[/variant], as in linux/arm64");
        }
        let host = Self::host();
        match parts.as_slice() {
            [one]
                if matches!(
                    one.to_ascii_lowercase().as_str(),
                    "linux" | "windows" | "darwin" | "freebsd"
                ) =>
            {
                Ok(Self::new(one, &host.architecture, host.variant.as_deref()))
            }
            [one] => Ok(Self::new(&host.os, one, None)),
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            _ => fail("it has more than three parts"),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|v| write!(f, "/{v}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distance(wanted: &str, offered: &str) -> Option<u32> {
        wanted.parse::<Platform>().unwrap().distance(&offered.parse().unwrap())
    }

    #[test]
    fn a_cpu_runs_its_own_variant_and_lower_ones() {
        assert_eq!(distance("linux/amd64", "linux/amd64"), Some(0));
        assert_eq!(distance("linux/amd64", "linux/amd64/v3"), None);
        assert!(distance("linux/amd64/v3", "linux/amd64/v3") < distance("linux/amd64/v3", "linux/amd64"));
        assert_eq!(distance("linux/amd64", "linux/386"), None);
        assert_eq!(distance("linux/arm64", "linux/arm64/v8"), Some(0));
        assert_eq!(distance("linux/arm/v7", "linux/arm"), Some(0));
        assert!(distance("linux/arm/v7", "linux/arm/v6") > Some(0));
        assert_eq!(distance("linux/arm/v6", "linux/arm/v7"), None);
        assert!(distance("linux/arm64", "linux/arm/v7") < distance("linux/arm64", "linux/arm/v6"));
        assert_eq!(distance("linux/amd64", "windows/amd64"), None);
        assert_eq!(distance("linux/s390x", "linux/s390x"), Some(0));
        assert_eq!(distance("linux/amd64", "unknown/unknown"), None);
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["", "/", "linux/", "linux/arm/v7/x", "linux/a b"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad:?}");
        }
    }
}
