//! Connection and output flags, and the sources of values that no flag sets: environment variables, then a context of
//! the configuration file.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{ArgMatches, Args};

use super::address::Address;
use super::config::{ConfigFile, Context, ContextName};
use super::connect::{ClientArgs, Identity};
use super::failure::Usage;
use super::input::{Patience, TIMEOUT};
use super::terminal::Format;
use super::value_parsers::positive_duration;

/// Variable that names a context.
const CONTEXT: &str = "SPACEPORT_CONTEXT";
/// Variables that are read.
const VARIABLES: [&str; 8] = [
    "SPACEPORT_ENDPOINT",
    "SPACEPORT_CA",
    "SPACEPORT_CERT",
    "SPACEPORT_KEY",
    CONTEXT,
    "SPACEPORT_CONFIG",
    "XDG_CONFIG_HOME",
    "HOME",
];

/// Connection and output settings; accepted anywhere on the command line.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Connection and output")]
pub struct Flags {
    /// The server's address; of several, separated by commas, the first that answers [env: SPACEPORT_ENDPOINT]
    #[arg(long, value_delimiter = ',', value_name = "URL")]
    pub endpoint: Vec<Address>,
    /// Authority (PEM) that the server's certificate comes from [env: SPACEPORT_CA]
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Client certificate (PEM) [env: SPACEPORT_CERT]
    #[arg(long, value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// Private key (PEM) of the client certificate [env: SPACEPORT_KEY]
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Name that the server's certificate is checked against, instead of the address
    #[arg(long, value_name = "NAME")]
    pub server_name: Option<String>,
    /// Context of the configuration file, in place of the current one and of the variables above [env: SPACEPORT_CONTEXT]
    #[arg(long, value_name = "NAME")]
    pub context: Option<ContextName>,
    /// How long one call may take, connecting included; 30s when absent
    #[arg(long, value_parser = positive_duration, value_name = "DURATION")]
    pub timeout: Option<Duration>,
    /// How the result is written
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub output: Option<Format>,
}

impl Flags {
    /// How long reading one input may take.
    pub fn patience(&self) -> Patience {
        Patience(self.timeout.unwrap_or(TIMEOUT))
    }

    /// Names of the flags that were given.
    pub fn given(&self) -> impl Iterator<Item = &'static str> {
        let flags = [
            ("endpoint", !self.endpoint.is_empty()),
            ("ca", self.ca.is_some()),
            ("cert", self.cert.is_some()),
            ("key", self.key.is_some()),
            ("server-name", self.server_name.is_some()),
            ("context", self.context.is_some()),
            ("timeout", self.timeout.is_some()),
            ("output", self.output.is_some()),
        ];
        flags.into_iter().filter(|(_, given)| *given).map(|(name, _)| name)
    }

    /// Collects the flags of a whole command line: those after a verb win over those before it.
    pub fn gathered(matches: &ArgMatches) -> Self {
        let mut flags = Self::default();
        let mut next = Some(matches);
        while let Some(level) = next {
            let endpoint = level.try_get_many("endpoint").ok().flatten().map(|all| all.cloned().collect());
            flags = Self {
                endpoint: endpoint.unwrap_or(flags.endpoint),
                ca: value(level, "ca").or(flags.ca),
                cert: value(level, "cert").or(flags.cert),
                key: value(level, "key").or(flags.key),
                server_name: value(level, "server_name").or(flags.server_name),
                context: value(level, "context").or(flags.context),
                timeout: value(level, "timeout").or(flags.timeout),
                output: value(level, "output").or(flags.output),
            };
            next = level.subcommand().map(|(_, below)| below);
        }
        flags
    }

    /// Fills in what no flag sets: from variables, then from the current context. A context named by `--context` or
    /// `SPACEPORT_CONTEXT` is used alone: a variable could otherwise redirect the call to another installation.
    pub fn resolve(&self, environment: &Environment) -> Result<ClientArgs> {
        let (context, path) = self.chosen(environment)?;
        let is_named = self.context.is_some() || environment.0.contains_key(CONTEXT);
        if is_named {
            return self.filled(context, path);
        }
        let file = |variable: &str, of_context: Option<PathBuf>| environment.path(variable).or(of_context);
        let context = Context {
            endpoints: environment.addresses()?.unwrap_or(context.endpoints),
            ca: file("SPACEPORT_CA", context.ca),
            cert: file("SPACEPORT_CERT", context.cert),
            key: file("SPACEPORT_KEY", context.key),
            ..context
        };
        self.filled(context, path)
    }

    /// Fills in from a context what no flag sets. `config` is the file with contexts, if there is one.
    pub fn filled(&self, context: Context, config: Option<PathBuf>) -> Result<ClientArgs> {
        let (cert, key) = (self.cert.clone().or(context.cert), self.key.clone().or(context.key));
        let identity = match (cert, key) {
            (Some(cert), Some(key)) => Some(Identity { cert: cert.into(), key: key.into() }),
            (None, None) => None,
            _ => return Err(Usage("--cert and --key belong together".to_owned()).into()),
        };
        let of_context = context.timeout.and_then(|timeout| timeout.to_std().ok());
        Ok(ClientArgs {
            endpoint: if self.endpoint.is_empty() { context.endpoints } else { self.endpoint.clone() },
            ca: self.ca.clone().or(context.ca).map(Into::into),
            identity,
            server_name: self.server_name.clone().or(context.server_name),
            timeout: self.timeout.or(of_context).unwrap_or(TIMEOUT),
            output: self.output.unwrap_or_default(),
            config,
        })
    }

    /// The selected context, an empty one if there is none, and the file with contexts.
    fn chosen(&self, environment: &Environment) -> Result<(Context, Option<PathBuf>)> {
        let named = match (&self.context, environment.text(CONTEXT)?) {
            (Some(name), _) => Some(name.clone()),
            (None, Some(text)) => Some(text.parse().map_err(|rule| wrong(CONTEXT, rule))?),
            (None, None) => None,
        };
        let Some(path) = environment.config_path() else {
            return match named {
                None => Ok((Context::default(), None)),
                Some(name) => Err(Usage(format!(
                    "context {name} is named, but there is no configuration file: set SPACEPORT_CONFIG or HOME"
                ))
                .into()),
            };
        };
        let config = ConfigFile::read(&path, self.patience())?;
        let context = match named.or_else(|| config.current_context.clone()) {
            Some(name) => config.context(&name, &path)?.clone(),
            None => Context::default(),
        };
        Ok((context, Some(path).filter(|_| !config.contexts.is_empty())))
    }
}

