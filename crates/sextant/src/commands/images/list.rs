use oci_image::store::{Details, ImageUsage, Store};
use serde_json::{Value, json};

use super::name::{NONE, age, familiar};
use crate::cli::ImagesArgs;
use crate::failure::Result;
use crate::instance::Instance;
use crate::output::{self, Table};

/// One line of the list.
struct Row {
    usage: ImageUsage,
    /// `None` if the image's documents are damaged.
    details: Option<Details>,
}

/// `sextant images`.
pub(crate) fn list(instance: &Instance, args: &ImagesArgs) -> Result<()> {
    let rows = rows(&instance.store()?, args.name.as_deref())?;
    if args.output.json() {
        return Ok(output::json(&rows.iter().map(Row::document).collect())?);
    }
    if args.quiet {
        let mut ids: Vec<String> = Vec::new();
        for row in &rows {
            let id = if args.digests { row.id() } else { output::short(&row.id()).to_owned() };
            if !ids.contains(&id) {
                println!("{id}");
                ids.push(id);
            }
        }
        return Ok(());
    }
    match args.digests {
        false => {
            let mut table = Table::new(["NAME", "TAG", "ID", "AGE", "SIZE"]);
            for row in &rows {
                let (name, tag) = familiar(row.usage.image.name.as_deref());
                table.row([
                    name,
                    tag,
                    output::short(&row.id()).to_owned(),
                    row.age(),
                    output::bytes(row.usage.total),
                ]);
            }
            table.print()?;
        }
        true => {
            let mut table = Table::new(["NAME", "TAG", "DIGEST", "ID", "AGE", "SIZE"]);
            for row in &rows {
                let (name, tag) = familiar(row.usage.image.name.as_deref());
                let digest = row.usage.image.target.to_string();
                table.row([name, tag, digest, row.id(), row.age(), output::bytes(row.usage.total)]);
            }
            table.print()?;
        }
    }
    Ok(())
}

/// The images whose name contains `part`, the last recorded first.
fn rows(store: &Store, part: Option<&str>) -> Result<Vec<Row>> {
    let wanted = |usage: &ImageUsage| {
        let Some(part) = part else { return true };
        let Some(full) = usage.image.name.as_deref() else { return false };
        let (name, tag) = familiar(Some(full));
        full.contains(part) || format!("{name}:{tag}").contains(part)
    };
    let usages = store.usage()?.images.into_iter().rev().filter(wanted);
    Ok(usages.map(|usage| Row { details: store.details(&usage.image).ok(), usage }).collect())
}

impl Row {
    fn id(&self) -> String {
        self.details.as_ref().map_or_else(|| NONE.to_owned(), |d| d.id.to_string())
    }

    fn created(&self) -> Option<&str> {
        self.details.as_ref()?.config.created.as_deref()
    }

    fn age(&self) -> String {
        match &self.details {
            Some(_) => age(self.created()),
            None => "damaged: pull it again".to_owned(),
        }
    }

    fn document(&self) -> Value {
        let image = &self.usage.image;
        let (name, tag) = familiar(image.name.as_deref());
        let known = |text: String| Some(text).filter(|t| t != NONE);
        json!({
            "reference": image.name,
            "name": known(name),
            "tag": known(tag),
            "id": self.details.as_ref().map(|d| d.id.to_string()),
            "manifest": image.manifest.digest.to_string(),
            "target": image.target.to_string(),
            "platform": self.details.as_ref().map(|d| d.config.platform().to_string()),
            "created": self.created(),
            "size": self.usage.total,
            "unique": self.usage.unique,
            "pinned": image.pinned,
        })
    }
}
