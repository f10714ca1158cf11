//! Whatever happens in whatever order, converging ends with nothing left.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};

use ledger::{Effect, Error, Ledger, Owner, OwnerId, Record, RecordId};
use proptest::prelude::*;

const OWNERS: [&str; 3] = ["a", "b", "c"];
const SHARED: [&str; 2] = ["bridge", "table"];
/// Of one shared effect more.
const PARTS: [&str; 2] = ["plain", "using"];

/// One thing that may happen to one of three owners.
#[derive(Debug, Clone)]
enum Step {
    /// Record an effect and, unless the process "dies" first, bring it about.
    Record { owner: usize, kind: u8, happens: bool },
    /// Undo the n-th live record.
    Undo { owner: usize, nth: usize },
    /// Join a shared effect; `fails` makes the making of it fail half-way.
    Share { owner: usize, name: usize, fails: bool },
    /// See that a part of a shared effect is there; one of them uses another shared effect.
    SharePart { owner: usize, part: usize, fails: bool },
    /// Bring about the inverse of the n-th live record by another way, and say so.
    Undone { owner: usize, nth: usize },
    /// The process holding this owner's records is killed.
    Crash { owner: usize },
    /// The same in the middle of a write: the last line is torn.
    Torn { owner: usize, keep: usize },
    /// Somebody removes the owner's folder by hand: its membership in shared effects goes stale.
    Vanish { owner: usize },
    /// The machine restarts, on a `/run` that is no tmpfs.
    Reboot,
    /// Another process starts while these owners are alive.
    Converge { alive: [bool; 3] },
}

fn step() -> impl Strategy<Value = Step> {
    let owner = 0..OWNERS.len();
    prop_oneof![
        8 => (owner.clone(), 0..5_u8, any::<bool>()).prop_map(|(owner, kind, happens)| Step::Record { owner, kind, happens }),
        4 => (owner.clone(), 0..4_usize).prop_map(|(owner, nth)| Step::Undo { owner, nth }),
        4 => (owner.clone(), 0..SHARED.len(), prop::bool::weighted(0.2)).prop_map(|(owner, name, fails)| Step::Share { owner, name, fails }),
        4 => (owner.clone(), 0..PARTS.len(), prop::bool::weighted(0.2)).prop_map(|(owner, part, fails)| Step::SharePart { owner, part, fails }),
        2 => (owner.clone(), 0..4_usize).prop_map(|(owner, nth)| Step::Undone { owner, nth }),
        3 => owner.clone().prop_map(|owner| Step::Crash { owner }),
        2 => (owner.clone(), 0..40_usize).prop_map(|(owner, keep)| Step::Torn { owner, keep }),
        1 => owner.prop_map(|owner| Step::Vanish { owner }),
        1 => Just(Step::Reboot),
        2 => any::<[bool; 3]>().prop_map(|alive| Step::Converge { alive }),
    ]
}

struct World {
    _temporary: tempfile::TempDir,
    run: PathBuf,
    data: PathBuf,
    outside: PathBuf,
    ledger: Ledger,
    held: [Option<Owner>; 3],
    made: u64,
    /// Effects whose folder vanished: nobody can know of them.
    lost: Vec<PathBuf>,
}

