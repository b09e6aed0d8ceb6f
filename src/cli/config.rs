//! `spaceport config …`

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use super::connect::CREATE_CONTEXT;
use super::failure::Usage;
use super::flags::{Environment, Flags};
use super::table::{Page, Table, plain};
use super::terminal::{Format, Terminal};
use domain::duration::GoDuration;

pub use self::context::{ConfigFile, Context, ContextName};

mod context;
mod edit;
mod file;

/// `spaceport config`.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Create a context, or change what the given flags say
    SetContext {
        /// The context's name
        name: ContextName,
        /// Remove a setting from the context; repeatable
        #[arg(long, value_enum, value_name = "SETTING")]
        unset: Vec<Setting>,
    },
    /// Choose the context that is used where no other is named
    UseContext {
        /// The context's name
        name: ContextName,
    },
    /// Choose no context: where none is named, flags and variables say how to connect
    UnsetContext,
    /// List the contexts
    GetContexts,
    /// Print the name of the current context
    CurrentContext,
    /// Delete a context; the files that it names stay
    DeleteContext {
        /// The context's name
        name: ContextName,
    },
    /// Print the configuration file as it is understood
    View,
}

/// Optional settings of a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Setting {
    Ca,
    Cert,
    Key,
    ServerName,
    Timeout,
}

/// A row of `get-contexts`.
#[derive(Debug, Serialize)]
struct ContextView<'a> {
    name: &'a ContextName,
    current: bool,
    #[serde(flatten)]
    context: &'a Context,
}

/// Runs a `spaceport config` verb.
pub fn run(
    args: ConfigArgs,
    flags: &Flags,
    environment: &Environment,
    terminal: &mut Terminal<'_>,
) -> Result<()> {
    let path = environment.config_path().ok_or_else(|| {
        Usage("no path for the configuration file: set SPACEPORT_CONFIG or HOME".to_owned())
    })?;
    match args.verb {
        Verb::SetContext { name, unset } => set_context(&name, &unset, flags, &path, terminal),
        Verb::UnsetContext => {
            ConfigFile::change(&path, flags.patience(), |config| {
                config.current_context = None;
                Ok(())
            })?;
            terminal.progress("no context is current now\n");
            Ok(())
        }
        Verb::UseContext { name } => {
            ConfigFile::change(&path, flags.patience(), |config| {
                config.context(&name, &path)?;
                config.current_context = Some(name.clone());
                Ok(())
            })?;
            terminal.progress(&format!("the current context is {name}\n"));
            Ok(())
        }
        Verb::DeleteContext { name } => {
            let was_current = ConfigFile::change(&path, flags.patience(), |config| {
                config.context(&name, &path)?;
                config.contexts.remove(&name);
                let was_current = config.current_context.as_ref() == Some(&name);
                config.current_context.take_if(|current| *current == name);
                Ok(was_current)
            })?;
            let now = if was_current { "; no context is current now" } else { "" };
            terminal.progress(&format!("deleted context {name}{now}\n"));
            Ok(())
        }
        Verb::CurrentContext => {
            let config = ConfigFile::read(&path, flags.patience())?;
            match config.current_context {
                Some(name) => terminal.line(name),
                None if config.contexts.is_empty() => bail!("no context is current: {CREATE_CONTEXT}"),
                None => bail!("no context is current: choose one with `spaceport config use-context`"),
            }
        }
        Verb::GetContexts => list(&ConfigFile::read(&path, flags.patience())?, flags, terminal),
        Verb::View => {
            let config = ConfigFile::read(&path, flags.patience())?;
            let yaml = config.to_yaml()?;
            match flags.output.unwrap_or_default() {
                Format::Table | Format::Wide => terminal.line(yaml.trim_end()),
                format => terminal.result(format, &config, || Page::of([])),
            }
        }
    }
}

/// Creates or changes a context; fails if the result could not be used.
fn set_context(
    name: &ContextName,
    unset: &[Setting],
    flags: &Flags,
    path: &Path,
    terminal: &mut Terminal<'_>,
) -> Result<()> {
    let (created, is_current) = ConfigFile::change(path, flags.patience(), |config| {
        let created = !config.contexts.contains_key(name);
        let context = config.contexts.entry(name.clone()).or_default();
        set(context, unset, flags)?;
        if context.endpoints.is_empty() {
            return Err(Usage(format!("the new context {name} needs --endpoint")).into());
        }
        Flags::default().filled(context.clone(), None)?.check().with_context(|| format!("context {name}"))?;
        Ok((created, config.current_context.as_ref() == Some(name)))
    })?;
    terminal.progress(&format!("{} context {name}\n", if created { "created" } else { "changed" }));
    if created && !is_current {
        terminal.progress(&format!("`spaceport config use-context {name}` makes it the current one\n"));
    }
    Ok(())
}

/// Applies the given flags and removes the unset settings. Paths become absolute, so that they do not depend on the
/// folder.
fn set(context: &mut Context, unset: &[Setting], flags: &Flags) -> Result<()> {
    // Settings are named like their flags.
    let names = unset.iter().filter_map(ValueEnum::to_possible_value);
    let mut names = names.map(|setting| setting.get_name().to_owned());
    if let Some(name) = names.find(|name| flags.given().any(|given| given == name)) {
        return Err(Usage(format!("--{name} and --unset {name} contradict each other")).into());
    }
    if !flags.endpoint.is_empty() {
        context.endpoints.clone_from(&flags.endpoint);
    }
    let files =
        [(&flags.ca, &mut context.ca), (&flags.cert, &mut context.cert), (&flags.key, &mut context.key)];
    for (given, kept) in files {
        if let Some(path) = given {
            let path = std::path::absolute(path);
            *kept = Some(path.context("the working directory is not known")?);
        }
    }
    if let Some(name) = &flags.server_name {
        context.server_name = Some(name.clone());
    }
    if let Some(timeout) = flags.timeout {
        context.timeout = Some(GoDuration::from(timeout));
    }
    for setting in unset {
        match setting {
            Setting::Ca => context.ca = None,
            Setting::Cert => context.cert = None,
            Setting::Key => context.key = None,
            Setting::ServerName => context.server_name = None,
            Setting::Timeout => context.timeout = None,
        }
    }
    Ok(())
}

fn list(config: &ConfigFile, flags: &Flags, terminal: &mut Terminal<'_>) -> Result<()> {
    let is_current = |name: &ContextName| config.current_context.as_ref() == Some(name);
    let view = |(name, context)| ContextView { name, current: is_current(name), context };
    let views: Vec<_> = config.contexts.iter().map(view).collect();
    let output = flags.output.unwrap_or_default();
    if views.is_empty() && output.is_table() {
        terminal.progress(
            "there are no contexts: `spaceport config set-context NAME --endpoint URL` creates one\n",
        );
        return Ok(());
    }
    terminal.result(output, &views, || {
        let mut table = Table::new([plain("CURRENT"), plain("NAME"), plain("ENDPOINTS")]);
        for view in &views {
            let endpoints: Vec<_> = view.context.endpoints.iter().map(ToString::to_string).collect();
            let current = if view.current { "*" } else { " " };
            table.row([current.to_owned(), view.name.to_string(), endpoints.join(",")]);
        }
        table
    })
}
