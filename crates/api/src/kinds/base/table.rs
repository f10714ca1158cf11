//! Tables: columns and the cells that many kinds have.

use super::Fields;
use crate::contract::Object;
use crate::resource::Column;
use serde_json::{Map, Value};

/// A column that is always shown. `about` says what it tells: a text, or `Type.field` of the core types' documentation.
#[must_use]
pub fn column(name: &'static str, kind: &'static str, about: &'static str) -> Column {
    let format = if name == "Name" { "name" } else { "" };
    Column { name: name.into(), kind, format, description: about.into(), priority: 0 }
}

/// The columns with references to documentation (`PodSpec.nodeName`) resolved: in the package of `type_name`, in that of the
/// core group and in that of metadata.
pub(super) fn described(mut columns: Vec<Column>, type_name: &str) -> Vec<Column> {
    let definitions = crate::schema::definitions();
    let own = type_name.rsplit_once('.').map_or("", |(package, _)| package);
    let packages = [own, "io.k8s.api.core.v1", "io.k8s.apimachinery.pkg.apis.meta.v1"];
    for column in &mut columns {
        let Some((type_name, field)) = column.description.split_once('.') else { continue };
        let found = packages.iter().find_map(|package| {
            let properties = definitions.get(&format!("{package}.{type_name}"))?.get("properties")?;
            properties.get(field)?.maybe("description")
        });
        if let Some(text) = found {
            column.description = text.to_owned().into();
        }
    }
    columns
}

/// A column that is shown with `-o wide`.
#[must_use]
pub fn wide(name: &'static str, kind: &'static str, about: &'static str) -> Column {
    Column { priority: 1, ..column(name, kind, about) }
}

/// `Name`.
#[must_use]
pub fn name() -> Column {
    column("Name", "string", "ObjectMeta.name")
}

/// `Age`.
#[must_use]
pub fn age() -> Column {
    column("Age", "string", "ObjectMeta.creationTimestamp")
}

/// The cell of `Age`: how long ago the object was made.
#[must_use]
pub fn age_of(object: &Object, now: i64) -> Value {
    since(object.text(&["metadata", "creationTimestamp"]), now).into()
}

/// How long ago `time` (RFC 3339) was, as `kubectl get` writes it; `<unknown>` where there is none.
#[must_use]
pub fn since(time: &str, now: i64) -> String {
    match seconds(time) {
        Some(then) => duration(now - then),
        None => "<unknown>".to_owned(),
    }
}

/// Seconds since 1970 of an RFC 3339 time.
#[must_use]
pub fn seconds(time: &str) -> Option<i64> {
    time.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}

/// A duration in at most two units: `47s`, `2m5s`, `3h20m`, `5d3h`, `2y11d`.
#[must_use]
pub fn duration(seconds: i64) -> String {
    let two = |whole: i64, unit: char, rest: i64, sub: char| {
        if rest == 0 { format!("{whole}{unit}") } else { format!("{whole}{unit}{rest}{sub}") }
    };
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let days = hours / 24;
    match seconds {
        // Clocks differ by a little; by more it is no duration.
        ..-1 => "<invalid>".to_owned(),
        -1..0 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, 'm', seconds % 60, 's'),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, 'h', minutes % 60, 'm'),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, 'd', hours % 24, 'h'),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => two(days / 365, 'y', days % 365, 'd'),
        _ => format!("{}y", days / 365),
    }
}

/// `a=b,c=d`, or `<none>`.
#[must_use]
pub fn labels(labels: Option<&Map<String, Value>>) -> String {
    match labels {
        Some(labels) if !labels.is_empty() => {
            let pairs =
                labels.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
            pairs.collect::<Vec<_>>().join(",")
        }
        _ => "<none>".to_owned(),
    }
}

/// The names and the images of a pod spec's containers, each joined with commas.
#[must_use]
pub fn containers(spec: Option<&Map<String, Value>>) -> (String, String) {
    let of = |field| {
        let texts: Vec<&str> =
            spec.list("containers").iter().map(|container| container.text(field)).collect();
        texts.join(",")
    };
    (of("name"), of("image"))
}

/// The columns about a pod template: its containers, their images, and the selector, of which `selects` says what it means.
#[must_use]
pub fn template_columns(selects: &'static str) -> [Column; 3] {
    [
        wide("Containers", "string", "The names of the template's containers."),
        wide("Images", "string", "The images of the template's containers."),
        wide("Selector", "string", selects),
    ]
}

/// A label selector (`matchLabels`, `matchExpressions`) as text; `<none>` where it is absent or empty.
#[must_use]
pub fn selector(selector: Option<&Map<String, Value>>) -> String {
    let mut parts: Vec<(String, String)> = selector
        .entries("matchLabels")
        .map(|(key, value)| (key.to_owned(), format!("{key}={}", value.as_str().unwrap_or_default())))
        .collect();
    for requirement in selector.list("matchExpressions") {
        let key = requirement.text("key");
        let mut values: Vec<&str> = requirement.texts("values").collect();
        values.sort_unstable();
        let values = values.join(",");
        let text = match requirement.text("operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => return "<error>".to_owned(),
        };
        parts.push((key.to_owned(), text));
    }
    if parts.is_empty() {
        return "<none>".to_owned();
    }
    parts.sort_by(|one, other| one.0.cmp(&other.0));
    parts.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(",")
}

/// The condition of type `name` in `status.conditions`.
#[must_use]
pub fn condition<'a>(object: &'a Object, name: &str) -> Option<&'a Value> {
    object.status().list("conditions").iter().find(|condition| condition.text("type") == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_in_two_units_at_most() {
        let cases = [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (12_000, "3h20m"),
            (28_800, "8h"),
            (172_800, "2d"),
            (183_600, "2d3h"),
            (691_200, "8d"),
            (63_072_000, "2y"),
            (64_022_400, "2y11d"),
            (252_288_000, "8y"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn selectors_are_sorted_by_key() {
        let value = serde_json::json!({ "matchLabels": { "b": "1" }, "matchExpressions": [
            { "key": "a", "operator": "In", "values": ["y", "x"] },
            { "key": "c", "operator": "DoesNotExist" },
        ] });
        assert_eq!(selector(value.as_object()), "a in (x,y),b=1,!c");
        assert_eq!(selector(None), "<none>");
    }
}
