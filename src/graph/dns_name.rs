/// The longest DNS name in text, without the dot at its end (RFC 1035).
pub const MAX_NAME: usize = 253;
/// The longest label of a DNS name.
const MAX_LABEL: usize = 63;

/// Whether this is a DNS name in lower case that can stand in a `Sidecar` as it is. Its last label is no number, as in
/// an IP address: no top-level domain is.
#[must_use]
pub fn is_dns_name(name: &str) -> bool {
    // Of the label so far. Every log entry's host comes by here, so that each byte is looked at once.
    let (mut length, mut is_number, mut last) = (0, true, b'.');
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' => is_number = false,
            b'0'..=b'9' => {}
            b'-' if length > 0 => is_number = false,
            b'.' if length > 0 && last != b'-' => (length, is_number) = (0, true),
            _ => return false,
        }
        if byte != b'.' {
            length += 1;
        }
        if length > MAX_LABEL {
            return false;
        }
        last = byte;
    }
    length > 0 && last != b'-' && !is_number && name.len() <= MAX_NAME
}

/// The same, or one with `*.` before it, which stands for all names that end like it.
#[must_use]
pub fn is_host_name(name: &str) -> bool {
    is_dns_name(name.strip_prefix("*.").unwrap_or(name))
}
