//! `spaceport cluster maintenance …`

use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};

use crate::connect::{Client, ClientArgs};
use crate::failure::Usage;
use crate::terminal::Terminal;
use crate::value_parsers::{duration_up_to, time};
use crate::view::ClusterView;
use domain::maintenance::{LONGEST, LONGEST_TEXT};
use domain::names::{ClusterName, Namespace};
use proto::spaceport::v1::SetMaintenanceRequest;

/// `spaceport cluster maintenance`.
#[derive(Debug, Subcommand)]
pub enum Switch {
    /// Put a cluster's namespaces under maintenance until a time
    On(OnArgs),
    /// End maintenance of a cluster's namespaces
    Off {
        /// The cluster's name
        name: ClusterName,
        /// Only this namespace
        #[arg(long, value_name = "NAME")]
        namespace: Option<Namespace>,
    },
}

/// `spaceport cluster maintenance on`.
#[derive(Debug, Args)]
#[command(override_usage = "spaceport cluster maintenance on [OPTIONS] --until <TIME> <NAME>
       spaceport cluster maintenance on [OPTIONS] --for <DURATION> <NAME>")]
pub struct OnArgs {
    /// The cluster's name
    name: ClusterName,
    #[command(flatten)]
    end: End,
    /// Only this namespace
    #[arg(long, value_name = "NAME")]
    namespace: Option<Namespace>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct End {
    /// When it ends, such as 2026-01-02T03:04:05Z; at most 30 days from now
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Timestamp>,
    /// How long it takes, such as 2h30m; at most 30 days (720h)
    #[arg(long = "for", value_parser = duration_up_to(LONGEST, LONGEST_TEXT), value_name = "DURATION")]
    lasting: Option<Duration>,
}

impl End {
    fn at(&self, now: Timestamp) -> Result<Option<Timestamp>> {
        let Some(lasting) = self.lasting else { return Ok(self.until) };
        let end = SignedDuration::try_from(lasting).and_then(|lasting| now.checked_add(lasting));
        Ok(Some(end.map_err(|_| Usage("--for is too long".to_owned()))?))
    }
}

/// Starts or ends maintenance.
pub async fn run(
    client: &Client,
    connection: &ClientArgs,
    switch: Switch,
    terminal: &mut Terminal<'_>,
) -> Result<()> {
    let (name, namespace, until) = match switch {
        Switch::On(args) => (args.name, args.namespace, args.end.at(Timestamp::now())?),
        Switch::Off { name, namespace } => (name, namespace, None),
    };
    let request = SetMaintenanceRequest {
        name: name.to_string(),
        namespace: namespace.map(|namespace| namespace.to_string()).unwrap_or_default(),
        until: until.map(|until| prost_types::Timestamp {
            seconds: until.as_second(),
            nanos: until.subsec_nanosecond(),
        }),
    };
    let mut api = client.clusters();
    let answer = client.call(request, async |request| api.set_maintenance(request).await).await;
    let answer = answer.with_context(|| format!("failed to set maintenance of {name}"))?;
    terminal.progress(&match until {
        Some(until) => format!("{name} is under maintenance until {until:.0}\n"),
        None => format!("maintenance of {name} ended\n"),
    });
    let changed: Vec<ClusterView> = answer.cluster.map(ClusterView::from).into_iter().collect();
    terminal.result(connection.output, &changed, || ClusterView::table(&changed, Timestamp::now()))
}
