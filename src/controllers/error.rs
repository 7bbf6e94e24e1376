use std::time::Duration;

use super::leadership::NotLeading;

/// Why a write did not come about. It is tried again, later each time.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused.
    #[error("cannot {action}: {source}")]
    Api {
        /// What was tried.
        action: &'static str,
        /// Its answer.
        source: Box<kube::Error>,
    },
    /// The API server did not answer.
    #[error("cannot {action}: no answer within {time:?}")]
    Timeout {
        /// What was tried.
        action: &'static str,
        /// How long it was waited for.
        time: Duration,
    },
}

impl Error {
    /// Whether the object that was to be changed is not there any more: the API server says that it is not found,
    /// or, to a patch that names its uid, that this uid is no object's.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Api { source, .. }
            if matches!(source.as_ref(), kube::Error::Api(status) if matches!(status.code, 404 | 409)))
    }

    /// A word for metrics: one of a few.
    #[must_use]
    pub fn category(&self) -> &'static str {
        match self {
            Self::Timeout { .. } => "timeout",
            Self::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) if status.code == 409 => "conflict",
                kube::Error::Api(status) if status.code == 403 => "forbidden",
                kube::Error::Api(status) if status.code == 422 => "invalid",
                kube::Error::Api(_) => "refused",
                kube::Error::Service(error) if error.is::<NotLeading>() => "not_leading",
                _ => "unreachable",
            },
        }
    }
}
