//! Users by name: looked up in the container's own files, never in this machine's.

use std::os::fd::OwnedFd;

use oci_runtime::contract::User;
use oci_runtime::users::Users;

use crate::failure::{Failure, Result};

/// The user that `text` (`user[:group]`, names or numbers) means, and its home. `roots` are directories that hold the
/// container's `/etc`, the topmost first.
pub(crate) fn resolve(text: &str, roots: &[OwnedFd]) -> Result<(User, Option<String>)> {
    let users = Users::read(roots);
    let (user, group) = text.split_once(':').map_or((text, None), |(u, g)| (u, Some(g)));
    let user = if user.is_empty() { "0" } else { user };
    let entry = users.user(user);
    let uid = user.parse().ok().or(entry.as_ref().map(|e| e.uid)).ok_or_else(|| {
        Failure::new(format!("no user {user:?} is in the image's /etc/passwd: give one that is, or a number"))
    })?;
    let gid = match group {
        Some(group) => users.group(group).ok_or_else(|| {
            Failure::new(format!(
                "no group {group:?} is in the image's /etc/group: give one that is, or a number"
            ))
        })?,
        None => entry.as_ref().map_or(0, |e| e.gid),
    };
    let name = entry.as_ref().map_or(user, |e| &e.name);
    let mut additional_gids = if group.is_none() { users.groups_of(name) } else { Vec::new() };
    additional_gids.retain(|&id| id != gid);
    Ok((User { uid, gid, umask: None, additional_gids }, entry.and_then(|e| e.home)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_numbers_and_groups() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(
            dir.path().join("etc/passwd"),
            "root:x:0:0::/root:\nweb:x:33:34::/srv:/bin/sh\nbroken\n",
        )
        .unwrap();
        std::fs::write(dir.path().join("etc/group"), "root:x:0:\nweb:x:34:\nlog:x:40:web,root\n").unwrap();
        let roots = [std::fs::File::open(dir.path()).unwrap().into()];
        let ids = |text: &str| {
            let (u, home) = resolve(text, &roots).unwrap();
            (u.uid, u.gid, u.additional_gids, home)
        };
        assert_eq!(ids("web"), (33, 34, vec![40], Some("/srv".into())));
        assert_eq!(ids("33"), (33, 34, vec![40], Some("/srv".into())));
        assert_eq!(ids("web:log"), (33, 40, vec![], Some("/srv".into())));
        assert_eq!(ids("1000:7"), (1000, 7, vec![], None));
        assert_eq!(ids(""), (0, 0, vec![40], Some("/root".into())));
        assert!(resolve("nobody", &roots).unwrap_err().to_string().contains("\"nobody\""));
        assert!(resolve("web:wheel", &roots).unwrap_err().to_string().contains("\"wheel\""));
    }
}
