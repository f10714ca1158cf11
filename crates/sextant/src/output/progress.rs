//! How a transfer looks while it runs: a line for each blob on a terminal, plain lines elsewhere, always on standard
//! error.

use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use oci_image::contract::{Descriptor, Digest};
use oci_image::pull::{Progress, State};

use super::bytes;

/// Shows the blobs of one transfer after another.
#[derive(Debug)]
pub(crate) struct Transfer {
    form: Form,
    lines: RwLock<HashMap<Digest, Line>>,
}

#[derive(Debug)]
enum Form {
    Silent,
    Plain,
    /// Lines that are drawn again and again.
    Bars {
        all: MultiProgress,
        colours: bool,
    },
}

/// One blob.
#[derive(Debug)]
struct Line {
    size: u64,
    downloaded: AtomicU64,
    bar: Option<ProgressBar>,
    /// What was last said about it.
    word: Mutex<&'static str>,
}

impl Transfer {
    /// With `quiet` nothing is shown.
    pub(crate) fn new(quiet: bool) -> Self {
        let form = match (quiet, io::stderr().is_terminal()) {
            (true, _) => Form::Silent,
            (_, false) => Form::Plain,
            _ => Form::Bars { all: MultiProgress::new(), colours: may_colour() },
        };
        Self { form, lines: RwLock::default() }
    }

    /// Shows these blobs from now on, beside those that were shown before.
    pub(crate) fn begin(&self, blobs: &[Descriptor]) {
        let mut lines = self.lines.write().unwrap_or_else(PoisonError::into_inner);
        for blob in blobs {
            lines.entry(blob.digest.clone()).or_insert_with(|| Line {
                size: blob.size,
                downloaded: AtomicU64::new(0),
                bar: self.bar(blob),
                word: Mutex::new("waiting"),
            });
        }
    }

    /// Says in one word what is happening to a blob.
    pub(crate) fn say(&self, digest: &Digest, word: &'static str) {
        self.with(digest, |line| self.say_on(line, digest, word));
    }

    /// Says how a blob ended.
    pub(crate) fn end(&self, digest: &Digest, word: &'static str) {
        self.with(digest, |line| match &line.bar {
            Some(bar) => {
                bar.set_style(style(ENDED, ""));
                bar.finish_with_message(word);
            }
            None => self.say_on(line, digest, word),
        });
    }

    /// Says how far a blob is.
    pub(crate) fn position(&self, digest: &Digest, position: u64) {
        self.with(digest, |line| {
            if let Some(bar) = &line.bar {
                bar.set_position(position);
            }
        });
    }

    fn with(&self, digest: &Digest, act: impl FnOnce(&Line)) {
        let lines = self.lines.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.get(digest) {
            act(line);
        }
    }

    fn say_on(&self, line: &Line, digest: &Digest, word: &'static str) {
        let mut last = line.word.lock().unwrap_or_else(PoisonError::into_inner);
        if *last == word {
            return;
        }
        *last = word;
        match &line.bar {
            Some(bar) => bar.set_message(word),
            None => self.plain(digest, &format!("{word} ({})", bytes(line.size))),
        }
    }

    fn bar(&self, blob: &Descriptor) -> Option<ProgressBar> {
        let Form::Bars { all, colours } = &self.form else { return None };
        let bar = all.add(ProgressBar::new(blob.size));
        bar.set_style(style(RUNNING, if *colours { ".cyan" } else { "" }));
        bar.set_prefix(blob.digest.short().to_owned());
        bar.set_message("waiting");
        Some(bar)
    }

    fn plain(&self, digest: &Digest, text: &str) {
        if matches!(self.form, Form::Plain) {
            // A closed standard error is no reason to stop.
            _ = writeln!(io::stderr(), "{}: {text}", digest.short());
        }
    }
}

/// https://no-color.org: any value but the empty one says no.
fn may_colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

const RUNNING: &str = "{prefix}  {msg:11} [{wide_bar}] {decimal_bytes:>9} / {decimal_total_bytes:<9} {decimal_bytes_per_sec:>11}";
const ENDED: &str = "{prefix}  {msg:11} {decimal_total_bytes}";

fn style(template: &str, colour: &str) -> ProgressStyle {
    let template = match colour {
        "" => template.to_owned(),
        colour => template.replace("{wide_bar}", &format!("{{wide_bar:{colour}}}")),
    };
    // The templates are constants, and a test parses them.
    ProgressStyle::with_template(&template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

impl Progress for Transfer {
    fn resolved(&self, _manifest: &Descriptor, layers: &[Descriptor]) {
        self.begin(layers);
    }

    fn state(&self, digest: &Digest, state: State) {
        match state {
            State::Present => self.end(digest, "present"),
            // Another process is at it, and this one goes on when that one is through.
            State::Joined => self.say(digest, "joined"),
            State::Downloading { from: 0 } => self.say(digest, "downloading"),
            State::Downloading { from } => {
                self.plain(digest, &format!("resuming at {}", bytes(from)));
                self.position(digest, from);
                self.say(digest, "downloading");
            }
            State::Retrying { reason, after } => {
                let text =
                    format!("{}: {reason}; trying again in {:.1} s", digest.short(), after.as_secs_f64());
                match &self.form {
                    Form::Silent => {}
                    Form::Plain => _ = writeln!(io::stderr(), "{text}"),
                    Form::Bars { all, .. } => _ = all.println(text),
                }
                self.say(digest, "retrying");
            }
            // Unpacking begins with the first bytes: as long as some are missing, it is the download that is shown.
            State::Unpacking => {}
            State::Done => self.end(digest, "done"),
        }
    }

    fn downloaded(&self, digest: &Digest, bytes: u64) {
        self.with(digest, |line| {
            line.downloaded.store(bytes, Ordering::Relaxed);
            if let Some(bar) = &line.bar {
                bar.set_position(bytes);
            }
        });
    }

    fn unpacked(&self, digest: &Digest, bytes: u64) {
        self.with(digest, |line| {
            if line.downloaded.load(Ordering::Relaxed) < line.size {
                return;
            }
            self.say_on(line, digest, "unpacking");
            if let Some(bar) = &line.bar {
                bar.set_position(bytes);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use indicatif::ProgressDrawTarget;
    use oci_image::contract::MediaType;

    use super::*;

    #[test]
    fn the_templates_parse() {
        for template in [RUNNING, ENDED] {
            ProgressStyle::with_template(template).unwrap();
        }
        ProgressStyle::with_template(&RUNNING.replace("{wide_bar}", "{wide_bar:.cyan}")).unwrap();
    }

    #[test]
    fn a_layer_downloads_then_unpacks() {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        let transfer = Transfer { form: Form::Bars { all, colours: false }, lines: RwLock::default() };
        let layer = Descriptor::of(MediaType::OCI_LAYER, b"four");
        transfer.begin(std::slice::from_ref(&layer));
        let shown = || {
            let lines = transfer.lines.read().unwrap();
            let bar = lines[&layer.digest].bar.clone().unwrap();
            (bar.message(), bar.position())
        };
        transfer.state(&layer.digest, State::Downloading { from: 0 });
        transfer.downloaded(&layer.digest, 2);
        transfer.state(&layer.digest, State::Unpacking);
        transfer.unpacked(&layer.digest, 1);
        assert_eq!(shown(), ("downloading".into(), 2));
        transfer.downloaded(&layer.digest, 4);
        transfer.unpacked(&layer.digest, 3);
        assert_eq!(shown(), ("unpacking".into(), 3));
        transfer.state(&layer.digest, State::Done);
        assert_eq!(shown().0, "done");
    }
}
