use serde_json::json;

use crate::cli::OutputArgs;
use crate::failure::Result;
use crate::output::{self, Table};

/// The contracts that this program meets today, and the version of each that it is written to.
const CONTRACTS: [(&str, &str, &str); 4] = [
    ("OCI runtime", "ociRuntime", oci_runtime::contract::VERSION),
    ("OCI image", "ociImage", "1.1.1"),
    ("OCI distribution", "ociDistribution", "1.1.1"),
    ("CNI", "cni", cni::contract::Version::LATEST.as_str()),
];

/// `sextant version`.
pub(crate) fn run(args: OutputArgs) -> Result<()> {
    let program = env!("CARGO_PKG_VERSION");
    let uname = rustix::system::uname();
    let kernel = format!("{} {}", uname.sysname().to_string_lossy(), uname.release().to_string_lossy());
    if args.json() {
        let contracts: serde_json::Map<_, _> =
            CONTRACTS.iter().map(|(_, key, version)| ((*key).to_owned(), json!(version))).collect();
        let document = json!({
            "version": program,
            "architecture": std::env::consts::ARCH,
            "kernel": kernel,
            "contracts": contracts,
        });
        return Ok(output::json(&document)?);
    }
    println!("sextant {program} ({}, {kernel})\n", std::env::consts::ARCH);
    let mut table = Table::new(["CONTRACT", "VERSION"]);
    for (name, _, version) in CONTRACTS {
        table.row([name.to_owned(), version.to_owned()]);
    }
    Ok(table.print()?)
}
