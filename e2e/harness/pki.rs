//! A CA for loopback, and the certificates that it signs.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// A CA with its files in one folder.
pub struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, as PEM files and in memory.
#[derive(Clone, Debug)]
pub struct Identity {
    pub cert: PathBuf,
    /// Private key file (PKCS #8).
    pub key: PathBuf,
    pub cert_pem: String,
    pub key_pem: String,
}

impl Authority {
    /// Creates a CA, with its certificate in `dir/ca.pem`.
    pub fn create(dir: &Path, name: &str) -> Result<Self> {
        super::process::fresh_dir(dir)?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().context("cannot make a key")?;
        let pem = params.self_signed(&key).context("cannot sign the authority")?.pem();
        write(&dir.join("ca.pem"), &pem)?;
        Ok(Self { dir: dir.to_path_buf(), issuer: Issuer::new(params, key), pem })
    }

    /// File of the CA's certificate.
    pub fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    pub fn ca_pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for a server (and client) at 127.0.0.1 and localhost.
    pub fn server(&self, name: &str) -> Result<Identity> {
        self.server_at(name, &[])
    }

    /// The same, at these names and addresses too.
    pub fn server_at(&self, name: &str, also: &[String]) -> Result<Identity> {
        self.issue(Self::server_params(name, also)?, name, &[])
    }

    fn server_params(name: &str, also: &[String]) -> Result<CertificateParams> {
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), name.to_owned()];
        names.extend_from_slice(also);
        let mut params = CertificateParams::new(names).context("bad server name")?;
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Ok(params)
    }

    /// A certificate with the organization of managers.
    pub fn manager(&self, name: &str) -> Result<Identity> {
        self.issue(Self::server_params(name, &[])?, name, &["spaceport:replica"])
    }

    /// A client certificate: `name` is its common name (the user), `groups` are its organizations.
    pub fn client(&self, name: &str, groups: &[&str]) -> Result<Identity> {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params, name, groups)
    }

    /// The same, valid for `life`.
    pub fn client_for(&self, name: &str, groups: &[&str], life: std::time::Duration) -> Result<Identity> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + now + life;
        self.issue(params, name, groups)
    }

    fn issue(&self, mut params: CertificateParams, name: &str, groups: &[&str]) -> Result<Identity> {
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        for group in groups {
            params.distinguished_name.push(DnType::OrganizationName, *group);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().context("cannot make a key")?;
        let cert = params.signed_by(&key, &self.issuer).with_context(|| format!("cannot sign {name}"))?;
        let file = name.replace([':', '/'], "_");
        let identity = Identity {
            cert: self.dir.join(format!("{file}.pem")),
            key: self.dir.join(format!("{file}-key.pem")),
            cert_pem: cert.pem(),
            key_pem: key.serialize_pem(),
        };
        write(&identity.cert, &identity.cert_pem)?;
        write(&identity.key, &identity.key_pem)?;
        Ok(identity)
    }
}

/// A key pair for service account tokens: files of the private and the public key.
pub fn key_pair(dir: &Path, name: &str) -> Result<(PathBuf, PathBuf)> {
    let key = KeyPair::generate().context("cannot make a key")?;
    let (private, public) = (dir.join(format!("{name}.key")), dir.join(format!("{name}.pub")));
    write(&private, &key.serialize_pem())?;
    write(&public, &key.public_key_pem())?;
    Ok((private, public))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
