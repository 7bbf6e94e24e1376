//! Fields that may be spelled in two ways, as Protocol Buffers allow in JSON: `fill_interval` and `fillInterval`.

use schemars::Schema;
use serde_json::{Map, Value, json};

/// Adds to a schema the second spelling of each field that has one, so that the API server does not prune it, and a
/// rule by which only one of the two is given.
pub(super) fn both_spellings(schema: &mut Schema) {
    let Some(Value::Object(fields)) = schema.get_mut("properties") else { return };
    let pairs: Vec<_> = fields.keys().filter_map(|name| Some((name.clone(), camel_case(name)?))).collect();
    for (snake, camel) in &pairs {
        add(fields, snake, camel);
    }
    let rules: Vec<_> = pairs.iter().map(|(snake, camel)| rule(snake, camel)).collect();
    if !rules.is_empty() {
        schema.insert("x-kubernetes-validations".to_owned(), Value::Array(rules));
    }
}

fn add(fields: &mut Map<String, Value>, snake: &str, camel: &str) {
    let mut field = fields.get(snake).cloned().unwrap_or_default();
    field["description"] = json!(format!("Another spelling of `{snake}`."));
    fields.insert(camel.to_owned(), field);
}

fn rule(snake: &str, camel: &str) -> Value {
    json!({
        "rule": format!("!(has(self.{snake}) && has(self.{camel}))"),
        "message": format!("{snake} and {camel} are two spellings of one field: give one of them"),
    })
}

/// The other spelling of a name, if it has one.
fn camel_case(name: &str) -> Option<String> {
    let (first, rest) = name.split_once('_')?;
    let capital = |word: &str| word[..1].to_ascii_uppercase() + &word[1..];
    Some(first.to_owned() + &rest.split('_').filter(|word| !word.is_empty()).map(capital).collect::<String>())
}
