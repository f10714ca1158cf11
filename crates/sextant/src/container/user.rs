//! Users by name: looked up in the container's own files, never in this machine's.

use std::os::fd::OwnedFd;
use std::path::Path;

use oci_runtime::contract::User;

use crate::failure::{Failure, Result};

/// Files longer than this are not read on: `/etc/passwd` of an image is outside bytes.
const LONGEST: u64 = 1 << 20;

/// The user that `text` (`user[:group]`, names or numbers) means. `roots` are directories that hold the container's
/// `/etc`, the topmost first.
pub(crate) fn resolve(text: &str, roots: &[OwnedFd]) -> Result<(User, Option<String>)> {
    let (user, group) = text.split_once(':').map_or((text, None), |(u, g)| (u, Some(g)));
    let user = if user.is_empty() { "0" } else { user };
    let passwd = read(roots, "etc/passwd").unwrap_or_default();
    let groups = read(roots, "etc/group").unwrap_or_default();
    let number = user.parse::<u32>().ok();
    let entry = passwd.lines().map(|l| l.split(':').collect::<Vec<_>>()).find(|f| {
        f.first() == Some(&user) || (number.is_some() && f.get(2).and_then(|id| id.parse().ok()) == number)
    });
    let field = |n: usize| entry.as_ref().and_then(|f| f.get(n)).copied();
    let uid = number.or_else(|| field(2)?.parse().ok()).ok_or_else(|| {
        Failure::new(format!("no user {user:?} is in the image's /etc/passwd: give one that is, or a number"))
    })?;
    let name = field(0).unwrap_or(user);
    let group_entries: Vec<Vec<&str>> = groups.lines().map(|l| l.split(':').collect()).collect();
    let gid = match group {
        Some(group) => group_id(group, &group_entries)?,
        None => field(3).and_then(|id| id.parse().ok()).unwrap_or(0),
    };
    let additional_gids = group_entries
        .iter()
        .filter(|f| f.get(3).is_some_and(|members| members.split(',').any(|m| m == name)))
        .filter_map(|f| f.get(2)?.parse().ok())
        .filter(|&id| id != gid && group.is_none())
        .collect();
    let home = field(5).map(str::to_owned);
    Ok((User { uid, gid, umask: None, additional_gids }, home))
}

fn group_id(group: &str, entries: &[Vec<&str>]) -> Result<u32> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    let entry = entries.iter().find(|f| f.first() == Some(&group));
    entry.and_then(|f| f.get(2)?.parse().ok()).ok_or_else(|| {
        Failure::new(format!(
            "no group {group:?} is in the image's /etc/group: give one that is, or a number"
        ))
    })
}

fn read(roots: &[OwnedFd], path: &str) -> Option<String> {
    use std::io::Read;
    // An image may have a device of this machine there: it is not opened, not even to look.
    let file = roots.iter().find_map(|root| kernel::path::open_regular(root, Path::new(path)).ok())?;
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
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
