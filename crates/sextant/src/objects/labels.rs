use serde_json::Value;

use super::{list, text};

/// A selector of an object (`matchLabels`, `matchExpressions`, or a Service's plain map) as it stands in a query; nothing where it
/// selects nothing.
pub(crate) fn selector(selector: &Value) -> Option<String> {
    let is_plain = selector.get("matchLabels").is_none() && selector.get("matchExpressions").is_none();
    let labels = if is_plain { Some(selector) } else { selector.get("matchLabels") };
    let mut parts = Vec::new();
    for (name, value) in labels.and_then(Value::as_object).into_iter().flatten() {
        parts.push(format!("{name}={}", value.as_str().unwrap_or_default()));
    }
    for one in list(selector, "/matchExpressions") {
        let key = text(one, "/key");
        let values: Vec<&str> = list(one, "/values").iter().filter_map(Value::as_str).collect();
        parts.push(match text(one, "/operator") {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        });
    }
    (!parts.is_empty()).then(|| parts.join(","))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_forms_are_told_as_queries_have_them() {
        assert_eq!(selector(&json!({"app": "web"})).as_deref(), Some("app=web"));
        let whole = json!({"matchLabels": {"a": "b"}, "matchExpressions": [
            {"key": "c", "operator": "In", "values": ["d", "e"]}, {"key": "f", "operator": "DoesNotExist"}]});
        assert_eq!(selector(&whole).as_deref(), Some("a=b,c in (d,e),!f"));
        assert_eq!(selector(&json!({})), None);
    }
}
