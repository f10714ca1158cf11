use crate::{Effect, Error, Make, Record, RecordId};

/// A record that ends with its process: for a plugin's program, which a runtime of others calls and whose DEL finds
/// everything by name. What it recorded can be taken back while it lives, and by nothing afterwards.
///
/// It knows no users of shared effects: [`share`](Record::share) makes every time, so what it is given must leave alone
/// what is there, and nothing shared is ever taken back.
#[derive(Debug, Default)]
pub struct Transient {
    effects: Vec<(RecordId, Effect)>,
    next: u64,
}

impl Transient {
    /// Nothing recorded.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes everything back, last first. Goes on past errors and returns them.
    pub fn undo_all(self) -> Vec<Error> {
        self.effects.into_iter().rev().filter_map(|(_, effect)| effect.undo().err()).collect()
    }
}

impl Record for Transient {
    fn record(&mut self, effect: Effect) -> Result<RecordId, Error> {
        effect.check()?;
        let id = RecordId(self.next);
        self.next += 1;
        self.effects.push((id, effect));
        Ok(id)
    }

    fn undo(&mut self, id: RecordId) -> Result<(), Error> {
        let Some(at) = self.effects.iter().position(|(known, _)| *known == id) else { return Ok(()) };
        if let Some((_, effect)) = self.effects.get(at) {
            effect.undo()?;
        }
        self.effects.remove(at);
        Ok(())
    }

    fn undone(&mut self, effect: &Effect) -> Result<(), Error> {
        self.effects.retain(|(_, known)| known != effect);
        Ok(())
    }

    fn share_part(&mut self, name: &str, _part: &str, make: Make<'_>) -> Result<(), Error> {
        make(&mut Unowned).map_err(|source| Error::MakeShared { name: name.to_owned(), source })
    }

    fn counts_users(&self) -> bool {
        false
    }
}

/// Where shared effects go that nobody takes back.
struct Unowned;

impl Record for Unowned {
    fn record(&mut self, effect: Effect) -> Result<RecordId, Error> {
        effect.check()?;
        Ok(RecordId(0))
    }

    fn undo(&mut self, _id: RecordId) -> Result<(), Error> {
        Ok(())
    }

    fn undone(&mut self, _effect: &Effect) -> Result<(), Error> {
        Ok(())
    }

    fn share_part(&mut self, name: &str, _part: &str, make: Make<'_>) -> Result<(), Error> {
        make(self).map_err(|source| Error::MakeShared { name: name.to_owned(), source })
    }

    fn counts_users(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_own_effects_are_taken_back_and_shared_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let mut record = Transient::new();
        record.record(Effect::File { path: path("own") }).unwrap();
        std::fs::write(path("own"), "").unwrap();
        record
            .share("all", &mut |record| {
                record.record(Effect::File { path: path("shared") })?;
                Ok(std::fs::write(path("shared"), "")?)
            })
            .unwrap();
        assert!(!record.counts_users());
        assert!(record.undo_all().is_empty());
        assert!(!path("own").exists() && path("shared").exists());
    }
}
