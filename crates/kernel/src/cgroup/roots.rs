//! Where each controller's hierarchy is, for whoever reads many cgroups and wants to look that up once.

use std::path::{Path, PathBuf};

use super::{Layout, ROOT, layout, v1_controllers};
use crate::Result;

/// The hierarchies of the machine.
#[derive(Debug, Clone)]
pub struct Roots {
    unified: bool,
    v1: Vec<(String, PathBuf)>,
}

impl Roots {
    /// What is mounted now.
    ///
    /// # Errors
    /// No cgroups are mounted at `/sys/fs/cgroup`.
    pub fn find() -> Result<Self> {
        let unified = layout()? == Layout::Unified;
        let names = if unified { Vec::new() } else { v1_controllers()? };
        let v1 = names.into_iter().map(|names| (names.clone(), Path::new(ROOT).join(names))).collect();
        Ok(Self { unified, v1 })
    }

    /// Whether there is one v2 tree with all controllers.
    pub fn is_unified(&self) -> bool {
        self.unified
    }

    /// The root of the hierarchy that has `controller`.
    pub fn of(&self, controller: &str) -> Option<&Path> {
        if self.unified {
            return Some(Path::new(ROOT));
        }
        let has = |names: &str| names.split(',').any(|name| name == controller);
        self.v1.iter().find(|(names, _)| has(names)).map(|(_, path)| path.as_path())
    }
}
