use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::data::accesslog::v3 as data;
use prost::Message as _;

use super::*;

fn socket(address: &str) -> core::Address {
    let socket = core::SocketAddress {
        protocol: 0,
        address: address.to_owned(),
        resolver_name: "resolver".to_owned(),
        ipv4_compat: true,
        network_namespace_filepath: "/run/netns/x".to_owned(),
        port_specifier: Some(core::socket_address::PortSpecifier::PortValue(40_000)),
    };
    core::Address { address: Some(core::address::Address::SocketAddress(socket)) }
}

fn pipe() -> core::Address {
    let pipe = core::Pipe { path: "/tmp/socket".to_owned(), mode: 0 };
    core::Address { address: Some(core::address::Address::Pipe(pipe)) }
}

fn internal() -> core::Address {
    let internal =
        core::EnvoyInternalAddress { endpoint_id: "10.0.0.1".to_owned(), address_name_specifier: None };
    core::Address { address: Some(core::address::Address::EnvoyInternalAddress(internal)) }
}

/// Every field that could be mistaken for one of ours is set to something else.
fn common(caller: Option<core::Address>, cluster: &str) -> data::AccessLogCommon {
    #[expect(deprecated, reason = "every field is set")]
    data::AccessLogCommon {
        sample_rate: 1.0,
        downstream_remote_address: caller,
        downstream_local_address: Some(socket("192.0.2.1")),
        upstream_remote_address: Some(socket("192.0.2.2")),
        upstream_local_address: Some(socket("192.0.2.3")),
        downstream_direct_remote_address: Some(socket("192.0.2.4")),
        upstream_cluster: cluster.to_owned(),
        upstream_transport_failure_reason: "outbound|1||wrong.example.com".to_owned(),
        route_name: "outbound|2||wrong.example.com".to_owned(),
        custom_tags: [("upstream_cluster".to_owned(), "outbound|3||wrong.example.com".to_owned())].into(),
        duration: Some(envoy_types::pb::google::protobuf::Duration { seconds: 1, nanos: 2 }),
        upstream_request_attempt_count: 1,
        stream_id: "8d4e2a".to_owned(),
        intermediate_log_entry: true,
        upstream_wire_bytes_sent: 1 << 40,
        access_log_type: data::AccessLogType::DownstreamEnd.into(),
        ..Default::default()
    }
}

fn http(common_properties: Option<data::AccessLogCommon>) -> Bytes {
    let request = data::HttpRequestProperties {
        authority: "outbound|80||wrong.example.com".to_owned(),
        path: "/".to_owned(),
        request_headers: [("x".to_owned(), "y".to_owned())].into(),
        ..Default::default()
    };
    let entry = data::HttpAccessLogEntry {
        common_properties,
        protocol_version: 2,
        request: Some(request),
        response: Some(data::HttpResponseProperties::default()),
    };
    entry.encode_to_vec().into()
}

fn tcp(common_properties: Option<data::AccessLogCommon>) -> Bytes {
    let connection_properties = Some(data::ConnectionProperties { received_bytes: 1, sent_bytes: 2 });
    data::TcpAccessLogEntry { common_properties, connection_properties }.encode_to_vec().into()
}

fn read(entry: Bytes) -> Result<(String, String), Unusable> {
    read_as(Protocol::Http, entry)
}

fn read_as(protocol: Protocol, entry: Bytes) -> Result<(String, String), Unusable> {
    let entry = decode(protocol, entry)?;
    let upstream = entry.upstream()?.to_owned();
    entry.caller().map(|caller| (caller.to_string(), upstream))
}

fn host_of(cluster: &str) -> Result<String, Unusable> {
    read(http(Some(common(Some(socket("10.0.0.1")), cluster)))).map(|(_, host)| host)
}

fn caller_of(caller: Option<core::Address>) -> Result<String, Unusable> {
    read_as(Protocol::Tcp, tcp(Some(common(caller, "outbound|80||a.example.com")))).map(|(caller, _)| caller)
}

#[test]
fn the_host_is_the_last_part_of_an_outbound_cluster() {
    for (cluster, host) in [
        ("outbound|9080||reviews.shop.svc.cluster.local", "reviews.shop.svc.cluster.local"),
        ("outbound|9080|v2|reviews.shop.svc.cluster.local", "reviews.shop.svc.cluster.local"),
        ("outbound|443||api.example.com", "api.example.com"),
        ("outbound|80||9.to-5.x1", "9.to-5.x1"),
        ("outbound|80||single", "single"),
    ] {
        assert_eq!(host_of(cluster), Ok(host.to_owned()), "{cluster}");
    }
}

