//! Files of one volume that get in each other's way.

use crate::kinds::base::Fields;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::ops::Bound;

/// How many warnings there are at most: a header holds no more, and each pair of a thousand files may be one.
const MOST: usize = 64;

/// A longer path is none on Linux.
const LONGEST: usize = 4096;

/// A file of a volume: its path, and for projected ones where it comes from.
type File = (String, String);

/// Warnings about config maps, secrets and other files in `spec.volumes` with equal paths, or one below another.
pub(super) fn overlaps(spec: &Map<String, Value>) -> Vec<String> {
    let mut warnings = Vec::new();
    for volume in spec.list("volumes") {
        let name = volume.text("name");
        for (field, title) in
            [("configMap", "ConfigMap"), ("secret", "Secret"), ("downwardAPI", "DownwardAPI")]
        {
            let Some(source) = volume.field(field) else { continue };
            let told = described(title, source);
            let files = items(source, "").into_iter();
            of_one(&mut warnings, &format!("volume {name:?} ({told})"), files);
        }
        let Some(projected) = volume.field("projected") else { continue };
        let mut files = Vec::new();
        for source in projected.list("sources") {
            let source = source.as_object();
            if !source.is_some_and(|source| source.values().any(|value| !value.is_null())) {
                warnings.push(format!("volume {name:?} (Projected) has no sources provided"));
                continue;
            }
            files.extend(projection(source));
        }
        of_one(&mut warnings, &format!("volume {name:?} (Projected)"), files.into_iter());
    }
    warnings.truncate(MOST);
    warnings
}

/// `ConfigMap "name"`, `DownwardAPI`.
fn described(title: &str, source: &Value) -> String {
    let name = if title == "Secret" && source.has("secretName") { "secretName" } else { "name" };
    if title == "DownwardAPI" { title.to_owned() } else { format!("{title} {:?}", source.text(name)) }
}

fn projection(source: Option<&Map<String, Value>>) -> Vec<File> {
    for (field, title) in [("configMap", "ConfigMap"), ("secret", "Secret"), ("downwardAPI", "DownwardAPI")] {
        if let Some(source) = source.field(field).filter(|source| source.has("items")) {
            return items(source, &described(title, source));
        }
    }
    let token = source.field("serviceAccountToken");
    token.map(|token| (token.text("path").to_owned(), "ServiceAccountToken".to_owned())).into_iter().collect()
}

fn items(source: &Value, from: &str) -> Vec<File> {
    source.list("items").iter().map(|item| (item.text("path").to_owned(), from.to_owned())).collect()
}

/// Compares each file with those before it.
fn of_one(warnings: &mut Vec<String>, volume: &str, files: impl Iterator<Item = File>) {
    let mut seen: BTreeMap<String, Vec<(usize, String)>> = BTreeMap::new();
    for (place, (path, from)) in files.enumerate() {
        if warnings.len() >= MOST {
            return;
        }
        let path = path.trim_end_matches('/').to_owned();
        if path.len() > LONGEST {
            continue;
        }
        let mut others: Vec<(usize, String)> = Vec::new();
        if !path.is_empty() {
            let above = path.match_indices('/').map(|(end, _)| &path[..end]).chain([&*path]);
            for above in above {
                let same = seen.get(above).into_iter().flatten();
                others.extend(same.map(|(place, from)| (*place, told(above, from))));
            }
            let below = format!("{path}/");
            let start = (Bound::Included(below.clone()), Bound::Unbounded);
            for (path, all) in seen.range(start).take_while(|(path, _)| path.starts_with(&below)).take(MOST) {
                others.extend(all.iter().map(|(place, from)| (*place, told(path, from))));
            }
        }
        others.sort();
        for (_, other) in others.into_iter().take(MOST) {
            warnings.push(format!("{volume}: overlapping paths: {} with {other}", told(&path, &from)));
        }
        seen.entry(path).or_default().push((place, from));
    }
}

fn told(path: &str, from: &str) -> String {
    if from.is_empty() { format!("{path:?}") } else { format!("{path:?} ({from})") }
}

#[cfg(test)]
mod tests {
    use super::overlaps;
    use serde_json::json;

    #[test]
    fn files_below_files() {
        let spec = json!({"volumes": [
            {"name": "a", "secret": {"secretName": "s", "items": [{"path": "x/y"}, {"path": "x"}, {"path": "xy"}]}},
            {"name": "b", "projected": {"sources": [
                {"configMap": {"name": "c", "items": [{"path": "x"}]}},
                {"serviceAccountToken": {"path": "x/"}},
                {},
            ]}},
        ]});
        let said = [
            r#"volume "a" (Secret "s"): overlapping paths: "x" with "x/y""#,
            r#"volume "b" (Projected) has no sources provided"#,
            r#"volume "b" (Projected): overlapping paths: "x" (ServiceAccountToken) with "x" (ConfigMap "c")"#,
        ];
        assert_eq!(overlaps(spec.as_object().unwrap()), said);
    }

    #[test]
    fn many_files_take_no_time_and_say_little() {
        let items: Vec<_> = (0..20_000).map(|_| json!({"path": "same"})).collect();
        let spec = json!({"volumes": [{"name": "a", "configMap": {"name": "c", "items": items}}]});
        assert_eq!(overlaps(spec.as_object().unwrap()).len(), super::MOST);
        // Each part of a path is looked up: of a path that cannot be, none.
        let long = "a/".repeat(super::LONGEST);
        let spec = json!({"volumes": [
            {"name": "a", "configMap": {"name": "c", "items": [{"path": long}, {"path": long}]}},
        ]});
        assert_eq!(overlaps(spec.as_object().unwrap()), [""; 0]);
    }
}
