//! A graph that is there already grows: its rows keep their links, and only the others are inserted.
//!
//! For merged segments. Rows that were left out take their links with them; a row that has lost some picks anew from those
//! that it has left and from where the lost ones led, as FreshDiskANN mends deletions (Singh et al. 2021, section 4.2).
//! The others walk with a wider beam than where all is built anew: what is inserted last has fewer chances to be linked to.
//! No step depends on who computed what, so the same rows, graph and seed give the same graph.

use super::{DEGREE, Links, PIECE_ROWS, Space, insert_all, pick, reach, shuffled, trim};
use crate::coarse::origin::Origin;
use crate::coarse::walk::NO_LINK;
use crate::executor::{Executor, map};
use crate::pace::{Stopped, go_on_at};

/// Candidates that an inserted row's walk keeps. On Debian's vectors, half of the rows inserted in the order of their names:
/// 128 lost 0.7 points of recall@10 at 14 candidates against a graph built anew, 192 loses 0.2 and gains 0.1 at 32.
const WIDTH: usize = 192;

/// A sound graph of a source.
pub(in super::super) struct Standing<'a> {
    /// Links of old places, `degree` each, filled with [`NO_LINK`].
    pub links: &'a [u32],
    pub degree: usize,
    /// Old places that walks began at.
    pub entries: &'a [u32],
    /// Where old places went.
    pub origin: &'a Origin,
}

impl Standing<'_> {
    fn links_of(&self, old: u32) -> impl Iterator<Item = u32> {
        let links = &self.links[old as usize * self.degree..][..self.degree];
        links.iter().copied().take_while(|link| *link != NO_LINK)
    }

    /// The links of an old place that went on, as new places, mended where some were lost.
    fn adopted(&self, space: &Space, old: u32, new: u32) -> Vec<u32> {
        let kept = |link| self.origin.new_place(link);
        let mut links: Vec<u32> = self.links_of(old).filter_map(kept).collect();
        if links.len() < self.links_of(old).count() {
            let lost = self.links_of(old).filter(|link| kept(*link).is_none());
            let beyond = lost.flat_map(|lost| self.links_of(lost)).filter_map(kept);
            links.extend(beyond.filter(|link| *link != new));
            links.sort_unstable();
            links.dedup();
            links = pick(space, new, links, DEGREE);
        }
        links
    }

    /// Sets the links of all rows that went on; returns which those are.
    fn adopt(&self, space: &Space, links: &mut Links, executor: &dyn Executor) -> Result<Vec<bool>, Stopped> {
        let rows: Vec<(u32, u32)> = self.origin.pairs().collect();
        let pieces: Vec<&[(u32, u32)]> = rows.chunks(PIECE_ROWS).collect();
        let adopted = map(executor, pieces.len(), |piece| {
            let adopted = |(old, new): &(u32, u32)| self.adopted(space, *old, *new);
            pieces[piece].iter().map(adopted).collect::<Vec<_>>()
        });
        let mut is_linked = vec![false; space.rows() as usize];
        for (at, ((_, new), adopted)) in rows.iter().zip(adopted?.into_iter().flatten()).enumerate() {
            go_on_at(at, executor)?;
            links.set(*new, &adopted);
            is_linked[*new as usize] = true;
        }
        Ok(is_linked)
    }

    /// Where walks begin until all entries are linked: where they began before, and at entries that were there before.
    fn starts(&self, entries: &[u32], is_linked: &[bool]) -> Vec<u32> {
        let before = self.entries.iter().filter_map(|entry| self.origin.new_place(*entry));
        let linked = entries.iter().copied().filter(|entry| is_linked[*entry as usize]);
        let mut starts: Vec<u32> = before.chain(linked).collect();
        starts.sort_unstable();
        starts.dedup();
        if starts.is_empty() {
            starts.extend(self.origin.pairs().next().map(|(_, new)| new));
        }
        starts
    }
}

/// Links all rows, beginning with the links of `standing`, of which a row at least went on; `entries` are distinct rows that
/// walks begin at.
pub(in super::super) fn extend(
    space: &Space,
    standing: &Standing<'_>,
    entries: &[u32],
    seed: u64,
    executor: &dyn Executor,
) -> Result<Links, Stopped> {
    let rows = space.rows() as usize;
    let mut links = Links::new(rows);
    let is_linked = standing.adopt(space, &mut links, executor)?;
    let starts = standing.starts(entries, &is_linked);
    let mut others = shuffled(rows, entries, seed);
    others.retain(|row| !is_linked[*row as usize]);
    let new_entries = entries.iter().filter(|entry| !is_linked[**entry as usize]).count();
    let (first, rest) = others.split_at(new_entries);
    let linked = rows - others.len();
    insert_all(space, &mut links, (&starts, WIDTH), first, linked, executor)?;
    insert_all(
        space,
        &mut links,
        (entries, WIDTH),
        rest,
        linked + new_entries,
        executor,
    )?;
    trim(space, &mut links, executor)?;
    reach::connect(space, &mut links, entries, executor)?;
    Ok(links)
}
