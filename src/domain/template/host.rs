//! Hosts of rendered URLs: whether they are valid, and which workspace's URL equals that of another one's port.

use std::collections::BTreeSet;

use url::{Host, Url};

use super::{Field, Piece, PortUrl, Template, Values, WorkspaceUrl};
use crate::names::{MetaId, quoted};

/// Characters of one label of a host.
const LABEL_MAX: usize = 63;
/// Characters of a host.
const HOST_MAX: usize = 253;
/// Characters of a workspace id or meta id that every template must support: those of a UUID.
pub const ID_ROOM: usize = 36;

/// Why a host is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// A label is too long.
    #[error("the label {label:?} of its host would have {} letters, and 63 is the limit", label.len())]
    Label {
        /// The label.
        label: String,
    },
    /// The host is too long.
    #[error("its host would have {0} letters, and 253 is the limit")]
    Whole(usize),
    /// It is not a host name.
    #[error(
        "its host {0:?} has a label that is no letters, digits and dashes with a letter or digit at both ends"
    )]
    Malformed(String),
}

/// Checks the host of a URL.
fn check(url: &str) -> Result<(), HostError> {
    let parsed = Url::parse(url).ok();
    let host = match parsed.as_ref().and_then(Url::host) {
        Some(Host::Domain(host)) => host,
        // An IP address is valid.
        Some(Host::Ipv4(_) | Host::Ipv6(_)) => return Ok(()),
        None => return Err(HostError::Malformed(quoted(url))),
    };
    for label in host.trim_end_matches('.').split('.') {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if label.len() > LABEL_MAX {
            return Err(HostError::Label { label: label.to_owned() });
        }
        if label.is_empty() || !label.bytes().all(inner) || label.starts_with('-') || label.ends_with('-') {
            return Err(HostError::Malformed(host.to_owned()));
        }
    }
    if host.len() > HOST_MAX { Err(HostError::Whole(host.len())) } else { Ok(()) }
}

impl WorkspaceUrl {
    /// Checks the host of a workspace's URL.
    pub fn check(&self, values: &Values<'_>) -> Result<(), HostError> {
        check(&self.render(values))
    }
}

impl PortUrl {
    /// Checks the host of a port's URL.
    pub fn check(&self, values: &Values<'_>, port: u16) -> Result<(), HostError> {
        check(&self.render(values, port))
    }

    /// The meta ids with a port whose host is that of the workspace `meta`. Empty if hosts contain the workspace id, or do not
    /// depend on the port.
    pub fn owners(&self, workspace: &WorkspaceUrl, host: &str, meta: &MetaId) -> BTreeSet<MetaId> {
        let (own, of_port) = (workspace.0.host_pieces(host), self.0.host_pieces(host));
        let has = |pieces: &[Piece], field| pieces.contains(&Piece::Field(field));
        let mut owners = BTreeSet::new();
        if has(&own, Field::Id) || has(&of_port, Field::Id) || !has(&own, Field::Prefix) {
            return owners;
        }
        let target: String = own
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => text.as_str(),
                Piece::Field(_) => meta.as_str(),
            })
            .collect();
        solve(&of_port, &target, None, &mut owners);
        owners.remove(meta);
        owners
    }
}

impl Template {
    /// The pieces of the host, including those of the installation's URL.
    fn host_pieces(&self, host: &str) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut inside = false;
        for piece in &self.pieces {
            let text = match piece {
                Piece::Text(text) => text.as_str(),
                Piece::Field(Field::Host) => host,
                field @ Piece::Field(_) => {
                    if inside {
                        pieces.push(field.clone());
                    }
                    continue;
                }
            };
            let text = match (inside, text.split_once("://")) {
                (true, _) => text,
                (false, Some((_, after))) => after,
                (false, None) => continue,
            };
            inside = true;
            let end = text.find(['/', '?', '#', ':']);
            let part = &text[..end.unwrap_or(text.len())];
            if !part.is_empty() {
                pieces.push(Piece::Text(part.to_owned()));
            }
            if end.is_some() {
                break;
            }
        }
        pieces
    }
}

