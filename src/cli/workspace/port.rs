//! `spaceport workspace port …`

use std::num::NonZeroU16;

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};

use super::show;
use crate::connect::{Client, ClientArgs};
use crate::terminal::Terminal;
use crate::value_parsers::port;
use domain::names::WorkspaceId;
use proto::wsman::{ControlPortRequest, PortProtocol, PortSpec, PortVisibility};

/// `spaceport workspace port`.
#[derive(Debug, Subcommand)]
pub enum PortVerb {
    /// Expose a port of a workspace, or change how it is exposed
    Expose(ExposeArgs),
    /// Stop exposing a port of a workspace
    Unexpose(UnexposeArgs),
}

/// `spaceport workspace port expose`.
#[derive(Debug, Args)]
pub struct ExposeArgs {
    /// The workspace's instance id
    id: WorkspaceId,
    /// The port
    #[arg(value_parser = port)]
    port: NonZeroU16,
    /// Who may open it
    #[arg(long, value_enum, default_value_t)]
    visibility: Visibility,
    /// Protocol of the port
    #[arg(long, value_enum, default_value_t)]
    protocol: Protocol,
}

/// `spaceport workspace port unexpose`.
#[derive(Debug, Args)]
pub struct UnexposeArgs {
    /// The workspace's instance id
    id: WorkspaceId,
    /// The port
    #[arg(value_parser = port)]
    port: NonZeroU16,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Visibility {
    /// The owner
    #[default]
    Private,
    /// Everyone
    Public,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Protocol {
    /// HTTP
    #[default]
    Http,
    /// HTTPS
    Https,
}

/// Changes a port, and prints the workspace.
pub async fn run(
    client: &Client,
    connection: &ClientArgs,
    verb: PortVerb,
    terminal: &mut Terminal<'_>,
) -> Result<()> {
    let (id, port, exposed) = match verb {
        PortVerb::Expose(args) => (args.id, args.port, Some((args.visibility, args.protocol))),
        PortVerb::Unexpose(args) => (args.id, args.port, None),
    };
    let mut spec = PortSpec { port: port.get().into(), ..PortSpec::default() };
    if let Some((visibility, protocol)) = exposed {
        spec.set_visibility(match visibility {
            Visibility::Private => PortVisibility::Private,
            Visibility::Public => PortVisibility::Public,
        });
        spec.set_protocol(match protocol {
            Protocol::Http => PortProtocol::Http,
            Protocol::Https => PortProtocol::Https,
        });
    }
    let request = ControlPortRequest { id: id.to_string(), expose: exposed.is_some(), spec: Some(spec) };
    let mut api = client.workspaces();
    let answer = client.call(request, async |request| api.control_port(request).await).await;
    answer.with_context(|| format!("failed to change port {port} of {id}"))?;
    show::details(client, connection, &id, false, terminal).await
}