impl World {
    fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let at = |name: &str| temporary.path().join(name);
        let (run, data, outside) = (at("run"), at("data"), at("outside"));
        fs::create_dir(&outside).unwrap();
        let ledger = Ledger::open(&run, &data).unwrap();
        Self {
            run,
            data,
            outside,
            ledger,
            held: [None, None, None],
            made: 0,
            lost: Vec::new(),
            _temporary: temporary,
        }
    }

    fn owner(&mut self, owner: usize) -> &mut Owner {
        let id = OwnerId::new(OWNERS[owner]).unwrap();
        self.held[owner]
            .get_or_insert_with(|| self.ledger.try_owner(&id).unwrap().expect("nobody else is here"))
    }

    /// A new effect: a file, a tree or a lease, in the run or the data directory.
    fn effect(&mut self, owner: usize, kind: u8) -> Effect {
        self.made += 1;
        let path =
            if kind.is_multiple_of(2) { &self.outside } else { &self.data }.join(self.made.to_string());
        match kind {
            0 | 1 => Effect::File { path },
            2 | 3 => Effect::Tree { path },
            _ => Effect::Lease { path, holder: OWNERS[owner].into() },
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Record { owner, kind, happens } => {
                let effect = self.effect(owner, kind);
                self.owner(owner).record(effect.clone()).unwrap();
                if happens {
                    bring_about(&effect);
                }
            }
            Step::Undo { owner, nth } => {
                let owner = self.owner(owner);
                if let Some((id, effect)) = owner.records().get(nth).cloned() {
                    owner.undo(id).unwrap();
                    owner.undo(id).unwrap();
                    assert!(path(&effect).is_none_or(|path| !path.exists()));
                }
            }
            Step::Share { owner, name, fails } => self.share(owner, name, fails),
            Step::SharePart { owner, part, fails } => self.share_part(owner, part, fails),
            Step::Undone { owner, nth } => {
                let owner = self.owner(owner);
                if let Some((_, effect)) = owner.records().get(nth).cloned()
                    && let Some(path) = path(&effect)
                {
                    let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
                    owner.undone(&effect).unwrap();
                    assert!(!owner.records().iter().any(|(_, known)| *known == effect));
                }
            }
            Step::Crash { owner } => drop(self.held[owner].take()),
            Step::Torn { owner, keep } => {
                drop(self.held[owner].take());
                let file = self.run.join("ledger").join(OWNERS[owner]).join("effects");
                let line = br#"{"id":77,"effect":"file","path":"/nonexistent/never"}"#;
                if let Ok(mut text) = fs::read(&file) {
                    text.extend(&line[..keep]);
                    fs::write(&file, text).unwrap();
                }
            }
            Step::Vanish { owner } => self.vanish(owner),
            Step::Reboot => self.reboot(),
            Step::Converge { alive } => {
                let vouch = |id: &OwnerId| {
                    OWNERS.iter().position(|name| *name == id.as_str()).is_some_and(|owner| alive[owner])
                };
                assert!(self.ledger.converge(&vouch).errors.is_empty());
            }
        }
    }

    fn share(&mut self, owner: usize, name: usize, fails: bool) {
        let path = self.outside.join(SHARED[name]);
        let other = self.outside.join(format!("{}-second", SHARED[name]));
        let shared = self.owner(owner).share(SHARED[name], &mut |record| {
            record.record(Effect::File { path: path.clone() })?;
            // It was taken back before it is made again.
            fs::File::create_new(&path)?;
            if fails {
                return Err("no".into());
            }
            record.record(Effect::Tree { path: other.clone() })?;
            fs::create_dir(&other)?;
            Ok(())
        });
        assert_eq!(shared.is_ok(), path.exists());
        assert_eq!(shared.is_ok(), other.exists());
        assert!(shared.is_ok() || fails);
    }

    /// A part of a shared effect, the second of which uses another.
    fn share_part(&mut self, owner: usize, part: usize, fails: bool) {
        let path = self.outside.join(PARTS[part]);
        let used = self.outside.join("used");
        let shared = self.owner(owner).share_part("parts", PARTS[part], &mut |record| {
            record.record(Effect::File { path: path.clone() })?;
            fs::File::create_new(&path)?;
            if part == 1 {
                record.share("used", &mut |record| {
                    let nested = record.share("deeper", &mut |_| Ok(()));
                    assert!(matches!(nested, Err(Error::NestShare { .. })));
                    record.record(Effect::File { path: used.clone() })?;
                    Ok(fs::File::create_new(&used).map(drop)?)
                })?;
            }
            if fails { Err("no".into()) } else { Ok(()) }
        });
        assert!(shared.is_ok() || fails);
        assert_eq!(shared.is_ok(), path.exists());
        if part == 1 && shared.is_ok() {
            // Whoever uses the one uses the other: it is not made again.
            assert!(used.exists());
            self.owner(owner).share("used", &mut |_| panic!("it is there")).unwrap();
        }
    }

    fn vanish(&mut self, owner: usize) {
        let held = self.owner(owner);
        let own: Vec<_> =
            held.records().iter().filter_map(|(_, effect)| path(effect).map(Path::to_owned)).collect();
        self.lost.extend(own.into_iter().filter(|path| !path.starts_with(&self.data)));
        drop(self.held[owner].take());
        let _ = fs::remove_dir_all(self.run.join("ledger").join(OWNERS[owner]));
    }

    /// Processes end; every file now says another boot.
    fn reboot(&mut self) {
        self.held = [None, None, None];
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        for file in effects_files(&self.run) {
            let text = fs::read_to_string(&file).unwrap();
            fs::write(&file, text.replace(boot.trim(), "11111111-2222-3333-4444-555555555555")).unwrap();
        }
        let _ = fs::write(self.run.join("ledger/.boot"), "11111111-2222-3333-4444-555555555555");
    }

    fn end(mut self) {
        self.held = [None, None, None];
        let report = self.ledger.converge(&|_| false);
        assert!(report.errors.is_empty() && report.busy.is_empty(), "{report:?}");
        for path in &self.lost {
            let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
        }
        assert_eq!(listing(&self.outside), Vec::<PathBuf>::new());
        let left: Vec<_> = listing(&self.data).into_iter().chain(listing(&self.run)).collect();
        let expected = [self.data.join("ledger"), self.run.join("ledger"), self.run.join("ledger/.boot")];
        assert!(left.iter().all(|path| expected.contains(path)), "{left:?}");
        assert!(self.ledger.converge(&|_| false).undone.is_empty());
    }
}

