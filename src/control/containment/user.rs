//! `--user NAME[:GROUP]`: who the process becomes once it listens, for good.

use std::{ffi::CString, fmt, io, os::unix::fs::lchown, path::Path};

use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid, initgroups, setgroups, setresgid, setresuid, setuid};

/// A user and the groups that come with it.
#[derive(Clone, Debug)]
pub(in crate::control) struct Account {
    uid: Uid,
    gid: Gid,
    /// With the further groups it is in; a number without a name is in none.
    name: Option<CString>,
    /// As it was written.
    text: String,
}

impl Account {
    /// NAME or UID, and behind a colon the group by NAME or GID, which is the user's own otherwise.
    pub(in crate::control) fn read(text: &str) -> Result<Self, String> {
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let (uid, own_gid, name) = match (find_user(user)?, user.parse::<u32>()) {
            (Some(found), _) => (found.uid, Some(found.gid), CString::new(found.name).ok()),
            (None, Ok(number)) => (Uid::from_raw(number), None, None),
            (None, Err(_)) => return Err(format!("there is no user {user:?}; see getent passwd")),
        };
        let gid = match group {
            None => own_gid.ok_or_else(|| format!("{user} has no name, so no group either: write {user}:GID"))?,
            Some(group) => match (group.parse::<u32>(), Group::from_name(group)) {
                (Ok(number), _) => Gid::from_raw(number),
                (_, Ok(Some(found))) => found.gid,
                (_, Ok(None)) => return Err(format!("there is no group {group:?}; see getent group")),
                (_, Err(error)) => return Err(format!("cannot look up the group {group:?}: {error}")),
            },
        };
        Ok(Self { uid, gid, name, text: text.to_owned() })
    }

    /// As it was written.
    pub(in crate::control) fn text(&self) -> &str {
        &self.text
    }

    /// Makes the file the account's.
    pub(super) fn own(&self, path: &Path) -> io::Result<()> {
        lchown(path, Some(self.uid.as_raw()), Some(self.gid.as_raw()))
    }

    /// On all threads of the process; there is no way back. Who is it already stays what it is: an upgraded node starts as
    /// the user that its predecessor became.
    pub(super) fn become_it(&self) -> io::Result<()> {
        if (geteuid(), getegid()) == (self.uid, self.gid) && !self.uid.is_root() {
            return Ok(());
        }
        match &self.name {
            Some(name) => initgroups(name, self.gid)?,
            None => setgroups(&[self.gid])?,
        }
        setresgid(self.gid, self.gid, self.gid)?;
        setresuid(self.uid, self.uid, self.uid)?;
        if !self.uid.is_root() && setuid(Uid::from_raw(0)).is_ok() {
            return Err(io::Error::other("root can be had back: its capabilities were kept"));
        }
        Ok(())
    }
}

fn find_user(user: &str) -> Result<Option<User>, String> {
    if user.is_empty() {
        return Err("expected NAME or NAME:GROUP, or their numbers".to_owned());
    }
    let found = match user.parse::<u32>() {
        Ok(number) => User::from_uid(Uid::from_raw(number)),
        Err(_) => User::from_name(user),
    };
    found.map_err(|error| format!("cannot look up the user {user:?}: {error}"))
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}:{})", self.text, self.uid, self.gid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(text: &str) -> (u32, u32, bool) {
        let account = Account::read(text).unwrap();
        (account.uid.as_raw(), account.gid.as_raw(), account.name.is_some())
    }

    #[test]
    fn names_and_numbers_are_taken() {
        assert_eq!(ids("root"), (0, 0, true));
        assert_eq!(ids("0"), (0, 0, true));
        assert_eq!(ids("root:7"), (0, 7, true));
        assert_eq!(ids("3999999:root"), (3_999_999, 0, false));
    }

    #[test]
    fn who_is_not_there_is_named() {
        let fault = |text| Account::read(text).unwrap_err();
        assert!(fault("no-such-user").contains("no user \"no-such-user\""));
        assert!(fault("root:no-such-group").contains("no group \"no-such-group\""));
        assert!(fault("3999999").contains("write 3999999:GID"));
        for text in ["", ":root"] {
            assert!(fault(text).starts_with("expected NAME"), "{text}");
        }
        assert!(fault("root:").contains("no group \"\""));
    }
}
