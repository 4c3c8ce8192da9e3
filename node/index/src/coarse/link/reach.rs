//! Can every row be reached from the entries? Those that can't are linked from the nearest that can.

use super::{DEGREE, Ground, Links, STARTS, Space, WIDTH};
use crate::coarse::walk::Walker;
use crate::executor::Executor;
use crate::pace::{Stopped, go_on, go_on_at};

/// Rounds at most: a link given to one row may have been the only way to another, which the next round finds.
const ROUNDS: usize = 8;

/// Makes every row reachable: one that is not gets a link from the nearest row that is, in place of that row's last link
/// where it has no room. Returns how many rows stay out of reach: none, but for data made to defeat it.
pub(super) fn connect(
    space: &Space,
    links: &mut Links,
    entries: &[u32],
    executor: &dyn Executor,
) -> Result<usize, Stopped> {
    let mut walker = Walker::default();
    for _ in 0..ROUNDS {
        let mut reached = Reached::new(links, entries, executor)?;
        let lost: Vec<u32> = (0..space.rows()).filter(|row| !reached.is[*row as usize]).collect();
        if lost.is_empty() {
            return Ok(0);
        }
        for row in lost {
            if reached.is[row as usize] {
                continue;
            }
            go_on(executor)?;
            let query = space.point(row);
            let ground = Ground {
                space,
                links,
                query: &query,
            };
            walker.walk(&ground, entries, STARTS, WIDTH);
            let mut near = walker
                .best()
                .map(|(_, place)| place)
                .filter(|place| reached.is[*place as usize]);
            let Some(nearest) = near.next() else {
                continue;
            };
            let has_room = |place: &u32| links.of(*place).len() < DEGREE;
            let from = Some(nearest).into_iter().chain(near).find(has_room).unwrap_or(nearest);
            // In front, so that the next lost row does not push this one out: lists end with what is missed least.
            let mut own = vec![row];
            own.extend(links.of(from).iter().take(DEGREE - 1));
            links.set(from, &own);
            reached.spread(links, row, executor)?;
        }
    }
    let reached = Reached::new(links, entries, executor)?;
    Ok(reached.is.iter().filter(|is| !**is).count())
}

struct Reached {
    is: Vec<bool>,
}

impl Reached {
    fn new(links: &Links, entries: &[u32], executor: &dyn Executor) -> Result<Reached, Stopped> {
        let mut own = Reached {
            is: vec![false; links.counts.len()],
        };
        for entry in entries {
            own.spread(links, *entry, executor)?;
        }
        Ok(own)
    }

    /// Marks a row and all that it leads to.
    fn spread(&mut self, links: &Links, row: u32, executor: &dyn Executor) -> Result<(), Stopped> {
        let (mut waiting, mut steps) = (vec![row], 0);
        while let Some(row) = waiting.pop() {
            steps += 1;
            go_on_at(steps, executor)?;
            if !std::mem::replace(&mut self.is[row as usize], true) {
                waiting.extend(links.of(row).iter().filter(|link| !self.is[**link as usize]));
            }
        }
        Ok(())
    }
}
