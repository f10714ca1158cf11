//! The objects in `examples/`, as the demo applies them.

/// The files of `examples/shop`.
pub(super) const SHOP: [(&str, &str); 6] = [
    ("api.yaml", include_str!("../../../../../examples/shop/api.yaml")),
    ("database.yaml", include_str!("../../../../../examples/shop/database.yaml")),
    ("namespace.yaml", include_str!("../../../../../examples/shop/namespace.yaml")),
    ("orders.yaml", include_str!("../../../../../examples/shop/orders.yaml")),
    ("settings.yaml", include_str!("../../../../../examples/shop/settings.yaml")),
    ("web.yaml", include_str!("../../../../../examples/shop/web.yaml")),
];

/// The files of `examples/mesh`.
pub(super) const MESH: [(&str, &str); 5] = [
    ("access.yaml", include_str!("../../../../../examples/mesh/access.yaml")),
    ("callers.yaml", include_str!("../../../../../examples/mesh/callers.yaml")),
    ("namespace.yaml", include_str!("../../../../../examples/mesh/namespace.yaml")),
    ("split.yaml", include_str!("../../../../../examples/mesh/split.yaml")),
    ("web.yaml", include_str!("../../../../../examples/mesh/web.yaml")),
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn all_files_are_there() {
        for (folder, files) in [("shop", &SHOP[..]), ("mesh", &MESH[..])] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(folder);
            let mut names: Vec<String> = std::fs::read_dir(folder)
                .unwrap()
                .map(|one| one.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            let known: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, known);
        }
    }
}
