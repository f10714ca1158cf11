//! Who the program runs as, by numbers and by the image's own files.

use oci_runtime::contract::User;
use oci_runtime::users::Users;

use crate::contract::Error;
use crate::contract::security::id;
use crate::contract::v1::{Int64Value, LinuxContainerSecurityContext, SupplementalGroupsPolicy};

const FIELD: &str = "config.linux.security_context";

/// The user. `image` is the image's `USER`; `users` are the image's files.
pub(super) fn user(
    security: &LinuxContainerSecurityContext,
    image: &str,
    users: &Users,
) -> Result<User, Error> {
    let name = security.run_as_username.as_str();
    let number = given(security.run_as_user.as_ref(), "run_as_user")?;
    let group = given(security.run_as_group.as_ref(), "run_as_group")?;
    let (who, named_group) = match (number, name) {
        // One of the two.
        (Some(uid), _) => (uid.to_string(), None),
        (None, "") => {
            let (user, group) =
                image.split_once(':').map_or((image, None), |(user, group)| (user, Some(group)));
            (if user.is_empty() { "0" } else { user }.to_owned(), group.filter(|group| !group.is_empty()))
        }
        (None, name) => (name.to_owned(), None),
    };
    let entry = users.user(&who);
    let uid = number.or_else(|| who.parse().ok()).or_else(|| entry.as_ref().map(|entry| entry.uid));
    let source =
        if name.is_empty() { "the image's USER" } else { "config.linux.security_context.run_as_username" };
    let uid = uid.filter(|&uid| uid != u32::MAX).ok_or_else(|| {
        let file = "is not in the image's /etc/passwd: name one that is, or give a number as run_as_user";
        invalid(
            if name.is_empty() { "run_as_user" } else { "run_as_username" },
            format!("{source} {who:?} {file}"),
        )
    })?;
    let gid = match (group, named_group) {
        (Some(gid), _) => gid,
        (None, Some(group)) => users.group(group).filter(|&gid| gid != u32::MAX).ok_or_else(|| {
            let file = "is not in the image's /etc/group: give a number as run_as_group";
            invalid("run_as_group", format!("the image's group {group:?} {file}"))
        })?,
        (None, None) => entry.as_ref().map_or(0, |entry| entry.gid),
    };
    // The primary group is among them, so that a program that drops it can come back: as other runtimes of Kubernetes.
    let mut groups = vec![gid];
    if security.supplemental_groups_policy() == SupplementalGroupsPolicy::Merge {
        groups.extend(users.groups_of(entry.as_ref().map_or(&who, |entry| &entry.name)));
    }
    for (index, &group) in security.supplemental_groups.iter().enumerate() {
        groups.push(id(&format!("{FIELD}.supplemental_groups[{index}]"), group)?);
    }
    let mut seen = std::collections::BTreeSet::new();
    groups.retain(|&group| seen.insert(group));
    Ok(User { uid, gid, umask: None, additional_gids: groups })
}

fn given(value: Option<&Int64Value>, field: &str) -> Result<Option<u32>, Error> {
    value.map(|value| id(&format!("{FIELD}.{field}"), value.value)).transpose()
}

fn invalid(field: &str, message: String) -> Error {
    Error::invalid(format!("{FIELD}.{field}"), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Users {
        Users::of(
            "root:x:0:0::/root:\nweb:x:1000:1000::/srv:/bin/sh\n",
            "root:x:0:\nextra:x:50000:web\nsix:x:6:root,77\n",
        )
    }

    fn security(uid: Option<i64>, gid: Option<i64>, name: &str) -> LinuxContainerSecurityContext {
        LinuxContainerSecurityContext {
            run_as_user: uid.map(|value| Int64Value { value }),
            run_as_group: gid.map(|value| Int64Value { value }),
            run_as_username: name.into(),
            ..LinuxContainerSecurityContext::default()
        }
    }

    fn of(
        uid: Option<i64>,
        gid: Option<i64>,
        name: &str,
        image: &str,
    ) -> Result<(u32, u32, Vec<u32>), Error> {
        user(&security(uid, gid, name), image, &users()).map(|u| (u.uid, u.gid, u.additional_gids))
    }

    #[test]
    fn numbers_names_and_the_images_user() {
        assert_eq!(of(None, None, "", "").unwrap(), (0, 0, vec![0, 6]));
        assert_eq!(of(Some(1000), None, "", "").unwrap(), (1000, 1000, vec![1000, 50000]));
        assert_eq!(of(Some(5), None, "", "web").unwrap(), (5, 0, vec![0]));
        assert_eq!(of(Some(77), None, "", "").unwrap(), (77, 0, vec![0, 6]), "a number may be a member");
        assert_eq!(of(Some(5), Some(7), "", "web").unwrap(), (5, 7, vec![7]));
        assert_eq!(of(None, Some(7), "web", "").unwrap(), (1000, 7, vec![7, 50000]));
        assert_eq!(of(None, None, "", "web").unwrap(), (1000, 1000, vec![1000, 50000]));
        assert_eq!(of(None, None, "", "web:six").unwrap(), (1000, 6, vec![6, 50000]));
        assert_eq!(of(None, None, "", "1003:1004").unwrap(), (1003, 1004, vec![1004]));
    }

    #[test]
    fn what_cannot_be_is_named() {
        let field = |result: Result<_, Error>| result.unwrap_err().field.unwrap();
        assert_eq!(field(of(Some(-1), None, "", "")), "config.linux.security_context.run_as_user");
        assert_eq!(field(of(Some(1 << 32), None, "", "")), "config.linux.security_context.run_as_user");
        assert_eq!(field(of(None, None, "who", "")), "config.linux.security_context.run_as_username");
        assert_eq!(field(of(None, None, "", "who")), "config.linux.security_context.run_as_user");
        assert_eq!(field(of(None, None, "", "web:who")), "config.linux.security_context.run_as_group");
    }

    #[test]
    fn strict_takes_only_what_was_sent() {
        let mut security = security(Some(1000), None, "");
        security.supplemental_groups = vec![1234, 1000];
        let groups = |security: &_| user(security, "", &users()).unwrap().additional_gids;
        assert_eq!(groups(&security), [1000, 50000, 1234]);
        security.supplemental_groups_policy = SupplementalGroupsPolicy::Strict.into();
        assert_eq!(groups(&security), [1000, 1234]);
        security.supplemental_groups_policy = 0;
        security.supplemental_groups = vec![-5];
        let error = user(&security, "", &users()).unwrap_err();
        assert_eq!(error.field.as_deref(), Some("config.linux.security_context.supplemental_groups[0]"));
    }
}
