//! Inverses that need root: mounts, namespaces, processes, trees with mounts in them.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use ledger::{Effect, Error, Ledger, Owner, OwnerId, Record};

fn owner(place: &Path) -> Owner {
    let ledger = Ledger::open(&place.join("run"), &place.join("data")).unwrap();
    ledger.owner(&OwnerId::new("test").unwrap()).unwrap()
}

fn mount_tmpfs(path: &Path) {
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("tmpfs", path, "tmpfs", flags, None).expect("these tests need root");
}

fn is_mounted(path: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().any(|line| line.split(' ').nth(4) == path.to_str())
}

#[test]
fn a_tree_is_removed_without_leaving_it() {
    let place = tempfile::tempdir().unwrap();
    let (tree, precious) = (place.path().join("tree"), place.path().join("precious"));
    fs::create_dir_all(&tree).unwrap();
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("file"), "").unwrap();
    symlink(&precious, tree.join("link")).unwrap();
    symlink("../precious/file", tree.join("dots")).unwrap();
    // Deeper than any path may be long, and than there are descriptors.
    let name = "d".repeat(200);
    let mut dir: std::os::fd::OwnedFd = fs::File::open(&tree).unwrap().into();
    for _ in 0..1500 {
        rustix::fs::mkdirat(&dir, &name, rustix::fs::Mode::RWXU).unwrap();
        let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        dir = rustix::fs::openat(&dir, &name, flags, rustix::fs::Mode::empty()).unwrap();
    }
    drop(dir);
    let mut owner = owner(place.path());
    let id = owner.record(Effect::Tree { path: tree.clone() }).unwrap();
    owner.undo(id).unwrap();
    assert!(!tree.exists());
    assert!(precious.join("file").exists());
    // A link in the tree's own place is removed, not what it points at.
    symlink(&precious, &tree).unwrap();
    owner.record(Effect::Tree { path: tree.clone() }).unwrap();
    assert!(owner.undo_all().is_empty());
    assert!(!tree.is_symlink() && precious.join("file").exists());
}

#[test]
fn a_mount_inside_a_tree_is_not_entered() {
    let place = tempfile::tempdir().unwrap();
    let tree = place.path().join("tree");
    let inside = tree.join("volume");
    fs::create_dir_all(&inside).unwrap();
    fs::write(tree.join("file"), "").unwrap();
    mount_tmpfs(&inside);
    fs::write(inside.join("data"), "").unwrap();
    let mut owner = owner(place.path());
    let id = owner.record(Effect::Tree { path: tree.clone() }).unwrap();
    let refused = owner.undo(id);
    let kept = inside.join("data").exists();
    // Recorded after the tree, so it goes before it.
    owner.record(Effect::Mount { path: inside.clone() }).unwrap();
    let errors = owner.undo_all();
    assert!(refused.unwrap_err().to_string().contains("mounted"), "says why");
    assert!(kept);
    assert!(errors.is_empty() && !tree.exists() && !is_mounted(&inside), "{errors:?}");
}

#[test]
fn mounts_and_namespaces_go() {
    let place = tempfile::tempdir().unwrap();
    let (mount, netns) = (place.path().join("mount"), place.path().join("netns"));
    let mut owner = owner(place.path());
    owner.record(Effect::Mount { path: mount.clone() }).unwrap();
    owner.record(Effect::Netns { path: netns.clone() }).unwrap();
    fs::create_dir(&mount).unwrap();
    mount_tmpfs(&mount);
    kernel::namespace::pin_new_netns(&netns).unwrap();
    assert!(is_mounted(&mount) && is_mounted(&netns));
    // Somebody is in it: it goes all the same.
    let busy = fs::File::open(&mount).unwrap();
    assert!(owner.undo_all().is_empty());
    assert!(!is_mounted(&mount) && !is_mounted(&netns) && !mount.exists() && !netns.exists());
    drop(busy);
}

