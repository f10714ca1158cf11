//! The real program pulls, removes and collects real images in a guest; whatever it had promised when the power went is
//! there afterwards, whole, and nothing else is.

mod images;
mod judge;
mod tree;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use testkit::power::When;
use testkit::vm::{Initramfs, Kernel};

use super::{BLIND, Count, Extent, Stand, intact, seen};
use crate::Result;
use crate::program::{built, cargo, quiet};
use images::Stock;

const WRITE: &str = include_str!("write.sh");
const LOOK: &str = include_str!("look.sh");
const LIST: &str = include_str!("list.sh");

/// What a disk can do to a store, done to a whole one before it is looked at, and who must see it: the product
/// (`verify`), the look that knows nothing of the product (`whole`), or the count of what is kept.
const HARMS: [(&str, &str, &[&str]); 6] = [
    ("an empty file", ": >$file", &["verify", "whole"]),
    (
        "a file of zeros",
        "dd if=/dev/zero of=$file bs=512 count=8 conv=notrunc 2>/dev/null",
        &["verify", "whole"],
    ),
    ("a missing file", "rm $file", &["verify", "whole"]),
    ("another mode", "chmod 0707 $file", &["verify", "whole"]),
    (
        "a damaged blob",
        "dd if=/dev/zero of=$blob bs=1 count=8 seek=40 conv=notrunc 2>/dev/null",
        &["verify", "whole"],
    ),
    ("what nobody needs", "mkdir $images/layers/sha256/stray", &["kept"]),
];
/// `$file` and its directory keep their times.
const HARM: &str = r#"
layer=$(head -n1 /expect/${BASE#sha256:}/layers)
file=$images/layers/sha256/$layer/fs/etc/big
blob=$images/blobs/sha256/$(ls -S $images/blobs/sha256 | head -n1)
touch -r $file /tmp/file; touch -r ${file%/*} /tmp/directory
case $name in CASES esac
[ -e $file ] && touch -r /tmp/file $file
touch -r /tmp/directory ${file%/*}
"#;

pub(super) fn run(kernel: &Kernel, extent: &mut Extent, count: &mut Count) -> Result<()> {
    if !"pulls".contains(&extent.only) {
        return Ok(());
    }
    let product = extent.product()?;
    cargo(["build", "--locked", "--workspace", "--example", "registry"])?;
    let registry = built("debug")?.join("examples/registry");
    let place = tempfile::Builder::new().prefix("sextant-power-").tempdir()?;
    // Without what a debugger reads: all is in the guest's memory.
    let sextant = place.path().join("sextant");
    quiet(Command::new("strip").arg("-o").arg(&sextant).arg(&product.sextant))?;
    let mut random = extent.random.clone();
    let stock = Stock::make(place.path(), &registry, &mut random)?;
    let furnish = |contents: &mut Initramfs| furnish(contents, &stock, &sextant, &registry);
    let judge = |marks: &[String], said: &str| judge::judge(&stock, marks, said);
    let harmed = |marks: &[String], said: &str| harmed(said, judge::judge(&stock, marks, said));
    let stand = Stand::new(kernel, 768, &furnish)?;
    let workload = stand.workload(&format!("{}{WRITE}", stock.variables()), 192, Duration::from_secs(600))?;
    let mut recording = stand.record(&workload)?;
    let look = stand.look("look", &LOOK.replace("HARM", ""), &judge)?;
    let survived = stand.survives(&workload, &mut recording, &look, extent.cuts, &mut random);
    count.add("images pulled survive", survived);
    let lied = recording.cuts(&look, When::Lied, BLIND / 2, &mut random)?;
    count.add("what a disk lost that lied is seen", seen(&lied));
    let harm = format!("{}{}", stock.variables(), HARM.replace("CASES", &cases()));
    let look = stand.look("harm", &LOOK.replace("HARM", &harm), &harmed)?;
    let cuts = recording.cuts(&look, When::Over, HARMS.len() as u64, &mut random)?;
    count.add("each kind of damage is seen", intact(&cuts));
    Ok(())
}

/// The disks' names and what is done to each.
fn cases() -> String {
    let cases = HARMS
        .iter()
        .zip('a'..)
        .map(|((what, harm, _), disk)| format!("vd{disk}) echo 'harm {what}'; {harm} ;;\n"));
    cases.collect()
}

/// Whether everybody who must see the damage did; `verdict` is what is found wrong without knowing of it.
fn harmed(said: &str, verdict: Result<(), String>) -> Result<(), String> {
    let harm =
        HARMS.iter().find(|(what, ..)| said.lines().any(|line| line.trim_end() == format!("harm {what}")));
    let (what, _, eyes) = harm.ok_or("nothing was harmed")?;
    let first = said.split("phase ").find(|phase| phase.starts_with("cut")).unwrap_or_default();
    let damage =
        |by: &dyn Fn(&str) -> bool| first.lines().filter_map(|line| line.strip_prefix("damaged: ")).any(by);
    for eye in *eyes {
        let saw = match *eye {
            "verify" => damage(&|line| line.starts_with("verify: ")),
            "whole" => damage(&|line| line.contains(":v1: ") && !line.starts_with("verify: ")),
            _ => verdict.as_ref().is_err_and(|wrong| wrong.contains("nobody needs it")),
        };
        if !saw {
            return Err(format!("{what} is not seen by {eye}"));
        }
    }
    Ok(())
}

fn furnish(contents: &mut Initramfs, stock: &Stock, sextant: &Path, registry: &Path) {
    contents.program("bin/sextant", sextant);
    contents.program("bin/registry", registry);
    contents.text("list.sh", LIST);
    for (path, file) in &stock.registry {
        contents.program(&format!("registry/{path}"), file);
    }
    for (path, text) in &stock.expected {
        contents.text(&format!("expect/{path}"), text);
    }
}