#[test]
fn what_is_no_call_of_a_service_is_not_outbound() {
    for cluster in [
        "",
        "inbound|8080||",
        "PassthroughCluster",
        "BlackHoleCluster",
        "InboundPassthroughCluster",
        "global-proxy-loopback",
        "outbound",
        "outbound_.80_._.a.example.com",
        "OUTBOUND|80||a.example.com",
        " outbound|80||a.example.com",
    ] {
        assert_eq!(host_of(cluster), Err(Unusable::NotOutbound), "{cluster}");
    }
}

#[test]
fn a_cluster_with_other_parts_is_invalid() {
    for cluster in [
        "outbound|",
        "outbound|80",
        "outbound|80|",
        "outbound|80|a.example.com",
        "outbound|||a.example.com",
        "outbound|http||a.example.com",
        "outbound|800000||a.example.com",
        "outbound|-1||a.example.com",
        "outbound|80||a.example.com|",
        "outbound|80||a|b",
    ] {
        assert_eq!(host_of(cluster), Err(Unusable::InvalidCluster), "{cluster}");
    }
}

/// What makes Slime stop updating a fence, or write useless or dangerous hosts, when it stands in an authority.
#[test]
fn a_host_that_cannot_stand_in_a_sidecar_is_invalid() {
    let (long_label, long_host) = ("a".repeat(64), ["a".repeat(50).as_str(); 7].join(".") + ".x");
    let huge = "a.".repeat(1 << 19) + "a";
    for host in [
        "",
        "*",
        "*example.com",
        "*.*.com",
        "*.",
        "a.*.com",
        "foo_bar.example.com",
        "bücher.example.com",
        "a b.com",
        " ",
        "ns/host.com",
        "[fd00::1]:80",
        "[fd00::1]",
        "...",
        ".",
        "-a-.com",
        "-",
        "a-.com",
        "a.-b",
        "a..b",
        ".a",
        "a.\0.com",
        "\0",
        "reviews.shop.svc.cluster.local.",
        "REVIEWS.shop",
        "Reviews.shop",
        "{a=\"b\"}",
        "a\"b.com",
        "10.0.0.1",
        "80",
        "a.80",
        "fd00::1",
        "a:80",
        "~",
        "./*",
        "*/*",
        "a;;",
        ";",
        "a\n.com",
        &long_label,
        &long_host,
        &huge,
    ] {
        let short: String = host.chars().take(60).collect();
        assert_eq!(host_of(&format!("outbound|80||{host}")), Err(Unusable::InvalidHost), "{short:?}");
        // As the authority, which anybody can write, the same is nobody's business.
        assert_eq!(host_of("outbound|80||a.example.com"), Ok("a.example.com".to_owned()));
    }
}

#[test]
fn the_longest_names_are_valid_and_one_byte_more_is_not() {
    let label = "a".repeat(63);
    let name = [label.as_str(), &label, &label, &label[..61]].join(".");
    assert_eq!(name.len(), 253);
    assert_eq!(host_of(&format!("outbound|80||{name}")), Ok(name.clone()));
    assert_eq!(host_of(&format!("outbound|80||{name}a")), Err(Unusable::InvalidHost));
}

#[test]
fn a_cluster_that_is_not_utf8_spoils_only_itself() {
    for (cluster, outcome) in [
        (&b"\xff\xfe"[..], Unusable::NotOutbound),
        (b"outbound|80||a\xff.com", Unusable::InvalidHost),
        (b"outbound|\xff||a.com", Unusable::InvalidCluster),
    ] {
        let entry = TcpLogEntry {
            common_properties: Some(AccessLogCommon {
                upstream_cluster: Bytes::from_static(cluster),
                ..Default::default()
            }),
            connection_properties: Bytes::new(),
        };
        assert_eq!(read_as(Protocol::Tcp, entry.encode_to_vec().into()), Err(outcome));
    }
}

#[test]
fn the_caller_is_the_downstream_remote_address() {
    for (address, caller) in
        [("10.244.1.7", "10.244.1.7"), ("::ffff:10.244.1.7", "10.244.1.7"), ("fd00:0:0::7", "fd00::7")]
    {
        assert_eq!(caller_of(Some(socket(address))), Ok(caller.to_owned()), "{address}");
    }
}

#[test]
fn a_caller_without_an_ip_address_is_nobody() {
    assert_eq!(caller_of(None), Err(Unusable::NoCaller));
    assert_eq!(caller_of(Some(core::Address { address: None })), Err(Unusable::NoCaller));
    assert_eq!(caller_of(Some(pipe())), Err(Unusable::NoCaller));
    assert_eq!(caller_of(Some(internal())), Err(Unusable::NoCaller));
    for address in
        ["", "localhost", "10.0.0", "10.0.0.1:80", "[fd00::1]", "fe80::1%eth0", &"1".repeat(1 << 20)]
    {
        assert_eq!(caller_of(Some(socket(address))), Err(Unusable::InvalidCaller));
    }
}