#[test]
fn a_process_goes_only_if_it_is_the_one() {
    let place = tempfile::tempdir().unwrap();
    let mut owner = owner(place.path());
    let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let pid = child.id() as i32;
    let start_time = kernel::process::start_time(pid).unwrap();
    let other = owner.record(Effect::Process { pid, start_time: start_time + 1 }).unwrap();
    owner.undo(other).unwrap();
    assert!(child.try_wait().unwrap().is_none(), "another process has this number");
    let id = owner.record(Effect::Process { pid, start_time }).unwrap();
    owner.undo(id).unwrap();
    // It was reaped with the undo.
    assert!(child.wait().is_err() || !Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn a_cgroup_goes_with_what_is_in_it() {
    let place = tempfile::tempdir().unwrap();
    let path = Path::new("sextant-ledger-test").join(std::process::id().to_string());
    let mut owner = owner(place.path());
    owner.record(Effect::Cgroup { path: "sextant-ledger-test".into() }).unwrap();
    owner.record(Effect::Cgroup { path: path.clone() }).unwrap();
    let cgroup = kernel::cgroup::Cgroup::at(&path).unwrap();
    cgroup.create().unwrap();
    let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    cgroup.add(child.id() as i32).unwrap();
    let errors = owner.undo_all();
    assert!(errors.is_empty(), "{errors:?}");
    assert!(child.wait().unwrap().code().is_none(), "killed");
}

#[test]
fn a_lease_that_went_to_somebody_else_stays() {
    let place = tempfile::tempdir().unwrap();
    let mut owner = owner(place.path());
    let path = place.path().join("10.88.0.2");
    for (text, stays) in [("web\neth0\n", false), ("web\r\neth0", false), ("db\neth0\n", true), ("", false)] {
        fs::write(&path, text).unwrap();
        let id = owner.record(Effect::Lease { path: path.clone(), holder: "web".into() }).unwrap();
        owner.undo(id).unwrap();
        assert_eq!(path.exists(), stays, "{text:?}");
    }
}

#[test]
fn a_failed_inverse_is_told_and_tried_again() {
    let place = tempfile::tempdir().unwrap();
    let (directory, file) = (place.path().join("directory"), place.path().join("file"));
    fs::create_dir(&directory).unwrap();
    fs::write(&file, "").unwrap();
    let mut first = owner(place.path());
    first.record(Effect::File { path: file.clone() }).unwrap();
    first.record(Effect::File { path: directory.clone() }).unwrap();
    let errors = first.undo_all();
    assert!(matches!(errors.as_slice(), [Error::Undo { .. }]), "{errors:?}");
    assert!(!file.exists());
    fs::remove_dir(&directory).unwrap();
    let again = owner(place.path());
    assert_eq!(again.records().len(), 1);
    assert!(again.undo_all().is_empty());
}

#[test]
fn a_link_goes() {
    use kernel::netlink::{Batch, Kind, NewLink, Protocol, Socket, link_by_name};
    let place = tempfile::tempdir().unwrap();
    let mut owner = owner(place.path());
    let name = format!("sxt{}", std::process::id());
    owner.record(Effect::Link { name: name.clone() }).unwrap();
    let mut socket = Socket::open(Protocol::Route).unwrap();
    let mut batch = Batch::new();
    batch.add_link(&NewLink::new(&name, Kind::Bridge { mcast_snooping: None, vlan_filtering: None }));
    socket.run(&batch).unwrap();
    assert!(owner.undo_all().is_empty());
    assert!(link_by_name(&mut socket, &name).unwrap().is_none());
}

#[test]
fn an_address_goes_and_one_without_a_prefix_is_refused() {
    use kernel::netlink::{Address, Batch, Protocol, Socket, addresses, link_by_name};
    let place = tempfile::tempdir().unwrap();
    let mut owner = owner(place.path());
    let address = |link: &str, net: &str| Effect::Address { link: link.into(), net: net.into() };
    owner.record(address("lo", "10.96.0.10")).unwrap_err();
    kernel::namespace::in_new_netns(|| {
        let mut socket = Socket::open(Protocol::Route)?;
        let lo = link_by_name(&mut socket, "lo")?.unwrap().index;
        let mut batch = Batch::new();
        for net in ["10.96.0.10/32", "10.96.0.11/32"] {
            batch.add_address(&Address::new(lo, net.parse().unwrap()));
        }
        socket.run(&batch)?;
        // What was never there, and whose link is not, counts as gone.
        for effect in
            [address("lo", "10.96.0.10/32"), address("lo", "10.96.0.12/32"), address("none", "10.96.0.10/32")]
        {
            owner.record(effect).unwrap();
        }
        let errors = owner.undo_all();
        assert!(errors.is_empty(), "{errors:?}");
        let there: Vec<String> =
            addresses(&mut socket, None)?.iter().map(|known| known.net.to_string()).collect();
        assert!(
            there.contains(&"10.96.0.11/32".into()) && !there.contains(&"10.96.0.10/32".into()),
            "{there:?}"
        );
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_route_goes_and_another_to_the_same_network_stays() {
    use kernel::netlink::{
        Batch, IpNet, Kind, NewLink, Protocol, Route, SetLink, Socket, link_by_name, routes,
    };
    let place = tempfile::tempdir().unwrap();
    let mut owner = owner(place.path());
    let route = |link: &str, net: &str| Effect::Route { link: link.into(), net: net.into() };
    owner.record(route("lo", "10.96.0.0")).unwrap_err();
    kernel::namespace::in_new_netns(|| {
        let mut socket = Socket::open(Protocol::Route)?;
        let mut batch = Batch::new();
        let bridge = Kind::Bridge { mcast_snooping: None, vlan_filtering: None };
        batch.set_link(&SetLink::named("lo").up(true));
        batch.add_link(&NewLink { up: true, ..NewLink::new("br0", bridge) });
        socket.run(&batch)?;
        let nets: [IpNet; 2] = ["10.96.0.0/16", "fd96::/108"].map(|net| net.parse().unwrap());
        let mut batch = Batch::new();
        for (link, priority) in [("lo", None), ("br0", Some(9))] {
            let link = link_by_name(&mut socket, link)?.map(|link| link.index);
            nets.iter().for_each(|net| batch.add_route(&Route { link, priority, ..Route::to(*net) }));
        }
        socket.run(&batch)?;
        for effect in [
            route("lo", "10.96.0.0/16"),
            route("lo", "fd96::/108"),
            route("lo", "10.97.0.0/16"),
            route("none", "10.96.0.0/16"),
        ] {
            owner.record(effect).unwrap();
        }
        let errors = owner.undo_all();
        assert!(errors.is_empty(), "{errors:?}");
        let left = routes(&mut socket)?.into_iter().filter(|route| nets.contains(&route.destination));
        assert_eq!(left.map(|route| route.priority).collect::<Vec<_>>(), [Some(9), Some(9)]);
        Ok(())
    })
    .unwrap();
}

#[test]
fn routes_of_a_number_go_and_those_of_others_stay() {
    use kernel::netlink::{
        Address, Batch, IpNet, Kind, NewLink, Protocol, Route, Socket, link_by_name, routes,
    };
    let place = tempfile::tempdir().unwrap();
    let mut owner = owner(place.path());
    // What the kernel makes, or people, is not taken by its number.
    for protocol in [0, 2, 3, 4, 9, 16] {
        owner.record(Effect::Routes { protocol }).unwrap_err();
    }
    kernel::namespace::in_new_netns(|| {
        let mut socket = Socket::open(Protocol::Route)?;
        let mut batch = Batch::new();
        let bridge = Kind::Bridge { mcast_snooping: None, vlan_filtering: None };
        batch.add_link(&NewLink { up: true, ..NewLink::new("br0", bridge) });
        socket.run(&batch)?;
        let link = link_by_name(&mut socket, "br0")?.unwrap().index;
        owner.record(Effect::Routes { protocol: 83 }).unwrap();
        let nets: [IpNet; 3] =
            ["10.64.1.0/24", "fd64:1::/64", "10.64.2.0/24"].map(|net| net.parse().unwrap());
        let mut batch = Batch::new();
        for net in ["192.0.2.1/24", "2001:db8::1/64"] {
            batch.add_address(&Address::new(link, net.parse().unwrap()));
        }
        for (net, gateway, protocol) in
            [(nets[0], "192.0.2.7", 83), (nets[1], "2001:db8::7", 83), (nets[2], "192.0.2.7", 84)]
        {
            let gateway = Some(gateway.parse().unwrap());
            batch.add_route_of(&Route { gateway, ..Route::to(net) }, protocol);
        }
        socket.run(&batch)?;
        let errors = owner.undo_all();
        assert!(errors.is_empty(), "{errors:?}");
        let left = routes(&mut socket)?.into_iter().filter(|route| nets.contains(&route.destination));
        assert_eq!(left.map(|route| route.destination).collect::<Vec<_>>(), [nets[2]]);
        Ok(())
    })
    .unwrap();
}

#[test]
fn an_nftables_table_goes() {
    use kernel::netlink::{Protocol, Socket};
    use kernel::nft::{Family, Transaction, table_exists};
    let place = tempfile::tempdir().unwrap();
    let mut owner = owner(place.path());
    let table = format!("sextant-ledger-{}", std::process::id());
    owner.record(Effect::NftTable { family: "inet".into(), table: table.clone() }).unwrap();
    let mut socket = Socket::open(Protocol::Netfilter).unwrap();
    let mut change = Transaction::new();
    change.add_table(Family::Inet, &table, true, None);
    change.commit(&mut socket).unwrap();
    assert!(table_exists(&mut socket, Family::Inet, &table).unwrap());
    assert!(owner.undo_all().is_empty());
    assert!(!table_exists(&mut socket, Family::Inet, &table).unwrap());
}

#[test]
fn flows_go_by_the_record_when_their_element_is_gone() {
    use kernel::netlink::{Batch, Protocol, SetLink, Socket, conntrack};
    use kernel::nft::{Base, Chain, Conntrack, Expression, Family, Hook, Register, Transaction};
    use ledger::Sent;
    let place = tempfile::tempdir().unwrap();
    let answered_from = "127.0.0.1:7001".parse().unwrap();
    let sent = Sent { protocol: 17, to: None, port: 7001, answered_from };
    let element = |sent| Effect::NftElement {
        family: "inet".into(),
        table: "flushed".into(),
        set: "publish".into(),
        key: vec![17, 0, 0, 0, 0x1b, 0x59, 0, 0],
        holder: "pod".into(),
        sent,
    };
    kernel::namespace::in_new_netns(|| {
        // Conntrack only watches once a rule needs it.
        let mut change = Transaction::new();
        change.add_table(Family::Inet, "watch", true, None);
        let base = Base { kind: "filter", hook: Hook::Output, priority: 0, accept: true };
        change.add_chain(Family::Inet, "watch", &Chain { name: "output", base: Some(base) });
        let state =
            [Expression::Conntrack { key: Conntrack::State, to: Register::FIRST }, Expression::Counter];
        change.add_rule(Family::Inet, "watch", "output", &state, None);
        change.commit(&mut Socket::open(Protocol::Netfilter)?)?;
        let mut batch = Batch::new();
        batch.set_link(&SetLink::named("lo").up(true));
        Socket::open(Protocol::Route)?.run(&batch)?;
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for port in [7001, 7002] {
            udp.send_to(b"x", ("127.0.0.1", port)).unwrap();
        }
        let words = r#","sent":{"protocol":17,"port":7001,"answered_from":"127.0.0.1:7001"}"#;
        let later =
            r#","sent":{"protocol":17,"port":7001,"answered_from":"127.0.0.1:7001","more":[1]},"else":{}"#;
        // As it was written before flows were recorded, as it may be some day, and as it is.
        for (written, read, left) in [("", None, 2), (later, Some(sent), 1), (words, Some(sent), 1)] {
            owner(place.path()).record(element(Some(sent))).unwrap();
            let file = place.path().join("run/ledger/test/effects");
            let text = fs::read_to_string(&file).unwrap();
            assert!(text.contains(words), "{text}");
            fs::write(&file, text.replace(words, written)).unwrap();
            let owner = owner(place.path());
            let there: Vec<_> = owner.records().into_iter().map(|(_, effect)| effect).collect();
            assert_eq!(there, [element(read)]);
            let errors = owner.undo_all();
            assert!(errors.is_empty(), "{errors:?}");
            assert_eq!(conntrack::count()?, left);
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_loop_device_goes_by_its_tag() {
    let place = tempfile::tempdir().unwrap();
    let mut owner = owner(place.path());
    let tag = format!("sextant-ledger-{}", std::process::id());
    owner.record(Effect::LoopDevice { tag: tag.clone() }).unwrap();
    let image = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(place.path().join("image"))
        .unwrap();
    image.set_len(1 << 20).unwrap();
    let attached = kernel::loopdev::attach(&image, &tag, kernel::loopdev::Options::default()).unwrap();
    drop(attached);
    assert_eq!(kernel::loopdev::find(&tag).unwrap().len(), 1);
    assert!(owner.undo_all().is_empty());
    assert!(kernel::loopdev::find(&tag).unwrap().is_empty());
}

#[test]
fn a_table_in_another_namespace_goes_and_no_other_namespaces() {
    use kernel::namespace::{in_netns, pin_new_netns, unpin};
    use kernel::netlink::{Protocol, Socket};
    use kernel::nft::{Family, Transaction, table_exists};
    use std::os::unix::fs::MetadataExt as _;
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("netns");
    let there = || {
        let file = fs::File::open(&path).unwrap();
        in_netns(&file, || table_exists(&mut Socket::open(Protocol::Netfilter)?, Family::Inet, "kept"))
            .unwrap()
    };
    let make = || {
        pin_new_netns(&path).unwrap();
        let file = fs::File::open(&path).unwrap();
        in_netns(&file, || {
            let mut change = Transaction::new();
            change.add_table(Family::Inet, "kept", true, None);
            change.commit(&mut Socket::open(Protocol::Netfilter)?)
        })
        .unwrap();
        file.metadata().unwrap().ino()
    };
    let mut owner = owner(place.path());
    let effect = |inode| Effect::NetnsTable {
        netns: path.clone(),
        inode,
        family: "inet".into(),
        table: "kept".into(),
    };
    let first = make();
    let id = owner.record(effect(first)).unwrap();
    assert!(there());
    owner.undo(id).unwrap();
    assert!(!there());
    // Another namespace is at the same path now: its table is not the one that was recorded. (The first lives on, so that no number is used
    // again.)
    let held = fs::File::open(&path).unwrap();
    unpin(&path).unwrap();
    let second = make();
    assert_ne!(first, second);
    owner.record(effect(first)).unwrap();
    assert!(owner.undo_all().is_empty());
    assert!(there());
    drop(held);
    // A namespace that is gone has taken its table along.
    unpin(&path).unwrap();
    let mut owner = self::owner(place.path());
    owner.record(effect(second)).unwrap();
    assert!(owner.undo_all().is_empty());
}

#[test]
fn a_value_of_another_namespace_is_given_back_and_no_other_namespaces() {
    use kernel::namespace::{pin_new_netns, unpin};
    use kernel::netlink::sysctl;
    use std::os::unix::fs::MetadataExt as _;
    const NAME: &str = "net/core/somaxconn";
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("netns");
    let make = || {
        pin_new_netns(&path).unwrap();
        fs::File::open(&path).unwrap().metadata().unwrap().ino()
    };
    let read = || sysctl::read_in(&fs::File::open(&path).unwrap(), NAME).unwrap();
    let set = |value: &str| sysctl::write_in(&fs::File::open(&path).unwrap(), NAME, value).unwrap();
    let effect = |inode, name: &str| Effect::NetnsSysctl {
        netns: path.clone(),
        inode,
        name: name.into(),
        value: "77".into(),
    };
    let mut owner = owner(place.path());
    for name in
        ["kernel/pid_max", "net", "net/", "net//x", "net/../kernel/pid_max", "/net/core/somaxconn", ""]
    {
        owner.record(effect(1, name)).unwrap_err();
    }
    let first = make();
    let id = owner.record(effect(first, NAME)).unwrap();
    set("78");
    owner.undo(id).unwrap();
    assert_eq!(read(), "77");
    // Another namespace is at the same path now, whose value was never ours. (The first lives on, so that no number is used again.)
    let held = fs::File::open(&path).unwrap();
    unpin(&path).unwrap();
    let second = make();
    assert_ne!(first, second);
    set("79");
    owner.record(effect(first, NAME)).unwrap();
    assert!(owner.undo_all().is_empty());
    assert_eq!(read(), "79");
    drop(held);
    // A namespace that is gone has taken its values along.
    unpin(&path).unwrap();
    let mut owner = self::owner(place.path());
    owner.record(effect(second, NAME)).unwrap();
    assert!(owner.undo_all().is_empty());
}
