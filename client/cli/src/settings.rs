//! One name for each setting in file, flag and environment: what was set, and where, and what follows from it.
//!
//! `data_dir` is `data_dir = "..."` in the file, `--data-dir` as a flag and `GRANUM_DATA_DIR` in the environment. A flag wins
//! over the environment, which wins over the file, which wins over the default. The lists are the roles' own `SETTINGS`.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Arg, ArgAction, ArgMatches, Command};
use granum_model::Setting;
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::failure::Usage;

/// Settings of any role's process, not of the role itself.
pub const PROCESS_SETTINGS: &[Setting] = &[
    Setting {
        name: "log_format",
        value: "text|json",
        default: "text",
        help: "How log lines look, on stderr",
    },
    Setting {
        name: "log_level",
        value: "LEVEL",
        default: "info",
        help: "error, warn, info, debug or trace; also by part: info,granum_node=debug (openraft speaks only where it is named)",
    },
];

/// What a process of a role was told.
#[derive(Clone, Debug, PartialEq)]
pub struct Told<C> {
    /// The role's configuration.
    pub role: C,
    /// `text` or `json`.
    pub log_format: String,
    /// A filter of `tracing`.
    pub log_level: String,
}

/// Adds `--config` and a flag for each setting to a command.
pub fn flags(command: Command, settings: &[Setting]) -> Command {
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .help("TOML file with settings, each under its name");
    let all = settings.iter().chain(PROCESS_SETTINGS);
    all.fold(command.arg(config), |command, setting| command.arg(flag(setting)))
}

fn flag(setting: &Setting) -> Arg {
    let help = match setting.default {
        "" | "false" => setting.help.to_owned(),
        default => format!("{} [default: {default}]", setting.help),
    };
    let arg = Arg::new(setting.name).long(setting.name.replace('_', "-")).help(help);
    match setting.value {
        "" => arg.action(ArgAction::SetTrue),
        value => arg.value_name(value).action(ArgAction::Set),
    }
}

/// What flags, environment, file and defaults come to. `environment` looks a variable up.
pub fn told<C: Default + Serialize + DeserializeOwned>(
    settings: &[Setting],
    matches: &ArgMatches,
    environment: impl Fn(&str) -> Option<String>,
) -> anyhow::Result<Told<C>> {
    let defaults = Table::try_from(C::default()).context("the defaults make no table")?;
    let all: Vec<&Setting> = settings.iter().chain(PROCESS_SETTINGS).collect();
    let mut table = match matches.get_one::<PathBuf>("config") {
        Some(path) => read_file(path, &all)?,
        None => Table::new(),
    };
    for setting in &all {
        let variable = format!("GRANUM_{}", setting.name.to_uppercase());
        let flag = format!("--{}", setting.name.replace('_', "-"));
        let default = defaults.get(setting.name);
        if let Some((place, text)) = given(setting, matches, flag, variable, &environment) {
            let value = value_of(&text, setting, default).map_err(|problem| Usage(format!("{place}: {problem}")))?;
            table.insert(setting.name.to_owned(), value);
        }
    }
    let mut process = |name: &str| match table.remove(name) {
        None => {
            let setting = PROCESS_SETTINGS.iter().find(|setting| setting.name == name);
            Ok(setting.map_or("", |setting| setting.default).to_owned())
        }
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(Usage(format!("{name}: {other}, must be a text"))),
    };
    let (log_format, log_level) = (process("log_format")?, process("log_level")?);
    if !["text", "json"].contains(&log_format.as_str()) {
        bail!(Usage(format!("log_format: {log_format:?}, must be text or json")));
    }
    let role = C::deserialize(Value::Table(table)).map_err(|error| Usage(error.message().to_owned()))?;
    Ok(Told {
        role,
        log_format,
        log_level,
    })
}

/// Where a setting was given beside the file, and as what: the flag wins.
fn given(
    setting: &Setting,
    matches: &ArgMatches,
    flag: String,
    variable: String,
    environment: impl Fn(&str) -> Option<String>,
) -> Option<(String, String)> {
    let text = match setting.value {
        "" => matches.get_flag(setting.name).then(|| "true".to_owned()),
        _ => matches.get_one::<String>(setting.name).cloned(),
    };
    match text {
        Some(text) => Some((flag, text)),
        None => environment(&variable).map(|text| (variable, text)),
    }
}

fn read_file(path: &Path, settings: &[&Setting]) -> anyhow::Result<Table> {
    let text = std::fs::read_to_string(path).with_context(|| format!("--config {}", path.display()))?;
    let wrong = |problem: String| Usage(format!("{}: {problem}", path.display()));
    let table: Table = text
        .parse()
        .map_err(|error: toml::de::Error| wrong(error.to_string()))?;
    for name in table.keys() {
        if !settings.iter().any(|setting| setting.name == name) {
            let known: Vec<&str> = settings.iter().map(|setting| setting.name).collect();
            bail!(wrong(format!(
                "unknown setting {name:?}; there are {}",
                known.join(", ")
            )));
        }
    }
    Ok(table)
}

