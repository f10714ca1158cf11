//! Device rules as systemd knows them: a list of what is allowed (`DevicePolicy=strict`, `DeviceAllow=`).

use kernel::cgroup::{DeviceAccess, DeviceKind, DeviceRule};

/// What systemd is told of a container's device rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Policy {
    /// Nothing: everything is allowed, or systemd has no words for it. Our own rules decide alone.
    Auto,
    /// Only these: a device or a class of them, and letters of `rwm`.
    Strict(Vec<(String, String)>),
}

/// What the rules come to, the later ones winning.
pub(super) fn policy(rules: &[DeviceRule]) -> Policy {
    allowed(rules).and_then(|list| list.iter().map(entry).collect()).map_or(Policy::Auto, Policy::Strict)
}

/// The rules as a list of what is allowed; `None` if they are not that.
fn allowed(rules: &[DeviceRule]) -> Option<Vec<DeviceRule>> {
    let mut list: Vec<DeviceRule> = Vec::new();
    let mut everything = false;
    for rule in rules {
        let whole = rule.kind == DeviceKind::All && rule.major.is_none() && rule.minor.is_none();
        if whole && rule.access == ALL {
            list.clear();
            everything = rule.allow;
            continue;
        }
        for rule in kinds(*rule) {
            match (rule.allow, everything) {
                (true, true) => {}
                (false, true) => return None,
                (true, false) => add(&mut list, rule),
                (false, false) => remove(&mut list, &rule)?,
            }
        }
    }
    (!everything).then_some(list)
}

const ALL: DeviceAccess = DeviceAccess { read: true, write: true, mknod: true };

/// systemd's entries are for block devices or for character devices.
fn kinds(rule: DeviceRule) -> Vec<DeviceRule> {
    match rule.kind {
        DeviceKind::All => {
            [DeviceKind::Block, DeviceKind::Char].map(|kind| DeviceRule { kind, ..rule }).to_vec()
        }
        _ => vec![rule],
    }
}

fn add(list: &mut Vec<DeviceRule>, rule: DeviceRule) {
    let same = |r: &&mut DeviceRule| (r.kind, r.major, r.minor) == (rule.kind, rule.major, rule.minor);
    match list.iter_mut().find(same) {
        Some(entry) => {
            entry.access.read |= rule.access.read;
            entry.access.write |= rule.access.write;
            entry.access.mknod |= rule.access.mknod;
        }
        None => list.push(rule),
    }
}

/// Takes away what a rule denies; `None` if that is a part of something wider, which a list cannot say.
fn remove(list: &mut Vec<DeviceRule>, denied: &DeviceRule) -> Option<()> {
    let covers = |wide: Option<u32>, narrow: Option<u32>| wide.is_none() || wide == narrow;
    let meets = |a: Option<u32>, b: Option<u32>| covers(a, b) || covers(b, a);
    for entry in list.iter_mut().filter(|entry| entry.kind == denied.kind) {
        let (major, minor) = ((denied.major, entry.major), (denied.minor, entry.minor));
        let both = DeviceAccess {
            read: entry.access.read && denied.access.read,
            write: entry.access.write && denied.access.write,
            mknod: entry.access.mknod && denied.access.mknod,
        };
        if !meets(major.0, major.1) || !meets(minor.0, minor.1) || !(both.read || both.write || both.mknod) {
            continue;
        }
        if !covers(major.0, major.1) || !covers(minor.0, minor.1) {
            return None;
        }
        entry.access.read &= !both.read;
        entry.access.write &= !both.write;
        entry.access.mknod &= !both.mknod;
    }
    list.retain(|entry| entry.access.read || entry.access.write || entry.access.mknod);
    Some(())
}

/// An entry of `DeviceAllow=`: `/dev/char/1:3`, `char-136` for a major number (since version 240), `char-*` for all.
fn entry(rule: &DeviceRule) -> Option<(String, String)> {
    let kind = if rule.kind == DeviceKind::Block { "block" } else { "char" };
    let node = match (rule.major, rule.minor) {
        (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
        (Some(major), None) => format!("{kind}-{major}"),
        (None, None) => format!("{kind}-*"),
        (None, Some(_)) => return None,
    };
    let letters = [(rule.access.read, 'r'), (rule.access.write, 'w'), (rule.access.mknod, 'm')];
    Some((node, letters.iter().filter(|(given, _)| *given).map(|(_, letter)| letter).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(
        allow: bool,
        kind: DeviceKind,
        major: Option<u32>,
        minor: Option<u32>,
        letters: &str,
    ) -> DeviceRule {
        let may = |letter| letters.contains(letter);
        let access = DeviceAccess { read: may('r'), write: may('w'), mknod: may('m') };
        DeviceRule { allow, kind, major, minor, access }
    }

    fn strict(rules: &[DeviceRule]) -> Vec<String> {
        match policy(rules) {
            Policy::Strict(list) => {
                list.into_iter().map(|(node, access)| format!("{node} {access}")).collect()
            }
            Policy::Auto => panic!("{rules:?} is no list"),
        }
    }

    use DeviceKind::{All, Block, Char};

    #[test]
    fn a_list_of_what_is_allowed_is_one_for_systemd() {
        let deny_all = rule(false, All, None, None, "rwm");
        let null = rule(true, Char, Some(1), Some(3), "rw");
        assert_eq!(strict(&[deny_all]), Vec::<String>::new());
        assert_eq!(
            strict(&[
                null,
                deny_all,
                rule(true, All, None, None, "m"),
                null,
                rule(true, Char, Some(1), Some(3), "m")
            ]),
            ["block-* m", "char-* m", "/dev/char/1:3 rwm"]
        );
        assert_eq!(strict(&[deny_all, rule(true, Char, Some(136), None, "rwm")]), ["char-136 rwm"]);
        let taken = rule(false, Char, Some(1), None, "w");
        assert_eq!(strict(&[deny_all, null, taken]), ["/dev/char/1:3 r"]);
        assert_eq!(strict(&[deny_all, null, rule(false, Block, Some(1), None, "rwm")]), ["/dev/char/1:3 rw"]);
        assert_eq!(strict(&[deny_all, null, rule(false, Char, None, Some(3), "rwm")]), Vec::<String>::new());
    }

    #[test]
    fn what_systemd_has_no_words_for_is_left_to_our_own_rules() {
        let allow_all = rule(true, All, None, None, "rwm");
        let deny_all = rule(false, All, None, None, "rwm");
        let one = rule(false, Block, Some(8), Some(0), "rwm");
        assert_eq!(policy(&[allow_all]), Policy::Auto);
        assert_eq!(policy(&[allow_all, one]), Policy::Auto);
        assert_eq!(policy(&[deny_all, rule(true, Block, Some(8), None, "r"), one]), Policy::Auto);
        assert_eq!(policy(&[deny_all, rule(true, Char, None, Some(3), "r")]), Policy::Auto);
    }
}
