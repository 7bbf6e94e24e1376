//! Certificates and kubeconfigs of one bed, made anew at every start.

use std::{
    fs,
    net::IpAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use serde_json::json;

use crate::{sandbox::ROOT_ADDRESS, state::BedDir};

/// The API server's Service.
pub(super) const KUBERNETES_SERVICE: &str = "10.96.0.1";

/// The group that RBAC lets do everything.
const MASTERS: &str = "system:masters";

/// Who gets a kubeconfig: file name, user, and group if any. Kubernetes' bootstrap RBAC rules name the users.
const CLIENTS: [(&str, &str, Option<&str>); 5] = [
    ("admin", "kubernetes-admin", Some(MASTERS)),
    ("controller-manager", "system:kube-controller-manager", None),
    ("scheduler", "system:kube-scheduler", None),
    ("proxy", "system:kube-proxy", None),
    ("coredns", "system:coredns", None),
];

/// Paths of what the bed's processes read.
#[derive(Clone, Debug)]
pub(super) struct Pki {
    folder: PathBuf,
}

impl Pki {
    pub(super) fn file(&self, name: &str) -> String {
        self.folder.join(name).to_string_lossy().into_owned()
    }

    pub(super) fn kubeconfig(&self, client: &str) -> String {
        self.file(&format!("{client}.kubeconfig"))
    }
}

/// Writes all keys, certificates and kubeconfigs.
pub(super) fn write(bed: &BedDir) -> Result<Pki> {
    let pki = Pki { folder: bed.pki() };
    fs::create_dir_all(&pki.folder)?;
    fs::set_permissions(&pki.folder, fs::Permissions::from_mode(0o700))?;
    let authority = authority()?;
    fs::write(pki.file("ca.crt"), authority.pem())?;
    fs::write(pki.file("ca.key"), authority.key().serialize_pem())?;
    let service_accounts = KeyPair::generate()?;
    fs::write(pki.file("sa.key"), service_accounts.serialize_pem())?;
    fs::write(pki.file("sa.pub"), service_accounts.public_key_pem())?;
    let server = issue(&authority, &server_params()?)?;
    fs::write(pki.file("apiserver.crt"), server.certificate)?;
    fs::write(pki.file("apiserver.key"), server.key)?;
    for (name, user, group) in CLIENTS {
        let client = issue(&authority, &client_params(user, group)?)?;
        fs::write(pki.kubeconfig(name), kubeconfig(user, &authority.pem(), &client))?;
    }
    publish(Path::new(&pki.kubeconfig("admin")), &bed.kubeconfig())?;
    Ok(pki)
}

fn publish(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)?;
    Ok(fs::set_permissions(to, fs::Permissions::from_mode(0o600))?)
}

struct Issued {
    certificate: String,
    key: String,
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "bed");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

fn issue(authority: &CertifiedIssuer<'_, KeyPair>, params: &CertificateParams) -> Result<Issued> {
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, authority)?;
    Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem() })
}

fn server_params() -> Result<CertificateParams> {
    let names = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ];
    let mut params = CertificateParams::new(names.map(String::from))?;
    for address in ["127.0.0.1", ROOT_ADDRESS, KUBERNETES_SERVICE] {
        params.subject_alt_names.push(SanType::IpAddress(address.parse::<IpAddr>()?));
    }
    params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

fn client_params(user: &str, group: Option<&str>) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, user);
    if let Some(group) = group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

/// A kubeconfig in JSON, which is YAML too.
fn kubeconfig(user: &str, authority: &str, client: &Issued) -> String {
    use base64::{Engine as _, prelude::BASE64_STANDARD as base64};
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "bed", "cluster": {
            "server": format!("https://{ROOT_ADDRESS}:6443"),
            "certificate-authority-data": base64.encode(authority),
        }}],
        "users": [{"name": user, "user": {
            "client-certificate-data": base64.encode(&client.certificate),
            "client-key-data": base64.encode(&client.key),
        }}],
        "contexts": [{"name": "bed", "context": {"cluster": "bed", "user": user}}],
        "current-context": "bed",
    })
    .to_string()
}
