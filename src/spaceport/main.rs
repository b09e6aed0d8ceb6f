//! The program: parse, run, exit code.

use std::process::ExitCode;

use cli::{self, Cli, Command};
use k8s::resources::{crds, to_yaml};
use node::archives::ArchiveWork;
use node::helper;

/// Every change of a workspace allocates thousands of small objects.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // First of all: a helper must have no thread yet.
    if let Some(code) = helper::main(&ArchiveWork) {
        return code;
    }
    let Cli { flags, command } = Cli::read();
    match command {
        Command::Manager(args) => spaceport::manager::run(&args.config, args.json_log, args.verbose),
        Command::Node(args) => spaceport::node::run(&args.config, args.json_log, args.verbose),
        Command::Crd => {
            let documents = crds().iter().map(|crd| Ok(format!("---\n{}", to_yaml(crd)?))).collect();
            cli::print(documents)
        }
        Command::Completion(args) => cli::print(cli::completion(&args)),
        Command::Client(command) => cli::run(command, &flags),
    }
}
