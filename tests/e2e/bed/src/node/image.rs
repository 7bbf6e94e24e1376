//! Which program stands for which image.

/// What an image's process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// The operator under test.
    Palisade,
    /// istiod.
    PilotDiscovery,
    /// The sidecar's, gateway's and `istio-init`'s first process.
    PilotAgent,
    /// Prometheus, as the distribution has it.
    Prometheus,
    /// The stand-in application itself, with the arguments of its container.
    BedApp,
    /// Any other image: the stand-in application, whatever the container's command is.
    StandIn,
    /// `auto`: the injection webhook was expected to put an image here and did not see the Pod.
    NotInjected,
}

/// User and group that an image runs as when the Pod names none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DefaultUser {
    /// User id.
    pub(super) uid: i64,
    /// Group id.
    pub(super) gid: i64,
}

impl Program {
    /// Tells a program by the last path segment of an image reference, whatever its registry, tag or digest.
    pub(super) fn of(image: &str) -> Self {
        match name(image) {
            "palisade" => Self::Palisade,
            "pilot" => Self::PilotDiscovery,
            "proxyv2" => Self::PilotAgent,
            "prometheus" => Self::Prometheus,
            "bed-app" => Self::BedApp,
            "auto" => Self::NotInjected,
            _ => Self::StandIn,
        }
    }

    /// The distribution's program that has to be fetched before the image can be run.
    pub(super) fn fetched(self) -> Option<&'static str> {
        (self == Self::Prometheus).then_some("prometheus")
    }

    /// The program's path inside a container, where Istio's own images have theirs too.
    pub(super) fn entrypoint(self) -> &'static str {
        match self {
            Self::Palisade => "/usr/local/bin/palisade",
            Self::PilotDiscovery => "/usr/local/bin/pilot-discovery",
            Self::PilotAgent => "/usr/local/bin/pilot-agent",
            Self::Prometheus => "/usr/local/bin/prometheus",
            Self::BedApp | Self::StandIn | Self::NotInjected => "/usr/local/bin/bed",
        }
    }

    /// Whether the container's process is the program that the image promises, so that commands which the
    /// Pod wants to run in it (probes, hooks) mean something.
    pub(super) fn is_real(self) -> bool {
        !matches!(self, Self::StandIn | Self::NotInjected)
    }

    /// The user of Istio's images is 1337 and Prometheus's is nobody (their Dockerfiles); the operator's is the one of
    /// distroless.
    pub(super) fn default_user(self) -> DefaultUser {
        match self {
            Self::Palisade => DefaultUser { uid: 65532, gid: 65532 },
            Self::PilotDiscovery | Self::PilotAgent => DefaultUser { uid: 1337, gid: 1337 },
            Self::Prometheus => DefaultUser { uid: 65534, gid: 65534 },
            Self::BedApp | Self::StandIn | Self::NotInjected => DefaultUser { uid: 0, gid: 0 },
        }
    }
}

/// The last path segment of an image reference without tag and digest.
fn name(image: &str) -> &str {
    let reference = image.split_once('@').map_or(image, |(reference, _)| reference);
    let last = reference.rsplit('/').next().unwrap_or(reference);
    last.split_once(':').map_or(last, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_map_to_programs() {
        for (image, expected) in [
            ("palisade", Program::Palisade),
            ("ghcr.io/x/palisade:v1", Program::Palisade),
            ("localhost:5000/palisade@sha256:abc", Program::Palisade),
            ("palisade/other", Program::StandIn),
            ("istio/pilot:1.31-dev", Program::PilotDiscovery),
            ("registry.istio.io/release/proxyv2:1.31.0-distroless", Program::PilotAgent),
            ("auto", Program::NotInjected),
            ("bed-app", Program::BedApp),
            ("docker.io/prom/prometheus:v3.5.0", Program::Prometheus),
            ("docker.io/istio/examples-bookinfo-reviews-v2:1.20.3", Program::StandIn),
            ("nginx", Program::StandIn),
            ("localhost:5000/nginx:1@sha256:00", Program::StandIn),
        ] {
            assert_eq!(Program::of(image), expected, "{image}");
        }
    }
}
