/// The longest DNS name in text, without the dot at its end (RFC 1035).
pub const MAX_NAME: usize = 253;
/// The longest label of a DNS name.
const MAX_LABEL: usize = 63;

/// Whether this is a DNS name in lower case that can stand in a `Sidecar` as it is.
#[must_use]
pub fn is_dns_name(name: &str) -> bool {
    let name = name.as_bytes();
    name.len() <= MAX_NAME && name.split(|byte| *byte == b'.').all(is_label) && !ends_in_number(name)
}

/// The same, or one with `*.` before it, which stands for all names that end like it.
#[must_use]
pub fn is_host_name(name: &str) -> bool {
    is_dns_name(name.strip_prefix("*.").unwrap_or(name))
}

fn is_label(label: &[u8]) -> bool {
    let ends = [label.first(), label.last()];
    label.len() <= MAX_LABEL
        && ends.into_iter().all(|byte| byte.copied().is_some_and(is_letter_or_digit))
        && label.iter().all(|byte| *byte == b'-' || is_letter_or_digit(*byte))
}

fn is_letter_or_digit(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9')
}

/// Whether the last label is a number, as in an IP address; no top-level domain is.
fn ends_in_number(name: &[u8]) -> bool {
    name.rsplit(|byte| *byte == b'.').next().is_some_and(|label| label.iter().all(u8::is_ascii_digit))
}