/// Environment variables of the process, or of a test.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<&'static str, OsString>);

impl Environment {
    /// An empty variable counts as absent.
    pub fn of_process() -> Self {
        let set = VARIABLES.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        Self(set.filter(|(_, value)| !value.is_empty()).collect())
    }

    /// Adds a variable.
    #[cfg(test)]
    pub fn with(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.0.insert(name, value.into());
        self
    }

    /// Path of the configuration file; `None` if neither `SPACEPORT_CONFIG` nor a home is set.
    pub fn config_path(&self) -> Option<PathBuf> {
        // The XDG specification says to ignore relative paths.
        let xdg = self.path("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
        let folder = || xdg.or_else(|| self.path("HOME").map(|home| home.join(".config")));
        // Absolute, because paths in the file are relative to its folder and are written back.
        let named = self.path("SPACEPORT_CONFIG").map(|path| std::path::absolute(&path).unwrap_or(path));
        named.or_else(|| folder().map(|folder| folder.join("spaceport/config.yaml")))
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.0.get(name).map(PathBuf::from)
    }

    fn text(&self, name: &'static str) -> Result<Option<&str>> {
        let text =
            self.0.get(name).map(|value| value.to_str().ok_or_else(|| wrong(name, "is not UTF-8 text")));
        Ok(text.transpose()?)
    }

    fn addresses(&self) -> Result<Option<Vec<Address>>> {
        const NAME: &str = "SPACEPORT_ENDPOINT";
        let Some(text) = self.text(NAME)? else { return Ok(None) };
        let texts = text.split(',').filter(|address| !address.trim().is_empty());
        let addresses = texts.map(|address| address.parse().map_err(|rule: String| wrong(NAME, &rule)));
        Ok(Some(addresses.collect::<Result<_, _>>()?))
    }
}

fn wrong(variable: &str, rule: &str) -> Usage {
    Usage(format!("{variable}: {rule}"))
}

/// A flag at one level of a command line; `None` if the level has no such flag.
fn value<T: Clone + Send + Sync + 'static>(level: &ArgMatches, name: &str) -> Option<T> {
    level.try_get_one::<T>(name).ok().flatten().cloned()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::connect::PemFile;

    const CONFIG: &str = "currentContext: eu\ncontexts:\n  eu:\n    endpoints: [https://eu.example]\n    \
                          ca: eu.crt\n    cert: eu-me.crt\n    key: eu-me.key\n    timeout: 7s\n  \
                          us: {endpoints: [https://us.example], ca: /us.crt}\n";

    fn flags(line: &str) -> Flags {
        crate::command::parse(format!("spaceport {line} status").split_whitespace()).unwrap().flags
    }