/// A text from flag or environment as the kind of value that the default is.
fn value_of(text: &str, setting: &Setting, default: Option<&Value>) -> Result<Value, String> {
    match default {
        _ if setting.value.is_empty() => match text {
            "true" | "1" => Ok(Value::Boolean(true)),
            "false" | "0" | "" => Ok(Value::Boolean(false)),
            other => Err(format!("{other:?}, must be true or false")),
        },
        Some(Value::Integer(_)) => {
            let number = text
                .parse()
                .map_err(|_| format!("{text:?}, must be a whole number ({})", setting.value))?;
            Ok(Value::Integer(number))
        }
        Some(Value::Float(_)) => {
            let number = text.parse().map_err(|_| format!("{text:?}, must be a number"))?;
            Ok(Value::Float(number))
        }
        Some(Value::Array(_)) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Ok(Value::Array(items.map(|item| Value::String(item.to_owned())).collect()))
        }
        _ => Ok(Value::String(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Config {
        data_dir: String,
        nodes: Vec<String>,
        insecure: bool,
        timeout_ms: u64,
    }

    impl Default for Config {
        fn default() -> Self {
            Config {
                data_dir: "here".into(),
                nodes: Vec::new(),
                insecure: false,
                timeout_ms: 5,
            }
        }
    }

    const fn setting(name: &'static str, value: &'static str) -> Setting {
        Setting {
            name,
            value,
            default: "",
            help: "",
        }
    }

    const SETTINGS: &[Setting] = &[
        setting("data_dir", "DIR"),
        setting("nodes", "HOST:PORT,..."),
        setting("insecure", ""),
        setting("timeout_ms", "MS"),
    ];

    /// Flags, `GRANUM_` variables without the prefix, the file's text.
    fn check(flags: &[&str], variables: &[(&str, &str)], file: &str) -> anyhow::Result<Told<Config>> {
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), file).unwrap();
        let config = format!("--config={}", path.path().display());
        let command = super::flags(Command::new("node"), SETTINGS);
        let words = ["node", &config].into_iter().chain(flags.iter().copied());
        let matches = command.try_get_matches_from(words)?;
        let variable = |name: &str| {
            let (_, text) = variables
                .iter()
                .find(|(variable, _)| name == format!("GRANUM_{variable}"))?;
            Some(text.to_string())
        };
        told(SETTINGS, &matches, variable)
    }

    #[test]
    fn a_flag_wins_over_the_environment_which_wins_over_the_file() {
        let file = "data_dir = \"file\"\ntimeout_ms = 1\nnodes = [\"a:1\"]\nlog_format = \"json\"";
        let variables = [("DATA_DIR", "environment"), ("TIMEOUT_MS", "2"), ("INSECURE", "true")];
        let told = check(&["--data-dir=flag"], &variables, file).unwrap();
        let wanted = Config {
            data_dir: "flag".into(),
            nodes: vec!["a:1".into()],
            insecure: true,
            timeout_ms: 2,
        };
        assert_eq!(
            (told.role, told.log_format.as_str(), told.log_level.as_str()),
            (wanted, "json", "info")
        );
    }

    #[test]
    fn a_file_with_nothing_but_a_remark_leaves_the_defaults() {
        assert_eq!(check(&[], &[], "# nothing\n").unwrap().role, Config::default());
    }

    #[test]
    fn lists_and_switches_are_read_from_text() {
        let told = check(&["--nodes", "a:1, b:2", "--insecure"], &[], "").unwrap();
        assert_eq!(told.role.nodes, ["a:1", "b:2"]);
        assert!(told.role.insecure);
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let problem = |flags: &[&str], variables: &[(&str, &str)], file: &str| {
            check(flags, variables, file).unwrap_err().to_string()
        };
        assert!(problem(&[], &[], "data_dri = \"x\"").contains("unknown setting \"data_dri\""));
        assert!(problem(&["--timeout-ms=x"], &[], "").contains("--timeout-ms: \"x\", must be a whole number (MS)"));
        assert!(problem(&[], &[("TIMEOUT_MS", "x")], "").starts_with("GRANUM_TIMEOUT_MS: "));
        assert!(problem(&[], &[("INSECURE", "maybe")], "").contains("must be true or false"));
        assert!(problem(&["--log-format=xml"], &[], "").contains("must be text or json"));
        assert!(problem(&[], &[], "timeout_ms = \"long\"").contains("invalid type"));
        assert!(problem(&[], &[], "= 5").contains("TOML"));
    }
}
