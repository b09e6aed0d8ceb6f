//! The program: parse, run, exit code.

use std::process::ExitCode;

use clap::Parser;
use spaceport::cli::{self, Cli, Command};
use spaceport::cluster::resources::{crds, to_yaml};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Manager(args) => manager(&args),
        Command::Crd => {
            let documents = crds().iter().map(|crd| Ok(format!("---\n{}", to_yaml(crd)?))).collect();
            cli::print(documents)
        }
        Command::Client(command) => cli::run(command),
    }
}

/// Stands in for `spaceport::manager::run` until that is there.
fn manager(_args: &cli::ManagerArgs) -> ExitCode {
    eprintln!("spaceport: the manager is not part of this build");
    ExitCode::FAILURE
}
