//! The commands and their options, as the help shows them. Options of a command stand in its file; those of the roles come
//! from the roles' own lists of settings.

use clap::{Command, CommandFactory, Parser, Subcommand};

use crate::{ask, bench, cluster, collection, dev, docs, import, settings, status, verify};

/// A distributed retrieval cluster: documents in, the ones that mean what you ask out
#[derive(Parser, Debug)]
#[command(name = "granum", version, subcommand_required = true, arg_required_else_help = true)]
pub struct Granum {
    /// What to do
    #[command(subcommand)]
    pub command: Commands,
}

/// All commands but the roles. The words of the help stand on the arguments that each holds.
#[derive(Subcommand, Debug)]
pub enum Commands {
    Dev(dev::Dev),
    Search(ask::Search),
    Import(import::Import),
    Collection(collection::Collection),
    Get(ask::Get),
    Count(ask::Count),
    Facet(ask::Facet),
    Scroll(ask::Scroll),
    Delete(ask::Delete),
    Status(status::Status),
    Bench(bench::Bench),
    Verify(verify::Verify),
    Cluster(cluster::Cluster),
    #[command(hide = true)]
    Docs(docs::Docs),
}

/// The whole command line.
pub fn command() -> Command {
    let node = Command::new("node")
        .about("Run a storage node")
        .long_about("Run a storage node until SIGTERM or Ctrl-C, which hand its leaders over and end it with exit code 0. Each setting may also stand in --config FILE and in the environment (data_dir: GRANUM_DATA_DIR).");
    let coordinator = Command::new("coordinator")
        .about("Run a coordinator")
        .long_about("Run a coordinator until SIGTERM or Ctrl-C, which let its requests finish and end it with exit code 0. Each setting may also stand in --config FILE and in the environment (nodes: GRANUM_NODES).");
    Granum::command()
        .subcommand(settings::flags(node, granum_node::SETTINGS))
        .subcommand(settings::flags(coordinator, granum_coordinator::SETTINGS))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_holds_together() {
        super::command().debug_assert();
    }
}
