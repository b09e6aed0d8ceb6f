//! Extracts one context of a kubeconfig with everything it needs: the files that it names are on this machine, not the
//! manager's.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use self::minimal::minimal;
use super::plugin::Plugin;
use crate::input::{self, Patience};
use crate::table::clean;
use domain::kubeconfig::exec::Exec;
use domain::kubeconfig::{self, Aliases, Chosen, Section, encoding};

pub(super) mod minimal;

/// What to do about a login plugin (`exec`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Plugins {
    /// Fail and say what to do instead: such a login expires within minutes, and the manager runs no plugin.
    #[default]
    Explain,
    /// Run it here: the login is needed once.
    Run,
}

/// Which context to use, and how.
#[derive(Debug, Clone, Copy, Default)]
pub struct Choice<'a> {
    /// Its name; `None` is the current context.
    pub context: Option<&'a str>,
    /// What to do about its plugin.
    pub plugins: Plugins,
    /// Whether standard input is in use as a file.
    pub stdin_taken: bool,
    /// How long reading one file may take.
    pub patience: Patience,
}

/// A kubeconfig, or the plugin that creates it.
pub enum Login {
    /// A kubeconfig with this login and nothing else.
    Ready(Vec<u8>),
    Plugin(Box<Plugin>),
}

/// Reads a kubeconfig file; relative paths in it start at its folder.
pub fn from_file(path: &Path, choice: Choice<'_>) -> Result<Login> {
    let bytes = read(path, choice.patience)?;
    let text = encoding::decode(&bytes).map_err(|rule| anyhow!("{} {rule}", path.display()))?;
    standalone(&text, input::folder(path), choice).with_context(|| format!("kubeconfig {}", path.display()))
}

/// The chosen context alone, with files replaced by their content.
pub fn standalone(text: &str, base: &Path, choice: Choice<'_>) -> Result<Login> {
    let mut chosen = choose(text, choice.context)?;
    for (section, files) in [(&mut chosen.cluster, &CLUSTER_FILES[..]), (&mut chosen.user, &USER_FILES[..])] {
        lay_in(section, files, base, choice.patience)?;
    }
    lay_in_token(&mut chosen.user, base, choice.patience)?;
    if chosen.has_static_login() {
        // As in kubectl: static credentials take precedence over a plugin.
        chosen.user.remove("exec");
        chosen.user.remove("auth-provider");
    }
    let Some(exec) = Exec::of(&chosen.user)? else { return minimal(&chosen).map(Login::Ready) };
    match choice.plugins {
        Plugins::Explain => bail!("{}", recipe(&exec)),
        Plugins::Run => {
            let (base, stdin_taken) = (PathBuf::from(base), choice.stdin_taken);
            Ok(Login::Plugin(Box::new(Plugin { chosen, exec, base, stdin_taken })))
        }
    }
}

fn choose(text: &str, context: Option<&str>) -> Result<Chosen> {
    kubeconfig::choose(text, context, Aliases::Resolved).map_err(|problem| {
        let names: Vec<String> = kubeconfig::contexts(text).iter().map(|name| clean(name)).collect();
        match context {
            Some(context) if problem.field == "contexts" && !names.iter().any(|name| name == context) => {
                anyhow!("has no context {context:?}; it has {}", names.join(", "))
            }
            None if problem.field == "current-context" && names.len() > 1 => {
                anyhow!("{problem}; name one with --kube-context: {}", names.join(", "))
            }
            _ => problem.into(),
        }
    })
}

fn recipe(exec: &Exec) -> String {
    format!(
        "logs in with the plugin {:?}, whose logins end after minutes, and which the manager does not run; make a login that \
         lasts with `spaceport cluster install --kubeconfig FILE --print-kubeconfig > NEW`, which runs the plugin here, and \
         give NEW; or register with --install",
        clean(&exec.command)
    )
}

/// Keys that name a file, and the keys for its content.
const CLUSTER_FILES: [(&str, &str); 1] = [("certificate-authority", "certificate-authority-data")];
const USER_FILES: [(&str, &str); 2] =
    [("client-certificate", "client-certificate-data"), ("client-key", "client-key-data")];

fn lay_in(
    section: &mut Section,
    files: &[(&'static str, &str)],
    base: &Path,
    patience: Patience,
) -> Result<()> {
    for (file_key, data_key) in files {
        let Some(file) = section.text(file_key)? else { continue };
        section.remove(file_key);
        // As in kubectl: data takes precedence over a file.
        if !section.has(data_key) {
            let content = read(&base.join(&file), patience).context(*file_key)?;
            // PowerShell writes PEM as UTF-16. The reader reports other bytes.
            let content = encoding::decode(&content).map_or(content, String::into_bytes);
            section.set(data_key, STANDARD.encode(content).into());
        }
    }
    Ok(())
}

/// A token file takes precedence over an inline token, unless it cannot be read.
fn lay_in_token(user: &mut Section, base: &Path, patience: Patience) -> Result<()> {
    let Some(file) = user.text("tokenFile")? else { return Ok(()) };
    user.remove("tokenFile");
    match read(&base.join(&file), patience).context("tokenFile") {
        Ok(content) => {
            let token = encoding::decode(&content).map_err(|rule| anyhow!("tokenFile {file} {rule}"))?;
            let token = token.trim();
            ensure!(!token.is_empty() || user.has("token"), "tokenFile {file} is empty");
            if !token.is_empty() {
                user.set("token", token.into());
            }
            Ok(())
        }
        Err(_) if user.has("token") => Ok(()),
        Err(error) => Err(error),
    }
}

fn read(path: &Path, patience: Patience) -> Result<Vec<u8>> {
    Ok(input::read(path, input::KUBECONFIG, patience)?.bytes)
}

#[cfg(test)]
mod tests;
