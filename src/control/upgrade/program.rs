//! Which program a successor is: what is at the path by which this one was started, at the time of the upgrade.

use std::{
    env,
    ffi::OsString,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// See the file's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::control) struct Program {
    pub(super) path: PathBuf,
    pub(super) args: Vec<OsString>,
}

impl Program {
    /// `args` with the program's name first. To be called early: the file may be another one later.
    pub(in crate::control) fn new(args: &[OsString]) -> io::Result<Self> {
        let running = env::current_exe()?;
        let name = args.first().map(PathBuf::from).unwrap_or_default();
        let named = absolute(&name, env::var_os("PATH")).filter(|named| is_same(named, &running));
        // By its name where it can be: a symbolic link may be made to point to another release.
        Ok(Self { path: named.unwrap_or(running), args: args.get(1..).unwrap_or_default().to_vec() })
    }
}

/// Where a shell finds `name`.
fn absolute(name: &Path, path: Option<OsString>) -> Option<PathBuf> {
    if name.components().count() > 1 {
        return std::path::absolute(name).ok();
    }
    let folders = path.as_ref().map(env::split_paths)?;
    folders.filter(|folder| folder.is_absolute()).map(|folder| folder.join(name)).find(|found| found.is_file())
}

fn is_same(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    identity(one).is_some_and(|one| Some(one) == identity(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_up_as_a_shell_does() {
        let path = || Some(OsString::from("/nowhere:/usr/bin:/bin"));
        let found = absolute(Path::new("sh"), path()).expect("there is a shell");
        assert!(found == Path::new("/usr/bin/sh") || found == Path::new("/bin/sh"), "{found:?}");
        assert_eq!(absolute(Path::new("no-such-program-at-all"), path()), None);
        assert_eq!(absolute(Path::new("/bin/sh"), None), Some("/bin/sh".into()));
        assert!(absolute(Path::new("./sh"), None).expect("the present directory").is_absolute());
    }

    #[test]
    fn a_name_that_is_another_programs_does_not_count() {
        let args = ["/bin/sh", "--rtmp", "1"].map(OsString::from);
        let program = Program::new(&args).expect("this test's");
        assert_eq!(program.path, env::current_exe().expect("this test's"));
        assert_eq!(program.args, args[1..]);
        let named = Program::new(&[program.path.clone().into_os_string()]).expect("this test's");
        assert_eq!(named.path, program.path);
    }
}
