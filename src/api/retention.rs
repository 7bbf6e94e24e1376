use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use jiff::SignedDuration;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// What [`Retention`] is written like: hours, minutes and seconds, each at most once, or `0`.
const PATTERN: &str = "^(0|([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?)$";

/// How long a host may be unused before it leaves: `840h`, `90m`, or `0` for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention(Option<SignedDuration>);

impl Retention {
    /// For ever.
    pub const FOR_EVER: Self = Self(None);

    /// `duration`, or for ever if that is not positive.
    #[must_use]
    pub fn new(duration: SignedDuration) -> Self {
        Self(Some(duration).filter(SignedDuration::is_positive))
    }

    /// The time; `None` for ever.
    #[must_use]
    pub fn duration(self) -> Option<SignedDuration> {
        self.0
    }
}

/// 35 days: what is used once a week or once a month stays.
impl Default for Retention {
    fn default() -> Self {
        Self::new(SignedDuration::from_hours(35 * 24))
    }
}

impl FromStr for Retention {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "0" {
            return Ok(Self::FOR_EVER);
        }
        let duration = text.parse::<SignedDuration>();
        let duration = duration.map_err(|error| format!("{error}; write it like 840h, 90m or 0"))?;
        if duration.is_negative() {
            Err("it must not be negative".to_owned())
        } else {
            Ok(Self::new(duration))
        }
    }
}

impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.map_or(0, |duration| duration.as_secs());
        let parts = [(seconds / 3600, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
        let parts = parts.map(|(n, unit)| if n > 0 { format!("{n}{unit}") } else { String::new() }).concat();
        f.write_str(if parts.is_empty() { "0" } else { &parts })
    }
}

impl Serialize for Retention {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Retention {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Retention {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Retention".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "maxLength": 32, "pattern": PATTERN })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retention_is_written_as_it_is_read() {
        let pattern = regex::Regex::new(PATTERN).unwrap();
        for text in ["840h", "1h30m", "45s", "3h1m5s", "0"] {
            let read: Retention = text.parse().unwrap();
            assert_eq!(read.to_string(), text);
            assert!(pattern.is_match(text), "{text}");
        }
        assert_eq!("0s".parse(), Ok(Retention::FOR_EVER));
        assert_eq!(Retention::default().to_string(), "840h");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "840", "-1h", "a while", "1y"] {
            assert!(text.parse::<Retention>().is_err(), "{text}");
        }
    }
}
