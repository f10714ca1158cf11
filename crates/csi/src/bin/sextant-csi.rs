//! The CSI driver as a program of its own, which `sextant csi-driver` becomes where it is installed beside it. It has no command
//! line of its own: what it is told is one argument of JSON.

use std::process::ExitCode;

use csi::plugin::process::{SMALL, Whole};

fn main() -> ExitCode {
    let told = std::env::args().nth(1).unwrap_or_default();
    let outcome = match serde_json::from_str::<Whole>(&told) {
        Ok(whole) => whole.run().map_err(|e| e.to_string()),
        Err(error) => {
            let hint = "start it with `sextant csi-driver` of the same version";
            Err(format!("{hint} (cannot read its argument: {error})"))
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{SMALL}: {error}");
            ExitCode::FAILURE
        }
    }
}
