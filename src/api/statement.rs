use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// What a condition says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The condition's type.
    pub condition: &'static str,
    /// Whether it holds; `None` if that cannot be known.
    pub holds: Option<bool>,
    /// One of the documented reasons.
    pub reason: &'static str,
    /// What that means for this object.
    pub message: String,
}

impl Statement {
    /// The condition of an object of this generation, whose conditions were `before`. It dates from the last change of
    /// its status.
    #[must_use]
    pub fn of(self, before: &[Condition], generation: Option<i64>, now: Timestamp) -> Condition {
        let status = match self.holds {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        };
        let old = before.iter().find(|old| old.type_ == self.condition && old.status == status);
        Condition {
            type_: self.condition.to_owned(),
            status: status.to_owned(),
            reason: self.reason.to_owned(),
            message: self.message,
            observed_generation: generation,
            last_transition_time: old
                .map_or_else(|| whole_seconds(now), |old| old.last_transition_time.clone()),
        }
    }
}

/// Kubernetes writes times in whole seconds; what comes back must equal what was written.
pub(crate) fn whole_seconds(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}

/// A change that an Event tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The new reason.
    pub reason: &'static str,
    /// What it means for this object.
    pub message: String,
    /// Whether somebody has to do something about it.
    pub warning: bool,
}

impl Transition {
    /// The change to what a condition says: to be looked after if it does not hold.
    #[must_use]
    pub fn to(statement: &Statement) -> Self {
        let warning = statement.holds != Some(true);
        Self { reason: statement.reason, message: statement.message.clone(), warning }
    }
}
