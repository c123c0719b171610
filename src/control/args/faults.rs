//! What is wrong with the command line or an address, in one line: which flag, which value, what to do.

use std::error::Error as _;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::Given;
use crate::{control::rules::secrets::veil, shard::listen_addr::ListenAddr};

/// Of the flags' parser.
pub(super) fn one_line(error: &clap::Error, given: &Given) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        Some(ContextValue::Strings(texts)) => texts.first().map(String::as_str),
        _ => None,
    };
    // "--rtmp <ADDR>" without its placeholder.
    let argument = context(ContextKind::InvalidArg).and_then(|text| text.split([' ', '=']).next()).unwrap_or_default();
    let value = context(ContextKind::InvalidValue).unwrap_or_default();
    match (error.kind(), error.source()) {
        (ErrorKind::UnknownArgument, _) => {
            let hint = context(ContextKind::SuggestedArg).map(|arg| format!(" (did you mean {arg}?)"));
            let what = if argument.starts_with('-') { "option" } else { "argument" };
            format!("unknown {what} {argument:?}{}; shardcast --help lists the options", hint.unwrap_or_default())
        }
        (ErrorKind::ValueValidation, Some(why)) if argument.starts_with("--") => {
            format!("{} {:?}: {why}", given.origin(argument), veil(value, false))
        }
        (ErrorKind::ValueValidation, Some(why)) => format!("unknown command {value:?}: {why}; see shardcast --help"),
        (ErrorKind::InvalidValue, _) if value.is_empty() => format!("{argument} needs a value; see shardcast --help"),
        (ErrorKind::ArgumentConflict, _) => {
            match context(ContextKind::PriorArg).and_then(|text| text.split(' ').next()) {
                Some(other) if other != argument => format!("{argument} cannot be used with {other}"),
                _ => format!("{argument} is given more than once"),
            }
        }
        (ErrorKind::TooManyValues, _) => format!("{argument} takes no value, but got {value:?}"),
        (ErrorKind::MissingRequiredArgument, _) => {
            let names = match error.get(ContextKind::InvalidArg) {
                Some(ContextValue::Strings(names)) => names.as_slice(),
                _ => &[],
            };
            let missing = names.iter().map(|name| name.trim_matches(['<', '>', '.']));
            let command = given.args().first().map_or(Default::default(), |name| name.to_string_lossy());
            let missing = missing.collect::<Vec<_>>().join(" and ");
            format!("{command} needs {missing}; see shardcast {command} --help")
        }
        (ErrorKind::InvalidUtf8, _) => "an argument or SHARDCAST_ variable is not UTF-8".to_owned(),
        _ => error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    }
}

/// Why the listener of `flag` does not start, in one line.
pub(in super::super) fn listen_fault(flag: &str, addr: &ListenAddr, error: &std::io::Error, given: &Given) -> String {
    let is_file = matches!(addr, ListenAddr::Unix(_));
    let advice = match error.kind() {
        std::io::ErrorKind::AddrInUse if is_file => "another process listens there; stop it or choose another path",
        std::io::ErrorKind::PermissionDenied if is_file => "this user may not make or replace that file",
        std::io::ErrorKind::NotFound if is_file => "make the directory first",
        std::io::ErrorKind::AlreadyExists if is_file => "remove it or choose another path",
        _ if is_file => "choose another path",
        std::io::ErrorKind::AddrInUse => "another process listens there; stop it or choose another port",
        std::io::ErrorKind::PermissionDenied => "ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher port",
        std::io::ErrorKind::AddrNotAvailable => "this machine does not have that address; see ip address",
        _ => "choose another address",
    };
    format!("{} \"{addr}\": {error}: {advice}", given.origin(flag))
}
