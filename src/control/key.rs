//! `shardcast key`: makes a key for a file of keys, or a secret to sign with. Neither is kept anywhere.
//!
//! The line for the file goes to stdout, so that `>> FILE` takes it; a key itself goes to stderr, once.

use std::io::{Read, Write as _};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::{CommandFactory, Parser};
use ring::rand::{SecureRandom, SystemRandom};

use super::{
    EXIT_FAILED, EXIT_USAGE, Fault, Stop,
    args::{self, Given},
    hand_out,
};
use crate::{
    access::{keys, lines::check_name},
    limits::{KEY_RANDOM_BYTES, SECRET_BYTES_MAX},
};

const EXAMPLES: &str = "\
Examples:
  shardcast key studio >> keys.txt              for all streams
  shardcast key studio 'live/*' >> keys.txt     for those of live
  shardcast key --secret may >> links.secret    signs links and tokens";

/// Makes a key: its line for a --publish-keys or --play-keys file on stdout, the key itself, which that line does not tell, on
/// stderr
#[derive(Debug, Parser)]
#[command(
    name = "shardcast key",
    override_usage = "shardcast key NAME [STREAMS..]\n       shardcast key --secret NAME",
    after_help = EXAMPLES,
    max_term_width = 100
)]
struct KeyCommand {
    /// Whose key it is, for logs
    #[arg(value_name = "NAME")]
    name: String,

    /// Patterns of the streams it is for: app/name, where * stands for any letters [default: all]
    #[arg(value_name = "STREAMS")]
    streams: Vec<String>,

    /// Take the key from stdin instead of making one. It has to be long and random
    #[arg(long, conflicts_with = "secret")]
    stdin: bool,

    /// Make a secret that signs instead, for a --play-signed, --publish-signed, --play-jwt or --publish-jwt file
    #[arg(long, conflicts_with = "streams")]
    secret: bool,
}

/// The exit code.
pub(super) fn run(given: &Given) -> Result<u8, Stop> {
    let Made { line, name, key } = make(given)?;
    hand_out(&format!("{line}\n"))?;
    if let Some(key) = key {
        // Nobody is left to tell if stderr is gone.
        let _ = writeln!(std::io::stderr(), "the key of {name}, which is shown only now: {key}");
    }
    Ok(0)
}

pub(super) struct Made {
    /// For the file.
    pub(super) line: String,
    name: String,
    /// What was made and does not stand in the line.
    key: Option<String>,
}

pub(super) fn make(given: &Given) -> Result<Made, Stop> {
    let own = Given::new(given.args().get(1..).unwrap_or_default());
    let command: KeyCommand = args::parse(KeyCommand::command(), &own)?;
    let fault = |why: String| Fault(EXIT_USAGE, why);
    let KeyCommand { name, streams, stdin, secret } = command;
    check_name(&name).map_err(|why| fault(format!("{name:?}: {why}")))?;
    if secret {
        return Ok(Made { line: format!("{name} {}", random()?), name, key: None });
    }
    let key = if stdin { read().map_err(fault)? } else { random()? };
    let line = keys::line(&name, &key, &random()?, &streams).map_err(fault)?;
    Ok(Made { line, name, key: (!stdin).then_some(key) })
}

fn random() -> Result<String, Fault> {
    let mut bytes = [0; KEY_RANDOM_BYTES];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| Fault(EXIT_FAILED, "the system gives no random bytes".to_owned()))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn read() -> Result<String, String> {
    let mut key = String::new();
    let read = std::io::stdin().take(SECRET_BYTES_MAX).read_to_string(&mut key);
    read.map_err(|error| format!("stdin: {error}"))?;
    Ok(key.trim_end_matches(['\n', '\r']).to_owned())
}
