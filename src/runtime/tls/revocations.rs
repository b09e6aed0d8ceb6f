//! Certificate revocation lists of client certificates.

use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

use super::Error;
use super::pem::{self, Pem};

/// Content of a file of revocation lists.
#[derive(Debug, Default)]
pub struct Revocations {
    /// The lists; at least one if there is a file.
    pub lists: Vec<CertificateRevocationListDer<'static>>,
    /// Earliest next update, if they have one.
    pub due: Option<SystemTime>,
}

/// Parses a file with one or more lists. A list past its next update is still used.
pub fn read(file: Pem<'_>) -> Result<Revocations, Error> {
    pem::expect_pem(file, "crl")?;
    let lists = CertificateRevocationListDer::pem_slice_iter(file.content).collect::<Result<Vec<_>, _>>();
    let lists = lists.map_err(|error| pem::damaged(file.path, &error))?;
    if lists.is_empty() {
        let (path, found) = (file.path.to_owned(), pem::OTHER);
        return Err(Error::Other { path, wanted: "revocation list", found });
    }
    let mut due = None;
    for list in &lists {
        let (_, parsed) = CertificateRevocationList::from_der(list).map_err(|_| Error::Damaged {
            path: file.path.to_owned(),
            rule: "it is not a revocation list",
        })?;
        let next = parsed.next_update().and_then(|next| u64::try_from(next.timestamp()).ok());
        let next = next.and_then(|next| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(next)));
        due = [due, next].into_iter().flatten().min();
    }
    Ok(Revocations { lists, due })
}
