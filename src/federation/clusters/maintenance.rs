//! Puts namespaces of a cluster under maintenance. The state is written to the cluster itself, where every
//! replica reads it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::clusters::applied::SEEN_WITHIN;
use crate::clusters::view::{ClusterView, Views};
use crate::fleet::Fleet;
use crate::leadership::Leadership;
use crate::{Error, Result};
use domain::maintenance;
use domain::names::{ClusterName, Namespace};

/// Puts namespaces under maintenance.
pub struct Maintenance {
    leadership: Arc<Leadership>,
    fleet: Arc<Fleet>,
    views: Arc<Views>,
}

impl Maintenance {
    pub(crate) fn new(leadership: Arc<Leadership>, fleet: Arc<Fleet>, views: Arc<Views>) -> Arc<Self> {
        Arc::new(Self { leadership, fleet, views })
    }

    /// Puts one namespace of a cluster, or all, under maintenance until a time, or ends it. Namespaces are written one
    /// after the other; after an error the call may be repeated.
    pub async fn set(
        &self,
        name: &ClusterName,
        namespace: Option<&Namespace>,
        until: Option<Timestamp>,
    ) -> Result<ClusterView> {
        check(until, Timestamp::now())?;
        let term = self.leadership.term()?;
        let connected = self.fleet.usable(name)?;
        let namespaces: Vec<&Namespace> = match namespace {
            None => connected.places().keys().collect(),
            Some(one) if connected.places().contains_key(one) => vec![one],
            Some(other) => {
                let rule = format!("{other} is none of cluster {name}");
                return Err(Error::Invalid { field: "namespace".into(), rule });
            }
        };
        let pass = connected.gate.pass(name, &term).await?;
        for namespace in &namespaces {
            let writer = connected.member.writer(namespace, &pass);
            writer.set_maintenance(until).await?;
            tracing::info!(cluster = %name, %namespace, ?until, "maintenance");
        }
        let seen = async {
            for maintenance in
                namespaces.iter().filter_map(|name| connected.member.maintenance(name.as_str()))
            {
                maintenance.is_until(until).await;
            }
        };
        if tokio::time::timeout(SEEN_WITHIN, seen).await.is_err() {
            tracing::warn!(cluster = %name, "maintenance was written, and is not seen yet");
        }
        self.views.get(name)
    }
}

/// The end must be in the future, and not so far that it is a mistake.
fn check(until: Option<Timestamp>, now: Timestamp) -> Result<()> {
    let invalid = |rule: String| Err(Error::Invalid { field: "until".into(), rule });
    match until.map(|until| Duration::try_from(until.duration_since(now))) {
        Some(Err(_) | Ok(Duration::ZERO)) => invalid("must be in the future".to_owned()),
        Some(Ok(left)) if !maintenance::may_last(left) => {
            invalid(format!("must be at most {} from now", maintenance::LONGEST_TEXT))
        }
        Some(Ok(_)) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_maintenance_is_in_the_future_and_at_most_a_month_away() {
        let now = Timestamp::constant(1_800_000_000, 0);
        let hours = |hours: i64| Some(now + jiff::SignedDuration::from_hours(hours));
        let rule = |until| check(until, now).err().map(|error| error.to_string());
        assert_eq!(rule(None), None);
        assert_eq!(rule(hours(720)), None);
        for past in [0, -1] {
            assert_eq!(rule(hours(past)).as_deref(), Some("until: must be in the future"));
        }
        for far in [722, 200_000] {
            assert_eq!(rule(hours(far)).as_deref(), Some("until: must be at most 30 days (720h) from now"));
        }
    }
}
