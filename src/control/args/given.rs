//! Where a value came from, so that a fault names what the operator has to change.

use std::{collections::BTreeMap, ffi::OsString};

/// The command line, the environment and the configuration file of one start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given {
    args: Vec<OsString>,
    /// By flag, with its dashes: `FILE:LINE:COLUMN: key`.
    places: BTreeMap<String, String>,
}

impl Given {
    /// `args` with the program's name first.
    pub(crate) fn new(args: &[OsString]) -> Self {
        Self { args: args.to_vec(), places: BTreeMap::new() }
    }

    /// The same start, once the file has been read.
    pub(crate) fn with_file(&self, places: BTreeMap<String, String>) -> Self {
        Self { args: self.args.clone(), places }
    }

    pub(crate) fn args(&self) -> &[OsString] {
        &self.args
    }

    /// What set `flag`: itself, its variable, or a line of the file. Left at its default, the flag.
    pub(crate) fn origin(&self, flag: &str) -> String {
        if self.args.iter().filter_map(|arg| arg.to_str()).any(|arg| arg.split('=').next() == Some(flag)) {
            return flag.to_owned();
        }
        let variable = variable(flag);
        match self.places.get(flag) {
            _ if std::env::var_os(&variable).is_some() => variable,
            Some(place) => place.clone(),
            None => flag.to_owned(),
        }
    }
}

/// The environment variable of `flag`, which is written with its dashes.
pub(crate) fn variable(flag: &str) -> String {
    format!("SHARDCAST_{}", flag.trim_start_matches('-').to_uppercase().replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_goes_before_the_file_and_is_named_where_nothing_is() {
        let args = ["shardcast", "--shards=3"].map(OsString::from);
        let places = ["--shards", "--cpus"].map(|flag| (flag.to_owned(), format!("f.toml:1:1: {flag}")));
        let given = Given::new(&args).with_file(places.into());
        assert_eq!(given.origin("--shards"), "--shards");
        assert_eq!(given.origin("--cpus"), "f.toml:1:1: --cpus");
        assert_eq!(given.origin("--lag-ms-max"), "--lag-ms-max");
        assert_eq!(variable("--lag-ms-max"), "SHARDCAST_LAG_MS_MAX");
    }
}
