//! `spaceport version`

use anyhow::{Context as _, Result};
use clap::Args;
use serde::Serialize;
use tonic::Code;

use super::connect::{Client, ClientArgs};
use super::flags::{Environment, Flags};
use super::table::Table;
use super::terminal::Terminal;
use proto::spaceport::v1::VersionRequest;

/// `spaceport version`.
#[derive(Debug, Args)]
pub struct VersionArgs {
    /// Ask no server
    #[arg(long)]
    client: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct VersionView {
    client: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<ServerView>,
}

#[derive(Debug, Serialize)]
struct ServerView {
    endpoint: String,
    /// `None` if the server's version does not report it.
    version: Option<String>,
}

impl VersionView {
    fn table(&self) -> Table {
        let mut fields = vec![("client", self.client.clone())];
        if let Some(server) = &self.server {
            let version = server.version.clone();
            fields.push((
                "server",
                version.unwrap_or_else(|| "an earlier version, which does not report it".to_owned()),
            ));
            fields.push(("endpoint", server.endpoint.clone()));
        }
        Table::of_fields(fields)
    }
}

/// Prints the client's version, and the server's if an address is configured. If the server does not respond or the
/// settings are wrong, fails after printing the client's version.
pub async fn run(
    args: &VersionArgs,
    flags: &Flags,
    environment: &Environment,
    terminal: &mut Terminal<'_>,
) -> Result<()> {
    let server = if args.client { Ok(None) } else { server(flags, environment).await };
    let (server, failure) = match server {
        Ok(server) => (server, None),
        Err(error) => (None, Some(error)),
    };
    let view = VersionView { client: env!("CARGO_PKG_VERSION").to_owned(), server };
    terminal.result(flags.output.unwrap_or_default(), &view, || view.table())?;
    failure.map_or(Ok(()), |error| Err(error).context("the server's version is not known"))
}

/// The server's version; `None` if no server is configured.
async fn server(flags: &Flags, environment: &Environment) -> Result<Option<ServerView>> {
    let connection = flags.resolve(environment)?;
    if connection.endpoint.is_empty() { Ok(None) } else { ask(&connection).await.map(Some) }
}

async fn ask(connection: &ClientArgs) -> Result<ServerView> {
    let client = Client::connect(connection).await?;
    let mut api = client.logs();
    let answer = client.call(VersionRequest {}, async |request| api.version(request).await).await;
    let version = match answer {
        Ok(answer) => Some(answer.version),
        Err(status) if status.code() == Code::Unimplemented => None,
        Err(status) => return Err(status.into()),
    };
    Ok(ServerView { endpoint: client.address().to_string(), version })
}
