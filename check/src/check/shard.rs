//! A share of the cases, for a machine of several.

/// Every N-th case of a check, from the I-th: the share of one machine of N.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    index: usize,
    count: usize,
}

impl Default for Shard {
    /// All cases.
    fn default() -> Shard {
        Shard { index: 0, count: 1 }
    }
}

impl Shard {
    /// Its number, from 1.
    pub fn number(self) -> usize {
        self.index + 1
    }

    /// The number of shares.
    pub fn count(self) -> usize {
        self.count
    }

    /// How many of `cases` are in it.
    pub(super) fn share_of(self, cases: usize) -> usize {
        cases.saturating_sub(self.index).div_ceil(self.count)
    }

    /// Where its case of a number stands among all.
    pub(super) fn position_of(self, index: usize) -> usize {
        index * self.count + self.index
    }
}

impl std::str::FromStr for Shard {
    type Err = String;

    /// `I/N`, with I from 1 to N.
    fn from_str(text: &str) -> Result<Shard, String> {
        let parts = text.split_once('/');
        let numbers = parts.and_then(|(number, count)| Some((number.parse().ok()?, count.parse().ok()?)));
        match numbers {
            Some((number @ 1.., count)) if number <= count => Ok(Shard {
                index: number - 1,
                count,
            }),
            _ => Err(format!("expected I/N with I from 1 to N, such as 1/4; found {text}")),
        }
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.number(), self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_in_one_shard() {
        for (cases, count) in [(0, 3), (1, 3), (10, 1), (10, 4), (12, 4), (3, 7)] {
            let shards = (1..=count).map(|number| format!("{number}/{count}").parse::<Shard>().unwrap());
            let mut seen: Vec<usize> = shards
                .flat_map(|shard| (0..shard.share_of(cases)).map(move |index| shard.position_of(index)))
                .collect();
            seen.sort_unstable();
            assert_eq!(seen, Vec::from_iter(0..cases));
        }
    }

    #[test]
    fn only_shares_of_a_whole_are_taken() {
        for text in ["", "1", "0/2", "3/2", "1/0", "-1/2", "1/2/3", "a/b"] {
            assert!(
                text.parse::<Shard>().unwrap_err().contains(&format!("found {text}")),
                "{text}"
            );
        }
    }
}