    fn with_config(folder: &Path) -> Environment {
        let path = folder.join("config.yaml");
        std::fs::write(&path, CONFIG).unwrap();
        Environment::default().with("SPACEPORT_CONFIG", path)
    }

    fn shown(args: &ClientArgs) -> (String, String, String) {
        let path = |path: Option<&Path>| path.map(|path| path.display().to_string()).unwrap_or_default();
        let endpoint = args.endpoint.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let cert = args.identity.as_ref().map(|identity| identity.cert.path());
        (endpoint, path(args.ca.as_ref().map(PemFile::path)), path(cert))
    }

    #[test]
    fn a_flag_wins_over_a_variable_and_a_variable_over_the_current_context() {
        let folder = tempfile::tempdir().unwrap();
        let of_context = with_config(folder.path());
        let in_folder = |name: &str| folder.path().join(name).display().to_string();
        let args = flags("").resolve(&of_context).unwrap();
        assert_eq!(
            shown(&args),
            ("https://eu.example".to_owned(), in_folder("eu.crt"), in_folder("eu-me.crt"))
        );
        assert_eq!(args.timeout, Duration::from_secs(7));

        let variables = of_context.clone().with("SPACEPORT_ENDPOINT", "https://a.example,https://b.example");
        let variables = variables.with("SPACEPORT_CA", "variable.crt");
        let args = flags("").resolve(&variables).unwrap();
        let both = "https://a.example,https://b.example".to_owned();
        assert_eq!(shown(&args), (both, "variable.crt".to_owned(), in_folder("eu-me.crt")));

        let args =
            flags("--endpoint https://flag.example --ca flag.crt --timeout 2s").resolve(&variables).unwrap();
        let flag = ("https://flag.example".to_owned(), "flag.crt".to_owned(), in_folder("eu-me.crt"));
        assert_eq!((shown(&args), args.timeout), (flag, Duration::from_secs(2)));
    }

    #[test]
    fn a_context_that_a_flag_names_is_taken_whole() {
        let folder = tempfile::tempdir().unwrap();
        let environment = with_config(folder.path())
            .with("SPACEPORT_ENDPOINT", "https://variable.example")
            .with("SPACEPORT_CERT", "variable.crt");
        let us = ("https://us.example".to_owned(), "/us.crt".to_owned(), String::new());
        let args = flags("--context us").resolve(&environment).unwrap();
        assert_eq!((shown(&args), args.timeout), (us.clone(), TIMEOUT));
        let by_variable = environment.clone().with("SPACEPORT_CONTEXT", "us");
        assert_eq!(shown(&flags("").resolve(&by_variable).unwrap()), us, "as by the flag");
        let eu = flags("--context eu").resolve(&by_variable).unwrap();
        assert_eq!(shown(&eu).0, "https://eu.example", "the flag wins");
        let flag = flags("--endpoint https://flag.example").resolve(&by_variable).unwrap();
        assert_eq!(shown(&flag), ("https://flag.example".to_owned(), us.1, String::new()));
        let error = flags("--context asia").resolve(&environment).unwrap_err().to_string();
        assert!(error.contains("has no context asia") && error.contains("eu, us"), "{error}");
    }

    #[test]
    fn without_a_file_there_is_no_context_and_a_wrong_variable_is_named() {
        let empty = Environment::default();
        assert!(flags("").resolve(&empty).unwrap().endpoint.is_empty());
        assert!(
            flags("--context eu").resolve(&empty).unwrap_err().to_string().contains("no configuration file")
        );
        let wrong = empty.clone().with("SPACEPORT_ENDPOINT", "eu.example:443");
        let error = format!("{:#}", flags("").resolve(&wrong).unwrap_err());
        assert!(error.contains("SPACEPORT_ENDPOINT: \"eu.example:443\" must be"), "{error}");
        let half = empty.clone().with("SPACEPORT_KEY", "me.key");
        assert!(flags("").resolve(&half).unwrap_err().to_string().contains("belong together"));
        let home = empty.with("HOME", "/home/me");
        assert_eq!(home.config_path().unwrap(), Path::new("/home/me/.config/spaceport/config.yaml"));
        let xdg = home.with("XDG_CONFIG_HOME", "/xdg");
        assert_eq!(xdg.config_path().unwrap(), Path::new("/xdg/spaceport/config.yaml"));
    }

    #[test]
    fn a_relative_configuration_file_is_found_from_every_folder() {
        let environment = Environment([("SPACEPORT_CONFIG", "d/c.yaml".into())].into());
        let path = environment.config_path().unwrap();
        assert!(path.is_absolute() && path.ends_with("d/c.yaml"), "{}", path.display());
    }
}