#[test]
fn both_kinds_of_entries_read_alike() {
    let properties = common(Some(socket("10.0.0.1")), "outbound|80||a.example.com");
    let call = ("10.0.0.1".to_owned(), "a.example.com".to_owned());
    assert_eq!(read(http(Some(properties.clone()))), Ok(call.clone()));
    assert_eq!(read_as(Protocol::Tcp, tcp(Some(properties))), Ok(call));
}

#[test]
fn an_entry_without_common_properties_is_counted_as_such() {
    assert_eq!(read(http(None)), Err(Unusable::NoProperties));
    assert_eq!(read_as(Protocol::Tcp, tcp(None)), Err(Unusable::NoProperties));
    assert_eq!(read(Bytes::new()), Err(Unusable::NoProperties));
}

#[test]
fn bytes_that_are_no_entry_are_malformed() {
    for bytes in [&b"\x0a\x05"[..], b"\xff", b"\x08\x01", b"\x0a\x02\x10\x01"] {
        assert_eq!(read(Bytes::from_static(bytes)), Err(Unusable::Malformed), "{bytes:?}");
    }
}

fn asked(protocol: Protocol, entry: Bytes) -> Asked {
    decode(protocol, entry).unwrap().asked()
}

#[test]
fn an_entry_tells_what_was_asked_for() {
    let with_authority = |authority: &str| {
        let request = data::HttpRequestProperties { authority: authority.to_owned(), ..Default::default() };
        let common_properties = Some(common(Some(socket("10.0.0.1")), "outbound|80||a.example.com"));
        let entry =
            data::HttpAccessLogEntry { common_properties, request: Some(request), ..Default::default() };
        asked(Protocol::Http, entry.encode_to_vec().into())
    };
    let address = Some("192.0.2.1".parse().unwrap());
    for (authority, name) in [
        ("reviews", Some("reviews")),
        ("www.example.com:8080", Some("www.example.com")),
        ("", None),
        (":80", None),
        (&"a".repeat(300), None),
    ] {
        let name = name.map(str::to_owned);
        assert_eq!(with_authority(authority), Asked { address, name }, "{authority:.20}");
    }
}

#[test]
fn a_tcp_entry_names_the_tls_server_in_our_tag_only() {
    let with_tag = |key: &str| {
        let mut common = common(Some(socket("10.0.0.1")), "outbound|80||a.example.com");
        common.custom_tags = [(key.to_owned(), "www.example.com".to_owned())].into();
        asked(Protocol::Tcp, tcp(Some(common))).name
    };
    assert_eq!(with_tag("palisade.server_name"), Some("www.example.com".to_owned()));
    assert_eq!(with_tag("server_name"), None);
}

#[test]
fn an_answer_tells_whether_the_call_was_let_in() {
    let answered = |code: Option<u32>, grpc_status: Option<&str>| {
        let headers = grpc_status.map(|status| ("grpc-status".to_owned(), status.to_owned()));
        let response = data::HttpResponseProperties {
            response_code: code.map(|value| envoy_types::pb::google::protobuf::UInt32Value { value }),
            response_headers: headers.into_iter().collect(),
            response_code_details: "via_upstream".to_owned(),
            ..Default::default()
        };
        let entry = data::HttpAccessLogEntry { response: Some(response), ..Default::default() };
        decode(Protocol::Http, entry.encode_to_vec().into()).unwrap().is_let_in()
    };
    for (code, grpc_status, let_in) in [
        (Some(200), None, true),
        (Some(404), None, true),
        (Some(503), None, true),
        (Some(403), None, false),
        (Some(200), Some("0"), true),
        (Some(200), Some("7"), false),
        (Some(0), None, false),
        (None, None, false),
    ] {
        assert_eq!(answered(code, grpc_status), let_in, "{code:?} {grpc_status:?}");
    }
    let received = |sent_bytes| {
        let connection_properties = Some(data::ConnectionProperties { received_bytes: 9, sent_bytes });
        let entry = data::TcpAccessLogEntry { connection_properties, ..Default::default() };
        decode(Protocol::Tcp, entry.encode_to_vec().into()).unwrap().is_let_in()
    };
    assert_eq!((received(1), received(0)), (true, false));
    assert!(!decode(Protocol::Tcp, Bytes::new()).unwrap().is_let_in());
    let broken = HttpLogEntry { response: Bytes::from_static(b"\xff"), ..Default::default() };
    assert!(!decode(Protocol::Http, broken.encode_to_vec().into()).unwrap().is_let_in());
}
