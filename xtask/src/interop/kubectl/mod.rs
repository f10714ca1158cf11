//! kubectl walks our API: Debian's (1.20) and, where there is one, the machine's. A walk is a table of [`step::Step`]s: a
//! command as it would be typed, the code it ends with, the lines it has to say.

mod machine;
mod program;
mod server;
mod step;
pub(super) mod walk;

use super::Site;
use crate::Result;
pub(super) use machine::Machine;
pub(crate) use program::{Program, debian};
pub(crate) use server::Server;
pub(super) use step::{Folder, Step, ok};

/// Walks with every kubectl there is, each against a server with nothing in it but what a server makes itself.
pub(super) fn walks(site: &Site, steps: &[Step]) -> Result<()> {
    let programs = program::all()?;
    for program in &programs {
        let server = Server::start(site)?;
        let folder = Folder::new(server.dir.path(), &server.kubeconfig(), program, None)?;
        if let Err(wrong) = take(&folder, program, steps) {
            return Err(format!("{wrong}\n{}", server.stop()).into());
        }
    }
    Ok(())
}

/// The same on machines whose pods run.
pub(super) fn walks_with_pods(site: &Site, steps: &[Step]) -> Result<()> {
    for program in &program::all()? {
        let machine = Machine::start(site)?;
        let folder = Folder::new(machine.dir(), &machine.kubeconfig(), program, Some(machine.network()))?;
        if let Err(wrong) = take(&folder, program, steps) {
            return Err(format!("{wrong}\n{}", machine.words()).into());
        }
    }
    Ok(())
}

/// Takes all steps that are for this kubectl; which of them went wrong.
pub(super) fn take(folder: &Folder, program: &Program, steps: &[Step]) -> Result<(), String> {
    let wrong: Vec<String> =
        steps.iter().filter(|step| step.is_for(program)).filter_map(|step| folder.take(step).err()).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let (minor, count, all) = (program.minor, wrong.len(), steps.len());
    Err(format!("kubectl 1.{minor}: {count} of {all} steps went wrong\n{}", wrong.join("\n")))
}
