//! URL templates: the part of Go's template language that `urlTemplate` and `portUrlTemplate` use.
//!
//! Parsing reports all errors; rendering cannot fail.

mod host;

use std::fmt;
use std::fmt::Write as _;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use url::Url;

pub use host::{HostError, ID_ROOM};

/// Why a text is not a URL template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An action that is not one of the known fields.
    #[error("unknown action {{{{{action}}}}}: one of {allowed}")]
    UnknownAction {
        /// Text between the braces.
        action: String,
        /// The fields that this template may use.
        allowed: &'static str,
    },
    /// `{{` without its `}}`.
    #[error("the action that starts at byte {0} is never closed")]
    Unclosed(usize),
    /// The result is not a URL.
    #[error("renders to {rendered:?}, which is not an absolute URL: {reason}")]
    NotAUrl {
        /// The result for sample values.
        rendered: String,
        /// Cause.
        reason: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Field {
    Id,
    Prefix,
    Host,
    WorkspacePort,
    IngressPort,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Piece {
    Text(String),
    Field(Field),
}

/// Values for the fields of a template.
#[derive(Debug, Clone, Copy)]
pub struct Values<'a> {
    /// The workspace (instance) id.
    pub id: &'a str,
    /// The meta id: the name that the user's URL starts with.
    pub prefix: &'a str,
    /// The host URL of the installation.
    pub host: &'a str,
}

const SAMPLE: Values<'static> = Values {
    id: "00000000-0000-4000-8000-000000000000",
    prefix: "sample-prefix-0000000",
    host: "https://host.example",
};

/// URL template of workspaces, with the fields `.ID`, `.Prefix` and `.Host`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WorkspaceUrl(Template);

/// URL template of ports, with the fields of [`WorkspaceUrl`] and `.WorkspacePort` and `.IngressPort`, which are both the
/// port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PortUrl(Template);

impl WorkspaceUrl {
    /// The URL for these values.
    pub fn render(&self, values: &Values<'_>) -> String {
        self.0.render(values, 0)
    }
}

impl PortUrl {
    /// The URL for these values and this port.
    pub fn render(&self, values: &Values<'_>, port: u16) -> String {
        self.0.render(values, port)
    }
}

impl FromStr for WorkspaceUrl {
    type Err = Error;

    fn from_str(source: &str) -> Result<Self, Error> {
        Template::parse(source, false).map(Self)
    }
}

impl FromStr for PortUrl {
    type Err = Error;

    fn from_str(source: &str) -> Result<Self, Error> {
        Template::parse(source, true).map(Self)
    }
}

/// A parsed template with its source, which is stored and shown.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Template {
    source: String,
    pieces: Vec<Piece>,
}

impl Template {
    fn parse(source: &str, with_port: bool) -> Result<Self, Error> {
        let mut pieces = Vec::new();
        let mut rest = source;
        while let Some(start) = rest.find("{{") {
            let (text, action) = (&rest[..start], &rest[start + 2..]);
            let Some(end) = action.find("}}") else {
                return Err(Error::Unclosed(source.len() - rest.len() + start));
            };
            if !text.is_empty() {
                pieces.push(Piece::Text(text.to_owned()));
            }
            pieces.push(Piece::Field(field(&action[..end], with_port)?));
            rest = &action[end + 2..];
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        let template = Self { source: source.to_owned(), pieces };
        template.check_url()?;
        Ok(template)
    }

    fn check_url(&self) -> Result<(), Error> {
        let rendered = self.render(&SAMPLE, 8080);
        let reason = match Url::parse(&rendered) {
            Ok(url) if !matches!(url.scheme(), "http" | "https") => {
                "the scheme must be http or https".to_owned()
            }
            Ok(url) if url.host_str().is_none_or(str::is_empty) => "it has no host".to_owned(),
            Ok(_) => return Ok(()),
            Err(error) => error.to_string(),
        };
        Err(Error::NotAUrl { rendered, reason })
    }

    fn render(&self, values: &Values<'_>, port: u16) -> String {
        let mut rendered = String::with_capacity(self.source.len() + 64);
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => rendered.push_str(text),
                Piece::Field(Field::Id) => rendered.push_str(values.id),
                Piece::Field(Field::Prefix) => rendered.push_str(values.prefix),
                Piece::Field(Field::Host) => rendered.push_str(values.host),
                Piece::Field(Field::WorkspacePort | Field::IngressPort) => {
                    // Writing to a string cannot fail.
                    let _ = write!(rendered, "{port}");
                }
            }
        }
        rendered
    }
}

fn field(action: &str, with_port: bool) -> Result<Field, Error> {
    match action.trim() {
        ".ID" => Ok(Field::Id),
        ".Prefix" => Ok(Field::Prefix),
        ".Host" => Ok(Field::Host),
        ".WorkspacePort" if with_port => Ok(Field::WorkspacePort),
        ".IngressPort" if with_port => Ok(Field::IngressPort),
        _ => {
            let allowed = if with_port {
                ".ID, .Prefix, .Host, .WorkspacePort, .IngressPort"
            } else {
                ".ID, .Prefix, .Host"
            };
            Err(Error::UnknownAction { action: action.to_owned(), allowed })
        }
    }
}

/// Conversions from and to text: the two public types differ only in their fields.
macro_rules! as_text {
    ($type:ty) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0.source)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0.source)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

as_text!(WorkspaceUrl);
as_text!(PortUrl);

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: Values<'static> = Values { id: "id-1", prefix: "blue-fox", host: "https://gitpod.example" };

    #[test]
    fn fields_are_filled_in() {
        let template: WorkspaceUrl = "https://{{ .Prefix }}.ws.gitpod.example/{{.ID}}".parse().unwrap();
        assert_eq!(template.render(&VALUES), "https://blue-fox.ws.gitpod.example/id-1");
        let template: PortUrl =
            "https://{{ .WorkspacePort }}-{{ .Prefix }}.ws:{{.IngressPort}}".parse().unwrap();
        assert_eq!(template.render(&VALUES, 3000), "https://3000-blue-fox.ws:3000");
        let template: WorkspaceUrl = "{{ .Host }}/start/{{ .ID }}".parse().unwrap();
        assert_eq!(template.render(&VALUES), "https://gitpod.example/start/id-1");
    }

    #[test]
    fn other_actions_are_refused_by_name() {
        for (source, named) in [
            ("https://{{ .Owner }}", "{{ .Owner }}"),
            ("https://{{ .WorkspacePort }}-x", "{{ .WorkspacePort }}"),
            ("https://{{- .ID }}", "{{- .ID }}"),
            ("https://{{ if .ID }}x{{ end }}", "{{ if .ID }}"),
        ] {
            let error = source.parse::<WorkspaceUrl>().unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
        assert_eq!("https://a{{ .ID".parse::<WorkspaceUrl>().unwrap_err(), Error::Unclosed(9));
    }

    #[test]
    fn invalid_urls_are_rejected() {
        for source in
            ["", "{{ .Prefix }}", "ftp://{{ .Prefix }}", "https://", "https://{{.ID}}:99999", "https://a b"]
        {
            assert!(matches!(source.parse::<WorkspaceUrl>(), Err(Error::NotAUrl { .. })), "{source}");
        }
    }

    #[test]
    fn the_source_survives_serde() {
        let json = r#""https://{{ .Prefix }}.ws""#;
        let template: WorkspaceUrl = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&template).unwrap(), json);
    }
}
