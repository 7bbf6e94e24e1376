use crate::api::reasons;

/// Why a limit is not in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// One of the documented reasons.
    pub(super) reason: &'static str,
    /// What is wrong with it.
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// It cannot be understood, or lacks what it needs.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(reasons::INVALID_DESCRIPTOR, message)
    }

    pub(super) fn not_supported(message: impl Into<String>) -> Self {
        Self::new(reasons::NOT_SUPPORTED, message)
    }

    /// The same, with the limit that it is about: a subset, and the number of its descriptor.
    pub(super) fn about(self, limit: &str) -> Self {
        let (subset, number) = limit.rsplit_once('/').unwrap_or((limit, ""));
        let message = format!("sets.{subset}.descriptor[{number}]: {}", self.message);
        Self { message, ..self }
    }
}
