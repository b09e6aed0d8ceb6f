//! A kubeconfig with one login and nothing else.

use anyhow::Result;
use jiff::Timestamp;

use domain::kubeconfig::Chosen;

/// Encodes the kubeconfig and checks it by the manager's rules.
pub fn minimal(chosen: &Chosen) -> Result<Vec<u8>> {
    chosen.login()?.refuse_expired_authority(Timestamp::now())?;
    Ok(chosen.minimal()?.into_bytes())
}
