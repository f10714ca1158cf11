use std::io::{self, Write};

use oci_image::store::{Damage, Image, Store};
use serde_json::{Value, json};

use super::{remove, source};
use crate::cli::VerifyArgs;
use crate::failure::{Failure, Result};
use crate::instance::Instance;
use crate::output;

/// An image and what is wrong with it.
struct Verdict {
    image: Image,
    damage: Vec<Damage>,
}

/// `sextant verify`: whether images are what was pulled, to the byte.
pub(crate) fn verify(instance: &Instance, args: &VerifyArgs) -> Result<()> {
    let store = instance.store()?;
    let images = match args.images.as_slice() {
        [] => store.images()?,
        names => names.iter().map(|text| source::find(&store, text)).collect::<Result<_>>()?,
    };
    let verdicts = verdicts(&store, images, !args.output.json())?;
    let kept = match args.discard {
        true => discard(instance, &store, &verdicts)?,
        false => Vec::new(),
    };
    if args.output.json() {
        output::json(&verdicts.iter().map(|v| v.document(args.discard.then_some(&kept))).collect())?;
    } else {
        kept.iter().for_each(|d| println!("kept, because it is in use: {} {}", d.part, d.digest));
    }
    conclude(&verdicts, args.discard)
}

/// Verifies one image after the other; each is told as soon as that is known, for it takes a while.
fn verdicts(store: &Store, images: Vec<Image>, tell: bool) -> Result<Vec<Verdict>> {
    let mut verifier = store.verifier()?;
    let mut verdicts = Vec::new();
    for image in images {
        let Some(damage) = verifier.image(&image)? else { continue };
        let verdict = Verdict { image, damage };
        if tell {
            verdict.print()?;
        }
        verdicts.push(verdict);
    }
    Ok(verdicts)
}

/// Takes out what is damaged; what had to stay.
fn discard(instance: &Instance, store: &Store, verdicts: &[Verdict]) -> Result<Vec<Damage>> {
    let mut all: Vec<Damage> = Vec::new();
    for damage in verdicts.iter().flat_map(|v| &v.damage) {
        // Images share parts.
        if !all.contains(damage) {
            all.push(damage.clone());
        }
    }
    Ok(store.discard(&all, &remove::in_use(instance))?)
}

fn conclude(verdicts: &[Verdict], discarded: bool) -> Result<()> {
    let damaged: Vec<&Verdict> = verdicts.iter().filter(|v| !v.damage.is_empty()).collect();
    let Some(first) = damaged.first() else { return Ok(()) };
    let (name, count) = (first.name(), verdicts.len());
    let remedy = match discarded {
        true => format!("pull again, for example `sextant pull {name}`"),
        false => {
            format!("take out what is damaged with `sextant verify --discard`, then `sextant pull {name}`")
        }
    };
    Err(Failure::new(format!("cannot vouch for {} of {count} images: {remedy}", damaged.len())))
}

impl Verdict {
    fn name(&self) -> String {
        self.image.name.clone().unwrap_or_else(|| self.image.manifest.digest.to_string())
    }

    fn print(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{}: {}", self.name(), if self.damage.is_empty() { "whole" } else { "damaged" })?;
        for damage in &self.damage {
            writeln!(out, "  {} {}: {}", damage.part, damage.digest, damage.reason)?;
        }
        out.flush()
    }

    /// For programs; with `kept`, what is damaged was taken out but for that.
    fn document(&self, kept: Option<&Vec<Damage>>) -> Value {
        let damage = self.damage.iter().map(|d| {
            json!({
                "part": d.part.to_string(),
                "digest": d.digest.to_string(),
                "reason": d.reason,
                "discarded": kept.is_some_and(|kept| !kept.contains(d)),
            })
        });
        json!({
            "reference": self.image.name,
            "manifest": self.image.manifest.digest.to_string(),
            "whole": self.damage.is_empty(),
            "damage": damage.collect::<Vec<_>>(),
        })
    }
}
