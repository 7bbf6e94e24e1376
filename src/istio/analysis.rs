/// The annotation of an object by which `istioctl analyze` leaves out messages about it, by their codes with commas between them
/// (`filterMessages` in Istio's `pkg/config/analysis/local`, 1.29 to 1.31).
pub const ANALYZE_SUPPRESS: &str = "galley.istio.io/analyze-suppress";
