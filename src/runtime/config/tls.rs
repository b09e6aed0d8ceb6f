//! Keys that name TLS files. The files are also checked.

use super::reader::Group;
use crate::tls::{
    ClientFiles, IdentityFiles, check_authorities, check_certificates, check_identity, check_key,
};

impl Group<'_> {
    /// The keys `ca`, `crt` and `key` of a client; `crt` and `key` only together.
    pub(super) fn client_tls(&mut self) -> ClientFiles {
        let ca = self.checked_file("ca", check_authorities);
        ClientFiles { ca, identity: self.identity() }
    }

    /// The keys `crt` and `key`.
    pub(super) fn identity(&mut self) -> Option<IdentityFiles> {
        let before = self.problems_so_far();
        let crt = self.checked_file("crt", check_certificates);
        match (crt, self.checked_file("key", check_key)) {
            (Some(crt), Some(key)) => {
                let files = IdentityFiles { crt, key };
                if self.problems_so_far() == before
                    && let Err(problem) = check_identity(&files)
                {
                    self.problem("key", problem);
                }
                Some(files)
            }
            (Some(_), None) => {
                self.problem("key", "is required with crt");
                None
            }
            (None, Some(_)) => {
                self.problem("crt", "is required with key");
                None
            }
            (None, None) => None,
        }
    }
}
