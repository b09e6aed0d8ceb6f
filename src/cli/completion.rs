//! `spaceport completion`

use clap::{Args, Command, ValueEnum};
use clap_complete::generate;
use clap_complete::shells::{Bash, Fish, Zsh};

/// `spaceport completion`.
#[derive(Debug, Args)]
pub struct CompletionArgs {
    /// For which shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// The completion script of a shell for a command line.
pub fn script(args: &CompletionArgs, mut command: Command) -> anyhow::Result<String> {
    let mut script = Vec::new();
    match args.shell {
        Shell::Bash => generate(Bash, &mut command, "spaceport", &mut script),
        Shell::Zsh => generate(Zsh, &mut command, "spaceport", &mut script),
        Shell::Fish => generate(Fish, &mut command, "spaceport", &mut script),
    }
    Ok(String::from_utf8(script)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::command;

    #[test]
    fn the_script_of_every_shell_knows_verbs_and_flags() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(&CompletionArgs { shell }, command()).unwrap();
            for word in ["set-context", "get-contexts", "server-name", "max-lifetime", "rotate-secret"] {
                assert!(script.contains(word), "{word} is not in the script for {shell:?}");
            }
        }
    }
}
