//! `granum node` and `granum coordinator`: one role as a process of its own, from its settings to its last request.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Context;
use clap::ArgMatches;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::failure::Usage;
use crate::settings::{self, Told};

/// Runs a storage node until SIGTERM or Ctrl-C.
pub async fn node(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let told: Told<granum_node::Config> = settings::told(granum_node::SETTINGS, matches, from_environment)?;
    let _relevel = log(&told.log_format, &told.log_level)?;
    let mut stop = Stop::listen()?;
    let node = tokio::select! {
        node = granum_node::start(told.role) => node?,
        () = stop.asked() => return Ok(ExitCode::SUCCESS),
    };
    stop.asked().await;
    tracing::info!("draining: leaders are handed over, requests finished");
    drained(node.drain(), &mut stop).await
}

/// Runs a coordinator until SIGTERM or Ctrl-C.
pub async fn coordinator(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let told: Told<granum_coordinator::Config> =
        settings::told(granum_coordinator::SETTINGS, matches, from_environment)?;
    let _relevel = log(&told.log_format, &told.log_level)?;
    let mut stop = Stop::listen()?;
    let running = tokio::select! {
        running = granum_coordinator::start(told.role) => running?,
        () = stop.asked() => return Ok(ExitCode::SUCCESS),
    };
    stop.asked().await;
    tracing::info!("draining: requests are finished");
    drained(running.stop(), &mut stop).await
}

/// Waits for the end, or for somebody who asks a second time.
pub async fn drained(end: impl Future<Output = ()>, stop: &mut Stop) -> anyhow::Result<ExitCode> {
    tokio::select! {
        () = end => Ok(ExitCode::SUCCESS),
        () = stop.asked() => {
            tracing::warn!("asked twice: stopping without draining");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// What may be logged from now on, where that changes.
pub type Relevel = Box<dyn Fn(&str) + Send>;

/// Log lines to stderr. openraft tells of every message that a stopped peer does not answer: it is heard where it is named.
pub fn log(format: &str, level: &str) -> anyhow::Result<Relevel> {
    let wrong = |error| Usage(format!("log_level: {level:?}: {error}"));
    let filter = EnvFilter::try_new(level).map_err(wrong)?;
    let filter = match level.contains("openraft") {
        true => filter,
        false => filter.add_directive("openraft=off".parse().expect("a directive of constant text")),
    };
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(filter);
    match format {
        "json" => {
            let log = log.json().with_filter_reloading();
            let handle = log.reload_handle();
            log.try_init().map_err(|error| anyhow::anyhow!("cannot log: {error}"))?;
            Ok(Box::new(move |level| drop(handle.reload(level))))
        }
        _ => {
            let log = log.with_ansi(std::io::stderr().is_terminal()).with_filter_reloading();
            let handle = log.reload_handle();
            log.try_init().map_err(|error| anyhow::anyhow!("cannot log: {error}"))?;
            Ok(Box::new(move |level| drop(handle.reload(level))))
        }
    }
}

fn from_environment(variable: &str) -> Option<String> {
    std::env::var(variable).ok()
}

/// SIGTERM and Ctrl-C.
pub struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Stop {
    /// From now on both are requests, and end nothing by themselves.
    pub fn listen() -> anyhow::Result<Stop> {
        Ok(Stop {
            terminate: signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?,
        })
    }

    /// The next time somebody asks.
    pub async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
