//! Whose fault it is that git failed, by what it prints.

use content::initializer::Fault;

/// What git, curl and ssh print, whose fault it is, and what to say first. The first one that fits counts.
const KNOWN: [(Fault, &str, &[&str]); 8] = [
    (Fault::User, "the storage of this workspace is full: ", &["disk quota exceeded"]),
    (Fault::Platform, "the disk of the node is full: ", &["no space left on device"]),
    (
        Fault::User,
        "the git server does not accept the login; check user and password: ",
        &[
            "authentication failed for",
            "could not read username",
            "could not read password",
            "returned error: 401",
            "returned error: 403",
            "permission denied (publickey",
        ],
    ),
    (
        Fault::User,
        "the git server has no such repository, or this login may not read it: ",
        &[
            "returned error: 404",
            "repository not found",
            "' not found",
            "does not appear to be a git repository",
        ],
    ),
    (
        Fault::Platform,
        "the git server failed; try again later: ",
        &["returned error: 5", "returned error: 429", "http 5"],
    ),
    (
        Fault::User,
        "the repository has no such branch or commit: ",
        &["couldn't find remote ref", "could not find remote ref", "not our ref", "unadvertised object"],
    ),
    (
        Fault::User,
        "no git server can be found or answers there; check the address: ",
        &["could not resolve host", "connection refused", "couldn't connect to server"],
    ),
    (
        Fault::Platform,
        "the connection to the git server failed; try again later: ",
        &[
            "timed out",
            "timeout was reached",
            "network is unreachable",
            "no route to host",
            "connection reset",
            "operation too slow",
            "empty reply from server",
            "early eof",
            "remote end hung up",
            "unexpected disconnect",
            "transfer closed",
        ],
    ),
];

/// Whose fault it is, and the beginning of a sentence about it. What is not known is the user's: the repository and what is wanted of
/// it are theirs.
pub(super) fn blame(output: &str) -> (Fault, &'static str) {
    // Lines of the server, which may say anything.
    let own = |line: &&str| !line.trim_start().starts_with("remote:");
    let text: String = output.lines().filter(own).flat_map(|line| [line, "\n"]).collect();
    let text = text.to_ascii_lowercase();
    let fits = |words: &[&str]| words.iter().any(|words| text.contains(words));
    let known = KNOWN.into_iter().find(|(_, _, words)| fits(words));
    known.map_or((Fault::User, ""), |(fault, why, _)| (fault, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_prints_says_whose_fault_it_is() {
        for (output, fault, words) in [
            (
                "fatal: unable to access 'http://g/a/': The requested URL returned error: 500",
                Fault::Platform,
                "try again",
            ),
            (
                "fatal: unable to access 'http://g/a/': The requested URL returned error: 503",
                Fault::Platform,
                "failed",
            ),
            (
                "error: RPC failed; HTTP 502 curl 22 The requested URL returned error: 502",
                Fault::Platform,
                "failed",
            ),
            ("fatal: Authentication failed for 'http://g/a/'", Fault::User, "login"),
            (
                "fatal: unable to access 'http://g/a/': The requested URL returned error: 403",
                Fault::User,
                "login",
            ),
            (
                "fatal: could not read Username for 'http://g': terminal prompts disabled",
                Fault::User,
                "login",
            ),
            ("fatal: repository 'http://g/a/' not found", Fault::User, "no such repository"),
            ("fatal: couldn't find remote ref refs/heads/x", Fault::User, "no such branch"),
            ("fatal: remote error: upload-pack: not our ref 0123", Fault::User, "no such branch"),
            ("fatal: unable to access 'http://g/': Could not resolve host: g", Fault::User, "address"),
            (
                "fatal: unable to access 'http://g/': Failed to connect to g port 9 after 0 ms: Couldn't connect to server",
                Fault::User,
                "address",
            ),
            (
                "fatal: unable to access 'http://g/': Failed to connect to g port 80: Connection timed out",
                Fault::Platform,
                "connection",
            ),
            (
                "error: RPC failed; curl 18 transfer closed with outstanding read data\nfatal: early EOF",
                Fault::Platform,
                "connection",
            ),
            ("fatal: write error: No space left on device", Fault::Platform, "disk of the node"),
            ("error: unable to write file a: Disk quota exceeded", Fault::User, "storage of this workspace"),
            ("fatal: something new", Fault::User, ""),
        ] {
            let (blamed, why) = blame(output);
            assert_eq!(blamed, fault, "{output}");
            assert!(why.contains(words) && why.is_empty() == words.is_empty(), "{output}: {why}");
        }
    }

    #[test]
    fn a_server_cannot_choose_whose_fault_it_is() {
        let output = "remote: No space left on device\nremote: HTTP 500\nfatal: something new";
        assert_eq!(blame(output), (Fault::User, ""));
    }
}
