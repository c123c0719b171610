//! A Shardcast that takes part in a comparison: the flags it is given besides those every started server gets.

use crate::cpus::{Cpus, parse_list};

/// Flags that every Shardcast started here gets, unless a variant sets them itself.
const COMMON: [(&str, &str); 2] = [("--admin", "off"), ("--log", "warn")];

/// Flags, split at spaces; no quoting, as no value of Shardcast's holds a space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variant(Vec<String>);

impl Variant {
    /// # Errors
    /// It is no list of flags, or sets what must be ours.
    pub fn parse(text: &str) -> Result<Self, String> {
        let variant = Self(text.split_whitespace().map(str::to_owned).collect());
        if variant.0.first().is_some_and(|first| !first.starts_with("--")) {
            return Err(format!("{text:?} does not begin with a flag of shardcast, such as '--merge-ms 40'"));
        }
        if variant.sets("--rtmp") {
            return Err("--rtmp cannot be set: servers started here choose a free port of loopback".into());
        }
        variant.cpus(0).map(|_| variant)
    }

    /// One of `--merge-ms`: `default` is without the flag.
    pub fn merging(value: &str) -> Self {
        match value {
            "default" => Self::default(),
            value => Self(vec!["--merge-ms".into(), value.into()]),
        }
    }

    /// With those of `common` that it does not set itself.
    pub fn with(&self, common: &Variant) -> Self {
        let mut flags = self.0.clone();
        let mut taken = false;
        for word in &common.0 {
            if word.starts_with("--") {
                taken = !self.sets(word.split('=').next().unwrap_or(word));
            }
            if taken {
                flags.push(word.clone());
            }
        }
        Self(flags)
    }

    /// How reports name it.
    pub fn name(&self) -> String {
        ["shardcast"].into_iter().chain(self.0.iter().map(String::as_str)).collect::<Vec<_>>().join(" ")
    }

    /// The CPUs its process may use: those of `--cpus`, else `cpu` alone.
    ///
    /// # Errors
    /// `--cpus` is no list of CPUs.
    pub fn cpus(&self, cpu: usize) -> Result<Cpus, String> {
        match self.value("--cpus") {
            None if !self.sets("--cpus") => Ok(Cpus::from([cpu])),
            None => Err("--cpus has no value".into()),
            Some(list) => parse_list(list).ok_or_else(|| format!("{list:?} is no list of CPUs such as 0,2-3")),
        }
    }

    /// All flags, for a server that is to run on `cpu` unless the variant says otherwise.
    pub fn arguments(&self, cpu: usize) -> Vec<String> {
        let mut arguments: Vec<String> = vec!["--rtmp".into(), "127.0.0.1:0".into()];
        let mut add = |flag: &str, value: &str| arguments.extend([flag.to_owned(), value.to_owned()]);
        COMMON.into_iter().filter(|(flag, _)| !self.sets(flag)).for_each(|(flag, value)| add(flag, value));
        if !["--cpus", "--shards", "--no-pin"].into_iter().any(|flag| self.sets(flag)) {
            add("--shards", "1");
            add("--cpus", &cpu.to_string());
        }
        arguments.extend(self.0.iter().cloned());
        arguments
    }

    fn sets(&self, flag: &str) -> bool {
        self.0.iter().any(|word| word.split('=').next() == Some(flag))
    }

    fn value(&self, flag: &str) -> Option<&str> {
        let at = self.0.iter().position(|word| word.split('=').next() == Some(flag))?;
        self.0[at].split_once('=').map(|(_, value)| value).or_else(|| self.0.get(at + 1).map(String::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(variant: &str) -> String {
        Variant::parse(variant).unwrap().arguments(3).join(" ")
    }

    #[test]
    fn a_variant_has_one_shard_on_the_servers_cpu() {
        let plain = "--rtmp 127.0.0.1:0 --admin off --log warn --shards 1 --cpus 3";
        assert_eq!(arguments(""), plain);
        assert_eq!(arguments("--merge-ms 40"), format!("{plain} --merge-ms 40"));
        assert_eq!(Variant::parse("").unwrap().cpus(3), Ok(Cpus::from([3])));
    }

    #[test]
    fn what_a_variant_sets_is_not_set_for_it() {
        let two = "--rtmp 127.0.0.1:0 --admin off --log warn --cpus 0,1";
        assert_eq!(arguments("--cpus 0,1"), two);
        assert_eq!(arguments("--log=info --cpus=0-1"), "--rtmp 127.0.0.1:0 --admin off --log=info --cpus=0-1");
        for variant in ["--cpus 0,1", "--merge-ms 0 --cpus=0-1"] {
            assert_eq!(Variant::parse(variant).unwrap().cpus(3), Ok(Cpus::from([0, 1])));
        }
    }

    #[test]
    fn common_flags_yield_to_a_variants_own() {
        let common = Variant::parse("--chunk-size 4096 --merge-ms 0 --no-pin").unwrap();
        let with = |variant: &str| Variant::parse(variant).unwrap().with(&common).name();
        assert_eq!(with("--merge-ms 40"), "shardcast --merge-ms 40 --chunk-size 4096 --no-pin");
        assert_eq!(with("--chunk-size=128"), "shardcast --chunk-size=128 --merge-ms 0 --no-pin");
        assert_eq!(Variant::merging("default").with(&Variant::default()).name(), "shardcast");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for bad in ["merge-ms 0", "40", "--cpus a", "--cpus", "--rtmp :1935"] {
            assert!(Variant::parse(bad).is_err(), "{bad}");
        }
    }
}
