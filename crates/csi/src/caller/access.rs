//! Access modes, as Kubernetes has them and as drivers are told.

use crate::contract::v1::volume_capability::access_mode::Mode;

/// The one access mode of the CSI for all those of a Kubernetes volume. A driver that knows one writer on a node from several
/// (`several`) is told which of both is meant.
///
/// # Errors
/// There is none for these together.
pub fn access_mode(modes: &[String], several: bool) -> Result<Mode, String> {
    let has = |mode: &str| modes.iter().any(|is| is == mode);
    match (has("ReadWriteOncePod"), has("ReadWriteMany"), has("ReadOnlyMany"), has("ReadWriteOnce")) {
        (true, false, false, false) if several => Ok(Mode::SingleNodeSingleWriter),
        (true, false, false, false) => Ok(Mode::SingleNodeWriter),
        (true, ..) => Err("accessModes: ReadWriteOncePod goes with no other mode".into()),
        (_, true, ..) => Ok(Mode::MultiNodeMultiWriter),
        (_, _, true, true) => {
            Err("accessModes: CSI has no volume that is ReadOnlyMany and ReadWriteOnce".into())
        }
        (_, _, true, _) => Ok(Mode::MultiNodeReaderOnly),
        (_, _, _, true) if several => Ok(Mode::SingleNodeMultiWriter),
        (_, _, _, true) => Ok(Mode::SingleNodeWriter),
        _ => Err(format!("accessModes: {modes:?} names no mode that is known")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(modes: &[&str], several: bool) -> Result<Mode, String> {
        access_mode(&modes.iter().map(|mode| (*mode).to_owned()).collect::<Vec<_>>(), several)
    }

    #[test]
    fn access_modes_become_one() {
        assert_eq!(mode(&["ReadWriteOnce"], false), Ok(Mode::SingleNodeWriter));
        assert_eq!(mode(&["ReadWriteOnce"], true), Ok(Mode::SingleNodeMultiWriter));
        assert_eq!(mode(&["ReadWriteOncePod"], false), Ok(Mode::SingleNodeWriter));
        assert_eq!(mode(&["ReadWriteOncePod"], true), Ok(Mode::SingleNodeSingleWriter));
        assert_eq!(mode(&["ReadOnlyMany"], true), Ok(Mode::MultiNodeReaderOnly));
        assert_eq!(
            mode(&["ReadOnlyMany", "ReadWriteOnce", "ReadWriteMany"], true),
            Ok(Mode::MultiNodeMultiWriter)
        );
        for wrong in
            [&["ReadOnlyMany", "ReadWriteOnce"][..], &["ReadWriteOncePod", "ReadWriteMany"], &[], &["Other"]]
        {
            assert!(mode(wrong, true).is_err(), "{wrong:?}");
        }
    }
}
