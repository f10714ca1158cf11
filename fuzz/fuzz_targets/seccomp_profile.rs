//! Profiles in files: read or refused; what is read is a filter that config.json may have, and survives being written.

use kernel::arch::Arch;
use kernel::capability::CapSet;
use oci_runtime::contract::{Linux, Root, Seccomp, Spec, validate};
use oci_runtime::seccomp::{Circumstances, read_profile};

pub fn run(bytes: &[u8]) {
    for (capabilities, native, kernel) in
        [(CapSet::EMPTY, Arch::X86_64, (4, 4)), (CapSet::ALL, Arch::Aarch64, (6, 18))]
    {
        let Ok(profile) = read_profile(bytes, &Circumstances { capabilities, native, kernel }) else {
            continue;
        };
        let text = serde_json::to_vec(&profile).expect("a profile is JSON");
        assert_eq!(serde_json::from_slice::<Seccomp>(&text).expect("what was written"), profile);
        let spec = Spec {
            oci_version: "1.3.0".into(),
            root: Some(Root { path: "r".into(), readonly: false }),
            linux: Some(Linux { seccomp: Some(profile), ..Linux::default() }),
            ..Spec::default()
        };
        validate(&spec).expect("a profile that was accepted is a valid filter");
    }
}
