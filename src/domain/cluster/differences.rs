//! Where two specifications of a cluster differ, by field.

use serde_json::{Map, Value};

use super::ClusterSpec;

/// Number of fields in the answer.
const MOST: usize = 20;

/// Paths of the fields in which a registered cluster differs from the requested specification. A request without a cordon does
/// not differ from a cordoned cluster: an admin may have cordoned it since.
pub fn differences(registered: &ClusterSpec, asked: &ClusterSpec) -> Vec<String> {
    let asked = ClusterSpec { cordoned: asked.cordoned || registered.cordoned, ..asked.clone() };
    let mut found = Vec::new();
    let values = (serde_json::to_value(registered), serde_json::to_value(&asked));
    if let (Ok(registered), Ok(asked)) = values {
        compare("", &registered, &asked, &mut found);
    }
    if found.is_empty() && *registered != asked {
        found.push("spec".to_owned());
    }
    if found.len() > MOST {
        let more = found.len() - MOST;
        found.truncate(MOST);
        found.push(format!("and {more} more"));
    }
    found
}

fn compare(path: &str, left: &Value, right: &Value, found: &mut Vec<String>) {
    match (left, right) {
        _ if left == right => {}
        (Value::Object(left), Value::Object(right)) => each(path, left, right, found),
        (Value::Array(left), Value::Array(right)) if is_named(left) && is_named(right) => {
            each(path, &by_name(left), &by_name(right), found);
            // The first namespace is the default one.
            if left.len() == right.len() && left.first().and_then(name) != right.first().and_then(name) {
                found.push(format!("{path} (their order)"));
            }
        }
        _ => found.push(path.to_owned()),
    }
}

fn each(path: &str, left: &Map<String, Value>, right: &Map<String, Value>, found: &mut Vec<String>) {
    let keys = left.keys().chain(right.keys().filter(|key| !left.contains_key(*key)));
    for key in keys {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let of = |map: &Map<String, Value>| map.get(key).cloned().unwrap_or_default();
        compare(&path, &of(left), &of(right), found);
    }
}

fn name(value: &Value) -> Option<&str> {
    value.get("namespace")?.as_str()
}

fn is_named(list: &[Value]) -> bool {
    list.iter().all(|value| name(value).is_some())
}

fn by_name(list: &[Value]) -> Map<String, Value> {
    list.iter().filter_map(|value| Some((name(value)?.to_owned(), value.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(change: impl FnOnce(&mut Value)) -> ClusterSpec {
        let mut value = json!({
            "name": "eu", "region": "europe", "weight": 50, "maxWeight": 100, "labels": {"tier": "gold"},
            "namespaces": [{"namespace": "a", "secretsNamespace": "b"}, {"namespace": "c", "secretsNamespace": "d"}],
        });
        change(&mut value);
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn differences_are_reported_by_field_path() {
        let before = spec(|_| {});
        assert_eq!(differences(&before, &before), Vec::<String>::new());
        let after = spec(|value| {
            value["weight"] = 80.into();
            value["labels"] = json!({"tier": "silver", "new": "x"});
            value["namespaces"][1]["urlTemplate"] = "https://{{ .Prefix }}.x".into();
            value["admissionConstraints"] = json!([{"permission": "p"}]);
        });
        let mut found = differences(&before, &after);
        found.sort();
        let expected =
            ["admissionConstraints", "labels.new", "labels.tier", "namespaces.c.urlTemplate", "weight"];
        assert_eq!(found, expected);
    }

    #[test]
    fn namespaces_are_compared_by_name_and_order() {
        let turned = spec(|value| value["namespaces"].as_array_mut().unwrap().reverse());
        assert_eq!(differences(&spec(|_| {}), &turned), ["namespaces (their order)"]);
        let fewer = spec(|value| drop(value["namespaces"].as_array_mut().unwrap().pop()));
        assert_eq!(differences(&spec(|_| {}), &fewer), ["namespaces.c"]);
    }

    #[test]
    fn a_cordoned_cluster_does_not_differ_from_a_request_without_a_cordon() {
        let cordoned = spec(|value| value["cordoned"] = true.into());
        assert_eq!(differences(&cordoned, &spec(|_| {})), Vec::<String>::new());
        assert_eq!(differences(&spec(|_| {}), &cordoned), ["cordoned"]);
    }

    #[test]
    fn many_differences_are_counted() {
        let many = spec(|value| {
            value["labels"] =
                (0..50).map(|n| (format!("l{n}"), Value::from("x"))).collect::<Map<_, _>>().into();
        });
        let found = differences(&spec(|_| {}), &many);
        assert_eq!((found.len(), found.last().unwrap().as_str()), (21, "and 31 more"));
    }
}
