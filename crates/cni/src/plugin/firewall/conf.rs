use crate::contract::{AddResult, Code, Error, Request};
use crate::plugin::table::Table;

/// What the plugin `firewall` is told.
#[derive(Debug)]
pub(super) struct Conf {
    pub(super) policy: Policy,
    pub(super) table: Table,
}

/// Who reaches the containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    /// Everybody.
    Open,
    /// Not those behind another bridge that has this policy or the next.
    SameBridge,
    /// Nor those behind the same bridge.
    Isolated,
}

impl Conf {
    pub(super) fn of(request: &Request<'_>) -> Result<Self, Error> {
        let keys = request.keys();
        match keys.text("backend")? {
            None | Some("" | "nftables") => {}
            Some(backend) => {
                return Err(Error::new(
                    Code::UnsupportedField,
                    format!("firewall does not support the field \"backend\" with the value {backend:?}"),
                )
                .hint("this plugin speaks nftables only; leave \"backend\" out"));
            }
        }
        keys.unsupported(&["iptablesAdminChainName", "firewalldZone"])?;
        let policy = match keys.text("ingressPolicy")? {
            None | Some("" | "open") => Policy::Open,
            Some("same-bridge") => Policy::SameBridge,
            Some("isolated") => Policy::Isolated,
            Some(_) => return Err(keys.refuse("ingressPolicy", "\"open\", \"same-bridge\" or \"isolated\"")),
        };
        Ok(Self { policy, table: Table::of(&keys)? })
    }

    /// The bridge that the policy is about: the first interface of the result. None if the policy is open.
    pub(super) fn bridge<'a>(&self, previous: &'a AddResult) -> Result<Option<&'a str>, Error> {
        if self.policy == Policy::Open {
            return Ok(None);
        }
        let first =
            previous.interfaces.first().filter(|link| link.sandbox.is_empty() && !link.name.is_empty());
        first.map(|link| Some(link.name.as_str())).ok_or_else(|| {
            Error::new(
                Code::InvalidConfig,
                "cannot use \"ingressPolicy\" of firewall: the first of prevResult's \"interfaces\" is no link of the host",
            )
            .hint("the policy is about bridges: firewall must come after the plugin bridge")
        })
    }
}
