//! Capabilities: the default set, with what is added and without what is dropped.

use kernel::capability::CapSet;
use oci_runtime::contract::Capabilities;
use oci_runtime::default_spec;

use crate::contract::Error;
use crate::contract::security::capabilities;
use crate::contract::v1::{self, LinuxContainerSecurityContext};

const FIELD: &str = "config.linux.security_context.capabilities";

/// The capabilities a container has, and those of them that its programs keep as another user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) all: CapSet,
    ambient: CapSet,
}

/// What `security` asks for; `available` is what this machine and this process can give.
pub(super) fn wanted(security: &LinuxContainerSecurityContext, available: CapSet) -> Result<Wanted, Error> {
    if security.privileged {
        return Ok(Wanted { all: available, ambient: CapSet::EMPTY });
    }
    let none = v1::Capability::default();
    let asked = security.capabilities.as_ref().unwrap_or(&none);
    let read = |field: &str, names| capabilities(field, names).map_err(|e| e.within(FIELD));
    let (all_added, added) = read("add_capabilities", &asked.add_capabilities)?;
    let (all_dropped, dropped) = read("drop_capabilities", &asked.drop_capabilities)?;
    let (_, ambient) = read("add_ambient_capabilities", &asked.add_ambient_capabilities)?;
    let base = match (all_dropped, all_added) {
        (true, _) => CapSet::EMPTY,
        (false, true) => available,
        (false, false) => default_spec::CAPABILITIES,
    };
    // A name for itself counts more than ALL; dropped counts more than added.
    let ambient = ambient & !dropped;
    Ok(Wanted { all: (base | added | ambient) & !dropped, ambient })
}

impl Wanted {
    /// The five sets. Inheritable ones would reach programs of other users (CVE-2022-24769), so there are none but those
    /// that are ambient, which need it.
    pub(super) fn sets(self) -> Capabilities {
        Capabilities {
            bounding: self.all.names(),
            effective: self.all.names(),
            permitted: self.all.names(),
            inheritable: self.ambient.names(),
            ambient: self.ambient.names(),
        }
    }
}

#[cfg(test)]
mod tests {
    use kernel::capability::Capability;

    use super::*;

    fn of(add: &[&str], drop: &[&str], ambient: &[&str]) -> Result<Wanted, Error> {
        let names = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        let security = LinuxContainerSecurityContext {
            capabilities: Some(v1::Capability {
                add_capabilities: names(add),
                drop_capabilities: names(drop),
                add_ambient_capabilities: names(ambient),
            }),
            ..LinuxContainerSecurityContext::default()
        };
        wanted(&security, CapSet::ALL)
    }

    #[test]
    fn added_dropped_and_all() {
        let default = default_spec::CAPABILITIES;
        let one = |capability| CapSet::of(&[capability]);
        assert_eq!(of(&[], &[], &[]).unwrap().all, default);
        assert_eq!(of(&["net_admin"], &[], &[]).unwrap().all, default | one(Capability::NetAdmin));
        assert_eq!(of(&["CAP_NET_RAW"], &["NET_RAW"], &[]).unwrap().all, default & !one(Capability::NetRaw));
        assert_eq!(of(&["ALL"], &["sys_admin"], &[]).unwrap().all, CapSet::ALL & !one(Capability::SysAdmin));
        assert_eq!(of(&["KILL"], &["all"], &[]).unwrap().all, one(Capability::Kill));
        assert_eq!(of(&["ALL"], &["ALL"], &[]).unwrap().all, CapSet::EMPTY);
    }

    #[test]
    fn ambient_ones_are_in_all_sets() {
        let sets = of(&[], &["ALL"], &["NET_BIND_SERVICE"]).unwrap().sets();
        let one = vec!["CAP_NET_BIND_SERVICE".to_owned()];
        assert_eq!((sets.bounding, sets.inheritable, sets.ambient), (one.clone(), one.clone(), one));
        assert!(of(&[], &[], &[]).unwrap().sets().inheritable.is_empty());
    }

    #[test]
    fn unknown_names_are_refused() {
        let error = of(&["CHOWN", "FLY"], &[], &[]).unwrap_err();
        let field = "config.linux.security_context.capabilities.add_capabilities[1]";
        assert_eq!(error.field.as_deref(), Some(field));
    }

    #[test]
    fn privileged_has_what_there_is() {
        let security =
            LinuxContainerSecurityContext { privileged: true, ..LinuxContainerSecurityContext::default() };
        let some = CapSet::of(&[Capability::Kill]);
        assert_eq!(wanted(&security, some).unwrap().all, some);
    }
}
