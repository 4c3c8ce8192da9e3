//! `granum docs`: the reference pages that follow from the code. A test holds the committed ones to it.

use std::fmt::Write;

use clap::{Args, ValueEnum};
use granum_model::Setting;

use crate::output::Output;
use crate::settings::PROCESS_SETTINGS;

/// Print a page of docs/reference
#[derive(Args, Debug)]
pub struct Docs {
    /// Which
    page: Page,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Page {
    /// docs/reference/config.md
    Config,
    /// docs/reference/cli.md
    Cli,
}

/// `granum docs`
pub fn run(command: Docs) -> anyhow::Result<()> {
    let page = match command.page {
        Page::Config => config(),
        Page::Cli => cli(),
    };
    Ok(Output::new(false).line(page.trim_end())?)
}

/// What stands before the tables of settings.
const CONFIG_HEAD: &str = "\
# Settings

<!-- Written by `granum docs config`; a test compares. -->

Every setting has one name. `data_dir` is `data_dir = \"...\"` in the TOML file that `--config FILE` names, `--data-dir` as a flag and
`GRANUM_DATA_DIR` in the environment. A flag wins over the environment, the environment over the file, the file over the default.
A name that there is not, in the file or as a flag, is an error. Lists are arrays of texts in the file, and comma separated elsewhere;
switches are `true` or `false` in file and environment, and need no value as a flag.
";

fn config() -> String {
    let mut page = CONFIG_HEAD.to_owned();
    table(&mut page, "granum node", granum_node::SETTINGS);
    table(&mut page, "granum coordinator", granum_coordinator::SETTINGS);
    table(&mut page, "Both", PROCESS_SETTINGS);
    page
}

fn table(page: &mut String, title: &str, settings: &[Setting]) {
    let mut line = |text: String| writeln!(page, "{text}").expect("writing to a String cannot fail");
    line(format!(
        "\n## {title}\n\n| Setting | Value | Default | What it is |\n|---|---|---|---|"
    ));
    for setting in settings {
        let value = if setting.value.is_empty() {
            "switch".to_owned()
        } else {
            code(setting.value)
        };
        let default = if setting.default.is_empty() {
            "none".to_owned()
        } else {
            code(setting.default)
        };
        line(format!(
            "| `{}` | {value} | {default} | {} |",
            setting.name,
            setting.help.replace('|', "\\|")
        ));
    }
}

fn code(text: &str) -> String {
    format!("`{}`", text.replace('|', "\\|"))
}

/// What stands before the help of each command.
const CLI_HEAD: &str = include_str!("cli_head.txt");

fn cli() -> String {
    let mut page = CLI_HEAD.to_owned();
    let mut granum = crate::args::command().term_width(110);
    granum.build();
    help(&mut page, "granum", &mut granum);
    page
}

/// The help of a command and those below it. The flags of the roles have a page of their own.
fn help(page: &mut String, name: &str, command: &mut clap::Command) {
    let shown = match name {
        "granum node" | "granum coordinator" => {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            format!("{about}; all settings are in [config.md](config.md).")
        }
        _ => {
            let text = command.render_help().to_string();
            let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
            format!("```text\n{}\n```", lines.join("\n").trim_end())
        }
    };
    write!(page, "\n## {name}\n\n{shown}\n").expect("writing to a String cannot fail");
    let below = command
        .get_subcommands_mut()
        .filter(|below| !below.is_hide_set() && below.get_name() != "help");
    for inner in below {
        let name = format!("{name} {}", inner.get_name());
        help(page, &name, inner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(file: &str, page: &str, command: &str) {
        let path = format!("{}/../../docs/reference/{file}", env!("CARGO_MANIFEST_DIR"));
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed.trim_end() == page.trim_end(),
            "{file} is not current: {command} > docs/reference/{file}"
        );
    }

    #[test]
    fn the_page_of_settings_is_current() {
        check("config.md", &config(), "cargo run -- docs config");
    }

    #[test]
    fn the_page_of_commands_is_current() {
        check("cli.md", &cli(), "cargo run -- docs cli");
    }
}
