//! `granum`: one binary for every role and every question. What was asked for, and how did it end?
//!
//! Reading order: [`args`] (the commands), then a file a command: [`dev`] (a whole cluster in one process), [`roles`] (node and
//! coordinator, their settings in [`settings`]), [`cluster`], [`collection`], [`import`], [`ask`] (search, get, count, scroll, delete),
//! [`status`], [`verify`], [`mod@bench`], [`docs`]. Shared: [`connect`] (which cluster), [`output`] and [`table`] (what people and
//! programs read), [`json`], [`npy`], [`failure`] (exit codes).
#![warn(missing_docs)]

mod args;
mod ask;
mod bench;
mod cluster;
mod collection;
mod connect;
mod dev;
mod docs;
mod failure;
mod import;
mod json;
mod npy;
mod output;
mod roles;
mod settings;
mod status;
mod table;
mod verify;

use std::process::ExitCode;

use anyhow::Context;
use clap::{ArgMatches, FromArgMatches};

use crate::args::{Commands, Granum};

fn main() -> ExitCode {
    let matches = match args::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            // What can't be printed has nobody who reads it.
            let _lost = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ended = runtime.context("cannot start threads").and_then(|runtime| {
        let ended = runtime.block_on(run(&matches));
        // A blocked read (of a terminal, say) must not keep the process.
        runtime.shutdown_background();
        ended
    });
    ended.unwrap_or_else(|error| failure::report(&error))
}

async fn run(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    match matches.subcommand() {
        Some(("node", matches)) => return roles::node(matches).await,
        Some(("coordinator", matches)) => return roles::coordinator(matches).await,
        _ => {}
    }
    let done = match Granum::from_arg_matches(matches)?.command {
        Commands::Dev(command) => return dev::run(command).await,
        Commands::Status(command) => status::run(command).await,
        Commands::Verify(command) => verify::run(command),
        Commands::Cluster(command) => cluster::run(command).await,
        Commands::Collection(command) => collection::run(command).await,
        Commands::Import(command) => import::run(command).await,
        Commands::Search(command) => ask::search(command).await,
        Commands::Get(command) => ask::get(command).await,
        Commands::Count(command) => ask::count(command).await,
        Commands::Facet(command) => ask::facet(command).await,
        Commands::Scroll(command) => ask::scroll(command).await,
        Commands::Delete(command) => ask::delete(command).await,
        Commands::Bench(command) => bench::run(command).await,
        Commands::Docs(command) => docs::run(command),
    };
    done.map(|()| ExitCode::SUCCESS)
}
