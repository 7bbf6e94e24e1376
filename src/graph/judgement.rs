use std::sync::Arc;

use jiff::Timestamp;

use super::{Caller, Graph, ObjectKey};

/// What a call would add to the graph. The order is that of precedence, for a caller in several fences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Judgement {
    /// A host that the caller's fence does not know yet.
    New,
    /// A known host whose last call was noted long ago.
    Stale,
    /// Nothing.
    Known,
    /// A host that the caller's fence may not learn.
    Refused,
    /// There is no such caller.
    UnknownCaller,
    /// The caller's pod is in no fence.
    Unfenced,
    /// No Service or `ServiceEntry` defines the host.
    UnknownHost,
}

impl Judgement {
    /// Every judgement, each at its own number.
    pub const ALL: [Self; 7] = [
        Self::New,
        Self::Stale,
        Self::Known,
        Self::Refused,
        Self::UnknownCaller,
        Self::Unfenced,
        Self::UnknownHost,
    ];

    /// The word for it, in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Stale => "stale",
            Self::Known => "known",
            Self::Refused => "refused",
            Self::UnknownCaller => "unknown_caller",
            Self::Unfenced => "unfenced",
            Self::UnknownHost => "unknown_host",
        }
    }
}

impl Graph {
    /// Tells what a call of `caller` to `host` would add. Reads only.
    #[must_use]
    pub fn judge(&self, caller: &Caller, host: &str, now: Timestamp) -> Judgement {
        self.judge_telling(caller, host, now, |_, _| {})
    }

    /// The same, and tells of each fence of the caller that knows the host, by the name under which it does. This is
    /// what every log entry goes through, and nearly all of them say nothing new.
    pub fn judge_telling(
        &self,
        caller: &Caller,
        host: &str,
        now: Timestamp,
        mut knowing: impl FnMut(&ObjectKey, &Arc<str>),
    ) -> Judgement {
        let Some(fences) = self.workloads.fences_of(caller) else { return Judgement::UnknownCaller };
        let facts = fences.filter_map(|key| Some((key, self.fences.get(key)?)));
        let verdicts = facts.map(|(key, facts)| {
            let (judgement, known) = facts.judge(host, &self.registry, now);
            if let Some(host) = known {
                knowing(key, host);
            }
            judgement
        });
        verdicts.min().unwrap_or(Judgement::Unfenced)
    }
}