fn path(effect: &Effect) -> Option<&Path> {
    match effect {
        Effect::File { path } | Effect::Tree { path } | Effect::Lease { path, .. } => Some(path),
        _ => None,
    }
}

fn bring_about(effect: &Effect) {
    let path = path(effect).unwrap();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    match effect {
        Effect::Tree { .. } => {
            fs::create_dir_all(path.join("x/y")).unwrap();
            fs::write(path.join("x/y/z"), "z").unwrap();
            std::os::unix::fs::symlink("/", path.join("x/root")).unwrap();
        }
        Effect::Lease { holder, .. } => fs::write(path, format!("{holder}\neth0\n")).unwrap(),
        _ => fs::write(path, "").unwrap(),
    }
}

fn listing(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let Ok(entries) = fs::read_dir(dir) else { return all };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            all.extend(listing(&path));
        }
        all.push(path);
    }
    all
}

fn effects_files(dir: &Path) -> Vec<PathBuf> {
    listing(dir).into_iter().filter(|path| path.ends_with("effects")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_left(steps in prop::collection::vec(step(), 0..40)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
        }
        world.end();
    }

    /// A file cut anywhere keeps exactly the records whose lines are whole, and goes on.
    #[test]
    fn a_cut_file_keeps_its_whole_lines(cut in 0..400_usize) {
        let mut world = World::new();
        for name in ["1", "2", "3", "4"] {
            let path = world.outside.join(name);
            world.owner(0).record(Effect::File { path }).unwrap();
        }
        world.held = [None, None, None];
        let file = world.run.join("ledger/a/effects");
        let text = fs::read(&file).unwrap();
        let kept = &text[..cut.min(text.len())];
        fs::write(&file, kept).unwrap();
        let whole = kept.iter().filter(|&&byte| byte == b'\n').count().saturating_sub(1);
        let owner = world.owner(0);
        prop_assert_eq!(owner.records().len(), whole);
        let id = owner.record(Effect::File { path: "/nonexistent/5".into() }).unwrap();
        prop_assert_eq!(id, RecordId(whole as u64 + 1));
        world.held = [None, None, None];
        prop_assert_eq!(world.owner(0).records().len(), whole + 1);
        world.end();
    }
}
