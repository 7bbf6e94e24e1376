use schemars::{JsonSchema, Schema, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// When a host that was written into the spec leaves the fence again: never, unless one of these says so.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RecyclingStrategy {
    /// Never. The same as an empty strategy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<Stable>,

    /// At a time. A host that is called after it is learned like any other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Deadline>,

    /// When it was not called for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto: Option<Auto>,

    /// For `auto`: a call that is known of. Slime's name.
    #[serde(default, rename = "RecentlyCalled", skip_serializing_if = "Option::is_none")]
    pub recently_called: Option<Seconds>,
}

/// The strategy that keeps a host for ever.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
pub struct Stable {}

/// The strategy that keeps a host until a time.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
pub struct Deadline {
    /// The time, since 1970-01-01T00:00:00Z.
    pub expire: Seconds,
}

/// The strategy that keeps a host while it is called.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
pub struct Auto {
    /// The longest pause between two calls.
    pub duration: Seconds,
}

/// A time since 1970, or a duration. Protocol Buffers write 64-bit numbers as strings in JSON; both are read.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seconds {
    /// Whole seconds.
    #[serde(default, deserialize_with = "whole")]
    #[schemars(schema_with = "int_or_string")]
    pub seconds: i64,

    /// Nanoseconds after them, less than a second.
    #[serde(default, deserialize_with = "whole", skip_serializing_if = "is_zero")]
    #[schemars(schema_with = "int_or_string")]
    pub nanos: i32,
}

// The signature is serde's.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &i32) -> bool {
    *number == 0
}

fn int_or_string(_: &mut schemars::SchemaGenerator) -> Schema {
    json_schema!({ "x-kubernetes-int-or-string": true, "pattern": "^-?[0-9]+$" })
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Whole {
    Number(i64),
    Text(String),
}

fn whole<'de, D: Deserializer<'de>, N: TryFrom<i64>>(deserializer: D) -> Result<N, D::Error> {
    let number = match Whole::deserialize(deserializer)? {
        Whole::Number(number) => number,
        Whole::Text(text) => text.parse().map_err(D::Error::custom)?,
    };
    N::try_from(number).map_err(|_| D::Error::custom("the number is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_numbers_or_text() {
        let read = |json: &str| serde_json::from_str::<Seconds>(json).ok().map(|s| (s.seconds, s.nanos));
        assert_eq!(read(r#"{"seconds": 1767225600, "nanos": 5}"#), Some((1_767_225_600, 5)));
        assert_eq!(read(r#"{"seconds": "1767225600", "nanos": "5"}"#), Some((1_767_225_600, 5)));
        assert_eq!(read(r#"{"seconds": "-1"}"#), Some((-1, 0)));
        assert_eq!(read("{}"), Some((0, 0)));
        for wrong in [r#"{"seconds": "soon"}"#, r#"{"seconds": 1.5}"#, r#"{"nanos": 5000000000}"#] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_strategies_of_slime_can_be_read() {
        let text = r#"{"auto": {"duration": {"seconds": 60}}, "RecentlyCalled": {"seconds": "7"}}"#;
        let strategy: RecyclingStrategy = serde_json::from_str(text).unwrap();
        assert_eq!(strategy.auto.map(|auto| auto.duration.seconds), Some(60));
        assert_eq!(strategy.recently_called.map(|called| called.seconds), Some(7));
        let null: RecyclingStrategy = serde_json::from_str(r#"{"stable": null}"#).unwrap();
        assert_eq!(null, RecyclingStrategy::default());
    }
}
