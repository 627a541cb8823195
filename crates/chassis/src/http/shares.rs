//! Fair sharing of a number of bytes among callers.

use std::collections::HashMap;

use super::memory::Payer;

/// Bytes up to which a hold is small: those that a request reserves before its response is known.
pub(super) const SMALL: usize = 16 * 1024;
/// Divisor: a payer may hold a fourth of the bytes.
const SHARE: usize = 4;
/// Divisor: a sixteenth is reserved for small holds. Those of a payer may take as much in addition
/// to its large hold.
const FOR_SMALL: usize = 16;

/// Bytes that payers hold, and the rule by which they may hold more.
///
/// A payer may hold a fourth, and never more than it leaves free (a dynamic threshold, Choudhury
/// and Hahne 1998). A large hold may exceed that whenever the total fits, if it is the only one of
/// its payer. So two payers that release nothing leave a third one room for a response of a fourth.
#[derive(Debug)]
pub(super) struct Shares {
    limit: usize,
    total: usize,
    /// Shares of the payers that hold bytes.
    by: HashMap<Payer, Share>,
}

/// Bytes that one payer holds.
#[derive(Clone, Copy, Default, Debug)]
struct Share {
    small: usize,
    large: usize,
}

impl Share {
    fn part(&mut self, bytes: usize) -> &mut usize {
        if bytes > SMALL { &mut self.large } else { &mut self.small }
    }
}

impl Shares {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, total: 0, by: HashMap::new() }
    }

    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// Returns the size of the largest hold that can ever be granted.
    pub(super) fn largest(&self) -> usize {
        self.limit - self.limit / FOR_SMALL
    }

    /// Returns `true` if a hold of `old` bytes may become one of `new`.
    pub(super) fn admits(&self, payer: &Payer, old: usize, new: usize) -> bool {
        let mut others = self.by.get(payer).copied().unwrap_or_default();
        *others.part(old) -= old;
        let total = self.total - old + new;
        let Some(left) = self.limit.checked_sub(total) else { return false };
        let for_small = self.limit / FOR_SMALL;
        let is_share = others.small + others.large + new <= (self.limit / SHARE).min(left);
        if new <= SMALL {
            return is_share || others.small + new <= for_small.min(left);
        }
        let is_only_one = others.large == 0 && others.small <= for_small;
        left >= for_small && (is_share || is_only_one)
    }

    /// Records that a hold of `old` bytes becomes one of `new`.
    pub(super) fn set(&mut self, payer: &Payer, old: usize, new: usize) {
        let share = self.by.entry(payer.clone()).or_default();
        *share.part(old) -= old;
        *share.part(new) += new;
        if share.small + share.large == 0 {
            self.by.remove(payer);
        }
        self.total = self.total - old + new;
    }
}
