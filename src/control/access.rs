//! The access rules in force, kept as the operator's files are: a key that is taken out of its file opens nothing any more.
//!
//! The files that rules name are read again when they change, the configuration file at SIGHUP, of which nothing else is. What
//! is wrong leaves the rules as they were, and the log says so in one line. Who publishes or plays already goes on.

use std::{path::PathBuf, sync::Arc};

use super::{
    args::AccessSource,
    reload::{Cause, Reload},
};
use crate::access::AccessInForce;

/// See the file's head.
#[derive(Clone, Debug)]
pub(super) struct Access {
    pub(super) source: AccessSource,
    /// Those that the rules name.
    pub(super) files: Vec<PathBuf>,
    pub(super) in_force: Arc<AccessInForce>,
}

impl Access {
    /// What replaces the rules when the files change, or at SIGHUP.
    pub(super) fn into_reload(mut self) -> Reload {
        Reload::new("access rules", self.files.clone(), move |cause| {
            let all = cause == Cause::Hangup;
            if all {
                tracing::info!("reading access rules again; other settings of the configuration file need a restart");
            }
            self.reload(all)?;
            Ok(Some(self.files.clone()))
        })
    }

    /// Reads the files again, and the configuration file too if `all`. The error is one line, and nothing has changed then.
    fn reload(&mut self, all: bool) -> Result<(), String> {
        let source = if all { Some(self.source.again()?) } else { None };
        let mut notes = Vec::new();
        let made = source.as_ref().unwrap_or(&self.source).make(&mut notes)?;
        for note in notes {
            tracing::warn!("{note}");
        }
        let (publish, play) = (made.rules.publish.len(), made.rules.play.len());
        let before = self.in_force.get();
        for (action, before, after) in [("publish", before.publish.len(), publish), ("play", before.play.len(), play)] {
            // A file that lost its rules by mistake must not open the node.
            if before > 0 && after == 0 {
                return Err(format!(
                    "no [[{action}]] rule would be left, and everybody might {action}; if that is meant, write one with open = \
                     true, or restart the node"
                ));
            }
        }
        self.in_force.replace(made.rules);
        self.files = made.files;
        self.source = source.unwrap_or_else(|| self.source.clone());
        tracing::info!(publish, play, "access rules were read again and count from now on");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::control::{
        args::{Given, configure},
        cores::Allowance,
    };

    #[test]
    fn what_is_wrong_leaves_the_rules_as_they_were() {
        let folder = std::env::temp_dir().join(format!("shardcast-access-reload-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (config, keys) = (folder.join("node.toml"), folder.join("keys.txt"));
        std::fs::write(&config, "[[publish]]\nkeys = \"keys.txt\"\n").unwrap();
        let line = |name| crate::access::keys::line(name, "correct-horse-battery", "salt", &[]).unwrap();
        std::fs::write(&keys, line("a")).unwrap();
        let words = ["shardcast", "--config", config.to_str().unwrap()].map(OsString::from);
        let allowance = Allowance { cpus: vec![0], parallelism: 1 };
        let mut access = configure(&Given::new(&words), &allowance).unwrap().access.unwrap();
        let state = |access: &Access| format!("{:?}", access.in_force.get());
        assert_eq!(access.files, std::slice::from_ref(&keys));

        std::fs::write(&keys, format!("{}\n{}", line("a"), line("b"))).unwrap();
        let one = state(&access);
        access.reload(false).unwrap();
        let two = state(&access);
        assert_ne!(one, two);

        std::fs::remove_file(&keys).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&keys).status().unwrap().success());
        assert!(access.reload(false).unwrap_err().contains("keys.txt: not a file"));
        std::fs::remove_file(&keys).unwrap();
        std::fs::write(&keys, "a hunter2").unwrap();
        let why = access.reload(false).unwrap_err();
        assert!(why.contains("keys.txt: line 1: ") && why.lines().count() == 1, "{why}");
        assert_eq!(state(&access), two);

        // The configuration file counts only when it is asked for.
        std::fs::write(&config, "[[publish]]\nopen = maybe\n").unwrap();
        std::fs::write(&keys, line("a")).unwrap();
        access.reload(false).unwrap();
        assert_eq!(state(&access), one);
        assert!(access.reload(true).unwrap_err().contains("node.toml:2:8: "));
        assert_eq!(state(&access), one);
        std::fs::write(&config, "[[publish]]\nopen = true\n").unwrap();
        access.reload(true).unwrap();
        assert!(access.files.is_empty() && state(&access).contains("Everybody"));
        std::fs::write(&config, "").unwrap();
        let why = access.reload(true).unwrap_err();
        assert!(why.starts_with("no [[publish]] rule would be left") && why.lines().count() == 1, "{why}");
        // Nobody writes to it: whoever read it would wait for ever.
        let pipe = std::process::Command::new("mkfifo").arg(folder.join("pipe")).status().unwrap();
        assert!(pipe.success());
        std::fs::rename(folder.join("pipe"), &config).unwrap();
        let why = access.reload(true).unwrap_err();
        assert!(why.contains("node.toml: not a file") && why.lines().count() == 1, "{why}");
        assert!(state(&access).contains("Everybody"));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
