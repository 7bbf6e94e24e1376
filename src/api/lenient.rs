//! Reading what others may have written: a status that could not be read would leave its fence out.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A value, or the default for what is none: Slime wrote words and numbers that mean nothing to us.
pub(super) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned + Default,
{
    Value::deserialize(deserializer).map(|value| serde_json::from_value(value).unwrap_or_default())
}

/// The entries of a list that can be read: a newer version may know more words.
pub(super) fn those_that_are_known<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let values: Vec<Value> = or_default(deserializer)?;
    Ok(values.into_iter().filter_map(|value| serde_json::from_value(value).ok()).collect())
}

/// The entries of a map, each with a default if it cannot be read.
pub(super) fn each_if_it_can_be_read<'de, D, T>(deserializer: D) -> Result<BTreeMap<String, T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned + Default,
{
    let values: BTreeMap<String, Value> = or_default(deserializer)?;
    Ok(values
        .into_iter()
        .map(|(key, value)| (key, serde_json::from_value(value).unwrap_or_default()))
        .collect())
}
