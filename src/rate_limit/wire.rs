//! The protobuf messages of Envoy's `envoy/service/ratelimit/v3/rls.proto`, cut down to what is read and said.

/// `RateLimitRequest`: the descriptors of one request.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RateLimitRequest {
    /// Whose limits are asked about.
    #[prost(string, tag = "1")]
    pub domain: String,
    /// One for each limit that the request matches.
    #[prost(message, repeated, tag = "2")]
    pub descriptors: Vec<Descriptor>,
    /// How many tokens the request takes; 0 means one.
    #[prost(uint32, tag = "3")]
    pub hits_addend: u32,
}

/// `RateLimitDescriptor`
#[derive(Clone, PartialEq, prost::Message)]
pub struct Descriptor {
    /// What the limit's actions found.
    #[prost(message, repeated, tag = "1")]
    pub entries: Vec<Entry>,
}

/// `RateLimitDescriptor.Entry`
#[derive(Clone, PartialEq, prost::Message)]
pub struct Entry {
    /// The entry's key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// The entry's value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// `RateLimitResponse`
#[derive(Clone, PartialEq, prost::Message)]
pub struct RateLimitResponse {
    /// Whether the request passes.
    #[prost(enumeration = "Code", tag = "1")]
    pub overall_code: i32,
    /// What each descriptor says of it, in the order of the request.
    #[prost(message, repeated, tag = "2")]
    pub statuses: Vec<DescriptorStatus>,
}

/// `RateLimitResponse.Code`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Code {
    /// Never sent.
    Unknown = 0,
    /// The request passes.
    Ok = 1,
    /// It does not.
    OverLimit = 2,
}

/// `RateLimitResponse.DescriptorStatus`
#[derive(Clone, PartialEq, prost::Message)]
pub struct DescriptorStatus {
    /// Whether this descriptor lets the request pass.
    #[prost(enumeration = "Code", tag = "1")]
    pub code: i32,
    /// The limit, for the header `x-ratelimit-limit`.
    #[prost(message, optional, tag = "2")]
    pub current_limit: Option<CurrentLimit>,
    /// How many requests would pass now.
    #[prost(uint32, tag = "3")]
    pub limit_remaining: u32,
    /// When the bucket is full again, or, if it is empty, has a token again.
    #[prost(message, optional, tag = "4")]
    pub duration_until_reset: Option<Duration>,
}

/// `RateLimitResponse.RateLimit`
#[derive(Clone, PartialEq, prost::Message)]
pub struct CurrentLimit {
    /// How many requests.
    #[prost(uint32, tag = "1")]
    pub requests_per_unit: u32,
    /// In which time: one of Envoy's units, or 0 for any other time.
    #[prost(int32, tag = "2")]
    pub unit: i32,
}

/// `google.protobuf.Duration`
#[derive(Clone, PartialEq, prost::Message)]
pub struct Duration {
    /// Whole seconds.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// The rest, in nanoseconds.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}
