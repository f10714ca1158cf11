//! An instance in a directory of its own, and what must be true of it after a failure.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use testkit::{Machine, instance_name};

use crate::registry::Registry;
use crate::site::Site;

pub(crate) struct Place {
    pub(crate) site: Site,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { site: Site::new() }
    }

    /// Runs what must end with `code` and one sentence, with all of `words`, and leaves nothing; the sentence.
    #[track_caller]
    pub(crate) fn ends(&self, code: i32, args: &[&str], words: &[&str]) -> String {
        let ended = self.site.run(args);
        assert!(ended.code == code && ended.out.is_empty(), "{args:?} is to end with {code}: {ended:?}");
        let text = ended.err.trim_end();
        // `--nocapture` shows what people read.
        println!("{text}");
        let sentence = text.starts_with("sextant: cannot ") && text.lines().count() == 1 && text.len() < 700;
        assert!(sentence && !text.contains(char::is_control), "{args:?}: {text:?} is no clear sentence");
        for word in words {
            assert!(text.contains(word), "{args:?}: {text:?} does not say {word:?}");
        }
        self.nothing_is_left();
        text.to_owned()
    }

    /// The pull of the bad image fails, saying all of `words` and the layer or name; then the good one works.
    #[track_caller]
    pub(crate) fn refuses(&self, registry: &Registry, words: &[&str]) -> String {
        let text = self.ends(1, &["pull", "-q", "--plain-http", &registry.name("bad")], words);
        self.goes_on(registry);
        text
    }

    /// Nothing of a failed pull is there, a download to be resumed apart.
    #[track_caller]
    pub(crate) fn nothing_is_left(&self) {
        let site = &self.site;
        assert_eq!(site.json(&["images", "-o", "json"]), serde_json::json!([]));
        assert_eq!(site.ok(&["ps", "-aq"]), "");
        assert_eq!(names(&site.path("data/images/ingest")), ["blobs", "layers"].map(str::to_owned).into());
        for empty in ["images/ingest/layers", "images/layers/sha256", "containers", "names"] {
            assert_eq!(names(&site.path("data").join(empty)), BTreeSet::new(), "{empty}");
        }
        for empty in ["netns", "containers"] {
            assert_eq!(names(&site.path("run").join(empty)), BTreeSet::new(), "{empty}");
        }
        let dir = site.path("");
        let dir = dir.to_str().unwrap().trim_end_matches('/');
        let instance = instance_name(&site.path("run").canonicalize().unwrap());
        let machine = Machine::new().only(dir).cgroups_named(instance).processes_marked(dir);
        let left = machine.snapshot().unwrap();
        // The disk that a test made for itself apart.
        let disk = format!("{dir}/disk");
        assert_eq!(left.items().filter(|item| !item.contains(&disk)).collect::<Vec<_>>(), [""; 0]);
    }

    /// Downloads that the next pull takes up.
    pub(crate) fn partials(&self) -> usize {
        names(&self.site.path("data/images/ingest/blobs")).len()
    }

    /// A good image is pulled, is whole, and can be removed with everything that was ever fetched.
    #[track_caller]
    pub(crate) fn goes_on(&self, registry: &Registry) {
        let name = registry.name("good");
        self.site.ok(&["pull", "-q", "--plain-http", &name]);
        self.is_whole(&name, "hello");
        self.site.ok(&["rmi", &name]);
        self.site.ok(&["prune", "-af"]);
        self.nothing_is_left();
        assert_eq!(self.partials(), 0);
        assert_eq!(names(&self.site.path("data/images/blobs/sha256")), BTreeSet::new());
    }

    /// The image is the only one, and its only layer has the file `etc/greeting`.
    #[track_caller]
    pub(crate) fn is_whole(&self, name: &str, greeting: &str) {
        let images = self.site.json(&["images", "-o", "json"]);
        assert_eq!((images.as_array().unwrap().len(), &images[0]["reference"]), (1, &name.into()));
        let layers = self.site.path("data/images/layers/sha256");
        let layer = names(&layers);
        assert_eq!(layer.len(), 1);
        let file = layers.join(layer.first().unwrap()).join("fs/etc/greeting");
        assert_eq!(fs::read_to_string(file).unwrap(), greeting);
    }
}

/// A directory's entries; none if it is not there.
pub(crate) fn names(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