/// Finds every meta id with which `pieces`, for some port, render to the text `rest`.
fn solve(pieces: &[Piece], rest: &str, meta: Option<&str>, found: &mut BTreeSet<MetaId>) {
    let Some((piece, pieces)) = pieces.split_first() else {
        if rest.is_empty() {
            found.extend(meta.and_then(|meta| meta.parse().ok()));
        }
        return;
    };
    match piece {
        Piece::Text(text) => {
            if let Some(rest) = rest.strip_prefix(text.as_str()) {
                solve(pieces, rest, meta, found);
            }
        }
        Piece::Field(Field::Prefix) => {
            let ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]).take(LABEL_MAX + 1).skip(1);
            for end in ends {
                let (part, rest) = rest.split_at(end);
                if meta.is_none_or(|meta| meta == part) {
                    solve(pieces, rest, Some(part), found);
                }
            }
        }
        Piece::Field(_) => {
            let digits = rest.bytes().take(5).take_while(u8::is_ascii_digit).count();
            for end in 1..=digits {
                let (port, rest) = rest.split_at(end);
                if !port.starts_with('0') && port.parse::<u16>().is_ok() {
                    solve(pieces, rest, meta, found);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOST: &str = "https://host.example";

    fn templates(workspace: &str, port: &str) -> (WorkspaceUrl, PortUrl) {
        (workspace.parse().unwrap(), port.parse().unwrap())
    }

    fn usual() -> (WorkspaceUrl, PortUrl) {
        templates(
            "https://{{ .Prefix }}.ws.example",
            "https://{{ .WorkspacePort }}-{{ .Prefix }}.ws.example/x",
        )
    }

    fn owners((workspace, port): &(WorkspaceUrl, PortUrl), meta: &str) -> Vec<String> {
        let owners = port.owners(workspace, HOST, &meta.parse().unwrap());
        owners.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_label_may_have_63_letters_and_a_host_253() {
        let (workspace, port) = usual();
        let meta = "x".repeat(63);
        let values = Values { id: "id", prefix: &meta, host: HOST };
        assert_eq!(workspace.check(&values), Ok(()));
        let error = port.check(&values, 3000).unwrap_err();
        assert!(error.to_string().contains("would have 68 letters"), "{error}");
        let fits = Values { prefix: &meta[..58], ..values };
        assert_eq!((port.check(&fits, 3000), port.check(&fits, 10_000).is_ok()), (Ok(()), false));
        let long: WorkspaceUrl = format!("https://{{{{ .Prefix }}}}{}", ".abc".repeat(50)).parse().unwrap();
        assert_eq!(long.check(&values), Err(HostError::Whole(263)));
        for (template, good) in [
            ("http://127.0.0.1:8080/{{ .ID }}", true),
            ("http://[::1]/{{ .ID }}", true),
            ("https://a_b.{{ .Prefix }}.example", false),
            ("https://-{{ .Prefix }}.example", false),
            ("https://{{ .Prefix }}..example", false),
        ] {
            let template: WorkspaceUrl = template.parse().unwrap();
            assert_eq!(template.check(&fits).is_ok(), good, "{template}");
        }
    }

    #[test]
    fn the_workspaces_whose_port_has_a_workspaces_host_are_found() {
        let usual = usual();
        assert_eq!(owners(&usual, "3000-foo"), ["foo"]);
        assert_eq!(owners(&usual, "80-3000-foo"), ["3000-foo"]);
        for free in [
            "foo",
            "0-foo",
            "080-foo",
            "65536-foo",
            "3000",
            "3000foo",
            "00000000-0000-4000-8000-000000000000",
        ] {
            assert!(owners(&usual, free).is_empty(), "{free}");
        }
        let behind = templates("https://{{.Prefix}}.ws", "https://{{.Prefix}}-{{.WorkspacePort}}.ws");
        assert_eq!(owners(&behind, "foo-3000"), ["foo"]);
        let joined = templates("https://{{.Prefix}}.ws", "https://{{.WorkspacePort}}{{.Prefix}}.ws");
        assert_eq!(owners(&joined, "80a"), ["0a", "a"]);
        for apart in [
            templates("https://{{.Prefix}}.ws", "https://{{.WorkspacePort}}-{{.Prefix}}.ports"),
            templates("https://{{.Prefix}}.ws", "https://{{.Prefix}}.ws:{{.IngressPort}}"),
            templates("https://{{.ID}}.ws", "https://{{.WorkspacePort}}-{{.ID}}.ws"),
            templates("{{.Host}}/{{.Prefix}}", "{{.Host}}/{{.Prefix}}/{{.WorkspacePort}}"),
        ] {
            assert!(owners(&apart, "3000-foo").is_empty(), "{apart:?}");
        }
    }

    proptest! {
        #[test]
        fn whoever_has_a_workspaces_host_as_a_port_is_found(meta in "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", port in 1u16..) {
            let usual = usual();
            let alias = format!("{port}-{meta}");
            prop_assert_eq!(owners(&usual, &alias), [meta]);
        }
    }
}
