use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// What Envoy takes for the status of a rejection (`envoy.type.v3.StatusCode`, 1.40); it refuses a configuration with another one.
pub(super) const STATUSES: &[u16] = &[
    400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 421, 422, 423,
    424, 426, 428, 429, 431, 500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511,
];

/// The type of a body.
const MEDIA_TYPE: &str = r"^[-A-Za-z0-9!#$&^_.+]+/[-A-Za-z0-9!#$&^_.+]+( *; *[ -~]+)?$";

/// The body of answers to requests that are rejected.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RejectionBody {
    /// The text, as it is sent: at most 4096 characters.
    #[schemars(extend("maxLength" = 4096))]
    pub text: String,
    /// Its media type, such as `application/json`; `text/plain` if none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 128, "pattern" = MEDIA_TYPE))]
    pub content_type: Option<String>,
}
