//! kubectl walks our API: Debian's (1.20) and, where there is one, the machine's. A walk is a table of [`step::Step`]s: a
//! command as it would be typed, the code it ends with, the lines it has to say.

mod program;
mod server;
mod step;
pub(super) mod walk;

use super::Site;
use crate::Result;
pub(crate) use program::{Program, debian};
pub(crate) use server::Server;
use step::{Folder, Step};

/// Walks with every kubectl there is, each against a server with nothing in it but what a server makes itself.
pub(super) fn walks(site: &Site, steps: &[Step]) -> Result<()> {
    let programs = program::all()?;
    for program in &programs {
        let server = Server::start(site)?;
        let folder = Folder::new(&server, program)?;
        let wrong: Vec<String> = steps
            .iter()
            .filter(|step| step.is_for(program))
            .filter_map(|step| folder.take(step).err())
            .collect();
        if !wrong.is_empty() {
            let said = server.stop();
            return Err(format!(
                "kubectl 1.{}: {} of {} steps went wrong\n{}\n{said}",
                program.minor,
                wrong.len(),
                steps.len(),
                wrong.join("\n")
            )
            .into());
        }
    }
    Ok(())
}
